package imapd

// ESEARCH: a search in several mailboxes.
//
// RFC 7377; what names the mailboxes: RFC 5465 section 6. Mailboxes that the user may not read, or look up, are passed over as those that
// are not there, and what is selected stays so. Messages of which no session has told yet are nobody's \Recent here.

import (
	"context"
	"errors"
	"strings"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// searchSource is what ESEARCH needs of the store.
type searchSource interface {
	List(ctx context.Context, u store.User) ([]store.Entry, error)
	Open(ctx context.Context, u store.User, name string, want acl.Rights) (*store.Mailbox, error)
}

var _ searchSource = (*store.Store)(nil)

type esearchCmd struct {
	searchCmd
	sources
}

// sources are the mailboxes that are searched.
type sources struct {
	selected bool // the one that is selected
	others   bool // there are such:

	inboxes, personal, subscribed bool

	mailboxes, subtrees, families map[string]bool // by name: it alone, with all that is below it, with what is right below it
}

// esearch             = "ESEARCH" [SP esearch-source-opts] [SP search-return-opts] SP search-program
// esearch-source-opts = "IN" SP "(" source-mbox [SP "(" scope-options ")"] ")"
func readESearch(d *wire.Decoder) (run, error) {
	c := &esearchCmd{searchCmd: searchCmd{uid: true, extended: true, key: &searchKey{op: opAnd}}}
	d.SP()
	first := readKeyName(d)
	if first == "IN" {
		d.SP()
		c.readSources(d)
		d.SP()
		first = readKeyName(d)
	} else {
		c.selected = true
	}
	c.readProgram(d, first)
	if c.returns == 0 {
		c.returns = returnAll
	}
	return c, d.End()
}

// source-mbox            = filter-mailboxes *(SP filter-mailboxes)
// filter-mailboxes       = "selected" / filter-mailboxes-other
// filter-mailboxes-other = "inboxes" / "personal" / "subscribed" / ("subtree" / "subtree-one" / "mailboxes") SP one-or-more-mailbox
//
// There is no scope-option yet.
func (c *esearchCmd) readSources(d *wire.Decoder) {
	c.mailboxes, c.subtrees, c.families = make(map[string]bool), make(map[string]bool), make(map[string]bool)
	d.List(func() {
		kind := d.Keyword()
		c.others = c.others || kind != "SELECTED"
		switch kind {
		case "SELECTED":
			c.selected = true
		case "INBOXES":
			c.inboxes = true
		case "PERSONAL":
			c.personal = true
		case "SUBSCRIBED":
			c.subscribed = true
		case "MAILBOXES":
			readMailboxes(d, c.mailboxes)
		case "SUBTREE":
			readMailboxes(d, c.subtrees)
		case "SUBTREE-ONE":
			readMailboxes(d, c.families)
		default:
			d.Fail("%.40q names no mailboxes to be searched", kind)
		}
	})
	if !c.selected && !c.others {
		d.Fail("No mailboxes are named to be searched")
	}
}

// one-or-more-mailbox = mailbox / "(" mailbox *(SP mailbox) ")"
func readMailboxes(d *wire.Decoder, names map[string]bool) {
	d.SP()
	if d.Peek() != '(' {
		names[d.Mailbox()] = true
		return
	}
	none := true
	d.List(func() { names[d.Mailbox()], none = true, false })
	if none {
		d.Fail("No mailboxes are named to be searched")
	}
}

func (c *esearchCmd) run(ctx context.Context, s *session) error {
	switch { // RFC 7377 section 2.2. Also UPDATE is of the selected mailbox, and so, of the two readings, refused where others are searched.
	case c.selected && s.selected == nil:
		return bad("No mailbox is selected")
	case c.others && c.returns&(returnSave|returnUpdate) != 0:
		return bad("SAVE and UPDATE are of the selected mailbox alone")
	case c.charset && s.utf8: // RFC 6855 section 3
		return errCharsetOfUTF8
	case !c.others:
		return c.saving(s, func() error { return c.find(ctx, s, c.tellSelected) })
	case c.numbers && s.uidOnly:
		return errUIDRequired
	}
	if err := s.tellBefore(ctx, c.looks(s)); err != nil {
		return err
	}
	return c.within(ctx, s, func(ctx context.Context) error {
		names, err := c.names(ctx, s)
		if err != nil {
			return err
		}
		return c.searchAll(ctx, s, names)
	})
}

// tellSelected tells of the selected mailbox.
func (c *esearchCmd) tellSelected(_ context.Context, s *session, f finding) error {
	all := results{set: f.uids}
	c.of = s.selected.Mailbox
	if f.uids.Empty() { // of a mailbox without any nothing is told (section 2.1)
		if c.returns&returnSave != 0 {
			s.selected.saved = f.uids
		}
	} else if err := c.tellExtended(s, f, all); err != nil {
		return err
	}
	if c.returns&returnUpdate != 0 {
		s.keepUpdated(&searchContext{tag: s.tag, search: &c.searchCmd, at: f.view, found: all})
	}
	return nil
}

// names returns those of the mailboxes to be searched, without the selected one.
func (c *esearchCmd) names(ctx context.Context, s *session) (names []string, err error) {
	entries, err := s.store.List(ctx, s.user)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Mailbox != 0 && e.Rights.Has(acl.Lookup|acl.Read) && c.has(e, s.user) {
			names = append(names, e.Name)
		}
	}
	return names, nil
}

