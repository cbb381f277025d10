package imapd

// The patterns of LIST and LSUB.

import (
	"strings"

	"mailstead.dev/imapd/wire"
)

const (
	// maxPattern is the longest pattern that is matched, in octets,
	maxPattern = 2000
	// and maxPatterns how long those of one command can be together.
	maxPatterns = 8000
)

// readPattern reads a list-mailbox; "" names nothing. What is not accepted is no
// error, and finds nothing (RFC 5258 section 3, RFC 9051 section 6.3.9).
func readPattern(d *wire.Decoder, reference string) pattern {
	name, ok := d.ListMailbox()
	switch {
	case !ok || len(reference)+len(name) > maxPattern:
		return unlike
	case name == "":
		return ""
	}
	return newPattern(reference + name)
}

// unlike is a pattern that is like no name: none has a NUL.
const unlike pattern = "\x00"

// pattern is a mailbox name with wildcards: "*" is anything, "%" is anything
// but the delimiter. INBOX is matched in any case.
type pattern string

func newPattern(s string) pattern {
	var b strings.Builder
	for i := range len(s) {
		wild := s[i] == '*' || s[i] == '%'
		if wild && i > 0 && s[i-1] == s[i] {
			continue
		}
		b.WriteByte(s[i])
	}
	return pattern(b.String())
}

func (p pattern) hasPercent() bool { return strings.Contains(string(p), "%") }

func (p pattern) matches(name string) bool {
	fold := 0
	if first, _, _ := strings.Cut(name, delimiter); first == "INBOX" {
		fold = len(first)
	}
	return p.match(name, fold)
}

// match keeps the set of places in the pattern that the octets of name so far
// lead to; so it takes no longer than their lengths multiplied. The first fold
// octets of the name are compared without case.
func (p pattern) match(name string, fold int) bool {
	now, next := make([]bool, len(p)+1), make([]bool, len(p)+1)
	p.enter(now, 0)
	for i := range len(name) {
		clear(next)
		for at, here := range now[:len(p)] {
			if !here {
				continue
			}
			switch c := p[at]; {
			case c == '*', c == '%' && name[i] != '/':
				p.enter(next, at)
			case c == name[i], i < fold && lower(c) == lower(name[i]):
				p.enter(next, at+1)
			}
		}
		now, next = next, now
	}
	return now[len(p)]
}

// enter marks a place, and those behind wildcards there, which can stand for nothing.
func (p pattern) enter(places []bool, at int) {
	places[at] = true
	for at < len(p) && (p[at] == '*' || p[at] == '%') {
		at++
		places[at] = true
	}
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
