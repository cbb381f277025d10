package view

import (
	"fmt"
	"math"
	"slices"

	"mailstead.dev/store/id"
)

// EncodeSegment returns the folded form of messages, which ascend by UID.
func EncodeSegment(messages []Message) []byte {
	return seal(segmentVersion, appendMessages(nil, messages, 0, 0, true))
}

// DecodeSegment reads what EncodeSegment wrote. An error wraps ErrCorrupt.
func DecodeSegment(data []byte) ([]Message, error) {
	c, err := decodeSegment(data)
	if err != nil {
		return nil, err
	}
	return c.messages(), nil
}

// decodeSegment returns a segment as one chunk of any length.
func decodeSegment(data []byte) (*chunk, error) {
	body, err := unseal(segmentVersion, data)
	if err != nil {
		return nil, err
	}
	d := decoder{data: body}
	c := d.messages(0, 0, true)
	if d.err == nil && len(d.data) > 0 {
		d.fail("%d octets behind its end", len(d.data))
	}
	return c, d.err
}

func (c *chunk) messages() []Message {
	messages := make([]Message, c.len())
	for i := range messages {
		messages[i] = c.message(i)
	}
	return messages
}

// Load returns the view that segments hold, which ascend, folded at modSeq.
// The log from there on is then to be applied. An error wraps ErrCorrupt.
func Load(modSeq id.ModSeq, uidNext id.UID, keywords []string, segments [][]byte) (*View, error) {
	v := New(uidNext, modSeq, keywords)
	var uids rangeBuilder
	for _, data := range segments {
		c, err := decodeSegment(data)
		if err != nil {
			return nil, err
		}
		if err := v.fits(c); err != nil {
			return nil, fmt.Errorf("%w: %s", ErrCorrupt, err)
		}
		for i, uid := range c.fixed.uids {
			uids.add(Range{uid, uid})
			v.counts.add(c.flags[i], c.fixed.sizes[i], 1)
		}
		v.chunks = append(v.chunks, c.split()...)
	}
	v.starts = starts(v.chunks)
	v.uids = uids.set()
	return v, nil
}

// fits says why a segment cannot be the next of the view.
func (v *View) fits(c *chunk) error {
	if c.len() == 0 {
		return nil
	}
	if n := len(v.chunks); n > 0 && c.first() <= v.chunks[n-1].last() {
		return fmt.Errorf("segment with UID %d behind one with %d", c.first(), v.chunks[n-1].last())
	}
	if c.last() >= v.uidNext || c.last() == math.MaxUint32 {
		return fmt.Errorf("segment with UID %d, where the next is %d", c.last(), v.uidNext)
	}
	if c.max > v.modSeq {
		return fmt.Errorf("segment with MODSEQ %d, folded at %d", c.max, v.modSeq)
	}
	var used Keywords
	for _, k := range c.keywords {
		used = used.Union(k)
	}
	if !used.within(len(v.keywords)) {
		return fmt.Errorf("segment with a keyword that is not defined")
	}
	return nil
}

// split cuts a chunk into chunks of the usual size, which share its columns.
func (c *chunk) split() []*chunk {
	var parts []*chunk
	for from := 0; from < c.len(); from += chunkSize {
		s := span{from, min(from+chunkSize, c.len())}
		part := &chunk{
			flags:    cut(c.flags, s),
			modSeqs:  cut(c.modSeqs, s),
			shared:   cut(c.shared, s),
			keywords: cut(c.keywords, s),
			fixed: &fixed{
				uids:     cut(c.fixed.uids, s),
				emails:   cut(c.fixed.emails, s),
				internal: cut(c.fixed.internal, s),
				zones:    cut(c.fixed.zones, s),
				saved:    cut(c.fixed.saved, s),
				sizes:    cut(c.fixed.sizes, s),
			},
		}
		part.max = slices.Max(part.modSeqs)
		if slices.Equal(part.shared, part.modSeqs) {
			part.shared = nil
		}
		if slices.Min(part.modSeqs) == part.max {
			part.modSeqs = nil
		}
		if !slices.ContainsFunc(part.keywords, func(k Keywords) bool { return k != Keywords{} }) {
			part.keywords = nil
		}
		parts = append(parts, part)
	}
	return parts
}

// cut returns part of a column; appending to it copies.
func cut[T any](col []T, s span) []T {
	if col == nil {
		return nil
	}
	return col[s.from:s.to:s.to]
}
