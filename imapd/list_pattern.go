package imapd

// The patterns of LIST and LSUB.

import (
	"iter"
	"strings"
	"unicode"

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

// matcher returns what matches names to the pattern.
func (p pattern) matcher() *matcher {
	m := newMatcher(len(p))
	for _, r := range string(p) {
		switch r {
		case '*':
			m.anything()
		case '%':
			m.anythingButDelimiter()
		default:
			m.character(r)
		}
	}
	return m
}

// matcher matches names to a pattern. It keeps the set of places in the pattern that the characters of a name so far lead to, as
// bits: so it takes no longer than their lengths multiplied, a word of the machine at a time, and all levels of
// a name come of reading it once. It is for one goroutine.
type matcher struct {
	fixed  map[rune]places // in front of a character
	single places          // in front of any one character
	any    places          // where anything may stand,
	level  places          // and where anything but the delimiter
	now    places
	last   int // the place behind all
}

// places is a set of places in a pattern.
type places []uint64

func (p places) add(i int)      { p[i/64] |= 1 << (i % 64) }
func (p places) has(i int) bool { return p[i/64]&(1<<(i%64)) != 0 }

// newMatcher returns one of an empty pattern, which is to get no more than so many characters and wildcards.
func newMatcher(most int) *matcher {
	none := func() places { return make(places, most/64+1) }
	return &matcher{fixed: make(map[rune]places), single: none(), any: none(), level: none(), now: none()}
}

func (m *matcher) character(r rune) {
	if m.fixed[r] == nil {
		m.fixed[r] = make(places, len(m.now))
	}
	m.fixed[r].add(m.last)
	m.last++
}

func (m *matcher) anyCharacter() {
	m.single.add(m.last)
	m.last++
}

func (m *matcher) anything() { m.any.add(m.last) }

func (m *matcher) anythingButDelimiter() { m.level.add(m.last) }

// levels yields how many octets of a name match, of the names above it and its own, ascending. INBOX is matched in any case.
func (m *matcher) levels(name string) iter.Seq[int] {
	return func(yield func(int) bool) {
		fold := 0
		if first, _, _ := strings.Cut(name, delimiter); first == "INBOX" {
			fold = len(first)
		}
		clear(m.now)
		m.now.add(0)
		for i, r := range name {
			if r == '/' && i > 0 && m.now.has(m.last) && !yield(i) {
				return
			}
			if !m.step(r, i < fold) {
				return
			}
		}
		if m.now.has(m.last) {
			yield(len(name))
		}
	}
}

// matches tells whether the whole name does.
func (m *matcher) matches(name string) bool {
	for n := range m.levels(name) {
		if n == len(name) {
			return true
		}
	}
	return false
}

// step goes on by a character, and reports whether any place is left.
func (m *matcher) step(r rune, fold bool) bool {
	fixed, other := m.fixed[r], places(nil)
	if fold {
		other = m.fixed[unicode.ToLower(r)]
	}
	var left, carry uint64
	for w, now := range m.now {
		on, stay := m.single[w], m.any[w]
		if fixed != nil {
			on |= fixed[w]
		}
		if other != nil {
			on |= other[w]
		}
		if r != '/' {
			stay |= m.level[w]
		}
		on &= now
		m.now[w] = on<<1 | carry | now&stay
		carry = on >> 63
		left |= m.now[w]
	}
	return left != 0
}
