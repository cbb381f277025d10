package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// fold makes a text comparable without regard to case, as i;unicode-casemap has it (RFC 5051 section 2): each character
// becomes its titlecase, and that is decomposed.
func fold(text string) string {
	var s strings.Builder
	for _, r := range text {
		if r = unicode.ToTitle(r); r < 0x80 {
			s.WriteRune(r)
		} else {
			s.WriteString(norm.NFKD.String(string(r)))
		}
	}
	return s.String()
}

// held is a message in a mailbox.
type held struct {
	*letter
	uid     uint32
	flags   []string // and keywords, sorted
	arrived time.Time
	size    int64
}

func (h *held) has(flag string) bool { _, has := slices.BinarySearch(h.flags, flag); return has }

// key is one of a search.
type key struct {
	name   string
	kids   []*key  // of AND, OR and NOT
	field  string  // of HEADER
	text   string  // of HEADER, BODY and TEXT, and of those named for a field
	folded *string // text, once it has been asked for
	flag   string
	day    time.Time
	size   int64
	uids   []uidRange
}

// uidRange is of UIDs; last 0 is *.
type uidRange struct{ first, last uint32 }

// fieldKeys are the keys of a field.
var fieldKeys = map[string]string{"SUBJECT": "subject", "FROM": "from", "TO": "to", "CC": "cc", "BCC": "bcc"}

// flagKeys are the keys that ask for a flag, or for its absence.
var flagKeys = map[string]string{
	"ANSWERED": `\Answered`, "DELETED": `\Deleted`, "DRAFT": `\Draft`, "FLAGGED": `\Flagged`, "SEEN": `\Seen`,
	"UNANSWERED": `\Answered`, "UNDELETED": `\Deleted`, "UNDRAFT": `\Draft`, "UNFLAGGED": `\Flagged`, "UNSEEN": `\Seen`,
}

// matches tells whether a message is found; highest is the UID that * stands for.
func (k *key) matches(h *held, highest uint32) bool {
	if field, ok := fieldKeys[k.name]; ok {
		return h.says(k, func(p *passage) bool { return p.where == inHeader && p.field == field })
	}
	if flag, ok := flagKeys[k.name]; ok {
		return h.has(flag) != strings.HasPrefix(k.name, "UN")
	}
	kid := func(k *key) bool { return k.matches(h, highest) }
	switch k.name {
	case "AND":
		return !slices.ContainsFunc(k.kids, func(k *key) bool { return !kid(k) })
	case "OR":
		return slices.ContainsFunc(k.kids, kid)
	case "NOT":
		return !kid(k.kids[0])
	case "ALL":
		return true
	case "HEADER":
		return h.says(k, func(p *passage) bool { return p.where == inHeader && p.field == strings.ToLower(k.field) })
	case "BODY":
		return k.text == "" || h.says(k, func(p *passage) bool { return p.where == inBody })
	case "TEXT":
		return k.text == "" || h.says(k, func(*passage) bool { return true })
	case "KEYWORD", "UNKEYWORD":
		return h.has(k.flag) == (k.name == "KEYWORD")
	case "BEFORE", "ON", "SINCE":
		return compareDays(k.name, h.arrived, k.day)
	case "SENTBEFORE", "SENTON", "SENTSINCE":
		return !h.sent.IsZero() && compareDays(k.name[4:], h.sent, k.day)
	case "LARGER":
		return h.size > k.size
	case "SMALLER":
		return h.size < k.size
	case "UID":
		return slices.ContainsFunc(k.uids, func(r uidRange) bool {
			if r.last == 0 {
				r.first, r.last = min(r.first, highest), max(r.first, highest)
			}
			return r.first <= h.uid && h.uid <= r.last
		})
	}
	panic("no such key: " + k.name)
}

// says tells whether one of the passages that are looked at has the text of a key in it.
func (l *letter) says(k *key, looked func(*passage) bool) bool {
	if k.folded == nil {
		text := fold(k.text)
		k.folded = &text
	}
	for i := range l.passages {
		if p := &l.passages[i]; looked(p) && strings.Contains(p.folded, *k.folded) {
			return true
		}
	}
	return false
}

// compareDays compares the days of two times, each as its own zone has it (RFC 3501 section 6.4.4).
func compareDays(how string, t, day time.Time) bool {
	const order = "20060102"
	c := strings.Compare(t.Format(order), day.Format(order))
	return how == "BEFORE" && c < 0 || how == "ON" && c == 0 || how == "SINCE" && c >= 0
}

// changeable tells whether what a key matches depends on more than the message itself: on its flags, or on what other messages there are.
func (k *key) changeable() bool {
	_, flag := flagKeys[k.name]
	return flag || k.flag != "" || k.uids != nil || slices.ContainsFunc(k.kids, (*key).changeable)
}

func (h *held) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "UID %d, Message-ID <%s>, flags %v, arrived %v, sent %v, %d octets\n", h.uid, h.id, h.flags, h.arrived, h.sent, h.size)
	for _, p := range h.passages {
		fmt.Fprintf(&s, "  %s %s: %q\n", [...]string{"header", "part", "body"}[p.where], p.field, p.text)
	}
	return s.String()
}
