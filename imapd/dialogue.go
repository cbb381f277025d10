package imapd

import (
	"bytes"

	"mailstead.dev/imapd/wire"
)

// What client and server say to each other, followed from in between: as lines and literals (RFC 9051 sections 2.2 and 4.3), and as far as it takes to know whether a
// command is under way, and whether what either has said so far is whole. Octets are taken from either side in whatever pieces they come, always before they
// are passed on: so a side never has heard what is not known here.

// speech is what one side says.
type speech struct {
	head    []byte      // how the line begins, or the command of which it is a part; as far as there is room
	more    bool        // there is more of it
	end     wire.Marker // what the line ends with so far
	literal int64       // octets of a literal that are still to come
}

// headOctets are more than what is looked for at the beginning of a line: a tag that programs use, and a word.
const headOctets = 64

// whole tells whether the side stands between two lines, or commands.
func (s *speech) whole() bool { return len(s.head) == 0 && s.literal == 0 }

// take takes what comes next, up to the end of a line, or of a literal, at the most.
func (s *speech) take(octets []byte) (n int, line bool) {
	if s.literal > 0 {
		n = int(min(s.literal, int64(len(octets))))
		s.literal -= int64(n)
		return n, false
	}
	n = bytes.IndexByte(octets, '\n') + 1
	if line = n > 0; !line {
		n = len(octets)
	}
	for _, c := range octets[:n] {
		if c != '\r' && c != '\n' {
			s.end = s.end.Next(c)
		}
	}
	room := min(headOctets-len(s.head), n)
	s.head = append(s.head, octets[:room]...)
	s.more = s.more || room < n
	return n, line
}

// goOn says that the line goes on behind a literal.
func (s *speech) goOn(literal int64) { s.end, s.literal, s.more = wire.Marker{}, literal, true }

// begin begins a new line.
func (s *speech) begin() { s.head, s.more, s.end, s.literal = s.head[:0], false, wire.Marker{}, 0 }

// dialogue is what both say, once the client has logged in.
type dialogue struct {
	client, server speech

	pending  int   // commands that the client has sent, and the server not answered
	literal  int64 // of the client, which waits to be asked for it,
	waits    bool  // if so
	idling   bool  // the client has sent IDLE, and not its DONE
	idle     int   // answers up to that to IDLE; 0: there is none
	asks     bool  // what asks the client to go on is next for IDLE
	bye      bool  // the server has said BYE
	confused bool  // the client has sent a literal that it was not asked for: where its commands end is not known
}

// between tells whether the client has sent its commands whole.
func (d *dialogue) between() bool { return !d.confused && d.client.whole() }

// quiet tells whether both have said all, and no command is under way. IDLE is none: its client waits.
func (d *dialogue) quiet() bool {
	return d.between() && d.server.whole() && (d.pending == 0 || d.pending == 1 && d.idling)
}

// settle takes what the client has said to be whole, and answered, where that is not known, and neither has said anything for a while.
func (d *dialogue) settle() { *d = dialogue{server: d.server, bye: d.bye} }

// said takes what the client says, and returns how much of it: all, or what belongs to a command that has begun.
func (d *dialogue) said(octets []byte, last bool) (n int) {
	for n < len(octets) {
		if d.waits { // it sends what it was not asked for: the server may take it for the literal, or for a command
			d.waits, d.confused = false, true
		}
		if d.confused {
			return len(octets)
		}
		if last && d.client.whole() {
			return n
		}
		taken, line := d.client.take(octets[n:])
		n += taken
		if line {
			d.command()
		}
	}
	return n
}

// command takes the end of a line of the client.
func (d *dialogue) command() {
	c := &d.client
	if d.idling { // the line is DONE, or wrong
		d.idling = false
		c.begin()
		return
	}
	if size, waits, ok := c.end.Literal(); ok && waits {
		d.literal, d.waits = size, true
		return
	} else if ok {
		c.goOn(size)
		return
	}
	d.pending++
	if !c.more && isIdle(c.head) {
		d.idling, d.idle, d.asks = true, d.pending, true
	}
	c.begin()
}

// isIdle tells whether a line is an IDLE.
func isIdle(line []byte) bool {
	_, command, ok := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(" "))
	return ok && bytes.EqualFold(command, []byte("IDLE"))
}

// heard takes what the server says.
func (d *dialogue) heard(octets []byte) {
	for len(octets) > 0 {
		taken, line := d.server.take(octets)
		octets = octets[taken:]
		if line {
			d.response()
		}
	}
}

// response takes the end of a line of the server.
func (d *dialogue) response() {
	s := &d.server
	data, untagged := bytes.CutPrefix(s.head, []byte("* "))
	kind, _, _ := bytes.Cut(data, []byte(" "))
	switch {
	case bytes.HasPrefix(s.head, []byte("+")):
		d.goAhead()
	case !untagged, string(kind) == "BAD": // which is untagged where a command has no tag (RFC 9051 section 7.1.3)
		d.answered()
	case string(kind) == "BYE":
		d.bye = true
	case string(kind) == "OK", string(kind) == "NO": // what ends with a text ends with no literal
	default:
		if size, _, ok := s.end.Literal(); ok {
			s.goOn(size)
			return
		}
	}
	s.begin()
}

// goAhead lets the client go on: with its literal, unless it is IDLE that has come so far.
func (d *dialogue) goAhead() {
	switch {
	case d.asks:
		d.asks = false
	case d.waits:
		d.waits = false
		d.client.goOn(d.literal)
	}
}

// answered takes the answer to a command: the first that has none, or the one that has been sent in part.
func (d *dialogue) answered() {
	switch {
	case d.pending > 0:
		d.pending--
		if d.idle--; d.idle <= 0 {
			d.idle, d.idling, d.asks = 0, false, false
		}
	case d.waits:
		d.waits = false
		d.client.begin()
	}
}
