package imapd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mailstead.dev/store"
)

// Commands that are passed on to another cell, by clients that know of no referrals.
//
// A command has been read here, by the same grammar, before it goes on: as it came, with the client's tag, but without literals that are waited for. What the
// other cell answers is handed on as it comes, up to the tagged response. While a mailbox is selected there, so go all commands of the
// selected state; what names none of its mailboxes is answered here as ever.

// errServers refuses what would take mailboxes of more than one cell.
var errServers = no("CANNOT", "These mailboxes are on different servers")

// placeAt returns what a command does whose mailboxes are seen by these visits; nil: they are here.
func (s *session) placeAt(ctx context.Context, p *request, at []*store.Visit) (run, error) {
	if c, ok := p.run.(*esearchCmd); ok {
		return s.placeSearch(ctx, p, c, at)
	}
	to, err := together(at)
	if err != nil {
		return nil, err
	}
	r := s.remotes
	switch verb := strings.TrimPrefix(p.name, "UID "); {
	case verb == "SELECT" || verb == "EXAMINE":
		return s.placeSelect(ctx, p, to)
	case verb == "ENABLE" && r.selected != nil:
		return do(func(ctx context.Context, s *session) error { return s.enableBoth(ctx, p) }), nil
	case p.cmd.states == selectedState, r.selected != nil && (verb == "NOOP" || verb == "IDLE"):
		return s.placeSelected(p, to, len(at) > 0)
	case to == nil:
		return p.run, s.keepSelected(ctx)
	case r.refers:
		return nil, s.refer(*to, p.mailboxes)
	}
	return passed{p, *to}, nil
}

// placeSelected is placeAt for a command about the selected mailbox, which may name another one.
func (s *session) placeSelected(p *request, to *store.Visit, names bool) (run, error) {
	r := s.remotes
	c, copies := p.run.(copyRun)
	switch {
	case r.selected == nil && to == nil:
		return p.run, nil
	case r.selected != nil && (!names || to != nil && *to == r.selected.visit):
		return passed{p, r.selected.visit}, nil
	case to != nil && r.refers:
		return nil, s.refer(*to, p.mailboxes)
	case copies && r.selected == nil:
		return copyOut{passed{p, *to}, c.copyCmd}, nil
	case copies && to == nil:
		return copyIn{passed{p, r.selected.visit}, c.copyCmd}, nil
	}
	return nil, errServers
}

// together returns the visit by which all are seen; nil: they are here.
func together(at []*store.Visit) (to *store.Visit, err error) {
	for i, v := range at {
		if i > 0 && v != to {
			return nil, errServers
		}
		to = v
	}
	return to, nil
}

// placeSelect leaves the selected mailbox if that is in another cell than the one that is to be selected.
func (s *session) placeSelect(ctx context.Context, p *request, to *store.Visit) (run, error) {
	c := p.run.(selectCmd)
	if err := c.allowed(s); err != nil {
		return nil, err
	}
	r := s.remotes
	if r.selected != nil && (to == nil || r.refers || r.selected.visit != *to) {
		if err := s.deselectThere(ctx); err != nil {
			return nil, err
		}
	}
	if to == nil {
		return p.run, nil
	}
	s.deselect()
	if r.refers {
		return nil, s.refer(*to, p.mailboxes)
	}
	return passed{p, *to}, nil
}

