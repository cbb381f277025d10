package imapd

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
)

// LIST and LSUB.
//
// RFC 3501 sections 6.3.8 and 6.3.9; extended LIST: RFC 5258; \HasChildren: RFC 3348 and
// RFC 5258 section 4; special uses: RFC 6154 section 2; STATUS in return: RFC 5819; MYRIGHTS: RFC 8440; RLIST and
// RLSUB: RFC 2193 section 5, in remote_list.go.

// lister is what these commands need of the store.
type lister interface {
	List(ctx context.Context, u store.User) ([]store.Entry, error)
}

var _ lister = (*store.Store)(nil)

// listOptions is a set of options, of selection or of return.
type listOptions uint8

const (
	listSubscribed listOptions = 1 << iota
	listRemote
	listRecursiveMatch
	listSpecialUse
	listChildren
	listStatus
	listMyRights
)

// The options by name. Of the return options, children and special uses are
// told anyway; REMOTE is what RLIST is (remote_list.go).
var (
	selectionOptions = map[string]listOptions{
		"SUBSCRIBED": listSubscribed, "REMOTE": listRemote, "RECURSIVEMATCH": listRecursiveMatch, "SPECIAL-USE": listSpecialUse,
	}
	listReturnOptions = map[string]listOptions{
		"SUBSCRIBED": listSubscribed, "CHILDREN": listChildren, "SPECIAL-USE": listSpecialUse, "STATUS": listStatus, "MYRIGHTS": listMyRights,
	}
)

type listCmd struct {
	patterns []pattern
	extended bool // in any of three ways, and so nothing special is asked for by "" (RFC 5258 section 3)
	selects  listOptions
	returns  listOptions
	status   []string // items of STATUS to be returned
	remote   bool     // it is RLIST
}

// list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]
func readList(d *wire.Decoder) (run, error) { return readListing(d, false) }

// rlist = "RLIST" SP mailbox SP list_mailbox
//
// What LIST can have besides, it can have as well.
func readRList(d *wire.Decoder) (run, error) { return readListing(d, true) }

func readListing(d *wire.Decoder, remote bool) (run, error) {
	c := listCmd{remote: remote}
	d.SP()
	if d.Peek() == '(' {
		c.readSelection(d)
		d.SP()
	}
	c.readPatterns(d)
	if d.TrySP() {
		c.readReturns(d)
	}
	return c, d.End()
}

// list-select-opts = "(" [list-select-opt *(SP list-select-opt)] ")"
//
// RECURSIVEMATCH needs one that it can be about, of which there is but SUBSCRIBED
// (list-select-base-opt of RFC 5258 section 6; SPECIAL-USE is none in RFC 6154 section 6).
func (c *listCmd) readSelection(d *wire.Decoder) {
	c.extended = true
	d.List(func() { c.selects |= readOption(d, "selection", selectionOptions) })
	if d.Err() == nil && c.selects&listRecursiveMatch != 0 && c.selects&listSubscribed == 0 {
		d.Fail("RECURSIVEMATCH needs SUBSCRIBED")
	}
}

// list-return-opts = "RETURN" SP "(" [return-option *(SP return-option)] ")"
// status-option    = "STATUS" SP status-atts
func (c *listCmd) readReturns(d *wire.Decoder) {
	c.extended = true
	if word := d.Keyword(); d.Err() == nil && word != "RETURN" {
		d.Fail("Expected RETURN instead of %.40s", word)
	}
	d.SP()
	d.List(func() {
		option := readOption(d, "return", listReturnOptions)
		c.returns |= option
		if option == listStatus {
			d.SP()
			c.status = readStatusItems(d)
		}
	})
}

func readOption(d *wire.Decoder, kind string, known map[string]listOptions) listOptions {
	name := d.Keyword()
	if d.Err() == nil && known[name] == 0 {
		d.Fail("Unknown %s option %.40s", kind, name)
	}
	return known[name]
}

