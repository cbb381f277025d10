package index

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// The model knows the plain texts that went into an index, folds case by a table
// of its own, and looks at every text for every query.

// folded is what i;unicode-casemap makes of the characters that the tests write (RFC 5051), by hand.
var folded = map[rune]string{
	'é': "E\u0301", 'É': "E\u0301", 'ü': "U\u0308", 'Ü': "U\u0308", 'å': "A\u030a", 'ß': "ß", 'ñ': "N\u0303",
	'σ': "Σ", 'ς': "Σ", 'Σ': "Σ", 'ж': "Ж", 'Ж': "Ж", 'й': "И\u0306", 'И': "И",
	'が': "か\u3099", 'か': "か", 'カ': "カ", 'ガ': "カ\u3099", 'ｶ': "カ", '日': "日", '本': "本", '語': "語", '々': "々", '𠀀': "𠀀", 'ー': "ー",
	'한': "\u1112\u1161\u11ab", 'ก': "ก", 'ั': "ั", 'Ａ': "A", '５': "5", 'ﬁ': "fi", '²': "2", 'א': "א",
	'\u0301': "\u0301", '\u0308': "\u0308", '\u3099': "\u3099",
	'，': ",", '。': "。", '😀': "😀", '½': "1\u20442", '\u00a0': " ", '–': "–",
}

func foldModel(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch f, ok := folded[r]; {
		case ok:
			b.WriteString(f)
		case r < 0x80 && r >= 'a' && r <= 'z':
			b.WriteRune(r - 'a' + 'A')
		case r < 0x80:
			b.WriteRune(r)
		default:
			panic(fmt.Sprintf("the model does not know %q", r))
		}
	}
	return b.String()
}

// modelEmail is what an email says.
type modelEmail struct {
	header map[string][]string
	outer  []string // of parts' headers, and stray text
	body   []string
	beyond []string // body that is not given to the index
}

func (e *modelEmail) document(n id.Email) Document {
	d := Document{Email: n, Partial: len(e.beyond) > 0}
	for name, values := range e.header {
		for _, v := range values {
			d.Texts = append(d.Texts, message.Text{Header: name, Value: v})
		}
	}
	for i, v := range e.outer {
		t := message.Text{Part: true, Header: "content-type", Value: v}
		if i%2 == 1 {
			t = message.Text{Value: v}
		}
		d.Texts = append(d.Texts, t)
	}
	for i, v := range e.body {
		t := message.Text{Body: true, Value: v}
		if i%3 == 2 {
			t.Part, t.Header = true, "subject"
		}
		d.Texts = append(d.Texts, t)
	}
	return d
}

func (e *modelEmail) matches(q Query) bool {
	if q.Like != Exactly && e.like(q) {
		return true
	}
	want := foldModel(q.Text)
	in := func(texts []string) bool {
		return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(foldModel(s), want) })
	}
	switch {
	case q.In == Header:
		return in(e.header[strings.ToLower(q.Field)])
	case q.Text == "":
		return true
	case q.In == Body:
		return in(e.body) || in(e.beyond)
	}
	for _, values := range e.header {
		if in(values) {
			return true
		}
	}
	return in(e.outer) || in(e.body) || in(e.beyond)
}

// model is an account.
type model struct {
	*rand.Rand
	emails map[id.Email]*modelEmail
	next   id.Email
	pool   []string // words that are used again
}

func newModel(seed uint64) *model {
	m := &model{Rand: rand.New(rand.NewPCG(seed, 5)), emails: make(map[id.Email]*modelEmail), next: 1}
	for range 60 {
		m.pool = append(m.pool, m.word())
	}
	return m
}

var (
	modelLetters = []rune("abcdeEAB01éÉüÜåßñσςΣжЖйИ한กัＡ５ﬁ²א")
	modelSingles = []rune("がかカガｶ日本語々𠀀ー")
	modelMarks   = []rune("\u0301\u0308\u3099")
	modelGaps    = []string{" ", " ", " ", "  ", ".", "@", "-", "_", "/", "，", "。", "😀", "½", "\r\n", "\n", "\u00a0", "–", "%", "*", "\t", "\"", "<"}
)

func oneOf[T any](m *model, list []T) T { return list[m.IntN(len(list))] }

func (m *model) word() string {
	var b strings.Builder
	for range 1 + m.IntN(1+m.IntN(9)) {
		switch k := m.IntN(20); {
		case k == 0:
			b.WriteRune(oneOf(m, modelMarks))
		case k < 4:
			b.WriteRune(oneOf(m, modelSingles))
		default:
			b.WriteRune(oneOf(m, modelLetters))
		}
	}
	return b.String()
}

func (m *model) text(most int) string {
	var b strings.Builder
	for range m.IntN(most + 1) {
		if m.IntN(8) > 0 {
			b.WriteString(oneOf(m, m.pool))
		} else {
			b.WriteString(m.word())
		}
		if m.IntN(6) > 0 {
			b.WriteString(oneOf(m, modelGaps))
		}
	}
	return b.String()
}

var modelFields = []string{"from", "to", "cc", "bcc", "subject", "subject", "x-one", "x-one", "received", "message-id"}

