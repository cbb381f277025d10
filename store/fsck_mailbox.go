package store

import (
	"fmt"
	"maps"
	"slices"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// mailboxCheck replays a mailbox in the plainest way there is, and compares
// what comes out with its row, its emails, and the view that sessions see.
type mailboxCheck struct {
	*fsck
	*mailboxRows
	sizes map[id.Email]int64 // of the account's emails; nil: they are not looked at

	messages map[id.UID]view.Message
	keywords []string
	next     int64
	broken   bool // the rest would only be echoes

	sharedSeen bool // as the log goes
	own        []ownOp
}

func (c *mailboxCheck) found(kind FindingKind, format string, args ...any) {
	c.fsck.found(kind, c.row.AccountID, c.row.MailboxID, format, args...)
}

func (c *mailboxCheck) run() {
	c.replay()
	if c.broken {
		return
	}
	c.compareRow()
	c.compareView()
	c.compareReaders()
	c.compareEmails()
	c.Messages += int64(len(c.messages))
}

func (c *mailboxCheck) replay() {
	c.messages = make(map[id.UID]view.Message)
	c.keywords, c.next = slices.Clone(c.row.Keywords), c.row.FoldedUIDNext
	c.bounds()
	c.replaySegments()
	c.replayLog()
	c.replayExpunged()
	if !c.broken {
		c.gaps()
	}
}

// gaps looks for UIDs of which nothing is known, while all that was expunged is.
func (c *mailboxCheck) gaps() {
	if c.row.ExpungedModSeq > 1 || c.next <= 1 {
		return
	}
	var known []view.Range
	for uid := range c.messages {
		known = append(known, view.Range{First: uid, Last: uid})
	}
	var rows []logRow
	for _, l := range slices.Concat(c.log, c.expunged) {
		rows = append(rows, l.logRow)
	}
	gone, err := expungedBy(rows)
	if err != nil {
		return // it was found already
	}
	all := view.UIDSetOf(view.Range{First: 1, Last: id.UID(c.next - 1)})
	if lost := all.Minus(view.UIDSetOf(known...)).Minus(gone); !lost.Empty() {
		c.found(FoundSegment, "%d UIDs from %d to %d are neither there nor expunged", lost.Len(), lost.Min(), lost.Max())
	}
}

// bounds checks the numbers of the row among themselves.
func (c *mailboxCheck) bounds() {
	r := &c.row
	switch {
	case r.FoldedModSeq < 1 || r.FoldedModSeq > r.HighestModSeq:
		c.found(FoundNumber, "folded at MODSEQ %d of %d", r.FoldedModSeq, r.HighestModSeq)
	case r.FoldedUIDNext < 1 || r.FoldedUIDNext > r.UIDNext || r.UIDNext > 1<<32:
		c.found(FoundNumber, "folded at UIDNEXT %d of %d", r.FoldedUIDNext, r.UIDNext)
	case r.RecentUID < 1 || r.RecentUID > r.UIDNext:
		c.found(FoundNumber, "\\Recent begins at UID %d, the next is %d", r.RecentUID, r.UIDNext)
	case r.UIDValidity < 1 || r.UIDValidity >= 1<<32:
		c.found(FoundNumber, "UIDVALIDITY %d", r.UIDValidity)
	}
	if len(c.keywords) > view.MaxKeywords {
		c.found(FoundKeyword, "%d keywords", len(c.keywords))
	}
}

func (c *mailboxCheck) replaySegments() {
	var last id.UID
	for _, g := range c.segments {
		messages, err := view.DecodeSegment(g.data)
		if err != nil || len(messages) == 0 {
			c.found(FoundSegment, "segment from UID %d does not decode: %d messages, %v", g.first, len(messages), err)
			c.broken = true
			continue
		}
		if first, end := messages[0].UID, messages[len(messages)-1].UID; int64(first) != g.first || int64(end) != g.last {
			c.found(FoundSegment, "segment of UIDs %d to %d, as its row says, holds %d to %d", g.first, g.last, first, end)
		}
		if g.modSeq > c.row.FoldedModSeq {
			c.found(FoundSegment, "segment from UID %d is of MODSEQ %d, the mailbox folded at %d", g.first, g.modSeq, c.row.FoldedModSeq)
		}
		for _, m := range messages {
			switch {
			case m.UID <= last:
				c.found(FoundSegment, "segment with UID %d behind %d", m.UID, last)
			case int64(m.UID) >= c.row.FoldedUIDNext:
				c.found(FoundNumber, "segment with UID %d, folded at UIDNEXT %d", m.UID, c.row.FoldedUIDNext)
			case int64(m.ModSeq) > g.modSeq:
				c.found(FoundNumber, "segment of MODSEQ %d with UID %d at %d", g.modSeq, m.UID, m.ModSeq)
			}
			c.inRange(m)
			last = max(last, m.UID)
			c.messages[m.UID] = m
		}
	}
}

// inRange checks that the keywords of a message are defined.
func (c *mailboxCheck) inRange(m view.Message) {
	for i := len(c.keywords); i < view.MaxKeywords; i++ {
		if m.Keywords.Has(i) {
			c.found(FoundKeyword, "UID %d has keyword %d, of %d that are defined", m.UID, i, len(c.keywords))
		}
	}
}

func (c *mailboxCheck) replayLog() {
	modSeq, octets := c.row.FoldedModSeq, int64(0)
	c.sharedSeen = c.firstMode()
	for _, l := range c.log {
		modSeq++
		octets += int64(len(l.record))
		if int64(l.modSeq) != modSeq {
			c.found(FoundLog, "record %d follows on %d", l.modSeq, modSeq-1)
			c.broken = true
			modSeq = int64(l.modSeq)
		}
		r, err := view.DecodeRecord(l.record, l.uidBase, l.emailBase)
		if err != nil {
			c.found(FoundLog, "record %d does not decode: %v", l.modSeq, err)
			c.broken = true
			continue
		}
		for _, op := range r {
			if err := c.apply(l.modSeq, op); err != nil {
				c.found(FoundLog, "record %d does not fit: %v", l.modSeq, err)
				c.broken = true
			}
		}
	}
	if modSeq != c.row.HighestModSeq {
		c.found(FoundLog, "the log ends at MODSEQ %d, the row says %d", modSeq, c.row.HighestModSeq)
		c.broken = true
	}
	if octets != c.row.LogBytes {
		c.found(FoundCounter, "the log has %d octets, the row counts %d", octets, c.row.LogBytes)
	}
}

func (c *mailboxCheck) apply(modSeq id.ModSeq, op view.Op) error {
	switch op := op.(type) {
	case view.Append:
		for _, m := range op.Messages {
			if int64(m.UID) < c.next {
				return fmt.Errorf("append of UID %d, where the next is %d", m.UID, c.next)
			}
			m.ModSeq = modSeq
			c.inRange(m)
			c.messages[m.UID] = m
			c.next = int64(m.UID) + 1
		}
	case view.SetFlags:
		return c.setFlags(modSeq, op)
	case view.SetSeen:
		return c.setSeen(modSeq, op)
	case view.SeenMode:
		return c.seenMode(modSeq, op)
	case view.Expunge:
		for _, gone := range op.Messages {
			if m, ok := c.messages[gone.UID]; !ok || m.Email != gone.Email {
				return fmt.Errorf("expunge of UID %d with email %d, where there is %d", gone.UID, gone.Email, m.Email)
			}
			delete(c.messages, gone.UID)
			c.retained(modSeq, gone)
		}
	case view.DefineKeyword:
		if c.keywords = append(c.keywords, op.Name); len(c.keywords) > view.MaxKeywords {
			return fmt.Errorf("keyword %d", len(c.keywords))
		}
	}
	return nil
}

func (c *mailboxCheck) setFlags(modSeq id.ModSeq, op view.SetFlags) error {
	uids := op.UIDs.All()
	if op.UIDs.Len() > len(c.messages) { // 1:* is short only as a set
		uids = maps.Keys(c.messages)
	}
	n := 0
	for uid := range uids {
		m, ok := c.messages[uid]
		if !ok || !op.UIDs.Contains(uid) {
			continue
		}
		n++
		switch op.Mode {
		case view.Add:
			m.Flags |= op.Flags
			m.Keywords = m.Keywords.Union(op.Keywords)
		case view.Remove:
			m.Flags &^= op.Flags
			m.Keywords = m.Keywords.Minus(op.Keywords)
		case view.Replace:
			m.Flags, m.Keywords = op.Flags, op.Keywords
		}
		switch {
		case !op.Own:
			m.SharedModSeq = 0
		case m.SharedModSeq == 0 && m.ModSeq < modSeq:
			m.SharedModSeq = m.ModSeq
		}
		m.ModSeq = modSeq
		c.inRange(m)
		c.messages[uid] = m
	}
	if n == 0 {
		return fmt.Errorf("flags of UIDs %s, of which there is none", op.UIDs)
	}
	return nil
}

// replayExpunged checks the records that folding has kept: what they hold is gone for good.
func (c *mailboxCheck) replayExpunged() {
	for _, l := range c.expunged {
		r, err := view.DecodeRecord(l.record, 0, 0)
		if err != nil {
			c.found(FoundLog, "expunge record %d does not decode: %v", l.modSeq, err)
			continue
		}
		if int64(l.modSeq) > c.row.FoldedModSeq {
			c.found(FoundLog, "expunge record %d of what is folded at %d", l.modSeq, c.row.FoldedModSeq)
		}
		for _, op := range r {
			switch op := op.(type) {
			case view.Expunge:
				for _, m := range op.Messages {
					c.expungedOne(l.modSeq, m.UID)
					c.retained(l.modSeq, m)
				}
			case view.Vanished:
				for uid := range c.messages {
					if op.UIDs.Contains(uid) {
						c.expungedOne(l.modSeq, uid)
					}
				}
			default:
				c.found(FoundLog, "expunge record %d holds %T", l.modSeq, op)
			}
		}
	}
}

func (c *mailboxCheck) expungedOne(at id.ModSeq, uid id.UID) {
	if _, there := c.messages[uid]; there {
		c.found(FoundLog, "UID %d was expunged at %d, and is there", uid, at)
	}
}

// retained checks that a message that can be brought back has its email.
func (c *mailboxCheck) retained(at id.ModSeq, m view.Message) {
	if _, ok := c.sizes[m.Email]; !ok && c.sizes != nil {
		c.found(FoundEmail, "UID %d, expunged at %d, has email %d, which does not exist", m.UID, at, m.Email)
	}
}

// recount counts the messages.
func (c *mailboxCheck) recount() (count view.Counts) {
	for _, m := range c.messages {
		count.Messages++
		count.Bytes += m.Size
		if m.Flags&view.Seen == 0 {
			count.Unseen++
		}
		if m.Flags&view.Deleted != 0 {
			count.Deleted++
			count.DeletedBytes += m.Size
		}
	}
	return count
}

func (c *mailboxCheck) compareRow() {
	count := c.recount()
	if row := c.row.counts(); row != count {
		c.found(FoundCounter, "the row counts %+v, recounted %+v", row, count)
	}
	if c.next != c.row.UIDNext {
		c.found(FoundNumber, "the log leads to UIDNEXT %d, the row says %d", c.next, c.row.UIDNext)
	}
}

// compareView checks that sessions see what the replay shows.
func (c *mailboxCheck) compareView() {
	v, err := c.view()
	if err != nil {
		c.found(FoundLog, "it cannot be loaded: %v", err)
		return
	}
	i := 0
	for _, uid := range slices.Sorted(maps.Keys(c.messages)) {
		if want := c.messages[uid]; i >= v.Len() || !equalMessages(v.At(i), want) {
			c.found(FoundSegment, "the replay has UID %d as %+v, the view not", uid, want)
			return
		}
		i++
	}
	if i != v.Len() || !slices.Equal(v.Keywords(), c.keywords) {
		c.found(FoundSegment, "the replay has %d messages and %d keywords, the view %d and %d", i, len(c.keywords), v.Len(), len(v.Keywords()))
	}
}

// equalMessages compares all of two messages; times as clients are told them.
func equalMessages(a, b view.Message) bool {
	_, zoneA := a.InternalDate.Zone()
	_, zoneB := b.InternalDate.Zone()
	same := a.InternalDate.Equal(b.InternalDate) && zoneA == zoneB && a.SaveDate.Equal(b.SaveDate)
	a.InternalDate, a.SaveDate = b.InternalDate, b.SaveDate
	return same && a == b
}

// compareEmails checks that every message has its email.
func (c *mailboxCheck) compareEmails() {
	for _, uid := range slices.Sorted(maps.Keys(c.messages)) {
		m := c.messages[uid]
		size, ok := c.sizes[m.Email]
		switch {
		case !ok:
			c.found(FoundEmail, "UID %d has email %d, which does not exist", uid, m.Email)
		case size != m.Size:
			c.found(FoundEmail, "UID %d has %d octets, its email %d has %d", uid, m.Size, m.Email, size)
		}
	}
}
