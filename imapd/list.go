package imapd

import (
	"context"
	"slices"
	"strings"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
)

// LIST, LSUB and STATUS.
//
// RFC 3501 sections 6.3.8 to 6.3.10; \HasChildren: RFC 3348; special uses: RFC
// 6154 section 2; HIGHESTMODSEQ: RFC 7162 section 3.1.7.

// lister is what these commands need of the store.
type lister interface {
	List(ctx context.Context, u store.User) ([]store.Entry, error)
	Status(ctx context.Context, u store.User, names []string) (map[string]store.Status, error)
}

var _ lister = (*store.Store)(nil)

// maxPattern is the longest pattern that is matched, in octets.
const maxPattern = 2000

// list             = "LIST" [SP list-select-opts] SP mailbox SP list-mailbox [SP list-return-opts]
// list-select-opts = "(" ["SPECIAL-USE" *(SP "SPECIAL-USE")] ")"
// list-return-opts = "RETURN" SP "(" [return-option *(SP return-option)] ")"
// return-option    = "SPECIAL-USE" / "CHILDREN"
//
// Of the extended LIST of RFC 5258 this is what SPECIAL-USE needs (RFC 6154
// section 2). What can be asked for in return is told anyway.
func readList(d *wire.Decoder) (run, error) {
	var c listCmd
	d.SP()
	if c.extended = d.Peek() == '('; c.extended {
		c.specialUse = readOptions(d, "selection", "SPECIAL-USE") > 0
		d.SP()
	}
	c.pattern, c.root = readPattern(d)
	if d.TrySP() {
		c.extended = true
		if word := d.Keyword(); d.Err() == nil && word != "RETURN" {
			d.Fail("Expected RETURN instead of %.40s", word)
		}
		d.SP()
		readOptions(d, "return", "SPECIAL-USE", "CHILDREN")
	}
	return c.run, d.End()
}

// readOptions reads a list of options, which must be among known, and returns how many there are.
func readOptions(d *wire.Decoder, kind string, known ...string) (n int) {
	d.List(func() {
		if name := d.Keyword(); d.Err() == nil && !slices.Contains(known, name) {
			d.Fail("Unknown %s option %.40s", kind, name)
		}
		n++
	})
	return n
}

type listCmd struct {
	pattern    pattern
	root       bool // nothing but the delimiter is asked for
	extended   bool // there are options, and so nothing special is asked for by "" (RFC 5258 section 3)
	specialUse bool // only mailboxes that have one
}

func (c listCmd) run(ctx context.Context, s *session) error {
	if c.root {
		if !c.extended {
			s.writeListed("LIST", `\Noselect`, "")
		}
		return nil
	}
	entries, err := s.store.List(ctx, s.user)
	if err != nil {
		return err
	}
	for _, n := range tree(entries) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if c.pattern.matches(n.name) && (!c.specialUse || len(n.specialUse) > 0) {
			s.writeListed("LIST", n.attributes(), n.name)
		}
	}
	return nil
}

// lsub = "LSUB" SP mailbox SP list-mailbox
func readLsub(d *wire.Decoder) (run, error) {
	d.SP()
	pattern, root := readPattern(d)
	return func(ctx context.Context, s *session) error {
		if root {
			s.writeListed("LSUB", `\Noselect`, "")
			return nil
		}
		entries, err := s.store.List(ctx, s.user)
		if err != nil {
			return err
		}
		for _, l := range pattern.subscriptions(entries) {
			s.writeListed("LSUB", l.attributes, l.name)
		}
		return nil
	}, d.End()
}

func (s *session) writeListed(response, attributes, name string) {
	s.enc.Raw("* " + response + " (" + attributes + `) "` + delimiter + `" `).Mailbox(name).CRLF()
}

// readPattern reads what both commands have. root tells that they ask for
// nothing but the delimiter, and the root of the reference, which is "" for all of ours.
func readPattern(d *wire.Decoder) (p pattern, root bool) {
	reference := d.Mailbox()
	d.SP()
	name := d.ListMailbox()
	if len(reference)+len(name) > maxPattern {
		d.Fail("Mailbox pattern longer than %d octets", maxPattern)
	}
	return newPattern(reference + name), name == ""
}

// node is a name in the tree of mailboxes.
type node struct {
	name       string
	specialUse []string
	selectable bool
	children   bool
}

