package imapd

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A connection whose client is logged in to another cell is passed through: octets, as they are, in both directions.
// How long the client may be idle, and what it may ask, is the other cell's to say; here it is seen that neither
// side is waited for in vain, and that this front end ends it where nothing is cut (dialogue.go): when it is drained, the command that is under way is passed on to its
// end, and its answer, and no further one.

// Errors that end a session whose other side has ended it, or has nothing more to say.
var (
	errOver  = errors.New("the other cell has ended the connection")
	errQuiet = errors.New("no command is under way")
)

// relay passes a connection through until one of the three ends it.
type relay struct {
	s    *session
	up   *upstream
	last atomic.Int64 // when something was passed on, in either direction: nanoseconds

	mu       sync.Mutex    // guards what follows
	dialogue dialogue      // of what has been passed on, or is about to be
	ends     bool          // no further command is passed on
	over     bool          // no more answers are
	silence  time.Duration // how long the other cell may send nothing until its answers are taken to be whole; 0: as long as it likes
}

// passThrough passes the client's connection through to its cell.
func (s *session) passThrough(ctx context.Context) error {
	r := &relay{s: s, up: s.upstream}
	s.server.pass(s.conn)
	defer s.server.takeBack(s.conn)
	ahead := r.ahead()
	if err := s.rest(); err != nil { // the answer to the login
		return err
	}
	stop := context.AfterFunc(ctx, r.up.close)
	defer stop()
	r.touch()
	answers := make(chan error, 1)
	go func() {
		err := r.answers()
		r.mu.Lock()
		r.over = true
		r.mu.Unlock()
		s.finish(errOver)
		answers <- err
	}()
	err := r.commands(ahead)
	switch {
	case errors.Is(err, errDraining): // what is under way is answered still
	case errors.Is(err, io.EOF): // the same, where that does not take longer than a client is waited for that may be gone
		r.up.nc.CloseWrite() // best effort: the connection ends in any case
		r.hush(firstLook)
	case errors.Is(err, errLost):
		r.up.close()
	default:
		r.hush(quietTime)
	}
	return r.ended(err, <-answers)
}

// ended returns how the session ends: with a BYE only where the client would understand it.
func (r *relay) ended(commands, answers error) error {
	d := &r.dialogue // which nobody else uses any more
	switch {
	case errors.Is(answers, errLost) || !d.server.whole():
		return errLost
	case d.bye:
		return errOver
	case errors.Is(answers, errQuiet):
		return errDraining
	case answers != nil && errors.Is(commands, errOver):
		r.s.log.Warn("the connection to another cell is lost", "cell", r.up.cell, "err", answers)
		return &errBye{"UNAVAILABLE", "The connection to your server is lost"}
	}
	return commands
}

// ahead returns what the client has sent behind its login.
func (r *relay) ahead() []byte {
	c := r.s.conn
	ahead := make([]byte, c.br.Buffered())
	io.ReadFull(c.br, ahead) // which is what is there
	ahead = append(ahead, c.first[:c.nFirst]...)
	c.nFirst = 0
	return ahead
}

func (r *relay) touch() { r.last.Store(time.Now().UnixNano()) }

// idle tells whether nothing has been passed on for as long as a client may be idle, and the other cell has not minded.
func (r *relay) idle() bool {
	return time.Since(time.Unix(0, r.last.Load())) > r.s.server.o.IdleTimeout
}

// commands passes on what the client sends. It returns errDraining when the client has sent its last command.
func (r *relay) commands(ahead []byte) error {
	c := r.s.conn
	if err := r.forward(ahead); err != nil {
		return err
	}
	buffer := make([]byte, readBuffer)
	for {
		n, err := r.receive(buffer)
		if sent := r.forward(buffer[:n]); sent != nil {
			return sent
		}
		switch {
		case err == nil:
		case errors.Is(err, errDraining):
			c.goOn()
			r.drain()
		case errors.Is(err, errOver), errors.Is(err, io.EOF):
			return err
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return errors.Join(errLost, err)
		case r.idle():
			return errIdle
		}
		if done, err := r.done(); done || err != nil {
			return err
		}
	}
}

