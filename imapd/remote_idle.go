package imapd

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"time"
)

// IDLE while a mailbox of another cell is selected: what happens there is told as it comes, and DONE is passed on.

// idle passes on an IDLE.
func (t *passing) idle(ctx context.Context, text []byte) error {
	s := t.s
	if err := t.end(text); err != nil {
		return err
	}
	for !t.asks {
		p, err := t.next(t.quick)
		if err != nil {
			return err
		}
		if answered, err := t.tell(p); answered || err != nil {
			return err
		}
	}
	if err := s.proceed("Idling"); err != nil {
		return err
	}
	told := t.listen()
	defer func() {
		if !t.answered {
			told.stop()
		}
	}()
	if err := t.awaitDone(ctx, told); err != nil {
		return err
	}
	s.buffer()
	line := s.dec.Line()
	err := s.dec.End()
	if err == nil && !strings.EqualFold(line, "DONE") {
		err = bad("Expected DONE")
	}
	if s.dead() != nil {
		return err
	}
	t.mute = err != nil
	if err := t.c.send(s, []byte("DONE\r\n")); err != nil {
		return err
	}
	if err := told.hurry(s.server.elsewhere); err != nil {
		return err
	}
	defer s.watch()()
	for !t.answered {
		if err := t.hear(<-told.parts); err != nil {
			return err
		}
	}
	if err != nil {
		return wrongCommand{err}
	}
	return nil
}

// listener reads what the other cell sends, up to a tagged response.
type listener struct {
	c     *remoteConn
	parts chan heard // closed at the end

	mu   sync.Mutex    // guards what follows, and how long the connection waits
	long time.Duration // is waited for a part
}

// heard is a part that is its own, or why there is none.
type heard struct {
	part
	err error
}

// listen begins to read.
func (t *passing) listen() *listener {
	l := &listener{c: t.c, parts: make(chan heard), long: t.s.server.o.IdleTimeout + t.s.server.elsewhere}
	tag := []byte(t.s.tag + " ")
	go func() {
		defer close(l.parts)
		for last := false; ; {
			err := l.await()
			var p part
			if err == nil {
				p, err = l.c.in.next()
			}
			p.octets = bytes.Clone(p.octets)
			last = last || p.begins && bytes.HasPrefix(p.octets, tag)
			l.parts <- heard{p, err}
			if err != nil || last && p.ends {
				return
			}
		}
	}()
	return l
}

func (l *listener) await() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.c.await(l.long)
}

// hurry says that the other cell has something to answer, for the part that is waited for as well.
func (l *listener) hurry(long time.Duration) error {
	l.mu.Lock()
	l.long = long
	l.mu.Unlock()
	return l.await()
}

// stop ends the connection, and waits until nothing is read any more.
func (l *listener) stop() {
	l.c.up.close()
	for range l.parts {
	}
}

// hear tells a part.
func (t *passing) hear(h heard) (err error) {
	if h.err != nil {
		return h.err
	}
	t.s.buffer()
	t.answered, err = t.tell(h.part)
	return err
}

// awaitDone tells what comes until the client sends something.
func (t *passing) awaitDone(ctx context.Context, told *listener) error {
	s := t.s
	visits := time.NewTicker(s.server.visitsTime)
	defer visits.Stop()
	for !s.pending() {
		if err := s.rest(); err != nil {
			return err
		}
		if err := s.beginWaiting(); err != nil {
			return t.finish(told, err)
		}
		input := make(chan error, 1)
		go func() { input <- s.octets() }()
		for waits := true; waits; {
			select {
			case err := <-input:
				if err != nil {
					return t.finish(told, err)
				}
				waits = false
			case <-visits.C:
				if !t.whole {
					continue
				}
				if err := s.askForVisits(ctx); fatal(err) { // else they are asked for again
					s.stopReceiving(input)
					return err
				}
			case h := <-told.parts:
				err := t.hear(h)
				if err == nil && t.answered {
					err = errFarewell // it has ended what only the client ends
				}
				if err == nil && h.ends {
					err = s.rest()
				}
				if err != nil {
					s.stopReceiving(input)
					return err
				}
			}
		}
	}
	return nil
}

// finishTime is how long the end of a response is waited for by a session that ends.
const finishTime = 5 * time.Second

// finish tells the end of a response that has begun, so that the client hears why the session ends.
func (t *passing) finish(told *listener, why error) error {
	late := time.After(finishTime)
	for !t.whole {
		select {
		case h := <-told.parts:
			if err := t.hear(h); err != nil {
				return err
			}
		case <-late:
			return errLost
		}
	}
	return why
}
