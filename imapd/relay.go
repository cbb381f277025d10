package imapd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// A connection whose client is logged in to another cell is passed through: octets, as they are, in both directions.
// How long the client may be idle, and what it may ask, is the other cell's to say; here it is only seen that neither
// side is waited for in vain.

// errOver ends a session whose other side has ended it.
var errOver = errors.New("the other cell has ended the connection")

// relay passes a connection through until one of the three ends it.
type relay struct {
	s     *session
	up    *upstream
	last  atomic.Int64 // when something was passed on, in either direction: nanoseconds
	whole atomic.Bool  // what was passed on to the client last ends with a line
	quiet atomic.Bool  // nothing more is sent to the other cell
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
		s.finish(errOver)
		answers <- err
	}()
	err := r.commands(ahead)
	if errors.Is(err, io.EOF) { // what it has sent is answered still
		r.up.nc.CloseWrite() // best effort: the connection ends in any case
	} else {
		r.quiet.Store(true)
		r.up.nc.SetReadDeadline(time.Now().Add(quietTime)) // best effort as well
	}
	if ended := <-answers; errors.Is(err, errOver) && ended != nil && r.whole.Load() {
		s.log.Warn("the connection to another cell is lost", "cell", r.up.cell, "err", ended)
		err = &errBye{"UNAVAILABLE", "The connection to your server is lost"}
	}
	if !r.whole.Load() { // nobody would understand a BYE in the middle of it
		return errLost
	}
	return err
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

// commands passes on what the client sends.
func (r *relay) commands(ahead []byte) error {
	c := r.s.conn
	if err := r.forward(ahead); err != nil {
		return err
	}
	buffer := make([]byte, readBuffer)
	for {
		if err := c.beginWaiting(); err != nil {
			return err
		}
		n, err := c.nc.Read(buffer)
		ending := c.endWaiting()
		if sent := r.forward(buffer[:n]); sent != nil {
			return sent
		}
		switch {
		case ending != nil:
			return ending
		case errors.Is(err, os.ErrDeadlineExceeded):
			if r.idle() {
				return errIdle
			}
		case errors.Is(err, io.EOF):
			return err
		case err != nil:
			return errors.Join(errLost, err)
		}
	}
}

// forward passes on what the client has sent. Where the other cell does not take it, answers sees why.
func (r *relay) forward(octets []byte) error {
	c := r.s.conn
	if len(octets) == 0 {
		return nil
	}
	r.touch()
	if err := r.up.nc.SetWriteDeadline(time.Now().Add(c.server.o.WriteTimeout)); err != nil {
		return errOver
	}
	if _, err := r.up.nc.Write(octets); err != nil {
		return errOver
	}
	return nil
}

// quietTime is how long the other cell may send nothing, when no more is sent to it, before its answers are taken to be whole.
const quietTime = 200 * time.Millisecond

// endOctets are more than a BYE and the tagged answer to LOGOUT.
const endOctets = 1 << 10

// errCut says that the other cell has ended without a BYE. That TLS ends as it should does not tell: Go takes it for granted.
var errCut = errors.New("it ends in the middle")

// answers passes on what the other cell sends. It returns nil where that has said that it is all.
func (r *relay) answers() error {
	r.whole.Store(true)
	buffer := make([]byte, writeBuffer)
	var end []byte // what was passed on last
	for {
		if err := r.patience(); err != nil {
			return err
		}
		n, err := r.up.br.Read(buffer)
		if n > 0 {
			r.touch()
			r.whole.Store(false)
			if _, err := (*socketWriter)(r.s.conn).Write(buffer[:n]); err != nil {
				return nil // it is the client that is gone
			}
			r.whole.Store(buffer[n-1] == '\n')
			end = append(end, buffer[:n]...)
			end = append(end[:0], end[max(0, len(end)-endOctets):]...)
		}
		switch {
		case errors.Is(err, io.EOF) && (bytes.HasPrefix(end, []byte("* BYE ")) || bytes.Contains(end, []byte("\n* BYE "))):
			return nil
		case errors.Is(err, io.EOF):
			return errCut
		case errors.Is(err, os.ErrDeadlineExceeded) && !r.idle() && !(r.quiet.Load() && r.whole.Load()):
		case err != nil:
			return err
		}
	}
}

// patience sets how long the other cell is waited for.
func (r *relay) patience() error {
	quiet := r.quiet.Load()
	for {
		wait := r.s.server.o.IdleTimeout
		if quiet {
			wait = quietTime
		}
		if err := r.up.nc.SetReadDeadline(time.Now().Add(wait)); err != nil || quiet {
			return err
		}
		if quiet = r.quiet.Load(); !quiet { // it may have become so meanwhile, and what was set then is overwritten
			return nil
		}
	}
}
