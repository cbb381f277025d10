package store

import (
	"fmt"
	"maps"
	"slices"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// What readers of a mailbox have of their own, replayed and compared like the mailbox.

// ownOp is an operation of the log that concerns readers.
type ownOp struct {
	at id.ModSeq
	op view.Op
}

// firstMode tells whether all had one \Seen where the log begins: other than what its first change of that makes it, or as it is now.
func (c *mailboxCheck) firstMode() bool {
	for _, l := range c.log {
		r, err := view.DecodeRecord(l.record, l.uidBase, l.emailBase)
		if err != nil {
			continue // which is found
		}
		for _, op := range r {
			if op, ok := op.(view.SeenMode); ok {
				return !op.Shared
			}
		}
	}
	return c.row.SharedSeen
}

func (c *mailboxCheck) setSeen(at id.ModSeq, op view.SetSeen) error {
	c.own = append(c.own, ownOp{at, op})
	switch {
	case c.sharedSeen:
		return fmt.Errorf("\\Seen of reader %d alone, where all have one", op.Reader)
	case op.Reader == c.row.AccountID:
		return fmt.Errorf("\\Seen of the owner as of a reader")
	case int64(op.UIDs.Max()) >= c.next:
		return fmt.Errorf("\\Seen of UID %d, where the next is %d", op.UIDs.Max(), c.next)
	case !c.any(op.UIDs):
		return fmt.Errorf("\\Seen of UIDs %s, of which there is none", op.UIDs)
	}
	return nil
}

// any tells whether one of the UIDs is there.
func (c *mailboxCheck) any(of view.UIDSet) bool {
	if of.Len() > len(c.messages) { // 1:* is short only as a set
		for uid := range c.messages {
			if of.Contains(uid) {
				return true
			}
		}
		return false
	}
	for uid := range of.All() {
		if _, ok := c.messages[uid]; ok {
			return true
		}
	}
	return false
}

func (c *mailboxCheck) seenMode(at id.ModSeq, op view.SeenMode) error {
	c.own = append(c.own, ownOp{at, op})
	if op.Shared == c.sharedSeen {
		return fmt.Errorf("a change of who has \\Seen that is none")
	}
	c.sharedSeen = op.Shared
	for uid, m := range c.messages {
		if op.Seen.Contains(uid) != (m.Flags&view.Seen != 0) {
			return fmt.Errorf("\\Seen of UID %d for all that is not the owner's", uid)
		}
		m.ModSeq, m.SharedModSeq = at, 0
		c.messages[uid] = m
	}
	return nil
}

// compareReaders checks that each reader sees what the replay shows.
func (c *mailboxCheck) compareReaders() {
	if c.sharedSeen != c.row.SharedSeen {
		c.found(FoundOverlay, "all have one \\Seen: the log says %t, the row %t", c.sharedSeen, c.row.SharedSeen)
	}
	if len(c.overlays) > 0 && c.firstMode() {
		c.found(FoundOverlay, "there are %d, folded where all have one \\Seen", len(c.overlays))
	}
	stored := make(map[id.Account]view.Overlay)
	for _, row := range c.overlays {
		o, err := view.DecodeOverlay(row.Data)
		if err != nil {
			c.found(FoundOverlay, "that of reader %d does not decode: %v", row.Reader, err)
			return
		}
		for _, m := range o.Marks() {
			if int64(m.Last) >= c.row.FoldedUIDNext || int64(m.At) > c.row.FoldedModSeq {
				c.found(FoundOverlay, "reader %d has a mark on UID %d of MODSEQ %d, folded at UIDNEXT %d and %d",
					row.Reader, m.Last, m.At, c.row.FoldedUIDNext, c.row.FoldedModSeq)
			}
		}
		stored[row.Reader] = o
	}
	if _, ok := stored[c.row.AccountID]; ok {
		c.found(FoundOverlay, "the owner has an overlay")
	}
	readers := maps.Clone(stored)
	for _, o := range c.own {
		if op, ok := o.op.(view.SetSeen); ok {
			readers[op.Reader] = view.Overlay{}
		}
	}
	uids := slices.Sorted(maps.Keys(c.messages))
	for _, reader := range slices.Sorted(maps.Keys(readers)) {
		if reader == 0 {
			reader = -1 // any who has none
		}
		o, ok := stored[reader]
		if !ok {
			o = stored[0]
		}
		c.compareReader(reader, o, uids)
	}
}

// compareReader replays what a reader has, and compares it with the view that they are shown.
func (c *mailboxCheck) compareReader(reader id.Account, o view.Overlay, uids []id.UID) {
	seen, at := make(map[id.UID]bool), make(map[id.UID]id.ModSeq)
	all := view.NewUIDSet(uids...)
	mark := func(on view.UIDSet, when id.ModSeq, is bool) {
		for uid := range on.Intersect(all).All() {
			seen[uid], at[uid] = is, when
		}
	}
	for _, m := range o.Marks() {
		mark(view.UIDSetOf(m.Range), m.At, m.Seen)
	}
	for _, own := range c.own {
		switch op := own.op.(type) {
		case view.SetSeen:
			if op.Reader == reader {
				mark(op.UIDs, own.at, op.Seen)
			}
		case view.SeenMode:
			clear(seen)
			clear(at)
			mark(op.Seen, 0, true)
		}
	}
	v, err := c.viewOf(reader)
	if err != nil {
		c.found(FoundOverlay, "what reader %d sees cannot be loaded: %v", reader, err)
		return
	}
	unseen := int64(0)
	for i, uid := range uids {
		want := c.messages[uid]
		if want.SharedModSeq != 0 {
			want.ModSeq, want.SharedModSeq = want.SharedModSeq, 0
		}
		if !c.sharedSeen {
			want.ModSeq = max(want.ModSeq, at[uid])
			if want.Flags &^= view.Seen; seen[uid] {
				want.Flags |= view.Seen
			}
		}
		if want.Flags&view.Seen == 0 {
			unseen++
		}
		if i >= v.Len() || !equalMessages(v.At(i), want) {
			c.found(FoundOverlay, "the replay has UID %d for reader %d as %+v, the view not", uid, reader, want)
			return
		}
	}
	if got := v.Counts().Unseen; got != unseen {
		c.found(FoundOverlay, "reader %d has %d messages unseen, recounted %d", reader, got, unseen)
	}
}