func (m *model) email() *modelEmail {
	e := &modelEmail{header: make(map[string][]string)}
	for range 1 + m.IntN(8) {
		name := oneOf(m, modelFields)
		e.header[name] = append(e.header[name], m.text(6))
	}
	for range m.IntN(3) {
		e.outer = append(e.outer, m.text(4))
	}
	for range m.IntN(4) {
		e.body = append(e.body, m.text(30))
	}
	switch m.IntN(40) {
	case 0:
		e.beyond = []string{m.text(30)}
	case 1: // a word that is longer than any that is kept
		e.body = append(e.body, strings.Repeat(m.word(), maxWord))
	}
	return e
}

// newEmails makes some emails, not all of whose numbers follow each other.
func (m *model) newEmails(n int) []Document {
	var list []Document
	for range n {
		e := m.email()
		m.emails[m.next] = e
		list = append(list, e.document(m.next))
		m.next += id.Email(1 + m.IntN(3)/2)
	}
	return list
}

func (m *model) query() Query {
	q := Query{In: oneOf(m, []Scope{Header, Body, Anywhere, Anywhere})}
	if q.In == Header {
		q.Field = oneOf(m, []string{"From", "to", "SUBJECT", "subject", "x-one", "Received", "x-absent"})
	}
	if m.IntN(8) == 0 {
		q.Like = oneOf(m, []Likeness{SameWords, SameForms, OneSlip, TwoSlips})
	}
	switch m.IntN(10) {
	case 0:
		q.Text = "" // any
	case 1:
		q.Text = string(oneOf(m, append(slices.Clone(modelLetters), modelSingles...)))
	case 2:
		q.Text = m.word()
	case 3:
		q.Text = oneOf(m, modelGaps)
	case 4:
		q.Text = m.text(2)
	default:
		q.Text = m.piece()
	}
	return q
}

// piece cuts a string out of a text, case changed where that is simple.
func (m *model) piece() string {
	for range 20 {
		e := m.emails[1+id.Email(m.IntN(int(m.next)))]
		if e == nil {
			continue
		}
		texts := append(append(slices.Clone(e.body), e.outer...), e.beyond...)
		for _, values := range e.header {
			texts = append(texts, values...)
		}
		if len(texts) == 0 {
			continue
		}
		runes := []rune(oneOf(m, texts))
		if len(runes) == 0 {
			continue
		}
		from := m.IntN(len(runes))
		piece := string(runes[from:min(len(runes), from+1+m.IntN(1+m.IntN(20)))])
		if m.IntN(6) == 0 {
			piece = m.slip(piece)
		}
		if m.IntN(2) == 0 {
			piece = strings.Map(func(r rune) rune {
				if r < 0x80 {
					return []rune(strings.ToUpper(string(r)))[0]
				}
				return r
			}, piece)
		}
		return piece
	}
	return "a"
}

// compare puts queries to an index and to the model.
func (m *model) compare(t *testing.T, a *Account, queries []Query) {
	t.Helper()
	result, err := a.Search(t.Context(), queries)
	if err != nil {
		t.Fatal(err)
	}
	all := roaring.New()
	maybe := roaring.New()
	for e := range m.emails {
		all.Add(uint32(e))
	}
	for _, answer := range result.Answers {
		if answer.Matches.Intersects(answer.Maybe) {
			t.Fatalf("both certain and not: %v", roaring.And(answer.Matches, answer.Maybe))
		}
		maybe.Or(answer.Maybe)
	}
	if extra := roaring.AndNot(maybe, all); !extra.IsEmpty() {
		t.Fatalf("emails that are not there: %v", extra)
	}
	verified := roaring.New()
	matches := make([]*roaring.Bitmap, len(queries))
	for i := range matches {
		matches[i] = result.Answers[i].Matches.Clone()
	}
	err = a.Verify(t.Context(), queries, maybe, func(e id.Email, found, settled []bool) bool {
		if !verified.CheckedAdd(uint32(e)) {
			t.Errorf("email %d verified twice", e)
		}
		for i, q := range queries {
			want := m.emails[e].matches(q)
			if settled[i] && found[i] != want {
				t.Errorf("email %d, %+q: verified as %v, want %v: %+q", e, q, found[i], want, m.emails[e])
			}
			if !settled[i] && (found[i] || len(m.emails[e].beyond) == 0) {
				t.Errorf("email %d, %+q: not settled", e, q)
			}
			if want && result.Answers[i].Maybe.Contains(uint32(e)) {
				matches[i].Add(uint32(e))
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if !verified.Equals(maybe) {
		t.Fatalf("verified %v, want %v", verified, maybe)
	}
	for i, q := range queries {
		want := roaring.New()
		for n, e := range m.emails {
			if e.matches(q) {
				want.Add(uint32(n))
			}
		}
		if !want.Equals(matches[i]) {
			missing, extra := roaring.AndNot(want, matches[i]), roaring.AndNot(matches[i], want)
			t.Errorf("%+q: misses %v, has %v besides (certain: %v)", q, missing, extra, result.Answers[i].Matches.GetCardinality())
			for _, n := range append(missing.ToArray(), extra.ToArray()...) {
				t.Fatalf("email %d: %+q", n, m.emails[id.Email(n)])
			}
		}
	}
}

// same tells whether the index has the emails that the model has.
func (m *model) same(t *testing.T, a *Account) {
	t.Helper()
	emails, err := a.Emails()
	if err != nil {
		t.Fatal(err)
	}
	want := roaring.New()
	for e := range m.emails {
		want.Add(uint32(e))
	}
	if !emails.Equals(want) {
		t.Fatalf("emails %v, want %v", emails, want)
	}
	if err := a.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func mustOpen(t testing.TB, dir string) *Account {
	t.Helper()
	a, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return a
}