// deselectThere leaves the mailbox that is selected in another cell.
func (s *session) deselectThere(ctx context.Context) error {
	r := s.remotes
	c := r.selected
	refused := false
	err := c.ask(ctx, s, [][]byte{[]byte(remoteTag + " UNSELECT\r\n")}, func(response []byte) bool {
		refused = refused || bytes.HasPrefix(response, []byte(remoteTag)) && !bytes.HasPrefix(response, []byte(remoteTag+" OK"))
		return true // what is told of it is not wanted any more
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil && refused:
		s.log.WarnContext(ctx, "another cell does not leave a mailbox", "cell", c.visit.Cell)
		c.leave()
	} // and where the connection is lost, nothing is lost with it that the client has not left
	c.selected, r.selected, s.state = false, nil, authenticated
	c.rest()
	s.enc.Raw("* OK [CLOSED] Previous mailbox is closed").CRLF()
	return nil
}

// enableBoth enables here, and at once where a mailbox is selected.
func (s *session) enableBoth(ctx context.Context, p *request) error {
	if err := p.run.run(ctx, s); err != nil {
		return err
	}
	return s.enableThere(ctx, s.remotes.selected)
}

// passed is a command that another cell answers.
type passed struct {
	*request
	to store.Visit
}

func (p passed) run(ctx context.Context, s *session) error {
	return p.with(ctx, s, func(t *passing) error {
		switch own := p.request.run.(type) {
		case appendCmd:
			return t.append(p.text, own.first, true)
		case replaceCmd:
			return t.append(p.text, own.with, false)
		case setMetadataCmd:
			return t.annotate(p.text)
		}
		if p.name == "IDLE" {
			return t.idle(ctx, p.text)
		}
		return t.command(p.text)
	})
}

// with does something with another cell, and returns what it means to the client where that fails.
func (p passed) with(ctx context.Context, s *session, pass func(t *passing) error) error {
	if len(s.tag) > maxTag {
		return no("LIMIT", "The tag is too long to be passed on")
	}
	c, err := s.connect(ctx, p.to)
	if err != nil {
		return err
	}
	defer c.rest()
	stop := context.AfterFunc(ctx, c.up.close)
	defer stop()
	t := &passing{s: s, c: c, whole: true, modSeqs: knowsModSeqs(p.request.run), quick: s.server.o.TurnTimeout + s.server.elsewhere}
	if t.long = t.quick; p.takesLong() {
		t.long += s.server.o.SearchTimeout
	}
	if err = pass(t); err == nil {
		t.settle(p.name)
		return nil
	}
	return t.failed(ctx, p, err)
}

// maxTag is how long the tag can be of a command that is passed on: its response is known by it.
const maxTag = 1 << 10

// passing passes on a command, and tells the client what another cell answers.
type passing struct {
	s *session
	c *remoteConn

	begun bool   // something of the command was sent,
	sent  bool   // and all of it
	whole bool   // what was told ends with a whole response
	drops bool   // the response that comes is not for the client
	asks  bool   // it asks for more of the command
	last  bool   // it is the tagged one
	mute  bool   // which is not for the client
	own   bool   // nor is it where it is OK: we say so ourselves
	kind  string // OK, NO or BAD
	code  string

	modSeqs bool // knowsModSeqs

	quick, long time.Duration // what the other cell may take, where it answers at once and for the answer to the command

	lost     error // of the other cell, while a message is offered to it
	answered bool  // an IDLE
}

var (
	errFarewell = errors.New("it says BYE")
	errAnswered = errors.New("the command has been answered")
)

// wrongCommand says what is wrong with a command, when something of it has been passed on.
type wrongCommand struct{ error }

// command passes on a command.
func (t *passing) command(text []byte) error {
	if err := t.end(text); err != nil {
		return err
	}
	return t.answer()
}

// end sends the end of a command.
func (t *passing) end(text []byte) error {
	t.begun, t.sent = true, true
	return t.c.send(t.s, text, []byte("\r\n"))
}

// next returns the next part of what the other cell sends. The client gets before what there is for it, if that takes time.
func (t *passing) next(long time.Duration) (part, error) {
	if t.c.up.br.Buffered() == 0 {
		if err := t.s.enc.Flush(); err != nil {
			return part{}, err
		}
	}
	return t.c.next(long)
}

// answer tells all up to the tagged response.
func (t *passing) answer() error {
	for {
		p, err := t.next(t.long)
		if err != nil {
			return err
		}
		if answered, err := t.tell(p); answered || err != nil {
			return err
		}
	}
}

// tell tells a part, and whether it is the last.
func (t *passing) tell(p part) (answered bool, err error) {
	if p.begins {
		if err := t.begin(p.octets); err != nil {
			return false, err
		}
	}
	if !t.drops {
		t.whole = p.ends
		if err := t.s.enc.Bytes(p.octets).Err(); err != nil {
			return false, err
		}
	}
	return t.last && p.ends, nil
}

// begin looks at the beginning of a response.
func (t *passing) begin(line []byte) error {
	t.drops, t.asks = false, false
	switch {
	case bytes.HasPrefix(line, []byte("* BYE ")):
		return errFarewell
	case line[0] == '+':
		t.drops, t.asks = true, true
	case bytes.HasPrefix(line, []byte("* OK [CLOSED]")):
		t.c.selected = false
	case bytes.HasPrefix(line, []byte(t.s.tag+" ")):
		kind, rest, _ := strings.Cut(strings.TrimRight(string(line[len(t.s.tag)+1:]), "\r\n"), " ")
		code, _ := cutCode(rest)
		t.last, t.kind, t.code = true, kind, code
		if t.modSeqs && kind == "OK" {
			t.s.enableCondstore() // as it is there
		}
		t.drops = t.mute || t.own && kind == "OK"
		if !t.drops {
			t.s.outcome, t.s.code, t.s.answered = kind, code, true
		}
	}
	return nil
}

// settle notes whether a mailbox is selected there, once a command has been answered.
func (t *passing) settle(name string) {
	s, c := t.s, t.c
	if t.kind == "OK" {
		switch name {
		case "SELECT", "EXAMINE":
			c.selected = true
		case "CLOSE", "UNSELECT":
			c.selected = false
		}
	}
	switch r := s.remotes; {
	case c.selected:
		r.selected, s.state = c, selectedState
	case r.selected == c:
		r.selected, s.state = nil, authenticated
	}
}

// failed returns what it means to the client that a command has not been answered.
func (t *passing) failed(ctx context.Context, p passed, err error) error {
	s := t.s
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if wrong, ok := errors.AsType[wrongCommand](err); ok {
		t.settle(p.name)
		return wrong.error
	}
	if s.dead() != nil || fatal(err) {
		return err
	}
	lost := s.lose(ctx, t.c, err)
	switch {
	case !t.whole:
		return fmt.Errorf("%w: response of another cell cut short: %v", errLost, err)
	case t.sent && p.changes() && !fatal(lost):
		return fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, err)
	}
	return lost
}