// mbox-or-pat = list-mailbox / "(" list-mailbox *(SP list-mailbox) ")"
//
// An empty one names nothing, also among others.
func (c *listCmd) readPatterns(d *wire.Decoder) {
	reference := d.Mailbox()
	d.SP()
	read, octets := 0, 0
	one := func() {
		p := readPattern(d, reference)
		read++
		if octets += len(p); octets > maxPatterns {
			d.Exceed("Mailbox patterns longer than %d octets together", maxPatterns)
		}
		if p != "" {
			c.patterns = append(c.patterns, p)
		}
	}
	if d.Peek() != '(' {
		one()
		return
	}
	c.extended = true
	d.List(one)
	if d.Err() == nil && read == 0 {
		d.Fail("A list of mailbox patterns cannot be empty")
	}
}

// mayRunBeside implements chooser. A STATUS or MYRIGHTS that it tells could be taken for the answer to that command.
func (c listCmd) mayRunBeside(*session) bool { return c.returns&(listStatus|listMyRights) == 0 }

func (c listCmd) run(ctx context.Context, s *session) error {
	if c.remote {
		s.refersFromNow()
	}
	if len(c.patterns) == 0 {
		if !c.extended { // the delimiter, and the root of the reference, which is "" for all of ours
			s.writeListed("LIST", `\Noselect`, "")
		}
		return nil
	}
	entries, f, missing, err := s.mailboxesOf(ctx, c.remote || c.selects&listRemote != 0, c.patterns...)
	if err != nil {
		return err
	}
	all := tree(entries)
	f.mark(all)
	if err := c.match(ctx, entries, all); err != nil {
		return err
	}
	chosen, err := c.choose(ctx, all)
	if err != nil {
		return err
	}
	status, err := c.statusOf(ctx, s, chosen)
	if err != nil {
		return err
	}
	unknown, err := c.farStatus(ctx, s, chosen)
	if err != nil {
		return err
	}
	for _, n := range chosen {
		c.tell(s, n, status)
	}
	return cmp.Or(missing, unknown)
}

// entryWeight is how much memory an entry takes with its node, without the name.
const entryWeight = 300

// mailboxes returns all names of the user, which are in memory until the client has taken what is told of them.
func (s *session) mailboxes(ctx context.Context) ([]store.Entry, error) {
	entries, err := s.store.List(ctx, s.user)
	if err != nil {
		return nil, err
	}
	octets, before := int64(0), ""
	for _, e := range entries {
		octets += entryWeight*int64(newLevels(before, e.Name)) + 2*int64(len(e.Name))
		before = e.Name
	}
	return entries, s.hold(octets)
}

// newLevels counts the levels of a name that are not above the one before it, or that itself.
func newLevels(before, name string) int {
	same := 0
	for same < len(before) && same < len(name) && before[same] == name[same] {
		same++
	}
	if same < len(before) || same < len(name) && !strings.HasPrefix(name[same:], delimiter) { // in the middle of a level
		same = strings.LastIndex(name[:same], delimiter) + 1
	}
	return 1 + strings.Count(strings.TrimPrefix(name[same:], delimiter), delimiter)
}

// match marks the names that match one of the patterns.
func (c *listCmd) match(ctx context.Context, entries []store.Entry, all *nameTree) error {
	matchers := make([]*matcher, len(c.patterns))
	for i, p := range c.patterns {
		matchers[i] = p.matcher()
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, m := range matchers {
			for n := range m.levels(e.Name) {
				all.nodes[e.Name[:n]].matches = true
			}
		}
	}
	return nil
}

