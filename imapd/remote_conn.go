package imapd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"mailstead.dev/store"
)

// A session has a connection of its own to each cell in which it does something, as a guest there, and does one thing at a time on it. What
// is enabled here is enabled there before anything else is said. One on which no mailbox is selected is closed when it has not been used for a while.

// remoteConn is a connection to another cell.
type remoteConn struct {
	among *remotes
	visit store.Visit
	up    *upstream
	in    farResponses

	enabled  []string
	selected bool        // a mailbox is
	used     time.Time   // something was sent
	expiry   *time.Timer // closes it; nil: it is in use
	left     bool
}

const (
	// remoteIdle is how long a connection is kept that is not used.
	remoteIdle = time.Minute
	// awayTime is how long a cell that could not be reached is not tried again by the session.
	awayTime = 10 * time.Second
)

// awayCell is a cell that could not be reached, or does not let the session in.
type awayCell struct {
	since time.Time
	err   error
}

// isAway returns why a cell is not tried again, for now; nil: it is.
func (r *remotes) isAway(cell string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if away := r.away[cell]; time.Since(away.since) < awayTime {
		return away.err
	}
	return nil
}

func (r *remotes) noteAway(cell string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away[cell] = awayCell{time.Now(), err}
}

// remoteTag is that of commands of our own.
const remoteTag = "a"

// connect returns a connection to the cell of a visit, on which all is enabled that is here.
func (s *session) connect(ctx context.Context, v store.Visit) (*remoteConn, error) {
	r := s.remotes
	c := r.connection(v.Cell)
	if c != nil && !c.wake() {
		c.leave()
		c = nil
	}
	if c == nil {
		if err := r.isAway(v.Cell); err != nil {
			return nil, err
		}
		var err error
		if c, err = s.enterCell(ctx, v); err != nil {
			if ctx.Err() == nil {
				s.log.WarnContext(ctx, "mailboxes of another cell cannot be had", "cell", v.Cell, "err", err)
				r.noteAway(v.Cell, err)
			}
			return nil, err
		}
		r.add(c)
	}
	return c, s.enableThere(ctx, c)
}

// enterCell connects to another cell, as a guest.
func (s *session) enterCell(ctx context.Context, v store.Visit) (c *remoteConn, err error) {
	r := s.remotes
	if r.server.visiting.take(r.holder, 1) != nil { // whose error is about commands
		return nil, errElsewhere(v.Cell, errors.New("too many connections to other cells"))
	}
	defer func() {
		if c == nil {
			r.server.visiting.give(r.holder, 1)
		}
	}()
	asking, err := s.server.ask(v.Cell, netip.Prefix{}) // of whatever address: nobody guesses anything by it
	if err != nil {
		return nil, err
	}
	defer asking.end()
	up, err := s.dialCell(ctx, v.Cell)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, up.close)
	defer stop()
	answer, err := up.exchange(s.server.o.Authenticator.IntroduceGuest(v, s.user, s.address()), func([]byte) ([]byte, error) {
		return nil, errors.New("it asks for more than an introduction")
	})
	if err != nil {
		up.close()
		return nil, errElsewhere(v.Cell, err)
	}
	kind, text, _ := strings.Cut(answer, " ")
	if kind == "OK" {
		s.log.InfoContext(ctx, "visits another cell", "cell", v.Cell)
		return &remoteConn{among: r, visit: v, up: up, in: farResponses{br: up.br}}, nil
	}
	up.close()
	switch code, _ := cutCode(text); code {
	case "AUTHORIZATIONFAILED", "CONTACTADMIN": // nothing is shared with who may not come in
		return nil, fmt.Errorf("%w: cell %s: %w", store.ErrNotExist, v.Cell, errAnswer(answer))
	}
	return nil, errElsewhere(v.Cell, errAnswer(answer))
}

// wake tells whether a connection is there still, which stays as long as it is used.
func (c *remoteConn) wake() bool {
	if c.expiry == nil {
		return true
	}
	there := c.expiry.Stop()
	c.expiry = nil
	return there && c.silent()
}

// silent tells whether nothing has come on a connection that has rested: it would be that the other cell ends it, which a command is not to find out that
// is sent then, for nobody would know whether it was run.
func (c *remoteConn) silent() bool {
	tcp := tcpOf(c.up.nc.NetConn())
	if tcp == nil || c.up.br.Buffered() > 0 {
		return false
	}
	if n, waits := peek(tcp); n > 0 || !waits {
		return false
	}
	if err := c.up.nc.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return false
	}
	_, err := c.up.br.Peek(1) // of what TLS has received already
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// rest says that a connection is not used, for now.
func (c *remoteConn) rest() {
	if !c.selected && !c.left {
		c.expiry = time.AfterFunc(c.among.rest, c.end)
	}
}

// leave ends a connection.
func (c *remoteConn) leave() {
	if c.left = true; c.expiry != nil {
		c.expiry.Stop()
	}
	c.end()
}