// receive waits for the client to send something.
func (r *relay) receive(buffer []byte) (n int, err error) {
	c := r.s.conn
	if err := c.beginWaiting(); err != nil {
		return 0, err
	}
	n, err = c.nc.Read(buffer)
	if ending := c.endWaiting(); ending != nil {
		err = ending
	}
	return n, err
}

// forward passes on what the client has sent. Where the other cell does not take it, answers sees why.
func (r *relay) forward(octets []byte) error {
	r.mu.Lock()
	octets = octets[:r.dialogue.said(octets, r.ends)]
	r.mu.Unlock()
	if len(octets) == 0 {
		return nil
	}
	r.touch()
	if err := r.up.nc.SetWriteDeadline(time.Now().Add(r.s.server.o.WriteTimeout)); err != nil {
		return errOver
	}
	if _, err := r.up.nc.Write(octets); err != nil {
		return errOver
	}
	return nil
}

// drain has no further command passed on.
func (r *relay) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends = true
	if r.dialogue.quiet() || r.dialogue.confused {
		r.wake()
	}
}

// done tells whether nothing more is wanted of the client.
func (r *relay) done() (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.over:
		return true, errOver
	case r.ends && (r.dialogue.between() || r.dialogue.quiet()):
		return true, errDraining
	}
	return false, nil
}

// hush ends the answers when the other cell has sent nothing for a while.
func (r *relay) hush(after time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silence = after
	r.wake()
}

// wake has answers look at what has changed. It is called with mu locked.
func (r *relay) wake() { r.up.nc.SetReadDeadline(time.Unix(1, 0)) } // a connection that is broken wakes it as well

// quietTime is how long the other cell may send nothing, when no more is sent to it, before its answers are taken to be whole.
const quietTime = 200 * time.Millisecond

// settleTime is how long neither side may say anything, where commands are not known to end, until a drain takes none to be under way.
const settleTime = time.Second

// errCut says that the other cell has ended without a BYE. That TLS ends as it should does not tell: Go takes it for granted.
var errCut = errors.New("it ends in the middle")

// answers passes on what the other cell sends. It returns nil where that has said that it is all, and errQuiet where that is enough.
func (r *relay) answers() (err error) {
	defer recovered(&err)
	from := r.up.br
	for {
		hushed, err := r.listen()
		if err != nil {
			return err
		}
		_, err = from.Peek(1)
		octets, _ := from.Peek(from.Buffered()) // which are there
		if len(octets) > 0 {
			r.touch()
			r.mu.Lock()
			r.dialogue.heard(octets)
			r.mu.Unlock()
			if _, err := (*socketWriter)(r.s.conn).Write(octets); err != nil {
				return errors.Join(errLost, err)
			}
			from.Discard(len(octets))
		}
		switch {
		case errors.Is(err, io.EOF) && r.dialogue.bye:
			return nil
		case errors.Is(err, io.EOF):
			return errCut
		case errors.Is(err, os.ErrDeadlineExceeded) && !hushed:
		case err != nil:
			return err
		}
	}
}

// listen sets how long the other cell is waited for, and whether that is for the last time. errQuiet: it is not any more.
func (r *relay) listen() (hushed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := time.Unix(0, r.last.Load())
	if r.ends && r.dialogue.confused && time.Since(last) >= settleTime {
		r.dialogue.settle()
	}
	if r.ends && r.dialogue.quiet() {
		return false, errQuiet
	}
	until := time.Time{}
	switch {
	case r.silence > 0:
		until = time.Now().Add(r.silence)
	case r.ends && r.dialogue.confused:
		until = last.Add(settleTime)
	}
	return r.silence > 0, r.up.nc.SetReadDeadline(until)
}