// choose returns the names to be told: those that match and are selected, and
// with RECURSIVEMATCH those that match and have a selected one below them that is not told
// itself (RFC 5258 section 3.3).
func (c *listCmd) choose(ctx context.Context, all *nameTree) ([]*node, error) {
	var chosen []*node
	for _, n := range all.sorted() {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		n.selected = c.selected(n)
		n.chosen = n.matches && n.selected
		if n.selected && c.selects&listRecursiveMatch != 0 {
			all.markAbove(n)
		}
		if n.matches {
			chosen = append(chosen, n)
		}
	}
	return slices.DeleteFunc(chosen, func(n *node) bool { return !n.chosen && !n.hidesBelow }), nil
}

// selected tells whether a name is what the selection options ask for: among
// all that exist, or all that are subscribed.
func (c *listCmd) selected(n *node) bool {
	is := n.exists
	if c.selects&listSubscribed != 0 {
		is = n.subscribed
	}
	return is && (c.selects&listSpecialUse == 0 || len(n.specialUse) > 0)
}

// statusOf returns what STATUS says of those that are selected and here, all at once.
func (c *listCmd) statusOf(ctx context.Context, s *session, chosen []*node) (map[string]store.Status, error) {
	if c.returns&listStatus == 0 {
		return nil, nil
	}
	var names []string
	for _, n := range chosen {
		if n.selected && n.selectable && n.visit == nil {
			names = append(names, n.name)
		}
	}
	found, err := s.store.Status(ctx, s.user, names)
	if err != nil {
		return nil, err
	}
	if err := s.completeStatus(ctx, found, c.status); err != nil {
		return nil, err
	}
	return found, nil
}

// tell tells a name, and behind it its status. A mailbox of which there is none
// has been deleted meanwhile, and does not exist any more (RFC 5819 section 2).
func (c *listCmd) tell(s *session, n *node, status map[string]store.Status) {
	st, ok := status[n.name]
	if c.returns&listStatus != 0 && n.selected && n.visit == nil && !ok {
		n.selectable = false
	}
	s.enc.Raw("* LIST (").Raw(c.attributes(n)).Raw(`) "` + delimiter + `" `).Mailbox(n.name)
	if n.selectedBelow {
		s.enc.Raw(` ("CHILDINFO" ("SUBSCRIBED"))`)
	}
	s.enc.CRLF()
	if c.returns&listMyRights != 0 && n.selected && n.selectable {
		s.writeMyRights(n.name, n.rights)
	}
	if ok && st.Rights.Has(acl.Read) {
		s.writeStatus(n.name, c.status, st)
	}
	if n.status != "" {
		s.enc.Raw("* STATUS ").Mailbox(n.name).SP().Raw(n.status).CRLF()
	}
}

// attributes are those of a name. \NonExistent says all that \Noselect does, to
// those who know it (RFC 5258 section 3).
func (c *listCmd) attributes(n *node) string {
	var list []string
	switch {
	case n.selectable:
	case c.extended:
		list = append(list, `\NonExistent`)
	default:
		list = append(list, `\Noselect`)
	}
	if n.children {
		list = append(list, `\HasChildren`)
	} else {
		list = append(list, `\HasNoChildren`)
	}
	list = append(list, n.specialUse...)
	if n.subscribed && (c.selects|c.returns)&listSubscribed != 0 {
		list = append(list, `\Subscribed`)
	}
	if n.visit != nil && c.selects&listRemote != 0 {
		list = append(list, `\Remote`)
	}
	return strings.Join(list, " ")
}

// node is a name in the tree of mailboxes.
type node struct {
	name       string
	specialUse []string
	exists     bool // as a mailbox, or above one
	selectable bool
	subscribed bool
	children   bool
	rights     acl.Rights
	visit      *store.Visit // nil: it is of this cell

	// Of one LIST:
	matches       bool
	selected      bool
	chosen        bool   // it is told, for itself
	selectedBelow bool   // a name below it is selected,
	hidesBelow    bool   // and is not told
	status        string // what another cell tells
}

// nameTree has all names that exist or are subscribed, and those above them.
type nameTree struct{ nodes map[string]*node }