// has tells whether a mailbox is among the others. However many are named, it takes no longer than the levels of its name.
func (o *sources) has(e store.Entry, u store.User) bool {
	mine := e.Owner == u.Account
	switch {
	case mine && (o.personal || o.inboxes && e.Name == "INBOX"), // where mail is delivered
		e.Subscribed && o.subscribed,
		o.mailboxes[e.Name], o.subtrees[e.Name], o.families[e.Name]:
		return true
	}
	parent := true
	for at := strings.LastIndexByte(e.Name, '/'); at >= 0; at = strings.LastIndexByte(e.Name[:at], '/') {
		above := e.Name[:at]
		if o.subtrees[above] || parent && o.families[above] {
			return true
		}
		parent = false
	}
	return false
}

// reachesOthers tells whether there may be mailboxes of other cells among them without their owners being named.
func (o *sources) reachesOthers() bool {
	return o.subscribed || o.subtrees[store.OtherUsers] || o.families[store.OtherUsers]
}

// searchAll searches mailboxes, each of which is told of once.
func (c *esearchCmd) searchAll(ctx context.Context, s *session, names []string) error {
	told := make(map[id.Mailbox]bool)
	c.progress = s.startProgress(unknownTotal)
	if c.selected {
		v, err := s.view(ctx)
		if err != nil {
			return err
		}
		told[s.selected.ID] = true
		if err := c.searchMailbox(ctx, s, v); err != nil {
			return err
		}
	}
	for _, name := range names {
		m, v, err := s.openToSearch(ctx, name)
		switch {
		case errors.Is(err, store.ErrNotExist), errors.Is(err, store.ErrNoSelect), as[*acl.DeniedError](err): // meanwhile
			continue
		case err != nil:
			return err
		case told[m.ID]:
			continue
		}
		told[m.ID] = true
		// A session like this one in which the mailbox is selected, and nobody has searched before.
		other := *s
		other.selected = &selected{Mailbox: m, told: view.Told{UIDs: v.UIDs(), ModSeq: v.ModSeq()}}
		if err := c.searchMailbox(ctx, &other, v); err != nil {
			return err
		}
		c.progress.reached(0)
	}
	return nil
}

// searchMailbox searches what the session has selected.
func (c *esearchCmd) searchMailbox(ctx context.Context, s *session, v *view.View) error {
	c.key.bind(s)
	found, err := c.findIn(ctx, s, v)
	if err != nil {
		return err
	}
	if found.uids.Empty() {
		return nil
	}
	c.of = s.selected.Mailbox
	return c.tellExtended(s, found, results{set: found.uids})
}

// openToSearch opens a mailbox by its name.
func (s *session) openToSearch(ctx context.Context, name string) (m *store.Mailbox, v *view.View, err error) {
	for range maxRenewals {
		if m, err = s.store.Open(ctx, s.user, name, acl.Read); err != nil {
			return nil, nil, err
		}
		if v, err = m.View(ctx); !errors.Is(err, store.ErrRightsChanged) {
			return m, v, err
		}
	}
	return nil, nil, err
}
