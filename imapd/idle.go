package imapd

import (
	"context"
	"strings"
	"time"

	"mailstead.dev/imapd/wire"
)

// IDLE.
//
// RFC 2177. The client is told of changes at once, until it sends DONE.

// watcher is what IDLE needs of a mailbox.
type watcher interface {
	Watch() (<-chan struct{}, func())
}

// retryIdle is after what time a look at the mailbox that failed is repeated.
const retryIdle = 5 * time.Second

// idle = "IDLE" CRLF "DONE"
func readIdle(d *wire.Decoder) (run, error) {
	return runIdle, d.End()
}

func runIdle(ctx context.Context, s *session) error {
	var changes <-chan struct{} // none without a mailbox
	if s.selected != nil {
		var mailbox watcher = s.selected.Mailbox
		c, stop := mailbox.Watch()
		defer stop()
		changes = c
	}
	if err := s.proceed("Idling"); err != nil {
		return err
	}
	if err := s.idle(ctx, changes); err != nil {
		return err
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
func (s *session) idle(ctx context.Context, changes <-chan struct{}) error {
	retry, err := s.tellIdle(ctx)
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
		select {
		case err := <-input:
			return err
		case <-changes:
		case <-retry:
		}
		if retry, err = s.tellIdle(ctx); err == nil {
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

// tellIdle tells what happened in the selected mailbox. Where that could not
// be found out it returns when to try again.
func (s *session) tellIdle(ctx context.Context) (retry <-chan time.Time, err error) {
	if s.selected == nil {
		return nil, nil
	}
	s.buffer()
	s.unpin()
	err = s.sync(ctx, true)
	s.unpin()
	if err == nil || fatal(err) {
		return nil, err
	}
	s.log.Warn("looking for changes failed", "err", err, "retry", retryIdle)
	return time.After(retryIdle), nil
}