// changes tells whether a command may change something.
func (p passed) changes() bool {
	switch p.name {
	case "NOOP", "IDLE", "SELECT", "EXAMINE":
		return false
	}
	return p.cmd.traits&beside == 0
}

// takesLong tells whether a command may take long; or is not to be given up soon, because nobody would know whether it has been run.
func (p passed) takesLong() bool {
	return p.changes() || p.cmd.states == selectedState || p.name == "ESEARCH"
}

// placeSearch is placeAt for a search in several mailboxes.
func (s *session) placeSearch(ctx context.Context, p *request, c *esearchCmd, at []*store.Visit) (run, error) {
	r := s.remotes
	here := c.inboxes || c.personal || c.subscribed || c.selected && s.selected != nil
	var to *store.Visit
	if c.selected && r.selected != nil {
		to = &r.selected.visit
	}
	for _, v := range at {
		switch {
		case v == nil:
			here = true
		case to == nil:
			to = v
		case *to != *v:
			return nil, errServers
		}
	}
	unnamed := c.reachesOthers() && !r.refers && len(r.visits) > 0 // of which LIST and LSUB tell
	switch {
	case to == nil && !unnamed:
		return p.run, s.keepSelected(ctx)
	case here, unnamed, r.refers && len(at) > 1:
		return nil, errServers
	case r.refers && len(at) == 1:
		return nil, s.refer(*to, p.mailboxes)
	}
	return passed{p, *to}, nil
}
