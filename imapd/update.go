package imapd

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// What the client has been told of the selected mailbox, and what it is owed.

// selected is the selected mailbox as the client knows it.
type selected struct {
	*store.Mailbox            // with the rights as they were found last
	examined       bool       // EXAMINE: nothing is to be changed
	rights         acl.Rights // as the client has been told,
	writable       bool       // and what writes was then
	told           view.Told
	recent         view.UIDSet // \Recent in this session
	contexts       []*searchContext
	saved          view.UIDSet // by the last search that was to; some may be gone (RFC 5182)

	// view is the newest that the command that runs has seen, nil if it has
	// seen none yet.
	view *view.View
}

// view returns the selected mailbox as the command that runs sees it, by asking if it has not yet.
func (s *session) view(ctx context.Context) (*view.View, error) {
	if s.selected.view != nil {
		return s.selected.view, nil
	}
	err := s.permitted(ctx, 0, func() (err error) {
		s.selected.view, err = s.selected.View(ctx)
		return err
	})
	return s.selected.view, ofSelected(err)
}

// ofSelected says of an error of the selected mailbox what it means to the
// session: without the mailbox it cannot go on (RFC 2180 section 3.3).
func ofSelected(err error) error {
	if errors.Is(err, store.ErrNotExist) {
		return errLeft
	}
	return err
}

// see notes a newer view that a change has returned.
func (s *session) see(v *view.View) { s.selected.view = v }

// sync tells the client what happened in the selected mailbox.
func (s *session) sync(ctx context.Context, expunges bool) error {
	if s.selected == nil {
		return nil
	}
	v, err := s.view(ctx)
	if err != nil {
		return err
	}
	s.tell(ctx, v, expunges)
	return nil
}

// recently is how old a view may be that was seen a moment ago.
const recently = 500 * time.Millisecond

// tellBefore tells what others did before the data of a command, unless it has been told for all that run beside it.
func (s *session) tellBefore(ctx context.Context, l look) error {
	if s.lane != nil {
		return nil
	}
	if l.recent && s.selected.view == nil {
		if v := s.selected.RecentView(recently); v != nil && v.ModSeq() >= s.selected.told.ModSeq {
			s.see(v)
		}
	}
	return s.sync(ctx, l.expunges)
}

// tell brings what the client has been told up to v.
func (s *session) tell(ctx context.Context, v *view.View, expunges bool) {
	s.tellRights(v)
	updates, told := view.Diff(s.selected.told, v, expunges)
	s.tellRemoved(ctx, v)
	s.selected.told = told
	for _, u := range updates {
		switch u := u.(type) {
		case view.FlagsDefined:
			s.writeFlagsDefined(u.Keywords)
		case view.Expunged:
			s.writeExpunged(u)
		case view.Exists:
			s.writeExists(ctx, u, v)
		case view.Changed:
			s.writeChanged(u.Number, u.Message, v.Keywords())
		}
	}
	s.tellAdded(ctx, v)
}

// tellStored tells what others did before a change of flags by this client, and
// takes the change itself for told: its command says of it what is to be said.
func (s *session) tellStored(ctx context.Context, r store.FlagResult, expunges bool) {
	s.tell(ctx, r.Before, expunges)
	updates, told := view.Diff(s.selected.told, r.View, expunges)
	s.tellRemoved(ctx, r.View)
	s.selected.told = told
	for _, u := range updates {
		if u, ok := u.(view.FlagsDefined); ok {
			s.writeFlagsDefined(u.Keywords)
		}
	}
	s.tellAdded(ctx, r.View)
	s.see(r.View)
}

func (s *session) writeFlagsDefined(keywords []string) {
	s.enc.Raw("* FLAGS ").Raw(flagNames(keywords)).CRLF()
	s.enc.Raw("* OK [PERMANENTFLAGS ").Raw(s.selected.permanentFlags(keywords, s.store.MaxKeywords())).Raw("] Flags that are kept").CRLF()
}

func (s *session) writeExpunged(u view.Expunged) {
	s.expunged = true
	if s.qresync || s.uidOnly { // RFC 7162 section 3.2.10, RFC 9586
		s.enc.Raw("* VANISHED ").Raw(u.UIDs.String()).CRLF()
		return
	}
	for _, n := range u.Numbers {
		s.enc.Raw("* ").Number(uint64(n)).Raw(" EXPUNGE").CRLF()
	}
}

func (s *session) writeExists(ctx context.Context, u view.Exists, v *view.View) {
	s.claimRecent(ctx, v)
	s.enc.Raw("* ").Number(uint64(u.Messages)).Raw(" EXISTS").CRLF()
	if !s.rev2 {
		s.enc.Raw("* ").Number(s.selected.recentCount()).Raw(" RECENT").CRLF()
	}
}

// claimRecent makes messages that no session has been told of recent in this one. To
// IMAP4rev2 none is: the next session that knows of such is told.
func (s *session) claimRecent(ctx context.Context, v *view.View) {
	if s.rev2 {
		return
	}
	first, err := s.selected.ClaimRecent(ctx, v.UIDNext(), s.selected.readOnly())
	if err != nil {
		s.log.WarnContext(ctx, "claiming recent messages failed", "err", err) // the next session to look will be told
		return
	}
	if next := v.UIDNext(); first < next {
		s.selected.recent = s.selected.recent.Union(view.UIDSetOf(view.Range{First: first, Last: next - 1}))
	}
}

