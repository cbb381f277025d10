package imapd

import (
	"github.com/emersion/go-imap/v2"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// messageSet names messages of the selected mailbox, by number or by UID, or
// those that a search has saved.
type messageSet struct {
	uid   bool
	saved bool // "$"
	seqs  imap.SeqSet
	uids  imap.UIDSet
}

// sequence-set =/ "$"
//
// RFC 5182 section 3.
func readMessageSet(d *wire.Decoder, uid bool) messageSet {
	if d.TrySpecial('$') {
		return messageSet{uid: uid, saved: true}
	}
	if uid {
		return messageSet{uid: true, uids: d.UIDSet()}
	}
	return messageSet{seqs: d.SequenceSet()}
}

// readMessage reads what names one message.
func readMessage(d *wire.Decoder, uid bool) messageSet {
	n := d.SeqNumber()
	if uid {
		return messageSet{uid: true, uids: imap.UIDSet{{Start: imap.UID(n), Stop: imap.UID(n)}}}
	}
	return messageSet{seqs: imap.SeqSet{{Start: n, Stop: n}}}
}

// in returns the UIDs of the messages, among those that the client has been
// told of. Some may be gone.
func (m messageSet) in(s *session) (view.UIDSet, error) {
	switch {
	case m.saved:
		return s.saved(), nil
	case m.uid:
		return s.uids(m.uids), nil
	}
	return s.numbers(m.seqs)
}

// known tells whether each message of the set is named, and is one that the client has been told of.
func (m messageSet) known(s *session) bool {
	told := s.selected.told.UIDs
	for _, r := range m.seqs {
		if r.Start == 0 || r.Stop == 0 || max(r.Start, r.Stop) > uint32(told.Len()) {
			return false
		}
	}
	for _, r := range m.uids {
		first, last := id.UID(min(r.Start, r.Stop)), id.UID(max(r.Start, r.Stop))
		if first == 0 || !told.Contains(first) || !told.Contains(last) || told.Rank(last)-told.Rank(first) != int(last-first) {
			return false
		}
	}
	return true
}

// saved returns what "$" stands for: of the messages that a search has saved
// those that the client has not been told to be gone (RFC 5182 section 2.1).
func (s *session) saved() view.UIDSet { return s.selected.saved.Intersect(s.selected.told.UIDs) }

// every returns all UIDs that the set names, whether there are such messages or not, with top for "*".
func (m messageSet) every(s *session, top id.UID) view.UIDSet {
	if m.saved {
		return s.saved()
	}
	return everyUID(m.uids, top)
}

// everyUID returns all UIDs that a set names, whether there are such messages or not, with top for "*".
func everyUID(set imap.UIDSet, top id.UID) view.UIDSet {
	ranges := make([]view.Range, 0, len(set))
	for _, r := range set {
		first, last := id.UID(r.Start), id.UID(r.Stop)
		if first == 0 {
			first = top
		}
		if last == 0 {
			last = top
		}
		ranges = append(ranges, view.Range{First: first, Last: last})
	}
	return view.UIDSetOf(ranges...)
}