// tree returns all names that exist, and those that only have others below them, by name.
func tree(entries []store.Entry) []*node {
	nodes := make(map[string]*node, len(entries))
	var names []*node
	at := func(name string) *node {
		n := nodes[name]
		if n == nil {
			n = &node{name: name}
			nodes[name] = n
			names = append(names, n)
		}
		return n
	}
	for _, e := range entries {
		if !e.Exists {
			continue
		}
		n := at(e.Name)
		n.selectable, n.specialUse = e.Mailbox != 0, e.SpecialUse
		for parent := above(e.Name); parent != ""; parent = above(parent) {
			at(parent).children = true
		}
	}
	slices.SortFunc(names, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return names
}

// above returns the name one level up, "" if there is none.
func above(name string) string {
	i := strings.LastIndex(name, delimiter)
	if i < 0 {
		return ""
	}
	return name[:i]
}

func (n *node) attributes() string {
	var list []string
	if !n.selectable {
		list = append(list, `\Noselect`)
	}
	if n.children {
		list = append(list, `\HasChildren`)
	} else {
		list = append(list, `\HasNoChildren`)
	}
	return strings.Join(append(list, n.specialUse...), " ")
}

// listed is a line of LSUB.
type listed struct{ name, attributes string }

// subscriptions returns what LSUB answers: names that are subscribed, whether
// they exist or not, and where "%" ends above one that is, that level with \Noselect
// (RFC 3501 section 6.3.9).
func (p pattern) subscriptions(entries []store.Entry) []listed {
	found := make(map[string]string)
	for _, e := range entries {
		if !e.Subscribed {
			continue
		}
		if p.matches(e.Name) {
			found[e.Name] = ""
			if !e.Exists || e.Mailbox == 0 {
				found[e.Name] = `\Noselect`
			}
			continue
		}
		if !p.hasPercent() {
			continue
		}
		for parent := above(e.Name); parent != ""; parent = above(parent) {
			if _, ok := found[parent]; !ok && p.matches(parent) {
				found[parent] = `\Noselect`
			}
		}
	}
	list := make([]listed, 0, len(found))
	for name, attributes := range found {
		list = append(list, listed{name, attributes})
	}
	slices.SortFunc(list, func(a, b listed) int { return strings.Compare(a.name, b.name) })
	return list
}

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

// statusItems are the items of STATUS, and what they are of a mailbox.
var statusItems = map[string]func(store.Status) uint64{
	"MESSAGES":      func(s store.Status) uint64 { return uint64(s.Counts.Messages) },
	"RECENT":        func(s store.Status) uint64 { return uint64(s.Recent) },
	"UIDNEXT":       func(s store.Status) uint64 { return uint64(s.UIDNext) },
	"UIDVALIDITY":   func(s store.Status) uint64 { return uint64(s.UIDValidity) },
	"UNSEEN":        func(s store.Status) uint64 { return uint64(s.Counts.Unseen) },
	"HIGHESTMODSEQ": func(s store.Status) uint64 { return uint64(max(s.HighestModSeq, 1)) },
}

// status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"
func readStatus(d *wire.Decoder) (run, error) {
	c := statusCmd{}
	d.SP()
	c.name = d.Mailbox()
	d.SP()
	d.List(func() {
		item := d.Keyword()
		if statusItems[item] == nil {
			d.Fail("Unknown STATUS item %.40s", item)
		}
		c.items = append(c.items, item)
	})
	if len(c.items) == 0 {
		d.Fail("STATUS needs an item")
	}
	return c.run, d.End()
}

type statusCmd struct {
	name  string
	items []string
}

func (c statusCmd) run(ctx context.Context, s *session) error {
	found, err := s.store.Status(ctx, s.user, []string{c.name})
	if err != nil {
		return err
	}
	status, ok := found[c.name]
	if !ok {
		return store.ErrNotExist
	}
	if slices.Contains(c.items, "HIGHESTMODSEQ") {
		s.enableCondstore()
	}
	s.enc.Raw("* STATUS ").Mailbox(c.name)
	sep := " ("
	for _, item := range c.items {
		s.enc.Raw(sep).Raw(item).SP().Number(statusItems[item](status))
		sep = " "
	}
	s.enc.Raw(")").CRLF()
	return nil
}
