// Package wire reads and writes the tokens of IMAP: atoms, strings, literals,
// lists, sets, dates. It knows nothing of commands or mail.
//
// RFC 9051 section 9, RFC 3501 section 9, RFC 4466, RFC 7888.
package wire

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
)

// SyntaxError says what was wrong with a command, in words for the client.
type SyntaxError struct {
	Text string
	Code string // response code, "" for none
}

func (e *SyntaxError) Error() string { return e.Text }

// ErrFlood says that a client sent more than a command may be, in a way that
// leaves no good place to go on: the connection has to end.
var ErrFlood = errors.New("command too long to pass over")

// DecoderOptions bounds what one command may take; zero fields mean documented defaults.
type DecoderOptions struct {
	MaxLine     int   // octets of a command without its literals; default 64 KiB
	MaxLiteral  int64 // octets of one literal of String, AString and the like; default 64 KiB
	MaxLiterals int64 // octets of all literals of a command that are kept in memory; default 256 KiB
	MaxUnasked  int64 // octets of a literal that the client does not wait to send; default as with those it waits for
	MaxNesting  int   // parentheses; default 100
	MaxRanges   int   // numbers and ranges of one set; default 20,000
	MaxLevels   int   // part numbers of one section; default 100
	MaxSkip     int64 // octets of a wrong command that are passed over before ErrFlood; default 64 MiB
	// UTF8: mailbox names are in UTF-8, and quoted strings must be (RFC 6855 section 3, RFC
	// 9051 section 5.1); default is that names are in modified UTF-7.
	UTF8 bool
	// Keep: what is read can be had as it came, by Kept.
	Keep bool
	// Reserve is asked before a command takes more memory than most do, in octets about; what it returns
	// makes the command wrong. What was reserved is held until whoever runs the command is done with it.
	Reserve func(octets int64) error
	// Continue is called before a synchronizing literal is read: it sends "+ ..." and flushes.
	Continue func() error
}

// Decoder reads one command line after the other, literals included. The first
// error of a command sticks: later calls return zero values, and End returns it.
// After End (or Skip) the decoder stands at the next command, whatever was wrong
// with this one: the rest of the line and its non-synchronizing literals have
// been passed over, so that nothing of a refused command is ever run as one.
// Only an error of the connection and ErrFlood leave it nowhere.
type Decoder struct {
	r *bufio.Reader
	o DecoderOptions

	err      error  // first error of this command
	dead     error  // the connection's error: nothing can be read any more
	began    bool   // something of the command was read
	ended    bool   // the line's end was read
	line     int    // octets of this command without its literals,
	room     int    // and how many of them can be read before more has to be asked for
	literals int64  // octets of literals kept in memory
	skipped  int64  // octets passed over
	nesting  int    // open parentheses
	tail     Marker // what the line so far ends with

	stream *literalReader // of Literal, not yet read to its end

	kept kept // empty where commands are not kept
}

// NewDecoder returns a decoder that stands at the beginning of a command.
func NewDecoder(r *bufio.Reader, o DecoderOptions) *Decoder {
	d := &Decoder{r: r}
	d.Limit(o)
	return d
}

// Limit changes what commands may take from the next on.
func (d *Decoder) Limit(o DecoderOptions) {
	d.o = o.withDefaults()
	d.room = d.o.firstRoom()
}

// What a command takes before Reserve is asked, in octets of its line, in what steps it is
// asked from then on, and what an octet can become at most, about: a set, a tree of keys, a list of names.
const (
	unreserved = 1 << 10
	lineStep   = 4 << 10
	lineWeight = 16
)

func (o DecoderOptions) firstRoom() int { return min(unreserved, o.MaxLine) }

func (o DecoderOptions) withDefaults() DecoderOptions {
	o.MaxLine = cmp.Or(o.MaxLine, 64<<10)
	o.MaxLiteral = cmp.Or(o.MaxLiteral, 64<<10)
	o.MaxLiterals = cmp.Or(o.MaxLiterals, 256<<10)
	o.MaxUnasked = cmp.Or(o.MaxUnasked, maxInt64)
	o.MaxNesting = cmp.Or(o.MaxNesting, 100)
	o.MaxRanges = cmp.Or(o.MaxRanges, 20_000)
	o.MaxLevels = cmp.Or(o.MaxLevels, 100)
	o.MaxSkip = cmp.Or(o.MaxSkip, 64<<20)
	return o
}

// Err returns the first error of this command so far.
func (d *Decoder) Err() error { return d.err }

// Dead returns the error that ended the connection, nil while it lives. Then
// there is no next command.
func (d *Decoder) Dead() error { return d.dead }

// UseUTF8 sets DecoderOptions.UTF8, from the next token on.
func (d *Decoder) UseUTF8(on bool) { d.o.UTF8 = on }

