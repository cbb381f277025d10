package view

import (
	"slices"

	"mailstead.dev/store/id"
)

// chunkSize is up to how many messages a chunk holds.
const chunkSize = 1024

// chunk is a run of messages, as columns. Chunks are shared by views and never
// change once their view is published; see builder.
type chunk struct {
	fixed    *fixed
	flags    []Flags
	modSeqs  []id.ModSeq // nil: max, for all
	shared   []id.ModSeq // what others than the owner see; nil: the same, for all
	keywords []Keywords  // nil: none, for all
	max      id.ModSeq   // no message has a higher one
}

// fixed are the columns that stay as they are for as long as a message exists.
type fixed struct {
	uids     []id.UID
	emails   []id.Email
	internal []int64 // seconds after the epoch
	zones    []int16 // minutes; nil: 0, for all
	saved    []int64 // seconds after the epoch
	sizes    []int64
}

func (c *chunk) len() int      { return len(c.flags) }
func (c *chunk) first() id.UID { return c.fixed.uids[0] }
func (c *chunk) last() id.UID  { return c.fixed.uids[len(c.fixed.uids)-1] }
func (c *chunk) weight() int {
	return c.fixed.weight() + len(c.flags) + 8*len(c.modSeqs) + 8*len(c.shared) + 16*len(c.keywords) + 184
}
func (f *fixed) weight() int { return 36*len(f.uids) + 2*len(f.zones) }
func (f *fixed) len() int    { return len(f.uids) }
func (f *fixed) zone(i int) int16 {
	if f.zones == nil {
		return 0
	}
	return f.zones[i]
}

func (c *chunk) modSeq(i int) id.ModSeq {
	if c.modSeqs == nil {
		return c.max
	}
	return c.modSeqs[i]
}

// sharedModSeq is what others than the owner see.
func (c *chunk) sharedModSeq(i int) id.ModSeq {
	if c.shared == nil {
		return c.modSeq(i)
	}
	return c.shared[i]
}

func (c *chunk) keyword(i int) Keywords {
	if c.keywords == nil {
		return Keywords{}
	}
	return c.keywords[i]
}

func (c *chunk) message(i int) Message {
	f := c.fixed
	m := Message{
		UID:          f.uids[i],
		Email:        f.emails[i],
		ModSeq:       c.modSeq(i),
		Flags:        c.flags[i],
		Keywords:     c.keyword(i),
		InternalDate: inZone(f.internal[i], f.zone(i)),
		SaveDate:     inZone(f.saved[i], 0),
		Size:         f.sizes[i],
	}
	if c.shared != nil && c.shared[i] != m.ModSeq {
		m.SharedModSeq = c.shared[i]
	}
	return m
}

// seek returns the index of the first message from i on with at least this UID.
func (c *chunk) seek(i int, uid id.UID) int {
	n, _ := slices.BinarySearch(c.fixed.uids[i:], uid)
	return i + n
}

// find returns the index of the first chunk from i on that ends at or behind uid.
func find(chunks []*chunk, i int, uid id.UID) int {
	n, _ := slices.BinarySearchFunc(chunks[i:], uid, func(c *chunk, uid id.UID) int {
		if c.last() < uid {
			return -1
		}
		return 1
	})
	return i + n
}

// The rest changes chunks, and is for a builder that owns what it changes.

// add puts m behind the messages of c, with this MODSEQ.
func (c *chunk) add(m *Message, modSeq id.ModSeq) {
	n := c.len()
	if c.modSeqs == nil && c.max != modSeq && n > 0 {
		c.spreadModSeqs()
	}
	if c.modSeqs != nil {
		c.modSeqs = append(c.modSeqs, modSeq)
	}
	if c.shared != nil {
		c.shared = append(c.shared, modSeq)
	}
	c.max = max(c.max, modSeq)
	if c.keywords == nil && m.Keywords != (Keywords{}) {
		c.keywords = make([]Keywords, n, n+1)
	}
	if c.keywords != nil {
		c.keywords = append(c.keywords, m.Keywords)
	}
	c.flags = append(c.flags, m.Flags)
	c.fixed.add(m)
}

