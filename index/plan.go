package index

import (
	"slices"
	"unicode/utf8"

	"mailstead.dev/store/message"
)

// The index has a field of words for each field of the header that IMAP has a
// key for, one for all others, one for what only TEXT looks at, and one for
// bodies. A text goes into exactly one, so TEXT is all of them, and no word
// stands twice. Besides there are the names of the fields of the header, and
// marks of emails whose words are not all there.
const (
	fieldBody   = "body"
	fieldHeader = "header" // of the message's header what has no field of its own
	fieldPart   = "part"   // headers of parts, and what is in the header but no field

	fieldNames  = "names"  // of the fields of the message's header
	fieldUnsure = "unsure" // emails of which not all words are there
)

var (
	ownFields  = []string{"from", "to", "cc", "bcc", "subject"}
	wordFields = append(slices.Clone(ownFields), fieldHeader, fieldPart, fieldBody)
)

// fieldOf tells where the words of a text are; it goes by the same as query.looksAt.
func fieldOf(t message.Text) string {
	switch {
	case t.Body:
		return fieldBody
	case t.Part || t.Header == "":
		return fieldPart
	case slices.Contains(ownFields, t.Header):
		return t.Header
	}
	return fieldHeader
}

// maxWord is the longest word, in octets, that is kept. An email that has a
// longer one may match anything, so that its text decides.
const maxWord = 4 << 10

// maxRuns bounds how many words of a long string are looked for; the text decides in any case.
const maxRuns = 16

// plan is how a query is answered by words.
type plan struct {
	fields []string // where to look, each by itself
	name   string   // this field of the header must be there
	any    bool     // nothing is known of words: all emails that have the field may match
	exact  bool     // what is found matches for certain
	runs   []run

	like  Likeness
	words []likeWord // which, all found, are enough
	sure  bool       // for certain
}

// run is a piece of a query's string that lies within one word.
type run struct {
	text        string
	from, until bool // the word begins and ends with it
}

func planOf(q query) plan {
	var p plan
	switch {
	case q.in == Body:
		p.fields = []string{fieldBody}
	case q.in == Anywhere:
		p.fields = wordFields
	case slices.Contains(ownFields, q.field):
		p.fields, p.name = []string{q.field}, q.field
	default:
		p.fields, p.name = []string{fieldHeader}, q.field
	}
	if q.pattern == "" {
		p.any, p.exact = true, true
		return p
	}
	// Where a character is cut in two, that it would be a mark or a letter is not seen.
	if utf8.ValidString(q.pattern) {
		p.runs = runsOf(q.pattern)
	}
	p.like, p.words, p.sure = q.like, q.words, p.fields[0] != fieldHeader
	p.any = len(p.runs) == 0
	p.exact = len(p.runs) == 1 && len(p.runs[0].text) == len(q.pattern) && p.fields[0] != fieldHeader
	if len(p.runs) > maxRuns {
		slices.SortStableFunc(p.runs, func(a, b run) int { return len(b.text) - len(a.text) })
		p.runs = p.runs[:maxRuns]
	}
	return p
}

// runsOf cuts a string to look for as a text is cut. The first run may be the
// end of a word, the last one the beginning of one. Marks at the beginning are
// left out: before them there is a letter that is not known, so that it is not
// known either whether the word goes on behind them.
func runsOf(pattern string) []run {
	at := marksAt(pattern)
	if at == len(pattern) {
		at = 0
	}
	rest := pattern[at:]
	var runs []run
	cut(rest, func(i int, w string) {
		r := run{text: w, from: i > 0, until: i+len(w) < len(rest)}
		if !slices.Contains(runs, r) {
			runs = append(runs, r)
		}
	})
	return runs
}
