package wire

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// class is a set of octets.
type class [256]bool

func (c *class) has(b byte) bool { return c[b] }

func classOf(allowed func(c byte) bool) *class {
	var set class
	for c := range 256 {
		set[c] = allowed(byte(c))
	}
	return &set
}

// The classes of RFC 9051 section 9.
var (
	atomChars    = classOf(isAtomChar)
	astringChars = classOf(func(c byte) bool { return isAtomChar(c) || c == ']' })
	listChars    = classOf(func(c byte) bool { return isAtomChar(c) || c == ']' || c == '%' || c == '*' })
	tagChars     = classOf(func(c byte) bool { return (isAtomChar(c) || c == ']') && c != '+' })
	objectChars  = classOf(isObjectChar)
	labelChars   = classOf(func(c byte) bool { return isAtomChar(c) && c != '[' && c != '<' && c != '.' })
)

func isAtomChar(c byte) bool {
	return c > ' ' && c < 0x7f && !strings.ContainsRune(`(){%*"\]`, rune(c))
}

func isObjectChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// word reads one octet of the class or more.
func (d *Decoder) word(allowed *class, what string) string {
	if !allowed.has(d.Peek()) || d.err != nil {
		d.expected(what)
		return ""
	}
	var b strings.Builder
	for c := d.Peek(); d.err == nil && allowed.has(c); c = d.Peek() {
		b.WriteByte(c)
		d.advance()
	}
	if d.err != nil {
		return ""
	}
	return b.String()
}

// Tag reads the tag of a command.
func (d *Decoder) Tag() string { return d.word(tagChars, "a tag") }

// Atom reads an atom.
func (d *Decoder) Atom() string { return d.word(atomChars, "an atom") }

// Keyword reads an atom and returns it in upper case.
func (d *Decoder) Keyword() string { return strings.ToUpper(d.Atom()) }

// Label reads a word that ends before "[", "<" or ".", in upper case: the
// names of FETCH items and body sections.
func (d *Decoder) Label() string { return strings.ToUpper(d.word(labelChars, "a name")) }

// AString reads an atom or a string.
func (d *Decoder) AString() string {
	if c := d.Peek(); c == '"' || c == '{' {
		return d.String()
	}
	return d.word(astringChars, "an atom or a string")
}

// String reads a quoted string or a literal.
func (d *Decoder) String() string {
	switch d.Peek() {
	case '"':
		return d.quoted()
	case '{':
		return d.literalString()
	}
	d.expected("a string")
	return ""
}

// NString reads a string or NIL, for which ok is false.
func (d *Decoder) NString() (s string, ok bool) {
	if c := d.Peek(); c == '"' || c == '{' {
		return d.String(), d.err == nil
	}
	word := d.word(atomChars, "a string or NIL")
	if d.err == nil && !strings.EqualFold(word, "NIL") {
		d.Fail("Expected a string or NIL instead of %q", word)
	}
	return "", false
}

// quoted reads DQUOTE *QUOTED-CHAR DQUOTE. Octets above 0x7f are let through: what
// they mean is for the caller to say, but where UTF-8 is spoken they must be that.
func (d *Decoder) quoted() string {
	d.Special('"')
	var b strings.Builder
	for {
		c := d.Peek()
		switch {
		case d.err != nil:
			return ""
		case c == endOfLine:
			d.Fail("Quoted string is not closed")
			return ""
		case c == '"':
			d.advance()
			if d.err == nil && d.o.UTF8 && !utf8.ValidString(b.String()) {
				d.Fail("Quoted string is not in UTF-8")
			}
			if d.err != nil {
				return ""
			}
			return b.String()
		case c == '\\':
			d.advance()
			if c = d.Peek(); d.err == nil && c != '"' && c != '\\' {
				d.Fail(`Only " and \ can follow a \ in a quoted string`)
			}
		}
		if d.err != nil {
			return ""
		}
		b.WriteByte(c)
		d.advance()
	}
}

// literalString reads a literal into memory.
func (d *Decoder) literalString() string {
	size, sync := d.literalHeader()
	if d.err != nil {
		return ""
	}
	if size > d.o.MaxLiteral || size > d.o.MaxLiterals-d.literals {
		d.fail(&SyntaxError{Code: "TOOBIG", Text: fmt.Sprintf("Literal too big: at most %d octets are allowed here", min(d.o.MaxLiteral, d.o.MaxLiterals-d.literals))})
		return ""
	}
	d.literals += size
	if !d.reserve(d.weight()*size) || sync && !d.proceed() {
		return ""
	}
	d.resume()
	text := make([]byte, size)
	if _, err := io.ReadFull(d.r, text); err != nil {
		d.die(err)
		return ""
	}
	d.keepOctets(text)
	s := string(text)
	if strings.IndexByte(s, 0) >= 0 {
		d.Fail("NUL is not allowed in a literal")
		return ""
	}
	return s
}

// literalWeight is how often what is in a literal is in memory.
const literalWeight = 2

// literalHeader reads "{" number ["+"] "}" CRLF.
func (d *Decoder) literalHeader() (size int64, sync bool) {
	d.Special('{')
	for c := d.Peek(); c >= '0' && c <= '9'; c = d.Peek() {
		d.advance()
	}
	d.TrySpecial('+')
	d.Special('}')
	if d.err != nil {
		return 0, false
	}
	size, sync, ok := d.tail.Literal()
	if !ok {
		d.Fail("A literal begins with {number}")
		return 0, false
	}
	if d.Peek() != endOfLine {
		d.expected("the end of the line after a literal's size")
		return 0, false
	}
	if d.err == nil {
		d.newline()
	}
	d.keepHead(size)
	if !sync && size > d.o.MaxUnasked {
		d.fail(&SyntaxError{Code: "TOOBIG", Text: fmt.Sprintf("A literal of more than %d octets has to be waited with", d.o.MaxUnasked)})
	}
	return size, sync
}

// proceed asks the client for a literal it waits to send.
func (d *Decoder) proceed() bool {
	if d.o.Continue != nil {
		if err := d.o.Continue(); err != nil {
			d.die(err)
			return false
		}
	}
	return true
}

// resume goes on behind the line that announced a literal.
func (d *Decoder) resume() {
	d.ended = false
	d.tail = Marker{}
}

// Literal starts a literal that streams (APPEND), also a literal8, which begins with
// "~" (RFC 3516 section 7): r must be read to its end or
// dropped with Skip. accept is asked before "+" is sent, and told whether the
// client waits for that; if it returns an error, which sticks, a synchronizing
// literal is refused without being read, and a non-synchronizing one is swallowed.
func (d *Decoder) Literal(accept func(size int64, waits bool) error) (r io.Reader, size int64) {
	d.TrySpecial('~')
	if d.Peek() != '{' {
		d.expected("a literal")
	}
	size, sync := d.literalHeader()
	if d.err != nil {
		return eof{}, 0
	}
	if err := accept(size, sync); err != nil {
		d.fail(err)
		return eof{}, 0
	}
	if sync && !d.proceed() {
		return eof{}, 0
	}
	d.resume()
	d.line = 0 // of several messages that one command appends, each has a line
	d.stream = &literalReader{d: d, left: size}
	return d.stream, size
}

// eof is the reader of a literal that does not come.
type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// literalReader reads what is left of a literal.
type literalReader struct {
	d    *Decoder
	left int64
}

func (l *literalReader) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n, err := l.d.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	if err != nil {
		l.d.die(err)
		return n, l.d.dead
	}
	return n, nil
}
