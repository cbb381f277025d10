package imapd

import (
	"context"
	"strings"
	"time"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// IDLE.
//
// RFC 2177. The client is told of changes at once, until it sends DONE.

// watcher is what IDLE needs of a mailbox.
type watcher interface {
	Watch() (<-chan id.ModSeq, func())
	ViewAt(modSeq id.ModSeq) *view.View
}

var _ watcher = (*store.Mailbox)(nil)

// retryIdle is after what time a look at the mailbox that failed is repeated.
const retryIdle = 5 * time.Second

// idle = "IDLE" CRLF "DONE"
func readIdle(d *wire.Decoder) (run, error) {
	return do(runIdle), d.End()
}

func runIdle(ctx context.Context, s *session) error {
	var changes <-chan id.ModSeq // none without a mailbox
	if s.selected != nil {
		c, stop := s.selected.Watch()
		defer stop()
		changes = c
	}
	if err := s.proceed("Idling"); err != nil {
		return err
	}
	for done := false; !done; done = s.pending() { // it may have been a flush of nothing
		if err := s.idle(ctx, changes); err != nil {
			return err
		}
	}
	s.buffer()
	line := s.dec.Line()
	if err := s.dec.End(); err != nil {
		return err
	}
	if !strings.EqualFold(line, "DONE") {
		return bad("Expected DONE")
	}
	return nil
}

// idle tells of changes until the client sends something. While there are none, nothing but
// two small goroutines waits.
func (s *session) idle(ctx context.Context, changes <-chan id.ModSeq) error {
	retry, err := s.tellIdle(ctx, 0)
	if err != nil || s.pending() {
		return err
	}
	if err := s.rest(); err != nil {
		return err
	}
	if err := s.beginWaiting(); err != nil {
		return err
	}
	input := make(chan error, 1)
	go func() { input <- s.octets() }()
	for {
		var at id.ModSeq
		select {
		case err := <-input:
			return err
		case at = <-changes:
		case <-retry:
		}
		if retry, err = s.tellIdle(ctx, at); err == nil {
			err = s.rest()
		}
		if err != nil {
			s.stopReceiving(input)
			return err
		}
	}
}

// stopReceiving ends the goroutine that waits for the client.
func (s *session) stopReceiving(input <-chan error) {
	if err := s.interrupt(); err != nil {
		s.raw.Close() // which ends it as well
	}
	<-input
}

// tellIdle tells what happened in the selected mailbox up to a MODSEQ, 0: up
// to now. Where that could not be found out it returns when to try again.
//
// What was changed by way of this process is in its cache, and nobody who
// watches need ask the database for it.
func (s *session) tellIdle(ctx context.Context, at id.ModSeq) (retry <-chan time.Time, err error) {
	if s.selected == nil {
		return nil, nil
	}
	s.buffer()
	s.unpin()
	if at > 0 {
		s.see(s.selected.ViewAt(at))
	}
	err = s.sync(ctx, true)
	s.unpin()
	if err == nil || fatal(err) {
		return nil, err
	}
	s.log.WarnContext(ctx, "looking for changes failed", "err", err, "retry", retryIdle)
	return time.After(retryIdle), nil
}
