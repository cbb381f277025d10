package view

import (
	"slices"
	"sync/atomic"

	"mailstead.dev/store/id"
)

// A view as a reader has it who does not own the mailbox: the owner's view, and what is the
// reader's own, at one MODSEQ. Chunks are made of the owner's, one of each, and stay while both do.

// As returns the view as a reader has it, whose overlay is at the same MODSEQ.
func (v *View) As(reader id.Account, o Overlay) *View { return v.as(reader, o, nil, UIDSet{}) }

// as is As with what the reader had before, nil for nothing, where the overlay differs from that before in touched alone.
func (v *View) as(reader id.Account, o Overlay, before *View, touched UIDSet) *View {
	r := *v
	r.base, r.reader, r.overlay = v, reader, &o
	r.firstUnseen = new(atomic.Int64)
	if o.shared {
		return &r
	}
	r.chunks, r.unseen = make([]*chunk, len(v.chunks)), make([]int, len(v.chunks))
	r.counts.Unseen = 0
	k := 0 // of the chunks before
	for i, c := range v.chunks {
		if before != nil && !before.overlay.shared {
			for k < len(before.chunks) && before.chunks[k].last() < c.first() {
				k++
			}
			if k < len(before.chunks) && before.base.chunks[k] == c && touched.Intersect(UIDSetOf(Range{c.first(), c.last()})).Empty() {
				r.chunks[i], r.unseen[i] = before.chunks[k], before.unseen[k]
			}
		}
		if r.chunks[i] == nil {
			r.chunks[i], r.unseen[i] = o.over(c)
		}
		r.counts.Unseen += int64(r.unseen[i])
	}
	return &r
}

// over returns what a chunk of the owner's is to the reader, and how many messages of it are not seen.
func (o *Overlay) over(c *chunk) (*chunk, int) {
	r := &chunk{fixed: c.fixed, keywords: c.keywords, flags: slices.Clone(c.flags), modSeqs: c.modSeqs, max: c.max}
	for i := range r.flags {
		r.flags[i] &^= Seen
	}
	if c.shared != nil {
		r.modSeqs, r.max = c.shared, slices.Max(c.shared)
	}
	unseen := c.len()
	owned := false // modSeqs
	first, _ := slices.BinarySearchFunc(o.marks, c.first(), func(m Mark, uid id.UID) int {
		if m.Last < uid {
			return -1
		}
		return 1
	})
	i := 0
	for _, m := range o.marks[first:] {
		if m.First > c.last() {
			break
		}
		for i = c.seek(i, m.First); i < c.len() && c.fixed.uids[i] <= m.Last; i++ {
			if m.Seen {
				r.flags[i] |= Seen
				unseen--
			}
			if m.At <= r.modSeq(i) {
				continue
			}
			if !owned {
				owned = true
				if r.modSeqs == nil {
					r.spreadModSeqs()
				} else {
					r.modSeqs = slices.Clone(r.modSeqs)
				}
			}
			r.modSeqs[i] = m.At
		}
	}
	if owned {
		r.max = slices.Max(r.modSeqs)
	}
	return r, unseen
}

// Base returns the owner's view, which is v itself unless it is another reader's.
func (v *View) Base() *View {
	if v.base == nil {
		return v
	}
	return v.base
}

// OwnSeen returns the reader whose \Seen is their own in this view, 0 where it is a flag of the messages like others.
func (v *View) OwnSeen() id.Account {
	if v.base == nil || v.overlay.shared {
		return 0
	}
	return v.reader
}

// Gone returns a message that was the owner's as the reader saw it, of whom less is known the longer it has gone.
func (v *View) Gone(m Message) Message {
	if v.OwnSeen() == 0 {
		return m
	}
	mark := v.overlay.at(m.UID)
	m.ModSeq, m.SharedModSeq = max(m.sharedModSeq(), mark.At), 0
	if m.Flags &^= Seen; mark.Seen {
		m.Flags |= Seen
	}
	return m
}

// Over returns the reader's view after records, as ApplyAll does, where the owner's view after them is known.
func (v *View) Over(base *View, records ...Record) *View {
	o := *v.overlay
	var touched UIDSet
	for i, r := range records {
		next, more := o.apply(v.reader, v.modSeq+1+id.ModSeq(i), r)
		o, touched = next, touched.Union(more)
	}
	return base.as(v.reader, o, v, touched)
}

// applyAs is ApplyAll of a reader's view.
func (v *View) applyAs(m id.ModSeq, records []Record) (*View, error) {
	base, err := v.base.ApplyAll(m, records...)
	if err != nil || base == v.base {
		return v, err
	}
	return v.Over(base, records...), nil
}

// ownWeight is what a reader's view takes besides the owner's.
func (v *View) ownWeight() int {
	weight := 250 + v.overlay.weight() + 16*len(v.unseen)
	if v.overlay.shared {
		return weight
	}
	for i, c := range v.chunks {
		weight += 184 + len(c.flags)
		if of := v.base.chunks[i]; len(c.modSeqs) > 0 && !same(c.modSeqs, of.modSeqs) && !same(c.modSeqs, of.shared) {
			weight += 8 * len(c.modSeqs)
		}
	}
	return weight
}

// same tells whether two columns are one.
func same(a, b []id.ModSeq) bool { return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] }