func (m *selected) recentCount() uint64 {
	return uint64(m.recent.Intersect(m.told.UIDs).Len())
}

// writeChanged tells the flags of a message.
func (s *session) writeChanged(number uint32, m view.Message, keywords []string) {
	s.scratch = s.appendChanged(s.scratch[:0], number, &m, keywords)
	s.enc.Bytes(s.scratch)
}

// reliable returns the response code with the MODSEQ up to which the client
// knows all, where it could not tell: when it has seen a higher one while an
// EXPUNGE is withheld (RFC 7162 section 6), and after VANISHED, which has none
// (sections 3.2.7 and 3.2.9). Else it is "".
func (s *session) reliable() string {
	if s.selected == nil || s.reported <= s.selected.told.Covered && !(s.expunged && s.qresync) {
		return ""
	}
	return s.highestModSeq()
}

// highestModSeq is the response code with the MODSEQ up to which the client has been told all.
func (s *session) highestModSeq() string {
	return "HIGHESTMODSEQ " + strconv.FormatInt(int64(max(s.selected.told.Covered, 1)), 10)
}

// modSeqKnower is a command that can show that the client knows of MODSEQs.
type modSeqKnower interface {
	knowsModSeqs() bool
}

var _ = []modSeqKnower{selectCmd{}, statusCmd{}, fetchCmd{}, storeCmd{}, (*searchCmd)(nil), (*sortCmd)(nil), (*threadCmd)(nil), (*esearchCmd)(nil)}

func knowsModSeqs(r run) bool {
	c, ok := r.(modSeqKnower)
	return ok && c.knowsModSeqs()
}

// enableCondstore is for each command that shows that the client knows of MODSEQs (RFC 7162 section 3.1).
func (s *session) enableCondstore() {
	if s.condstore {
		return
	}
	s.condstore = true
	if s.selected != nil {
		s.enc.Raw("* OK ").Raw(coded(s.highestModSeq())).Raw("CONDSTORE is enabled").CRLF()
	}
}

// Flags.

// systemFlags are the system flags by bit (view.Seen and so on).
var systemFlags = []struct {
	flag view.Flags
	name imap.Flag
	need acl.Rights
}{
	{view.Answered, imap.FlagAnswered, acl.Write},
	{view.Flagged, imap.FlagFlagged, acl.Write},
	{view.Deleted, imap.FlagDeleted, acl.DeleteMessages},
	{view.Seen, imap.FlagSeen, acl.Seen},
	{view.Draft, imap.FlagDraft, acl.Write},
}

// flagNames lists all flags of a mailbox.
func flagNames(keywords []string) string {
	return flagList(acl.All, keywords, false)
}

// permanentFlags lists the flags that this client may change for good, with \* where it may define keywords, of
// which there can be most.
func (m *selected) permanentFlags(keywords []string, most int) string {
	if m.examined {
		return "()"
	}
	return flagList(m.Rights, keywords, len(keywords) < most)
}

func flagList(rights acl.Rights, keywords []string, more bool) string {
	list := []byte("(")
	add := func(name string) {
		if len(list) > 1 {
			list = append(list, ' ')
		}
		list = append(list, name...)
	}
	for _, f := range systemFlags {
		if rights.Has(f.need) {
			add(string(f.name))
		}
	}
	if rights.Has(acl.Write) {
		for _, name := range keywords {
			add(name)
		}
		if more {
			add(`\*`)
		}
	}
	return string(append(list, ')'))
}

// Numbers.

// numbers returns the UIDs of message numbers. A number that the client cannot
// know is an error of the client, so also "*" in an empty mailbox (RFC 9051 section 9, seq-number).
func (s *session) numbers(set imap.SeqSet) (view.UIDSet, error) {
	told := s.selected.told.UIDs
	count := uint32(told.Len())
	ranges := make([]view.Range, 0, len(set))
	for _, r := range set {
		first, last := r.Start, r.Stop
		if first == 0 {
			first = count
		}
		if last == 0 {
			last = count
		}
		if first > count || last > count || first == 0 {
			return view.UIDSet{}, bad("There are only %d messages", count)
		}
		ranges = append(ranges, view.Range{First: told.Select(int(first)), Last: told.Select(int(last))})
	}
	return view.UIDSetOf(ranges...).Intersect(told), nil
}

// uids returns those of a set of UIDs that the client has been told of; others
// are passed over in silence (RFC 9051 section 6.4.9).
func (s *session) uids(set imap.UIDSet) view.UIDSet {
	told := s.selected.told.UIDs
	top := imap.UID(told.Max())
	ranges := make([]view.Range, 0, len(set))
	for _, r := range set {
		first, last := r.Start, r.Stop
		if first == 0 {
			first = top
		}
		if last == 0 { // n:* has the last message in it, also where n is larger
			first, last = min(first, top), max(first, top)
		}
		ranges = append(ranges, view.Range{First: id.UID(first), Last: id.UID(last)})
	}
	return view.UIDSetOf(ranges...).Intersect(told)
}

// number returns the message number of a UID that the client has been told of.
func (s *session) number(uid id.UID) uint32 { return uint32(s.selected.told.UIDs.Rank(uid)) }
