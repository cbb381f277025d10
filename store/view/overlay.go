package view

import (
	"encoding/binary"
	"math"
	"slices"

	"mailstead.dev/store/id"
)

// Overlay is the \Seen that a reader who does not own a mailbox has of their own there. It is a value, and
// nothing without the view at the same MODSEQ (As). The zero value is that of who has seen nothing.
type Overlay struct {
	shared bool   // all have the owner's
	marks  []Mark // ascending, disjoint
}

// Mark says that messages are seen, or are not any more.
type Mark struct {
	Range
	At   id.ModSeq // since when; 0: for no less long than all see the message as it is
	Seen bool
}

// NewOverlay returns what readers begin with where all have one \Seen, or each their own.
func NewOverlay(shared bool) Overlay { return Overlay{shared: shared} }

// Apply returns the overlay of a reader after a record with the MODSEQ at.
func (o Overlay) Apply(reader id.Account, at id.ModSeq, r Record) Overlay {
	o, _ = o.apply(reader, at, r)
	return o
}

// apply is Apply, with the UIDs that the record may have changed.
func (o Overlay) apply(reader id.Account, at id.ModSeq, r Record) (Overlay, UIDSet) {
	var touched UIDSet
	for _, op := range r {
		switch op := op.(type) {
		case SetSeen:
			if op.Reader == reader {
				o.marks = paint(o.marks, op.UIDs, at, op.Seen)
				touched = touched.Union(op.UIDs)
			}
		case SeenMode:
			o = Overlay{shared: op.Shared}
			if !op.Shared {
				o.marks = paint(nil, op.Seen, 0, true)
			}
			touched = UIDSetOf(Range{1, math.MaxUint32})
		}
	}
	return o, touched
}

// paint returns marks with those of uids over them.
func paint(marks []Mark, uids UIDSet, at id.ModSeq, seen bool) []Mark {
	b := markBuilder{make([]Mark, 0, len(marks)+2*len(uids.ranges))}
	i := 0
	rest := Mark{} // of a mark that a range ends in
	for _, r := range uids.ranges {
		for {
			if rest.First == 0 {
				if i == len(marks) {
					break
				}
				rest = marks[i]
				i++
			}
			if rest.First < r.First {
				before := rest
				before.Last = min(rest.Last, r.First-1)
				b.add(before)
			}
			if rest.Last > r.Last {
				if rest.First <= r.Last {
					rest.First = r.Last + 1
				}
				break
			}
			rest = Mark{}
		}
		b.add(Mark{r, at, seen})
	}
	if rest.First > 0 {
		b.add(rest)
	}
	for _, m := range marks[i:] {
		b.add(m)
	}
	return b.marks
}

// markBuilder collects marks that ascend.
type markBuilder struct{ marks []Mark }

func (b *markBuilder) add(m Mark) {
	if n := len(b.marks); n > 0 {
		if last := &b.marks[n-1]; last.Last+1 == m.First && last.At == m.At && last.Seen == m.Seen {
			last.Last = m.Last
			return
		}
	}
	b.marks = append(b.marks, m)
}

// Fold returns the overlay as it says the same of the messages of v, the owner's view at the same MODSEQ, with
// as few marks as can: those of what is gone go.
func (o Overlay) Fold(v *View) Overlay {
	folded := Overlay{shared: o.shared}
	var before id.UID // the message before
	for _, m := range o.marks {
		for msg := range v.In(UIDSetOf(m.Range)) {
			one := Mark{Range{msg.UID, msg.UID}, m.At, m.Seen}
			if one.At <= msg.sharedModSeq() {
				one.At = 0
			}
			if n := len(folded.marks); n > 0 && one.At == folded.marks[n-1].At && one.Seen == folded.marks[n-1].Seen &&
				folded.marks[n-1].Last == before && v.uids.Rank(one.First) == v.uids.Rank(before)+1 {
				folded.marks[n-1].Last = one.Last // over what is missing between
			} else if one.Seen || one.At > 0 {
				folded.marks = append(folded.marks, one)
			}
			before = msg.UID
		}
	}
	return folded
}

// at returns what is marked of a message, the zero mark if nothing is.
func (o *Overlay) at(uid id.UID) Mark {
	i, _ := slices.BinarySearchFunc(o.marks, uid, func(m Mark, uid id.UID) int {
		if m.Last < uid {
			return -1
		}
		return 1
	})
	if i < len(o.marks) && o.marks[i].First <= uid {
		return o.marks[i]
	}
	return Mark{}
}

func (o *Overlay) weight() int { return 24 * len(o.marks) }

// Marks returns what is marked, some of which may be gone: the marks, which ascend and must not be changed.
func (o Overlay) Marks() []Mark { return o.marks }

// overlayVersion begins the stored form of an overlay, which is sealed as records are.
const overlayVersion = 0x31

// Encode returns the stored form of an overlay, column by column.
func (o Overlay) Encode() []byte {
	b := binary.AppendUvarint(nil, uint64(len(o.marks)))
	var last id.UID
	for _, m := range o.marks {
		b = binary.AppendUvarint(b, uint64(m.First-last))
		last = m.Last
	}
	for _, m := range o.marks {
		b = binary.AppendUvarint(b, uint64(m.Last-m.First)<<1|uint64(bit(m.Seen)))
	}
	var at id.ModSeq
	for _, m := range o.marks {
		b = binary.AppendVarint(b, int64(m.At-at))
		at = m.At
	}
	return seal(overlayVersion, b)
}

// DecodeOverlay reads what Encode wrote: a reader's own. An error wraps ErrCorrupt.
func DecodeOverlay(data []byte) (Overlay, error) {
	body, err := unseal(overlayVersion, data)
	if err != nil {
		return Overlay{}, err
	}
	d := decoder{data: body}
	o := Overlay{marks: d.marks()}
	if d.err == nil && len(d.data) > 0 {
		d.fail("%d octets behind its end", len(d.data))
	}
	return o, d.err
}

func (d *decoder) marks() []Mark {
	marks := make([]Mark, d.count(3))
	steps := make([]uint64, len(marks))
	for i := range marks {
		steps[i] = d.uvarint()
	}
	last := uint64(0)
	for i := range marks {
		length := d.uvarint()
		marks[i].Seen = length&1 != 0
		if length >>= 1; steps[i] == 0 || steps[i] > math.MaxUint32-last || length > math.MaxUint32-last-steps[i] {
			d.fail("marks that do not ascend")
			return nil
		}
		first := last + steps[i]
		last = first + length
		marks[i].Range = Range{id.UID(first), id.UID(last)}
	}
	at := int64(0)
	for i := range marks {
		if at += d.varint(); at < 0 {
			d.fail("a mark with MODSEQ %d", at)
			return nil
		}
		marks[i].At = id.ModSeq(at)
	}
	return marks
}
