package imapd

import (
	"math/bits"

	"mailstead.dev/store/view"
)

// The keys that flags, dates, sizes and sets answer are evaluated for a run of messages at a time, column by column: that
// is what a search of a large mailbox takes longest for.

// fewOfSpan is up to how many messages are evaluated one by one as soon.
const fewOfSpan = 8

// spanSet is a set of the messages of a span.
type spanSet [view.SpanSize / 64]uint64

// where returns the set of those of n messages of which is is true.
func where(n int, is func(i int) bool) (set spanSet) {
	for i := range n {
		if is(i) {
			set[i/64] |= 1 << (i % 64)
		}
	}
	return set
}

// firstOf returns the set of the first n messages.
func firstOf(n int) (set spanSet) {
	for w := range n / 64 {
		set[w] = 1<<64 - 1
	}
	if n%64 > 0 {
		set[n/64] = 1<<(n%64) - 1
	}
	return set
}

func (s *spanSet) and(o *spanSet) {
	for w := range s {
		s[w] &= o[w]
	}
}

func (s *spanSet) or(o *spanSet) {
	for w := range s {
		s[w] |= o[w]
	}
}

func (s *spanSet) andNot(o *spanSet) {
	for w := range s {
		s[w] &^= o[w]
	}
}

// each calls f with each message of the set.
func (s *spanSet) each(f func(i int)) {
	for w, left := range s {
		for ; left != 0; left &= left - 1 {
			f(w*64 + bits.TrailingZeros64(left))
		}
	}
}

// evalSpan is eval of each message of a span: yes are those that match, open those of which more has to be read to tell.
func (k *searchKey) evalSpan(s view.Span, recent view.UIDSet) (yes, open spanSet) {
	n := s.Len()
	switch k.op {
	case opAnd:
		yes = firstOf(n)
		possible := yes
		for _, kid := range k.kids {
			y, o := kid.evalSpan(s, recent)
			yes.and(&y)
			y.or(&o)
			possible.and(&y)
		}
		possible.andNot(&yes)
		return yes, possible
	case opOr:
		for _, kid := range k.kids {
			y, o := kid.evalSpan(s, recent)
			yes.or(&y)
			open.or(&o)
		}
		open.andNot(&yes)
		return yes, open
	case opNot:
		y, o := k.kids[0].evalSpan(s, recent)
		yes = firstOf(n)
		yes.andNot(&y)
		yes.andNot(&o)
		return yes, o
	}
	if k.op >= opSentBefore {
		return yes, firstOf(n)
	}
	return where(n, k.column(s, recent)), open
}

// column returns what tells of a message of a span whether a key matches, which the view answers.
func (k *searchKey) column(s view.Span, recent view.UIDSet) func(i int) bool {
	switch k.op {
	case opAll:
		return func(int) bool { return true }
	case opSet:
		uids := s.UIDs()
		return func(i int) bool { return k.uids.Contains(uids[i]) }
	case opFlags:
		flags := s.Flags()
		return func(i int) bool { return flags[i]&k.flags == k.flags }
	case opUnflags:
		flags := s.Flags()
		return func(i int) bool { return flags[i]&k.flags == 0 }
	case opBefore, opOn, opSince:
		return func(i int) bool { return k.isDay(dayAt(s.InternalDate(i)), k.op-opBefore) }
	case opLarger:
		sizes := s.Sizes()
		return func(i int) bool { return sizes[i] > k.number }
	case opSmaller:
		sizes := s.Sizes()
		return func(i int) bool { return sizes[i] < k.number }
	}
	return func(i int) bool {
		m := s.Message(i)
		return k.eval(&m, recent, nil) == isTrue
	}
}