// end closes a connection, and nothing is kept of it. It may be called again.
func (c *remoteConn) end() {
	c.up.close()
	r := c.among
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns[c.visit.Cell] == c {
		delete(r.conns, c.visit.Cell)
		r.server.visiting.give(r.holder, 1)
	}
}

// connection returns the connection to a cell; nil: there is none.
func (r *remotes) connection(cell string) *remoteConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conns[cell]
}

func (r *remotes) connections() []*remoteConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.conns))
}

func (r *remotes) add(c *remoteConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c.visit.Cell] = c
}

// leaveRemotes ends the connections to other cells.
func (s *session) leaveRemotes() {
	if s.remotes != nil {
		for _, c := range s.remotes.connections() {
			c.leave()
		}
		s.remotes = nil
	}
}

// send sends octets.
func (c *remoteConn) send(s *session, octets ...[]byte) error {
	c.used = time.Now()
	for _, o := range octets {
		if err := c.up.nc.SetWriteDeadline(time.Now().Add(s.server.o.WriteTimeout)); err != nil {
			return err
		}
		if _, err := c.up.nc.Write(o); err != nil {
			return err
		}
	}
	return nil
}

// next returns the next part of what the other cell sends.
func (c *remoteConn) next(long time.Duration) (part, error) {
	if err := c.await(long); err != nil {
		return part{}, err
	}
	return c.in.next()
}

// await sets how long is waited for what the other cell sends next.
func (c *remoteConn) await(long time.Duration) error {
	return c.up.nc.SetReadDeadline(time.Now().Add(long))
}

// maxOwnResponse bounds a response that is for us.
const maxOwnResponse = 1 << 20

var errLongResponse = errors.New("a response is too long")

// response returns a whole response to what is answered at once: a cell that is silent is not to hold up what the client has at home.
func (c *remoteConn) response(s *session) ([]byte, error) {
	var whole []byte
	for {
		p, err := c.next(s.server.elsewhere)
		if err != nil {
			return nil, err
		}
		if whole = append(whole, p.octets...); len(whole) > maxOwnResponse {
			return nil, errLongResponse
		}
		if p.ends {
			return whole, nil
		}
	}
}

// ask sends commands of our own, each with remoteTag, and has each response to them taken. Where a mailbox is selected there, what
// take does not want is the client's: so the session's goroutine asks there, or waits for the one that does.
func (c *remoteConn) ask(ctx context.Context, s *session, commands [][]byte, take func(response []byte) bool) error {
	stop := context.AfterFunc(ctx, c.up.close)
	defer stop()
	err := c.send(s, bytes.Join(commands, nil))
	for answered := 0; err == nil && answered < len(commands); {
		var response []byte
		if response, err = c.response(s); err != nil {
			break
		}
		switch {
		case bytes.HasPrefix(response, []byte(remoteTag+" ")):
			answered++
			take(response)
		case bytes.HasPrefix(response, []byte("* BYE ")):
			err = errAnswer(string(response[len("* "):]))
		case !take(response) && c.selected:
			s.enc.Bytes(response)
		}
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.lose(ctx, c, err)
}

// lose lets go of a connection that is lost, and returns what that means to a command by which nothing was to be changed.
func (s *session) lose(ctx context.Context, c *remoteConn, why error) error {
	s.log.WarnContext(ctx, "the connection to another cell is lost", "cell", c.visit.Cell, "err", why)
	c.leave()
	if errors.Is(why, os.ErrDeadlineExceeded) { // it would be silent again
		s.remotes.noteAway(c.visit.Cell, errElsewhere(c.visit.Cell, why))
	}
	if c == s.remotes.selected {
		return &errBye{"UNAVAILABLE", "The connection to the server of the selected mailbox is lost"}
	}
	return errElsewhere(c.visit.Cell, why)
}

// keepSelected sees to it that another cell in which a mailbox is selected does not take a client for idle whose commands are answered here.
func (s *session) keepSelected(ctx context.Context) error {
	c := s.remotes.selected
	if c == nil || time.Since(c.used) < s.server.o.IdleTimeout/2 {
		return nil
	}
	return c.ask(ctx, s, [][]byte{[]byte(remoteTag + " NOOP\r\n")}, func([]byte) bool { return false }) // what it tells is the client's
}

// enableThere enables in another cell what is enabled here.
func (s *session) enableThere(ctx context.Context, c *remoteConn) error {
	var names []string
	for _, e := range []struct {
		name string
		on   bool
	}{{"CONDSTORE", s.condstore}, {"QRESYNC", s.qresync}, {"UIDONLY", s.uidOnly}, {"UTF8=ACCEPT", s.utf8}, {"IMAP4rev2", s.rev2}} {
		if e.on && !slices.Contains(c.enabled, e.name) {
			names = append(names, e.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	command := remoteTag + " ENABLE " + strings.Join(names, " ") + "\r\n"
	c.enabled = append(c.enabled, names...)
	return c.ask(ctx, s, [][]byte{[]byte(command)}, func(response []byte) bool { return bytes.HasPrefix(response, []byte("* ENABLED")) })
}
