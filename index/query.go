package index

import (
	"context"
	"math/bits"
	"slices"
	"strings"

	"mailstead.dev/store/message"
)

// Scope says where a query looks.
type Scope uint8

const (
	Header   Scope = iota // in fields of the message's header (HEADER, SUBJECT, FROM, TO, CC, BCC)
	Body                  // in the body (BODY)
	Anywhere              // in header or body (TEXT)
)

// Query asks for a string. Case is ignored, as i;unicode-casemap does (RFC
// 5051). The empty string is in every text, so that a Header query for it asks
// whether there is such a field at all.
type Query struct {
	In    Scope
	Field string // of Header: the field's name
	Text  string // UTF-8
	Like  Likeness
}

// Matcher answers a list of queries, one email at a time. It is safe for concurrent use.
type Matcher struct{ queries []query }

// query is a Query made ready to compare.
type query struct {
	in      Scope
	field   string // lower case
	pattern string // normalised
	like    Likeness
	words   []likeWord // of the pattern, if less than itself will do
}

// NewMatcher returns a matcher of queries, whose answers come in the same order.
func NewMatcher(queries []Query) *Matcher {
	m := &Matcher{make([]query, len(queries))}
	for i, q := range queries {
		m.queries[i] = query{in: q.In, field: strings.ToLower(q.Field), pattern: message.Normalize(q.Text), like: q.Like}
		if q.Like != Exactly {
			m.queries[i].words = likeWordsOf(m.queries[i].pattern)
		}
	}
	return m
}

// answers is what is known of one email: per query, whether it is settled and how.
type answers struct {
	queries []query
	found   []bool
	settled []bool
	words   []uint64 // of each query, a set of those of its words that were found
	open    int      // not settled
}

// answer begins with the queries that every email matches settled.
func (m *Matcher) answer(found []bool) *answers {
	a := &answers{queries: m.queries, found: found, settled: make([]bool, len(m.queries)), words: make([]uint64, len(m.queries)), open: len(m.queries)}
	for i, q := range a.queries {
		if q.in != Header && q.pattern == "" {
			a.settle(i, true)
		}
	}
	return a
}

// exactly leaves it open what is only like what is asked for.
func (a *answers) exactly() {
	a.queries = slices.Clone(a.queries)
	for i := range a.queries {
		a.queries[i].words = nil
	}
}

func (a *answers) settle(i int, found bool) {
	if !a.settled[i] {
		a.settled[i], a.found[i] = true, found
		a.open--
	}
}

// take compares a text with the queries that are not settled.
func (a *answers) take(ctx context.Context, t message.Text) {
	for i, q := range a.queries {
		if !a.settled[i] && q.looksAt(t) {
			t.Value = message.Normalize(t.Value)
			a.takeNormalised(ctx, i, t)
			return
		}
	}
}

// takeNormalised is take from a query on, of a text whose value is normalised already. Once nobody waits any more, it ends
// with what it has found.
func (a *answers) takeNormalised(ctx context.Context, from int, t message.Text) {
	var alike []int
	for i, q := range a.queries[from:] {
		switch {
		case a.settled[from+i] || !q.looksAt(t):
		case strings.Contains(t.Value, q.pattern):
			a.settle(from+i, true)
		case len(q.words) > 0:
			alike = append(alike, from+i)
		}
	}
	if len(alike) > 0 {
		a.takeWords(ctx, alike, t.Value)
	}
}

// takeWords looks for the words of queries in a text.
func (a *answers) takeWords(ctx context.Context, queries []int, text string) {
	words := 0
	cut(text, func(_ int, word string) {
		if words++; len(queries) == 0 || words%patienceInWords == 0 && ctx.Err() != nil {
			queries = nil
			return
		}
		w := comparedWord{text: word}
		found := false
		for _, i := range queries {
			q := &a.queries[i]
			for left := q.everyWord() &^ a.words[i]; left != 0; left &= left - 1 {
				if n := bits.TrailingZeros64(left); q.words[n].is(&w, q.like) {
					a.words[i] |= 1 << n
				}
			}
			if a.words[i] == q.everyWord() {
				a.settle(i, true)
				found = true
			}
		}
		if found {
			queries = slices.DeleteFunc(queries, func(i int) bool { return a.settled[i] })
		}
	})
}

// everyWord is the set of all words of a query.
func (q *query) everyWord() uint64 { return 1<<len(q.words) - 1 }

func (q query) looksAt(t message.Text) bool {
	switch q.in {
	case Header:
		return !t.Part && !t.Body && t.Header != "" && t.Header == q.field
	case Body:
		return t.Body
	}
	return true
}

// wants tells whether a query that is not settled looks at a field of the header.
func (a *answers) wants(field string) bool {
	for i, q := range a.queries {
		if a.settled[i] {
			continue
		}
		if q.in == Anywhere || q.in == Header && strings.EqualFold(q.field, field) {
			return true
		}
	}
	return false
}

// fromMeta settles what can be without content.
func (a *answers) fromMeta(ctx context.Context, meta *message.Meta) {
	if !meta.HeaderCut {
		meta.HeaderTexts(a.wants, func(t message.Text) bool {
			a.take(ctx, t)
			return a.open > 0
		})
	}
	for i, q := range a.queries {
		if q.in == Header && meta.Cached(q.field) {
			a.settle(i, false) // or found above
		}
	}
}
