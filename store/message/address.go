package message

import (
	"slices"
	"strings"
)

// What stands in an address for a part that the message lacks; ENVELOPE's NIL
// would make it a group marker (RFC 9051 section 7.5.2).
const (
	MissingMailbox = "MISSING_MAILBOX"
	MissingHost    = "MISSING_DOMAIN"
)

// maxAddresses bounds one address list.
const maxAddresses = 20_000

// addressParser reads an address list (RFC 5322 section 3.4, with the obsolete
// forms of section 4.4) as far as it can be understood.
type addressParser struct {
	lexer
	list  []Address
	group bool // inside a group

	words   []string        // of the phrase before "<", or of the address
	spec    strings.Builder // the same without spaces, an addr-spec if it has an "@" outside of quotes
	at      int             // where the last such "@" stands in spec, or -1
	comment string          // the last one
	done    bool            // an angle-addr has come, the rest up to "," is rubbish
}

// parseAddresses appends the addresses of an unfolded field value to list.
func parseAddresses(list []Address, value string) []Address {
	p := addressParser{lexer: lexer{s: value}, list: list, at: -1}
	for !p.end() && len(p.list) < maxAddresses {
		p.next()
	}
	p.flush()
	if p.group {
		p.list = append(p.list, Address{})
	}
	return p.list
}

// next reads one token.
func (p *addressParser) next() {
	switch c := p.peek(); {
	case c == ' ' || c == '\t':
		p.i++
	case c == '(':
		p.comment = p.readComment()
	case c == ',':
		p.i++
		p.flush()
	case c == ';':
		p.i++
		p.flush()
		if p.group {
			p.list = append(p.list, Address{})
			p.group = false
		}
	case c == '<' && !p.done:
		p.i++
		p.angle()
	case c == ':' && !p.group && !p.done && p.at < 0 && len(p.words) > 0:
		p.i++
		p.list = append(p.list, Address{Mailbox: p.phrase()})
		p.group = true
		p.reset()
	case p.done:
		p.i++
	case c == '"':
		p.word(p.readQuoted())
	case c == '@':
		p.i++
		p.at = p.spec.Len()
		p.glue("@")
	case c == '[':
		p.glue(p.readLiteral())
	case strings.HasPrefix(p.s[p.i:], "=?"):
		p.word(p.readEncodedWord())
	case addressSpecial(c):
		p.i++
	default:
		p.word(p.readWhile(func(c byte) bool { return !addressSpecial(c) && c != '[' }))
	}
}

// addressSpecial reports whether c ends an atom of an address. "." does not:
// phrases such as "John Q. Public" are common.
func addressSpecial(c byte) bool {
	return c <= ' ' || c == 0x7f || strings.IndexByte(`()<>@,;:"]`, c) >= 0
}

// word adds a word to the phrase. Words that touch are one: a.b@example.org.
func (p *addressParser) word(w string) {
	p.spec.WriteString(w)
	if n := len(p.words); n > 0 && p.touches() {
		p.words[n-1] += w
	} else {
		p.words = append(p.words, w)
	}
	p.last = p.i
}

// glue adds what belongs to the word before it.
func (p *addressParser) glue(s string) {
	p.spec.WriteString(s)
	if n := len(p.words); n > 0 {
		p.words[n-1] += s
	} else {
		p.words = append(p.words, s)
	}
	p.last = p.i
}

// touches reports whether the word that has just been read follows the one
// before it without a space, or behind its "@" or ".".
func (p *addressParser) touches() bool {
	before := p.words[len(p.words)-1]
	if strings.HasSuffix(before, "@") {
		return true
	}
	return p.last == p.start && p.s[p.start] != '"' && p.s[p.last-1] != '"'
}

func (p *addressParser) phrase() string { return strings.Join(p.words, " ") }

// angle reads the rest of an angle-addr: its route is dropped (RFC 5322 section 4.4).
func (p *addressParser) angle() {
	name := p.phrase()
	inner := addressParser{lexer: lexer{s: p.s, i: p.i}, at: -1}
	for !inner.end() && inner.peek() != '>' {
		switch c := inner.peek(); c {
		case ':': // the end of a route
			inner.i++
			inner.reset()
		case ',', ';', '<':
			inner.i++
		default:
			inner.next()
		}
	}
	p.i = min(inner.i+1, len(p.s))
	a := inner.address()
	a.Name = name
	p.list = append(p.list, a)
	p.done = true
}

// address makes an address of what has been read.
func (p *addressParser) address() Address {
	spec := p.spec.String()
	a := Address{Mailbox: spec, Host: MissingHost}
	switch {
	case p.at >= 0 && len(p.words) == 1:
		a.Mailbox, a.Host = spec[:p.at], spec[p.at+1:]
	case p.at >= 0: // a name and an address without angle brackets
		a.Name, a.Mailbox, a.Host = p.bare()
	case len(p.words) > 1:
		a.Mailbox = p.phrase()
	}
	if a.Mailbox == "" {
		a.Mailbox = MissingMailbox
	}
	if a.Host == "" {
		a.Host = MissingHost
	}
	return a
}

// bare takes the last word with an "@" for the address, and the others for its name.
func (p *addressParser) bare() (name, mailbox, host string) {
	k := len(p.words) - 1
	for k > 0 && !strings.Contains(p.words[k], "@") {
		k--
	}
	at := strings.LastIndexByte(p.words[k], '@')
	if at < 0 {
		return "", p.phrase(), ""
	}
	mailbox, host = p.words[k][:at], p.words[k][at+1:]
	return strings.Join(slices.Concat(p.words[:k], p.words[k+1:]), " "), mailbox, host
}

// flush ends an address of the list. A comment behind it is its name where it
// has no other: this is how names were written before RFC 822.
func (p *addressParser) flush() {
	if p.done {
		if a := &p.list[len(p.list)-1]; a.Name == "" {
			a.Name = p.comment
		}
	} else if len(p.words) > 0 {
		a := p.address()
		if a.Name == "" {
			a.Name = p.comment
		}
		p.list = append(p.list, a)
	}
	p.reset()
}

func (p *addressParser) reset() {
	p.words, p.comment, p.done, p.at = p.words[:0], "", false, -1
	p.spec.Reset()
}
