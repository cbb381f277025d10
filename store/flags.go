package store

import (
	"context"
	"slices"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// FlagChange is a STORE.
type FlagChange struct {
	UIDs           view.UIDSet
	Mode           view.Mode
	Flags          view.Flags
	Keywords       []string
	UnchangedSince id.ModSeq // -1: unconditional (RFC 7162 section 3.1.3); 0 is a legal condition that fails always

	rights acl.Rights // of the user
	others bool       // there may be readers, to whom the owner's \Seen is nothing
}

// FlagResult is what a STORE did: ModSeq is that of the record, 0 where
// nothing changed. Changed are those whose flags differ now; Modified failed the condition.
// Before is the mailbox just before the record: what others did until then,
// which a session tells apart from what its own client did.
type FlagResult struct {
	Before   *view.View
	View     *view.View
	ModSeq   id.ModSeq
	Changed  view.UIDSet
	Modified view.UIDSet
}

// SetFlags changes flags of those of c.UIDs that exist, as far as the user may: *acl.DeniedError where they may change
// none of those that are named (RFC 4314 section 4). Only messages whose
// flags really change get a new MODSEQ. A keyword that the mailbox does not
// know yet is defined by the way; ErrKeywords where there are too many.
func (m *Mailbox) SetFlags(ctx context.Context, c FlagChange) (FlagResult, error) {
	if err := c.within(m.Rights); err != nil {
		return FlagResult{}, err
	}
	var result FlagResult
	c.others = m.others && !m.SharedSeen
	done, err := m.store.change(ctx, m.Tenant, []target{m.target()}, func(views []*view.View) ([]view.Record, error) {
		result = FlagResult{}
		r, err := c.record(views[0], m.store.options.MaxKeywords, &result)
		return []view.Record{r}, err
	})
	if err != nil {
		return FlagResult{}, err
	}
	result.Before, result.View = done.before[0], done.after[0]
	if !result.Changed.Empty() {
		result.ModSeq = result.View.ModSeq()
	}
	return result, nil
}

// record computes the record of the change; a mailbox can have most keywords.
func (c *FlagChange) record(v *view.View, most int, result *FlagResult) (view.Record, error) {
	table := v.Keywords()
	keywords, missing := keywordSet(table, c.Keywords)
	var r view.Record
	if len(missing) > 0 && c.Mode != view.Remove {
		var err error
		if r, table, err = defineKeywords(table, missing, most); err != nil {
			return nil, err
		}
		keywords, _ = keywordSet(table, c.Keywords)
	}
	parts := c.parts(v, keywords, table)
	var changed, modified []id.UID
	for msg := range v.In(c.UIDs) {
		switch {
		case c.UnchangedSince >= 0 && msg.ModSeq > c.UnchangedSince:
			modified = append(modified, msg.UID)
		case parts.change(msg):
			changed = append(changed, msg.UID)
		}
	}
	result.Changed, result.Modified = view.NewUIDSet(changed...), view.NewUIDSet(modified...)
	if len(changed) == 0 {
		return nil, nil
	}
	if len(parts) == 1 {
		return append(r, parts[0].ops(widen(result.Changed, v))...), nil
	}
	for _, p := range parts {
		if len(p.uids) > 0 {
			r = append(r, p.ops(widen(view.NewUIDSet(p.uids...), v))...)
		}
	}
	return r, nil
}

// part is what a change is to some readers and not to others: a message gets a new MODSEQ for those who see
// that it has changed.
type part struct {
	sets   []view.SetFlags
	reader id.Account // whose own \Seen sets change, 0: flags of the messages
	uids   []id.UID   // that it changes, where there are several parts
}

type parts []part

// parts returns what the change consists of: \Seen is apart where it is the user's own, and where it
// is nothing to others.
func (c *FlagChange) parts(v *view.View, keywords view.Keywords, table []string) parts {
	reader := v.OwnSeen()
	if reader == 0 && !(c.others && v.Base() == v) {
		return parts{{sets: c.sets(keywords, table)}}
	}
	rest := *c
	rest.rights, rest.Flags = c.rights&^acl.Seen, c.Flags&^view.Seen
	seen := view.SetFlags{Mode: c.Mode, Flags: c.Flags & view.Seen, Own: reader == 0}
	if c.Mode == view.Replace {
		seen.Mode, seen.Flags = view.Add, mayKeep(view.Seen, c.rights)
		if c.Flags&view.Seen == 0 {
			seen.Mode = view.Remove
		}
	}
	all := parts{{sets: rest.sets(keywords, table)}}
	if seen.Flags != 0 {
		all = append(all, part{sets: []view.SetFlags{seen}, reader: reader})
	}
	return all
}

// change tells whether any part changes a message, and notes which.
func (all parts) change(m view.Message) (changes bool) {
	for i := range all {
		p := &all[i]
		if !slices.ContainsFunc(p.sets, func(set view.SetFlags) bool { return set.Changes(m) }) {
			continue
		}
		changes = true
		if len(all) > 1 {
			p.uids = append(p.uids, m.UID)
		}
	}
	return changes
}

// ops are the operations of the part on messages.
func (p *part) ops(uids view.UIDSet) (ops []view.Op) {
	for _, set := range p.sets {
		if set.UIDs = uids; p.reader == 0 {
			ops = append(ops, set)
		} else {
			ops = append(ops, view.SetSeen{Reader: p.reader, Seen: set.Mode == view.Add, UIDs: uids})
		}
	}
	return ops
}

// within leaves of the flags those that a user with the rights may change.
func (c *FlagChange) within(rights acl.Rights) error {
	const any = acl.Seen | acl.Write | acl.DeleteMessages

	named := c.Flags != 0 || len(c.Keywords) > 0
	c.rights, c.Flags = rights, mayKeep(c.Flags, rights)
	if !rights.Has(acl.Write) {
		c.Keywords = nil
	}
	if left := c.Flags != 0 || len(c.Keywords) > 0; named && !left || !rights.Any(any) && c.Mode == view.Replace {
		return &acl.DeniedError{Missing: any &^ rights}
	}
	return nil
}

// sets are the operations of the change. Flags that the user may not change are not replaced, so
// that what replaces the others sets some of them and clears the rest.
func (c *FlagChange) sets(keywords view.Keywords, table []string) []view.SetFlags {
	may := mayKeep(view.AllFlags, c.rights)
	if c.Mode != view.Replace || may == view.AllFlags {
		return []view.SetFlags{{Mode: c.Mode, Flags: c.Flags, Keywords: keywords}}
	}
	add := view.SetFlags{Mode: view.Add, Flags: c.Flags, Keywords: keywords}
	clear := view.SetFlags{Mode: view.Remove, Flags: may &^ c.Flags}
	for i := range table {
		if c.rights.Has(acl.Write) && !keywords.Has(i) {
			clear.Keywords = clear.Keywords.Union(view.KeywordBit(i))
		}
	}
	return []view.SetFlags{add, clear}
}

// widen joins ranges of a set between which v has no message: a set with as few
// ranges as can say which of the messages of v are meant.
func widen(set view.UIDSet, v *view.View) view.UIDSet {
	if len(set.Ranges()) < 2 {
		return set
	}
	all := v.UIDs()
	var wide []view.Range
	for _, r := range set.Ranges() {
		if n := len(wide); n > 0 && all.Rank(wide[n-1].Last) == all.Rank(r.First)-1 {
			wide[n-1].Last = r.Last
		} else {
			wide = append(wide, r)
		}
	}
	return view.UIDSetOf(wide...)
}