func (c *chunk) spreadModSeqs() {
	c.modSeqs = make([]id.ModSeq, c.len())
	for i := range c.modSeqs {
		c.modSeqs[i] = c.max
	}
}

// keepShared makes what others see a column of its own, before what the owner sees changes.
func (c *chunk) keepShared() {
	if c.shared != nil {
		return
	}
	c.shared = make([]id.ModSeq, c.len())
	for i := range c.shared {
		c.shared[i] = c.modSeq(i)
	}
}

func (f *fixed) add(m *Message) {
	zone := zoneOf(m.InternalDate)
	if f.zones == nil && zone != 0 {
		f.zones = make([]int16, f.len(), f.len()+1)
	}
	if f.zones != nil {
		f.zones = append(f.zones, zone)
	}
	f.uids = append(f.uids, m.UID)
	f.emails = append(f.emails, m.Email)
	f.internal = append(f.internal, m.InternalDate.Unix())
	f.saved = append(f.saved, m.SaveDate.Unix())
	f.sizes = append(f.sizes, m.Size)
}

// join returns the messages of a and then those of b, as a chunk of its own.
func join(a, b *chunk) *chunk {
	n := a.len() + b.len()
	c := &chunk{
		flags: slices.Concat(a.flags, b.flags),
		max:   max(a.max, b.max),
		fixed: &fixed{
			uids:     slices.Concat(a.fixed.uids, b.fixed.uids),
			emails:   slices.Concat(a.fixed.emails, b.fixed.emails),
			internal: slices.Concat(a.fixed.internal, b.fixed.internal),
			saved:    slices.Concat(a.fixed.saved, b.fixed.saved),
			sizes:    slices.Concat(a.fixed.sizes, b.fixed.sizes),
		},
	}
	if a.modSeqs != nil || b.modSeqs != nil || a.max != b.max {
		c.modSeqs = column(n, a, b, (*chunk).modSeq)
	}
	if a.shared != nil || b.shared != nil {
		c.shared = column(n, a, b, (*chunk).sharedModSeq)
	}
	if a.keywords != nil || b.keywords != nil {
		c.keywords = column(n, a, b, (*chunk).keyword)
	}
	if a.fixed.zones != nil || b.fixed.zones != nil {
		c.fixed.zones = column(n, a, b, func(c *chunk, i int) int16 { return c.fixed.zone(i) })
	}
	return c
}

func column[T any](n int, a, b *chunk, value func(*chunk, int) T) []T {
	col := make([]T, 0, n)
	for _, c := range []*chunk{a, b} {
		for i := range c.len() {
			col = append(col, value(c, i))
		}
	}
	return col
}

// without returns the messages of c except those at gone, which ascends, as a
// chunk of its own.
func (c *chunk) without(gone []int) *chunk {
	kept := &chunk{
		flags:    omit(c.flags, gone),
		modSeqs:  omit(c.modSeqs, gone),
		shared:   omit(c.shared, gone),
		keywords: omit(c.keywords, gone),
		max:      c.max,
		fixed: &fixed{
			uids:     omit(c.fixed.uids, gone),
			emails:   omit(c.fixed.emails, gone),
			internal: omit(c.fixed.internal, gone),
			zones:    omit(c.fixed.zones, gone),
			saved:    omit(c.fixed.saved, gone),
			sizes:    omit(c.fixed.sizes, gone),
		},
	}
	return kept
}

func omit[T any](col []T, gone []int) []T {
	if col == nil {
		return nil
	}
	kept := make([]T, 0, len(col)-len(gone))
	from := 0
	for _, i := range gone {
		kept = append(kept, col[from:i]...)
		from = i + 1
	}
	return append(kept, col[from:]...)
}