func tree(entries []store.Entry) *nameTree {
	t := &nameTree{nodes: make(map[string]*node, len(entries))}
	for _, e := range entries {
		n := t.at(e.Name)
		n.exists, n.selectable, n.subscribed, n.specialUse = e.Exists, e.Mailbox != 0, e.Subscribed, e.SpecialUse
		n.rights = e.Rights
		for parent := above(e.Name); parent != ""; parent = above(parent) {
			p := t.at(parent)
			p.children = p.children || e.Exists
		}
	}
	return t
}

func (t *nameTree) at(name string) *node {
	n := t.nodes[name]
	if n == nil {
		n = &node{name: name}
		t.nodes[name] = n
	}
	return n
}

func (t *nameTree) sorted() []*node {
	return slices.SortedFunc(maps.Values(t.nodes), func(a, b *node) int { return strings.Compare(a.name, b.name) })
}

// markAbove notes a selected name with all that are above it.
func (t *nameTree) markAbove(n *node) {
	for parent := above(n.name); parent != ""; parent = above(parent) {
		p := t.nodes[parent]
		p.selectedBelow = true
		p.hidesBelow = p.hidesBelow || !n.chosen
	}
}

// above returns the name one level up, "" if there is none.
func above(name string) string {
	i := strings.LastIndex(name, delimiter)
	if i < 0 {
		return ""
	}
	return name[:i]
}

// lsub = "LSUB" SP mailbox SP list-mailbox
func readLsub(d *wire.Decoder) (run, error) { return readSubscriptions(d, false) }

// rlsub = "RLSUB" SP mailbox SP list_mailbox
func readRLsub(d *wire.Decoder) (run, error) { return readSubscriptions(d, true) }

func readSubscriptions(d *wire.Decoder, remote bool) (run, error) {
	d.SP()
	reference := d.Mailbox()
	d.SP()
	pattern := readPattern(d, reference)
	return do(func(ctx context.Context, s *session) error {
		if remote {
			s.refersFromNow()
		}
		if pattern == "" {
			s.writeListed("LSUB", `\Noselect`, "")
			return nil
		}
		entries, _, missing, err := s.mailboxesOf(ctx, remote, pattern)
		if err != nil {
			return err
		}
		subscribed, err := pattern.subscriptions(ctx, entries)
		if err != nil {
			return err
		}
		for _, l := range subscribed {
			s.writeListed("LSUB", l.attributes, l.name)
		}
		return missing
	}), d.End()
}

func (s *session) writeListed(response, attributes, name string) {
	s.enc.Raw("* " + response + " (" + attributes + `) "` + delimiter + `" `).Mailbox(name).CRLF()
}

// listed is a line of LSUB.
type listed struct{ name, attributes string }

// subscriptions returns what LSUB answers: names that are subscribed, whether
// they exist or not, and where "%" ends above one that is, that level with \Noselect
// (RFC 3501 section 6.3.9).
func (p pattern) subscriptions(ctx context.Context, entries []store.Entry) ([]listed, error) {
	found := make(map[string]string)
	m := p.matcher()
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !e.Subscribed {
			continue
		}
		levels := slices.Collect(m.levels(e.Name))
		if len(levels) > 0 && levels[len(levels)-1] == len(e.Name) {
			found[e.Name] = ""
			if !e.Exists || e.Mailbox == 0 {
				found[e.Name] = `\Noselect`
			}
			continue
		}
		if !p.hasPercent() {
			continue
		}
		for _, n := range levels {
			if _, ok := found[e.Name[:n]]; !ok {
				found[e.Name[:n]] = `\Noselect`
			}
		}
	}
	list := make([]listed, 0, len(found))
	for name, attributes := range found {
		list = append(list, listed{name, attributes})
	}
	slices.SortFunc(list, func(a, b listed) int { return strings.Compare(a.name, b.name) })
	return list, nil
}
