package view

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"

	"mailstead.dev/store/id"
)

// tailSize is up to how many messages of the last chunk are copied so that
// another can be added to it.
const tailSize = 128

// Apply returns the view after the change r, which must be that with the next
// MODSEQ. An error wraps ErrMisfit, and says in what the record does not fit.
func (v *View) Apply(m id.ModSeq, r Record) (*View, error) { return v.ApplyAll(m, r) }

// ApplyAll returns the view after several changes, the first of which has
// MODSEQ m and the others those that follow. It costs less than applying one
// after the other.
func (v *View) ApplyAll(m id.ModSeq, records ...Record) (*View, error) {
	if m != v.modSeq+1 {
		return nil, fmt.Errorf("%w: it has MODSEQ %d, the view %d", ErrMisfit, m, v.modSeq)
	}
	if len(records) == 0 {
		return v, nil
	}
	if v.base != nil {
		return v.applyAs(m, records)
	}
	b := builder{View: *v, mine: make(map[*chunk]*ownership)}
	b.chunks = slices.Clone(v.chunks)
	for _, r := range records {
		b.modSeq++
		for _, op := range r {
			if err := b.apply(op); err != nil {
				return nil, fmt.Errorf("%w: MODSEQ %d: %s", ErrMisfit, b.modSeq, err)
			}
		}
	}
	return b.view(), nil
}

// builder makes a view out of another. It changes only chunks that it has made
// itself; mine says which, and which of their columns.
type builder struct {
	View
	mine    map[*chunk]*ownership
	arrived rangeBuilder
	gone    []id.UID
}

// ownership says which columns of a chunk that is the builder's own are its
// own too; flags, modSeqs and shared always are.
type ownership struct{ fixed, keywords bool }

func (b *builder) apply(op Op) error {
	switch op := op.(type) {
	case Append:
		return b.append(op)
	case SetFlags:
		return b.setFlags(op)
	case SetSeen:
		return b.setSeen(op)
	case SeenMode:
		b.setSeenMode()
		return nil
	case Expunge:
		return b.expunge(op)
	case DefineKeyword:
		return b.defineKeyword(op)
	}
	return fmt.Errorf("unknown operation %T", op)
}

func (b *builder) append(op Append) error {
	for i := range op.Messages {
		m := &op.Messages[i]
		if m.UID < b.uidNext || m.UID == math.MaxUint32 { // there is always a next one
			return fmt.Errorf("append of UID %d, where the next is %d", m.UID, b.uidNext)
		}
		if !m.Keywords.within(len(b.keywords)) {
			return fmt.Errorf("append of UID %d with a keyword that is not defined", m.UID)
		}
		b.tail().add(m, b.modSeq)
		b.uidNext = m.UID + 1
		b.counts.add(m.Flags, m.Size, 1)
		b.arrived.add(Range{m.UID, m.UID})
	}
	return nil
}

// tail returns the last chunk, to be added to.
func (b *builder) tail() *chunk {
	n := len(b.chunks)
	if n > 0 {
		c := b.chunks[n-1]
		o := b.mine[c]
		if o != nil && o.fixed && c.len() < chunkSize || c.len() < tailSize {
			c = b.own(n - 1)
			if o := b.mine[c]; !o.fixed {
				f := *c.fixed
				f.uids = slices.Clone(f.uids)
				f.emails = slices.Clone(f.emails)
				f.internal = slices.Clone(f.internal)
				f.zones = slices.Clone(f.zones)
				f.saved = slices.Clone(f.saved)
				f.sizes = slices.Clone(f.sizes)
				c.fixed = &f
				o.fixed = true
			}
			b.ownKeywords(c)
			return c
		}
	}
	c := &chunk{fixed: &fixed{}}
	b.mine[c] = &ownership{fixed: true, keywords: true}
	b.chunks = append(b.chunks, c)
	return c
}

// own makes the chunk at k the builder's own, without its fixed columns and keywords.
func (b *builder) own(k int) *chunk {
	c := b.chunks[k]
	if b.mine[c] != nil {
		return c
	}
	mine := *c
	mine.flags = slices.Clone(c.flags)
	mine.modSeqs = slices.Clone(c.modSeqs)
	mine.shared = slices.Clone(c.shared)
	b.mine[&mine] = &ownership{}
	b.chunks[k] = &mine
	return &mine
}

func (b *builder) ownKeywords(c *chunk) {
	if o := b.mine[c]; !o.keywords {
		c.keywords = slices.Clone(c.keywords)
		o.keywords = true
	}
}

func (b *builder) setFlags(op SetFlags) error {
	if op.Mode > Replace || op.Flags&^AllFlags != 0 {
		return fmt.Errorf("flags that there are not")
	}
	if !op.Keywords.within(len(b.keywords)) {
		return fmt.Errorf("flags with a keyword that is not defined")
	}
	if op.Own && (op.Mode == Replace || op.Flags != Seen || op.Keywords != Keywords{}) {
		return fmt.Errorf("more than \\Seen as the owner's own")
	}
	found := false
	for k, s := range spans(b.chunks, op.UIDs) {
		b.setChunkFlags(b.own(k), s, &op)
		found = true
	}
	if !found {
		return fmt.Errorf("flags of messages %s, none of which exists", abbreviate(op.UIDs))
	}
	return nil
}

// setSeen changes nothing here: it is a reader's (View.As).
func (b *builder) setSeen(op SetSeen) error {
	for range spans(b.chunks, op.UIDs) {
		return nil
	}
	return fmt.Errorf("\\Seen of messages %s, none of which exists", abbreviate(op.UIDs))
}