// Fail makes the command wrong, unless it is already.
func (d *Decoder) Fail(format string, args ...any) {
	d.fail(&SyntaxError{Text: fmt.Sprintf(format, args...)})
}

// Refuse makes the command fail with err, unless it is wrong already.
func (d *Decoder) Refuse(err error) { d.fail(err) }

// Exceed is Fail for a command that is too large or has too much of something, not wrong in itself.
func (d *Decoder) Exceed(format string, args ...any) {
	d.fail(&SyntaxError{Code: "LIMIT", Text: fmt.Sprintf(format, args...)})
}

func (d *Decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// die notes an error of the connection.
func (d *Decoder) die(err error) {
	if d.dead == nil {
		if err == io.EOF && d.began {
			err = io.ErrUnexpectedEOF
		}
		d.dead = err
	}
	d.fail(d.dead)
}

// endOfLine is what peek returns at the end of the line, and once there is an
// error. No token contains it.
const endOfLine = 0

// Peek returns the next octet without reading it, 0 at the end of the line.
func (d *Decoder) Peek() byte {
	if d.err != nil || d.ended {
		return endOfLine
	}
	b, err := d.r.Peek(1)
	if err != nil {
		d.die(err)
		return endOfLine
	}
	switch b[0] {
	case '\r', '\n':
		return endOfLine
	case 0:
		d.Fail("NUL is not allowed in a command")
	}
	return b[0]
}

// advance reads the octet that Peek returned.
func (d *Decoder) advance() {
	c, _ := d.r.ReadByte()
	d.began = true
	d.line++
	d.keep(c)
	d.tail = d.tail.Next(c)
	if d.line > d.room {
		d.widen()
	}
}

// widen makes room for more of a line.
func (d *Decoder) widen() {
	if d.room == d.o.MaxLine {
		d.Exceed("Command line too long: at most %d octets are allowed", d.o.MaxLine)
		return
	}
	more := min(lineStep, d.o.MaxLine-d.room)
	d.room += more
	d.reserve(int64(more) * lineWeight)
}

// reserve asks for memory. It tells whether it may be taken.
func (d *Decoder) reserve(octets int64) bool {
	if d.o.Reserve == nil || d.err != nil {
		return d.err == nil
	}
	if err := d.o.Reserve(octets); err != nil {
		d.fail(err)
	}
	return d.err == nil
}

// Ahead tells whether the line goes on with text, which is in upper case, in any case. It reads nothing.
func (d *Decoder) Ahead(text string) bool {
	for n := range len(text) {
		if n == 0 && d.Peek() == endOfLine {
			return false
		}
		// No more than one octet further than what has been found to be text, so that
		// nothing behind the end of the line is waited for.
		b, err := d.r.Peek(n + 1)
		if err != nil {
			d.die(err)
			return false
		}
		if upper(b[n]) != text[n] {
			return false
		}
	}
	return true
}

func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

// expected makes the command wrong where something else than what stands
// there was wanted.
func (d *Decoder) expected(what string) {
	if d.err != nil {
		return
	}
	switch c := d.Peek(); {
	case d.err != nil:
	case c == endOfLine:
		d.Fail("Expected %s instead of the end of the line", what)
	case c < ' ' || c >= 0x7f:
		d.Fail("Expected %s instead of octet 0x%02x", what, c)
	default:
		d.Fail("Expected %s instead of %q", what, string(c))
	}
}

// SP demands one space.
func (d *Decoder) SP() {
	if !d.TrySP() {
		d.expected("a space")
	}
}

// TrySP reads one space, if it is next.
func (d *Decoder) TrySP() bool { return d.TrySpecial(' ') }

// Special demands c: one of ( ) [ ] < > . , and the like.
func (d *Decoder) Special(c byte) {
	if !d.TrySpecial(c) {
		d.expected(fmt.Sprintf("%q", string(c)))
	}
}

// TrySpecial reads c, if it is next.
func (d *Decoder) TrySpecial(c byte) bool {
	if d.Peek() != c || c == endOfLine {
		return false
	}
	d.advance()
	return d.err == nil
}

// List reads "(" [item *(SP item)] ")".
func (d *Decoder) List(item func()) {
	d.Special('(')
	d.nesting++
	defer func() { d.nesting-- }()
	if d.nesting > d.o.MaxNesting {
		d.Exceed("Parentheses are nested too deeply: at most %d levels are allowed", d.o.MaxNesting)
	}
	if d.err != nil || d.TrySpecial(')') {
		return
	}
	for {
		item()
		if d.err != nil || d.TrySpecial(')') {
			return
		}
		d.SP()
	}
}

// Nest runs read one level of parentheses deeper, for grammars that nest in
// another way than List, so that their depth is bounded as well.
func (d *Decoder) Nest(read func()) {
	d.nesting++
	defer func() { d.nesting-- }()
	if d.nesting > d.o.MaxNesting {
		d.Exceed("Nested too deeply: at most %d levels are allowed", d.o.MaxNesting)
	}
	if d.err == nil {
		read()
	}
}

// Line reads the rest of the line as it stands: the answers of a client to a
// continuation request, which are no commands (RFC 9051 sections 6.2.2 and 6.3.13).
func (d *Decoder) Line() string {
	var b strings.Builder
	for c := d.Peek(); c != endOfLine; c = d.Peek() {
		b.WriteByte(c)
		d.advance()
	}
	d.tail = Marker{} // no literal can follow it
	return b.String()
}

// End demands the end of the line and returns the first error of this command.
func (d *Decoder) End() error {
	d.dropStream()
	if d.err == nil && !d.ended {
		if d.Peek() == endOfLine && d.err == nil {
			d.newline()
		} else {
			d.expected("the end of the line")
		}
	}
	return d.Skip()
}

// Skip passes over what is left of the command and returns its first error.
// The next call reads the next command.
func (d *Decoder) Skip() error {
	if !d.began && d.err == nil {
		return nil // this is the beginning of a command
	}
	for !d.atEnd() && d.dead == nil {
		d.skipOctet()
	}
	err := d.err
	*d = Decoder{r: d.r, o: d.o, room: d.o.firstRoom(), dead: d.dead, err: d.dead, kept: d.kept}
	return err
}

// atEnd tells whether the whole command was read. Where the line ends with a
// literal that the client does not wait for, the command goes on after it; where
// the client waits, it ends, for the answer will tell the client not to send any more.
func (d *Decoder) atEnd() bool {
	d.dropStream()
	if d.dead != nil || !d.ended {
		return false
	}
	size, sync, ok := d.tail.Literal()
	if !ok || sync {
		return true
	}
	d.ended = false
	d.tail = Marker{}
	d.swallow(size)
	return false
}

func (d *Decoder) skipOctet() {
	c, err := d.r.ReadByte()
	if err != nil {
		d.die(err)
		return
	}
	d.began = true
	if d.skipped++; d.skipped > d.o.MaxSkip {
		d.flood()
		return
	}
	if c == '\n' {
		d.ended = true
		return
	}
	if c != '\r' {
		d.tail = d.tail.Next(c)
	}
}

// dropStream passes over what nobody read of a streaming literal.
func (d *Decoder) dropStream() {
	if d.stream != nil {
		left := d.stream.left
		d.stream = nil
		d.swallow(left)
	}
}

// swallow passes over n octets of a literal.
func (d *Decoder) swallow(n int64) {
	if n > d.o.MaxSkip-d.skipped {
		d.flood()
		return
	}
	d.skipped += n
	if _, err := io.CopyN(io.Discard, d.r, n); err != nil {
		d.die(err)
	}
}

// flood ends the connection, while what is told of it is what was wrong with
// the command.
func (d *Decoder) flood() {
	d.dead = ErrFlood
	if d.err == nil {
		d.err = ErrFlood
	} else {
		d.err = errors.Join(ErrFlood, d.err)
	}
}

// newline reads CRLF, or LF alone, which no client means otherwise.
func (d *Decoder) newline() {
	c, err := d.r.ReadByte()
	if c == '\r' && err == nil {
		d.began = true
		c, err = d.r.ReadByte()
	}
	switch {
	case err != nil:
		d.die(err)
	case c != '\n':
		d.r.UnreadByte() // it was just read, so this cannot fail
		d.Fail("CR without LF")
	default:
		d.ended = true
	}
}

// Marker follows the octets of a line to know, whatever was wrong before,
// whether it ends with the announcement of a literal: "{" number ["+"] "}".
// Also where quotes are open: what is announced like a literal is sent like one.
type Marker struct {
	state markerState
	size  int64 // of the literal; math.MaxInt64 for all that is more
	plus  bool
}

type markerState uint8

const (
	outside markerState = iota
	opened              // after "{"
	counted             // after a digit
	signed              // after "+"
	closed              // after "}"
)

const maxInt64 = 1<<63 - 1

// Next takes an octet, which is neither CR nor LF.
func (m Marker) Next(c byte) Marker {
	switch {
	case c == '{':
		return Marker{state: opened}
	case c >= '0' && c <= '9' && (m.state == opened || m.state == counted):
		size := int64(maxInt64)
		if m.size <= (maxInt64-int64(c-'0'))/10 {
			size = m.size*10 + int64(c-'0')
		}
		return Marker{state: counted, size: size}
	case c == '+' && m.state == counted:
		return Marker{state: signed, size: m.size, plus: true}
	case c == '}' && (m.state == counted || m.state == signed):
		return Marker{state: closed, size: m.size, plus: m.plus}
	}
	return Marker{}
}

// Literal returns the size of the literal that is announced, if one is, and whether the client waits to be asked for it.
func (m Marker) Literal() (size int64, sync, ok bool) {
	return m.size, !m.plus, m.state == closed
}
