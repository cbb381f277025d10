package imapd

// What IMAP had before RFC 2060: PARTIAL, FIND, SUBSCRIBE MAILBOX and items of FETCH.
//
// RFC 1730 sections 6.4.5, 6.4.6 and appendix A, RFC 2062. BODY[0] is in
// fetch_section.go; dates with years of two digits, and with zones by name, are wire's.

import (
	"context"
	"strings"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
)

// readOldSection returns what a fetch-att of the old names is about, nil for one that is none.
//
//	fetch-att =/ "RFC822" (([".TEXT"] [".PEEK"]) / ".HEADER" [".LINES" [".NOT"] SP header-list])
func readOldSection(d *wire.Decoder, label string) *section {
	switch label {
	case "RFC822":
		return &section{label: "RFC822"}
	case "RFC822.PEEK":
		return &section{label: "RFC822", peek: true}
	case "RFC822.TEXT":
		return &section{label: "RFC822.TEXT", kind: "TEXT"}
	case "RFC822.TEXT.PEEK":
		return &section{label: "RFC822.TEXT", kind: "TEXT", peek: true}
	case "RFC822.HEADER":
		return &section{label: "RFC822.HEADER", kind: "HEADER", peek: true}
	case "RFC822.HEADER.LINES", "RFC822.HEADER.LINES.NOT":
		s := &section{label: "RFC822.HEADER", kind: "HEADER", peek: true, not: strings.HasSuffix(label, "NOT")}
		d.SP()
		s.readFields(d, nil)
		return s
	}
	return nil
}

// partial = "PARTIAL" SP nz-number SP fetch-text SP number SP number
//
// fetch-text is a fetch-att that is a text of the message. The first number is that of its first octet, which is 1.
func readOldPartial(d *wire.Decoder) (run, error) {
	var c fetchCmd
	d.SP()
	if c.set = readMessageSet(d, false); d.Err() == nil && !c.set.single() {
		d.Fail("PARTIAL is of one message")
	}
	d.SP()
	c.readItem(d, true)
	d.SP()
	first := d.NZNumber()
	d.SP()
	n := d.Number()
	if d.Err() != nil {
		return c, d.End()
	}
	s := c.items[0].section
	if len(c.items) > 1 || s == nil || s.partial || s.binary || s.label == "RFC822.HEADER" && len(s.fields) > 0 {
		d.Fail("PARTIAL is of a text of the message")
		return c, d.End()
	}
	s.partial, s.off, s.len = true, int64(first)-1, int64(n)
	return c, d.End()
}

// single tells whether the set is one number, whatever it is.
func (m messageSet) single() bool {
	return len(m.seqs) == 1 && m.seqs[0].Start == m.seqs[0].Stop && m.seqs[0].Start > 0
}

// skipMailbox passes over a word that says what the name behind it is. A mailbox can have the word for its name.
func skipMailbox(d *wire.Decoder) {
	if d.Ahead("MAILBOX ") {
		d.Keyword()
		d.SP()
	}
}

// find = "FIND" SP ["ALL."] "MAILBOXES" SP list-mailbox
func readFind(d *wire.Decoder) (run, error) {
	var c findCmd
	d.SP()
	switch what := d.Keyword(); {
	case what == "ALL.MAILBOXES":
		c.all = true
	case d.Err() == nil && what != "MAILBOXES":
		d.Fail("Unknown kind of name %.40s", what)
	}
	d.SP()
	pattern, ok := d.ListMailbox()
	if !ok || len(pattern) > maxPattern {
		pattern = string(unlike)
	}
	c.pattern = newFindPattern(pattern)
	return c, d.End()
}

// newFindPattern returns a pattern of FIND: "*" is anything, "%" and "?" are one character.
func newFindPattern(pattern string) *matcher {
	m := newMatcher(len(pattern))
	for _, r := range pattern {
		switch r {
		case '*':
			m.anything()
		case '%', '?':
			m.anyCharacter()
		default:
			m.character(r)
		}
	}
	return m
}

// findCmd finds mailboxes, or those that are subscribed. Its answers have no room for
// attributes, so of names that cannot be selected it finds only what is subscribed.
type findCmd struct {
	all     bool
	pattern *matcher
}

func (c findCmd) run(ctx context.Context, s *session) error {
	entries, err := s.mailboxes(ctx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if c.finds(e) {
			s.enc.Raw("* MAILBOX ").MailboxText(e.Name).CRLF()
		}
	}
	return nil
}

func (c findCmd) finds(e store.Entry) bool {
	if c.all && e.Mailbox == 0 || !c.all && !e.Subscribed {
		return false
	}
	return c.pattern.matches(e.Name)
}
