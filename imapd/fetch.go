package imapd

// FETCH and UID FETCH.
//
// RFC 3501 section 6.4.5; CHANGEDSINCE and MODSEQ: RFC 7162 section 3.1.4;
// VANISHED: RFC 7162 section 3.2.6; PARTIAL: RFC 9394 section 3.3; of messages that are gone: RFC 2180 section
// 4.1; EMAILID and THREADID: RFC 8474 section 5; SAVEDATE: RFC 8514 section
// 4.2; PREVIEW: RFC 8970; BINARY: RFC 3516. The grammar of sections is in
// fetch_section.go, how they are sent in fetch_body.go.

import (
	"context"
	"slices"
	"time"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
	"mailstead.dev/store/view"
)

// fetchSource is what FETCH needs of the mailbox.
type fetchSource interface {
	RecentView(ago time.Duration) *view.View
	Emails(ctx context.Context, ids []id.Email, yield func(store.Email) error) error
	Content(ctx context.Context, email id.Email) (message.Reader, error)
	Contents(ctx context.Context, ids []id.Email, yield func(id.Email, message.Reader) error) error
	SetFlags(ctx context.Context, c store.FlagChange) (store.FlagResult, error)
	Vanished(ctx context.Context, since id.ModSeq, within *view.UIDSet) (view.UIDSet, error)
	Expunged(ctx context.Context, as *view.View, since id.ModSeq, uids view.UIDSet) ([]view.Message, error)
}

// fetchLedger is told how many octets FETCH has answered.
type fetchLedger interface {
	CountFetched(u store.User, octets int64)
}

var (
	_ fetchSource = (*store.Mailbox)(nil)
	_ fetchLedger = (*store.Store)(nil)
)

// fetchCmd is a FETCH that was read.
type fetchCmd struct {
	set     messageSet
	items   []fetchItem
	unasked bool // the first of items is UID, which was not asked for

	changedSince    id.ModSeq // of CHANGEDSINCE
	hasChangedSince bool
	vanished        bool
	partial         *partial // nil: all of the set
}

// fetchItem is one data item: a kind, and for a section what it is.
type fetchItem struct {
	kind    itemKind
	section *section
}

// itemKind is a bit, so that a set of kinds is a mask.
type itemKind uint16

const (
	itemUID itemKind = 1 << iota
	itemFlags
	itemInternalDate
	itemSize
	itemModSeq
	itemEnvelope
	itemBody
	itemBodyStructure
	itemSection
	itemEmailID
	itemThreadID
	itemSaveDate
	itemPreview

	// ofEmail are the items that need what was kept of the message on its arrival.
	ofEmail = itemEnvelope | itemBody | itemBodyStructure | itemSection | itemEmailID | itemThreadID | itemPreview
)

// plainItems are the items that are nothing but a name.
var plainItems = map[string]itemKind{
	"UID":           itemUID,
	"FLAGS":         itemFlags,
	"INTERNALDATE":  itemInternalDate,
	"RFC822.SIZE":   itemSize,
	"MODSEQ":        itemModSeq,
	"ENVELOPE":      itemEnvelope,
	"BODYSTRUCTURE": itemBodyStructure,
	"EMAILID":       itemEmailID,
	"THREADID":      itemThreadID,
	"SAVEDATE":      itemSaveDate,
}

// macros stand for several items, and only alone (RFC 3501 section 6.4.5).
var macros = map[string][]itemKind{
	"ALL":  {itemFlags, itemInternalDate, itemSize, itemEnvelope},
	"FAST": {itemFlags, itemInternalDate, itemSize},
	"FULL": {itemFlags, itemInternalDate, itemSize, itemEnvelope, itemBody},
}

func readFetch(d *wire.Decoder) (run, error)    { return parseFetch(d, false) }
func readUIDFetch(d *wire.Decoder) (run, error) { return parseFetch(d, true) }

func parseFetch(d *wire.Decoder, uid bool) (run, error) {
	c := readFetchCmd(d, uid)
	return c, d.End()
}

// readFetchCmd reads what follows FETCH.
//
//	fetch          = "FETCH" SP sequence-set SP ("ALL" / "FULL" / "FAST" /
//	                 fetch-att / "(" fetch-att *(SP fetch-att) ")") [fetch-modifiers]
//	fetch-modifiers = SP "(" fetch-modifier *(SP fetch-modifier) ")"
func readFetchCmd(d *wire.Decoder, uid bool) fetchCmd {
	var c fetchCmd
	d.SP()
	c.set = readMessageSet(d, uid)
	d.SP()
	if d.Peek() == '(' {
		d.List(func() { c.readItem(d, false) })
		if d.Err() == nil && len(c.items) == 0 {
			d.Fail("FETCH of nothing")
		}
	} else {
		c.readItem(d, true)
	}
	if d.TrySP() {
		c.readModifiers(d)
	}
	if uid {
		c.wantUID()
	}
	if c.hasChangedSince {
		c.want(itemModSeq)
	}
	return c
}

