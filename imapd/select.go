package imapd

import (
	"context"
	"errors"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// SELECT, EXAMINE, CLOSE and UNSELECT.
//
// RFC 3501 sections 6.3.1, 6.3.2 and 6.4.2; UNSELECT: RFC 3691; CONDSTORE and QRESYNC
// parameters: RFC 7162 sections 3.1.8 and 3.2.5; READ-ONLY by rights: RFC 4314 section 5.2;
// MAILBOXID: RFC 8474 section 4.2.

// selector is what these commands need of the store.
type selector interface {
	Select(ctx context.Context, u store.User, name string, want acl.Rights) (store.Selected, error)
}

var _ selector = (*store.Store)(nil)

// mailboxReader is what they need of the mailbox.
type mailboxReader interface {
	View(ctx context.Context) (*view.View, error)
	ClaimRecent(ctx context.Context, next id.UID, peek bool) (id.UID, error)
	Vanished(ctx context.Context, since id.ModSeq, within *view.UIDSet) (view.UIDSet, error)
	Expunge(ctx context.Context, uids *view.UIDSet) (*view.View, view.UIDSet, error)
}

var _ mailboxReader = (*store.Mailbox)(nil)

type selectCmd struct {
	name, as  string // as: as the client spells it
	examine   bool
	condstore bool
	resync    *resync // nil: none
}

// resync is what a client knows of the mailbox (RFC 7162 section 3.2.5).
type resync struct {
	uidValidity uint32
	modSeq      id.ModSeq
	known       *view.UIDSet // nil: all up to now
	seqs, uids  view.UIDSet  // pairs of message number and UID; numbers in the clothes of UIDs
}

// select = "SELECT" SP mailbox [select-params]
func readSelect(d *wire.Decoder) (run, error) { return readSelection(d, false) }

// examine = "EXAMINE" SP mailbox [select-params]
func readExamine(d *wire.Decoder) (run, error) { return readSelection(d, true) }

// select-params = SP "(" select-param *(SP select-param) ")"
// select-param  = "CONDSTORE" / "QRESYNC" SP "(" qresync ")"
func readSelection(d *wire.Decoder, examine bool) (run, error) {
	c := selectCmd{examine: examine}
	d.SP()
	c.name, c.as = d.MailboxAs()
	if d.TrySP() {
		d.List(func() {
			switch name := d.Keyword(); {
			case name == "CONDSTORE" && !c.condstore:
				c.condstore = true
			case name == "QRESYNC" && c.resync == nil:
				d.SP()
				c.resync = readResync(d)
			case d.Err() == nil:
				d.Fail("Unknown or repeated parameter %.40s", name)
			}
		})
	}
	return c, d.End()
}

// qresync = uidvalidity SP mod-sequence-value [SP known-uids] [SP "(" known-sequence-set SP known-uid-set ")"]
func readResync(d *wire.Decoder) *resync {
	r := &resync{}
	d.Special('(')
	r.uidValidity = d.NZNumber()
	d.SP()
	r.modSeq = id.ModSeq(d.NZNumber64())
	more := d.TrySP()
	if more && d.Peek() != '(' {
		known := readKnown(d, imap.NumSet(d.UIDSet()))
		r.known = &known
		more = d.TrySP()
	}
	if more {
		d.Special('(')
		r.seqs = readKnown(d, imap.NumSet(d.SequenceSet()))
		d.SP()
		r.uids = readKnown(d, imap.NumSet(d.UIDSet()))
		d.Special(')')
		if r.seqs.Len() != r.uids.Len() {
			d.Fail("There are %d message numbers for %d UIDs", r.seqs.Len(), r.uids.Len())
		}
	}
	d.Special(')')
	return r
}

// readKnown demands a set without "*", which nobody can know.
func readKnown(d *wire.Decoder, set imap.NumSet) view.UIDSet {
	if set.Dynamic() {
		d.Fail(`"*" is not allowed here`)
		return view.UIDSet{}
	}
	var ranges []view.Range
	switch set := set.(type) {
	case imap.SeqSet:
		for _, r := range set {
			ranges = append(ranges, view.Range{First: id.UID(r.Start), Last: id.UID(r.Stop)})
		}
	case imap.UIDSet:
		for _, r := range set {
			ranges = append(ranges, view.Range{First: id.UID(r.Start), Last: id.UID(r.Stop)})
		}
	}
	return view.UIDSetOf(ranges...)
}

// allowed refuses what takes something else to be enabled, or not to be.
func (c selectCmd) allowed(s *session) error {
	switch {
	case c.resync == nil:
	case !s.qresync:
		return bad("QRESYNC is not enabled")
	case s.uidOnly && !c.resync.seqs.Empty():
		return errUIDRequired
	}
	return nil
}

// knowsModSeqs implements modSeqKnower.
func (c selectCmd) knowsModSeqs() bool { return c.condstore || c.resync != nil }

func (c selectCmd) run(ctx context.Context, s *session) error {
	if err := c.allowed(s); err != nil {
		return err
	}
	s.deselect()
	if c.knowsModSeqs() {
		s.enableCondstore()
	}
	m, err := s.store.Select(ctx, s.user, c.name, acl.Read)
	if err != nil {
		return err
	}
	v := m.View
	sel := &selected{Mailbox: m.Mailbox, examined: c.examine, rights: m.Rights, view: v}
	sel.writable = sel.writes()
	_, sel.told = view.Diff(view.Told{}, v, true)
	s.selected, s.state = sel, selectedState
	if m.Recent < v.UIDNext() {
		s.claimRecent(ctx, v)
	}
	s.writeSelected(v)
	s.writeOverQuota(m.Quota)
	if s.rev2 {
		if err := s.listSelected(ctx, c.as); err != nil {
			s.unselect()
			return err
		}
	}
	if c.resync != nil && c.resync.uidValidity == m.UIDValidity {
		if err := s.resynchronize(ctx, v, c.resync); err != nil {
			s.unselect()
			return err
		}
	}
	if sel.readOnly() {
		s.ok("READ-ONLY", "Examining")
	} else {
		s.ok("READ-WRITE", "Selected")
	}
	return nil
}

// unselect leaves the selected mailbox, if there is one, with what is kept of it for the client.
func (s *session) unselect() {
	if s.selected == nil {
		return
	}
	for _, c := range s.selected.contexts {
		s.server.kept.give(c.holder, c.octets)
	}
	s.selected, s.state = nil, authenticated
}

// deselect leaves the selected mailbox, if there is one, for another (RFC 7162 section 3.2.11).
func (s *session) deselect() {
	if s.selected == nil {
		return
	}
	s.unselect()
	s.enc.Raw("* OK [CLOSED] Previous mailbox is closed").CRLF()
}

// writeSelected tells what a mailbox is like (RFC 3501 section 6.3.1, RFC 9051 section 6.3.2).
func (s *session) writeSelected(v *view.View) {
	sel := s.selected
	s.enc.Raw("* FLAGS ").Raw(flagNames(v.Keywords())).CRLF()
	s.enc.Raw("* OK [PERMANENTFLAGS ").Raw(sel.permanentFlags(v.Keywords(), s.store.MaxKeywords())).Raw("] Flags that are kept").CRLF()
	s.enc.Raw("* ").Number(uint64(v.Len())).Raw(" EXISTS").CRLF()
	if !s.rev2 {
		s.enc.Raw("* ").Number(sel.recentCount()).Raw(" RECENT").CRLF()
		if first := v.FirstUnseen(); first > 0 && !s.uidOnly {
			s.enc.Raw("* OK [UNSEEN ").Number(uint64(first)).Raw("] First unseen message").CRLF()
		}
	}
	s.enc.Raw("* OK [UIDVALIDITY ").Number(uint64(sel.UIDValidity)).Raw("] UIDs are valid").CRLF()
	s.enc.Raw("* OK [UIDNEXT ").Number(uint64(v.UIDNext())).Raw("] Predicted next UID").CRLF()
	s.enc.Raw("* OK ").Raw(coded(s.highestModSeq())).Raw("Highest MODSEQ").CRLF()
	s.enc.Raw("* OK ").Raw(coded(mailboxID(sel.Mailbox))).Raw("Identifier of the mailbox").CRLF()
}

// resynchronize tells a client what happened since it was here (RFC 7162 section 3.2.5.1).
func (s *session) resynchronize(ctx context.Context, v *view.View, r *resync) error {
	gone, err := s.selected.Vanished(ctx, r.modSeq, r.known)
	if err != nil {
		return err
	}
	// What was expunged after this view was read is told as such, later.
	gone = gone.Minus(v.UIDs()).Minus(view.UIDSetOf(view.Range{First: v.UIDNext(), Last: ^id.UID(0)}))
	if match := r.lastMatch(v); match > 0 {
		gone = gone.Minus(view.UIDSetOf(view.Range{First: 1, Last: match}))
	}
	s.writeVanishedEarlier(gone)
	for m := range v.ChangedSince(r.modSeq) {
		if r.known == nil || r.known.Contains(m.UID) {
			s.writeChanged(s.number(m.UID), m, v.Keywords())
		}
	}
	return nil
}

// writeVanishedEarlier tells what a client may still have of times before (RFC 7162 section 3.2.10.1).
func (s *session) writeVanishedEarlier(uids view.UIDSet) {
	if !uids.Empty() {
		s.enc.Raw("* VANISHED (EARLIER) ").Raw(uids.String()).CRLF()
	}
}

// lastMatch returns the highest UID up to which the client knows of all that is
// gone, because it has the message number that we have for it: there are as many
// messages up to it here as there, and none here that it does not know
// (RFC 7162 section 3.2.5.2).
func (r *resync) lastMatch(v *view.View) id.UID {
	match := id.UID(0)
	uids := v.UIDs()
	for n := 1; n <= r.uids.Len(); n++ {
		number, uid := r.seqs.Select(n), r.uids.Select(n)
		if int(number) > uids.Len() {
			break // those that follow are larger
		}
		if uids.Select(int(number)) == uid {
			match = uid
		}
	}
	return match
}

// close = "CLOSE"
//
// It expunges, and tells of nothing: no EXPUNGE, and no HIGHESTMODSEQ, from
// which a client could conclude that it knows all (RFC 7162 section 3.2.8).
func readClose(d *wire.Decoder) (run, error) {
	return do(func(ctx context.Context, s *session) error {
		if !s.selected.examined {
			err := s.permitted(ctx, acl.Expunge, func() error {
				_, _, err := s.selected.Expunge(ctx, nil)
				return err
			})
			switch {
			case as[*acl.DeniedError](err): // RFC 4314 section 4
			case errors.Is(err, errLeft), errors.Is(err, store.ErrNotExist): // meanwhile
			case err != nil:
				return err // and the mailbox stays selected
			}
		}
		s.unselect()
		return nil
	}), d.End()
}

// unselect = "UNSELECT"
func readUnselect(d *wire.Decoder) (run, error) {
	return do(func(_ context.Context, s *session) error {
		s.unselect()
		return nil
	}), d.End()
}