// setSeenMode gives all messages the MODSEQ: what any reader sees of them may be another now.
func (b *builder) setSeenMode() {
	for k := range b.chunks {
		c := b.own(k)
		c.modSeqs, c.shared, c.max = nil, nil, b.modSeq
	}
}

// setChunkFlags sets flags in a chunk that is the builder's own.
func (b *builder) setChunkFlags(c *chunk, s span, op *SetFlags) {
	whole := s.from == 0 && s.to == c.len()
	switch {
	case op.Own:
		c.keepShared()
	case whole:
		c.shared = nil
	case c.shared != nil:
		for i := s.from; i < s.to; i++ {
			c.shared[i] = b.modSeq
		}
	}
	if whole {
		c.modSeqs = nil
	} else {
		if c.modSeqs == nil {
			c.spreadModSeqs()
		}
		for i := s.from; i < s.to; i++ {
			c.modSeqs[i] = b.modSeq
		}
	}
	c.max = b.modSeq
	for i := s.from; i < s.to; i++ {
		old := c.flags[i]
		c.flags[i] = op.flags(old)
		if (old^c.flags[i])&(Seen|Deleted) != 0 {
			b.counts.add(old, c.fixed.sizes[i], -1)
			b.counts.add(c.flags[i], c.fixed.sizes[i], 1)
		}
	}
	if op.Keywords == (Keywords{}) && (op.Mode != Replace || c.keywords == nil) {
		return
	}
	if c.keywords == nil {
		if op.Mode == Remove {
			return
		}
		c.keywords = make([]Keywords, c.len())
		b.mine[c].keywords = true
	}
	b.ownKeywords(c)
	for i := s.from; i < s.to; i++ {
		c.keywords[i] = op.keywords(c.keywords[i])
	}
}

func (b *builder) expunge(op Expunge) error {
	k, i := 0, 0
	var gone []int // in the chunk at k
	for n := range op.Messages {
		m := &op.Messages[n]
		if n > 0 && m.UID <= op.Messages[n-1].UID {
			return fmt.Errorf("expunge of UID %d behind %d", m.UID, op.Messages[n-1].UID)
		}
		if k < len(b.chunks) && b.chunks[k].last() < m.UID {
			b.remove(k, gone)
			k, i, gone = find(b.chunks, k, m.UID), 0, gone[:0]
		}
		if k == len(b.chunks) {
			return fmt.Errorf("expunge of UID %d, which does not exist", m.UID)
		}
		c := b.chunks[k]
		i = c.seek(i, m.UID)
		if c.fixed.uids[i] != m.UID || c.fixed.emails[i] != m.Email {
			return fmt.Errorf("expunge of UID %d with email %d, which does not exist", m.UID, m.Email)
		}
		b.counts.add(c.flags[i], c.fixed.sizes[i], -1)
		b.gone = append(b.gone, m.UID)
		gone = append(gone, i)
	}
	b.remove(k, gone)
	return nil
}

// remove takes the messages at gone out of the chunk at k, and the chunk away
// if none is left.
func (b *builder) remove(k int, gone []int) {
	if len(gone) == 0 {
		return
	}
	c := b.chunks[k]
	delete(b.mine, c)
	if len(gone) == c.len() {
		b.chunks = slices.Delete(b.chunks, k, k+1)
		return
	}
	kept := c.without(gone)
	b.mine[kept] = &ownership{fixed: true, keywords: true}
	b.chunks[k] = kept
}

func (b *builder) defineKeyword(op DefineKeyword) error {
	if len(b.keywords) == MaxKeywords {
		return fmt.Errorf("a keyword defined behind the last of %d", MaxKeywords)
	}
	for i, k := range b.keywords {
		if strings.EqualFold(k, op.Name) {
			return fmt.Errorf("keyword %d defined again", i)
		}
	}
	b.keywords = append(slices.Clip(b.keywords), op.Name)
	return nil
}

// view returns what was built; the builder is not used after it.
func (b *builder) view() *View {
	if len(b.arrived.ranges) > 0 || len(b.gone) > 0 {
		b.settle()
		b.starts = starts(b.chunks)
		b.uids = b.uids.Union(b.arrived.set()).Minus(NewUIDSet(b.gone...))
	}
	v := b.View
	v.firstUnseen = new(atomic.Int64)
	return &v
}

// settle joins neighbours that are small, so that there are not many more
// chunks than there have to be. The last one is left as it is: small, so that
// another message is soon added to it.
func (b *builder) settle() {
	settled := b.chunks[:0]
	for i, c := range b.chunks {
		if n := len(settled); n > 0 && i < len(b.chunks)-1 && settled[n-1].len()+c.len() <= chunkSize/2 {
			settled[n-1] = join(settled[n-1], c)
		} else {
			settled = append(settled, c)
		}
	}
	clear(b.chunks[len(settled):])
	b.chunks = settled
}

func starts(chunks []*chunk) []int {
	starts := make([]int, len(chunks)+1)
	for i, c := range chunks {
		starts[i+1] = starts[i] + c.len()
	}
	return starts
}

// abbreviate returns a set in a form that fits an error message.
func abbreviate(s UIDSet) string {
	if text := s.String(); len(text) <= 60 {
		return text
	}
	return fmt.Sprintf("%d:...:%d", s.Min(), s.Max())
}
