package imapd

import (
	"context"
	"errors"
	"iter"
	"slices"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// emailBatch is up to how many emails are read at a time, and emailBytes about
// how much of what they say is held: a header can be of a megabyte.
const (
	emailBatch = 256
	emailBytes = 2 << 20
)

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
	if msg, ok := only(messages); ok { // there is nothing to be read meanwhile
		b := emailsOf{messages: []view.Message{msg}, emails: make([]store.Email, 1)}
		err := m.Emails(ctx, []id.Email{msg.Email}, func(e store.Email) error {
			b.emails[0] = e
			return nil
		})
		if err != nil {
			return err
		}
		return use(b)
	}
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

// only returns the message, if there is no more than one.
func only(messages iter.Seq[view.Message]) (the view.Message, ok bool) {
	for msg := range messages {
		if ok {
			return the, false
		}
		the, ok = msg, true
	}
	return the, ok
}

// readEmails sends messages with their emails, a batch at a time.
func (m *selected) readEmails(ctx context.Context, all iter.Seq[view.Message], to chan<- emailsOf) {
	size := 16 // the first ones soon
	messages := make([]view.Message, 0, size)
	send := func() bool {
		err := m.sendEmails(ctx, messages, to)
		if err != nil {
			select {
			case to <- emailsOf{err: err}:
			case <-ctx.Done():
			}
		}
		return err == nil
	}
	for msg := range all {
		if messages = append(messages, msg); len(messages) < size {
			continue
		}
		if !send() {
			return
		}
		size = min(2*size, emailBatch)
		messages = make([]view.Message, 0, size)
	}
	if len(messages) > 0 {
		send()
	}
}

// sendEmails sends messages with their emails, in several batches where those say very much.
func (m *selected) sendEmails(ctx context.Context, messages []view.Message, to chan<- emailsOf) (err error) {
	defer recovered(&err)
	emails := make([]store.Email, len(messages))
	sent, weight := 0, 0
	send := func(end int) error {
		b := emailsOf{messages: messages[sent:end], emails: emails[:end-sent]}
		emails = slices.Clone(emails[end-sent:]) // so that those sent are not held any longer
		sent, weight = end, 0
		select {
		case to <- b:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ids := make([]id.Email, 0, len(messages))
	at := make(map[id.Email][]int, len(messages)) // a mailbox can have an email twice
	for i := range messages {
		email := messages[i].Email
		if len(at[email]) == 0 {
			ids = append(ids, email)
		}
		at[email] = append(at[email], i)
	}
	err = m.Emails(ctx, ids, func(e store.Email) error {
		for _, i := range at[e.ID] {
			emails[i-sent] = e
		}
		if weight += e.Meta.Weight(); weight < emailBytes {
			return nil
		}
		return send(at[e.ID][0] + 1) // those before it have been read, or are gone
	})
	if err != nil || sent == len(messages) {
		return err
	}
	return send(len(messages))
}

// isExpunged tells whether err says that a message is gone.
func isExpunged(err error) bool { return errors.Is(err, store.ErrExpunged) }