// readItem reads a fetch-att, or a macro where one may stand.
func (c *fetchCmd) readItem(d *wire.Decoder, alone bool) {
	label := d.Label()
	// The names with a dot in them; a label ends before one.
	for d.TrySpecial('.') {
		label += "." + d.Label()
	}
	if kind, ok := plainItems[label]; ok {
		c.want(kind)
		return
	}
	if kinds, ok := macros[label]; ok && alone {
		for _, kind := range kinds {
			c.want(kind)
		}
		return
	}
	switch label {
	case "PREVIEW":
		c.want(itemPreview)
		readPreviewModifiers(d, alone)
		return
	case "BODY", "BODY.PEEK":
		if d.Peek() == '[' {
			c.wantSection(d, readSection(d, label == "BODY.PEEK"))
			return
		}
		if label == "BODY" {
			c.want(itemBody)
			return
		}
	case "BINARY", "BINARY.PEEK", "BINARY.SIZE":
		c.wantSection(d, readBinary(d, label))
		return
	default:
		if s := readOldSection(d, label); s != nil {
			c.wantSection(d, s)
			return
		}
	}
	d.Fail("Unknown FETCH item %q", label)
}

// readPreviewModifiers reads [SP "(" preview-mod *(SP preview-mod) ")"] (RFC 8970
// section 6). Behind an item that stands alone a list can be that of the fetch-modifiers as well.
//
// Previews are made on arrival, so that none is ever late: LAZY changes nothing.
func readPreviewModifiers(d *wire.Decoder, alone bool) {
	list := " ("
	if alone {
		list = " (LAZY"
	}
	if !d.Ahead(list) {
		return
	}
	d.SP()
	d.List(func() {
		if name := d.Keyword(); d.Err() == nil && name != "LAZY" {
			d.Fail("Unknown PREVIEW modifier %.40q", name)
		}
	})
}

// want adds an item, unless it is asked for already.
func (c *fetchCmd) want(kind itemKind) {
	for _, item := range c.items {
		if item.kind == kind {
			return
		}
	}
	c.items = append(c.items, fetchItem{kind: kind})
}

// wantUID adds UID at the front, where it is not asked for.
func (c *fetchCmd) wantUID() {
	if c.kinds()&itemUID == 0 {
		c.unasked = true
		c.items = append([]fetchItem{{kind: itemUID}}, c.items...)
	}
}

// maxSections bounds how often one command can make the server send the same message.
const maxSections = 200

func (c *fetchCmd) wantSection(d *wire.Decoder, s *section) {
	n := 0
	for _, item := range c.items {
		if item.kind != itemSection {
			continue
		}
		if n++; item.section.same(s) {
			item.section.peek = item.section.peek && s.peek
			return
		}
	}
	if n >= maxSections {
		d.Exceed("Too many sections: at most %d are allowed", maxSections)
		return
	}
	c.items = append(c.items, fetchItem{kind: itemSection, section: s})
}

// readModifiers reads the list of modifiers.
//
//	fetch-modifier =/ chgsince-fetch-mod / rexpunges-fetch-mod / modifier-partial
//	chgsince-fetch-mod = "CHANGEDSINCE" SP mod-sequence-value
//	rexpunges-fetch-mod = "VANISHED"
//	modifier-partial = "PARTIAL" SP partial-range
func (c *fetchCmd) readModifiers(d *wire.Decoder) {
	d.List(func() {
		switch name := d.Keyword(); {
		case d.Err() != nil:
		case name == "CHANGEDSINCE" && !c.hasChangedSince:
			d.SP()
			c.changedSince, c.hasChangedSince = id.ModSeq(d.Number64()), true
		case name == "VANISHED" && !c.vanished:
			c.vanished = true
		case name == "PARTIAL" && c.partial == nil:
			d.SP()
			c.partial = readPartial(d)
		case name == "CHANGEDSINCE" || name == "VANISHED" || name == "PARTIAL":
			d.Fail("%s given twice", name)
		default:
			d.Fail("Unknown FETCH modifier %q", name)
		}
	})
	if d.Err() == nil && c.partial != nil && !c.set.uid {
		d.Fail("PARTIAL is a modifier of UID FETCH only")
	}
	if d.Err() != nil || !c.vanished {
		return
	}
	switch {
	case !c.set.uid:
		d.Fail("VANISHED is a modifier of UID FETCH only")
	case !c.hasChangedSince:
		d.Fail("VANISHED needs CHANGEDSINCE")
	}
}

// kinds returns the mask of all that is asked for.
func (c *fetchCmd) kinds() itemKind {
	var mask itemKind
	for _, item := range c.items {
		mask |= item.kind
	}
	return mask
}

// marksSeen tells whether the command sets \Seen.
func (c *fetchCmd) marksSeen() bool {
	for _, item := range c.items {
		if item.kind == itemSection && !item.section.peek {
			return true
		}
	}
	return false
}

