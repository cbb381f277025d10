package imapd

import (
	"context"
	"errors"
	"iter"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// emailBatch is up to how many emails are read at a time.
const emailBatch = 256

// emailsOf are some messages and, in the same order, their emails; one that is
// gone meanwhile has no Meta.
type emailsOf struct {
	messages []view.Message
	emails   []store.Email
	err      error
}

// eachBatch calls use for messages with their emails, some at a time, in the
// same order. While one batch is used the next is read, so that neither the
// database nor the client waits for the other.
func (m *selected) eachBatch(ctx context.Context, messages iter.Seq[view.Message], use func(emailsOf) error) error {
	ctx, cancel := context.WithCancel(ctx)
	batches := make(chan emailsOf)
	done := make(chan struct{})
	defer func() {
		cancel()
		<-done
	}()
	go func() {
		defer close(done)
		defer close(batches)
		m.readEmails(ctx, messages, batches)
	}()
	for b := range batches {
		if b.err != nil {
			return b.err
		}
		if err := use(b); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// readEmails sends messages with their emails, a batch at a time.
func (m *selected) readEmails(ctx context.Context, all iter.Seq[view.Message], to chan<- emailsOf) {
	send := func(messages []view.Message) bool {
		b := m.emailsOf(ctx, messages)
		select {
		case to <- b:
			return b.err == nil
		case <-ctx.Done():
			return false
		}
	}
	size := 16 // the first ones soon
	messages := make([]view.Message, 0, size)
	for msg := range all {
		if messages = append(messages, msg); len(messages) < size {
			continue
		}
		if !send(messages) {
			return
		}
		size = min(2*size, emailBatch)
		messages = make([]view.Message, 0, size)
	}
	if len(messages) > 0 {
		send(messages)
	}
}

func (m *selected) emailsOf(ctx context.Context, messages []view.Message) emailsOf {
	b := emailsOf{messages: messages, emails: make([]store.Email, len(messages))}
	ids := make([]id.Email, 0, len(messages))
	at := make(map[id.Email][]int, len(messages)) // a mailbox can have an email twice
	for i := range messages {
		email := messages[i].Email
		if len(at[email]) == 0 {
			ids = append(ids, email)
		}
		at[email] = append(at[email], i)
	}
	b.err = m.Emails(ctx, ids, func(e store.Email) error {
		for _, i := range at[e.ID] {
			b.emails[i] = e
		}
		return nil
	})
	return b
}

// isExpunged tells whether err says that a message is gone.
func isExpunged(err error) bool { return errors.Is(err, store.ErrExpunged) }