// knowsModSeqs implements modSeqKnower.
func (c fetchCmd) knowsModSeqs() bool { return c.kinds()&itemModSeq != 0 }

func (c fetchCmd) run(ctx context.Context, s *session) error {
	if s.uidOnly && c.unasked { // for all responses begin with it
		c.items = c.items[1:]
	}
	if err := s.tellBefore(ctx, c.looks(s)); err != nil {
		return err
	}
	if c.vanished && !s.qresync { // RFC 7162 section 3.2.6
		return bad("VANISHED: QRESYNC is not enabled")
	}
	if c.knowsModSeqs() {
		s.enableCondstore()
	}
	v, err := s.view(ctx)
	if err != nil {
		return err
	}
	asked, err := c.set.in(s)
	if err != nil {
		return err
	}
	if c.partial != nil { // before CHANGEDSINCE chooses among them (RFC 9394 section 3.4)
		asked = c.partial.of(asked)
	}
	if c.vanished {
		if err := c.tellVanished(ctx, s, v); err != nil {
			return err
		}
	}
	uids := asked.Intersect(v.UIDs())
	if c.hasChangedSince {
		uids = uids.Intersect(changedSince(v, c.changedSince))
	}
	f := fetcher{s: s, items: c.items, asked: c.kinds(), view: v}
	if c.marksSeen() && s.selected.mayMarkSeen() {
		if uids, err = f.markSeen(ctx, uids, c.set.uid); err != nil {
			return err
		}
	}
	if err := c.findGhosts(ctx, &f, asked); err != nil {
		return err
	}
	if err := f.fetch(ctx, uids); err != nil {
		return err
	}
	switch {
	case f.damaged != nil:
		return f.damaged
	case f.undecodable:
		return errUnknownCTE
	case f.gone:
		return store.ErrExpunged // RFC 2180 section 4.1.2
	}
	return nil
}

// looks implements looker. Reading message after message would ask the database for each
// whether the mailbox is still the same, to send what cannot have changed: for that the owner's
// sessions are content with what was seen a moment ago. A message that another
// has expunged since is one of which the client has not been told (RFC 2180 section 4.1.1).
func (c fetchCmd) looks(s *session) look {
	return look{
		recent:   s.selected.Owner == s.user.Account && c.unchanging(s) && c.set.known(s),
		expunges: c.set.uid,
	}
}

// mayRunBeside implements chooser.
func (c fetchCmd) mayRunBeside(s *session) bool {
	return !(c.marksSeen() && s.selected.mayMarkSeen()) && (s.condstore || c.kinds()&itemModSeq == 0)
}

// unchanging tells whether all that is asked for is as it was when the message came.
func (c *fetchCmd) unchanging(s *session) bool {
	return c.kinds()&(itemFlags|itemModSeq) == 0 && !(c.marksSeen() && s.selected.mayMarkSeen())
}

// tellVanished tells which of the asked UIDs are gone since (RFC 7162 section
// 3.2.6). What this session will be told as VANISHED, later, is left out.
func (c *fetchCmd) tellVanished(ctx context.Context, s *session, v *view.View) error {
	within := c.set.every(s, v.UIDNext()-1)
	vanished, err := s.selected.Vanished(ctx, c.changedSince, &within)
	if err != nil {
		return err
	}
	future := view.UIDSetOf(view.Range{First: v.UIDNext(), Last: ^id.UID(0)})
	s.writeVanishedEarlier(vanished.Intersect(within).Minus(v.UIDs()).Minus(s.selected.told.UIDs).Minus(future))
	s.whole()
	return nil
}

// findGhosts finds the messages that were asked for and are gone, of which the
// client has not been told yet: as they were when they were expunged. It gets
// them like others, which RFC 2180 section 4.1.1 allows and clients like best.
func (c *fetchCmd) findGhosts(ctx context.Context, f *fetcher, asked view.UIDSet) error {
	told := f.s.selected.told
	missing := asked.Intersect(told.UIDs).Minus(f.view.UIDs())
	if missing.Empty() {
		return nil
	}
	ghosts, err := f.s.selected.Expunged(ctx, f.view, told.Covered, missing)
	if err != nil {
		return err
	}
	f.gone = len(ghosts) < missing.Len()
	if c.hasChangedSince {
		ghosts = slices.DeleteFunc(ghosts, func(m view.Message) bool { return m.ModSeq <= c.changedSince })
	}
	f.ghosts = ghosts
	return nil
}

func changedSince(v *view.View, since id.ModSeq) view.UIDSet {
	var uids []id.UID
	for m := range v.ChangedSince(since) {
		uids = append(uids, m.UID)
	}
	return view.NewUIDSet(uids...)
}

func (m *selected) mayMarkSeen() bool { return !m.examined && m.Rights.Has(acl.Seen) }
