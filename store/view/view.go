package view

import (
	"iter"
	"slices"
	"sort"
	"sync/atomic"

	"mailstead.dev/store/id"
)

// View is a mailbox at one MODSEQ. It never changes, and may be shared freely.
type View struct {
	modSeq   id.ModSeq
	uidNext  id.UID
	keywords []string
	chunks   []*chunk // none is empty
	starts   []int    // starts[i]: messages in chunks[:i]; one more than there are chunks
	uids     UIDSet
	counts   Counts

	// Of a view as a reader has it who does not own the mailbox (As):
	base    *View // the owner's
	reader  id.Account
	overlay *Overlay
	unseen  []int // in each chunk

	// firstUnseen is what FirstUnseen has found plus one, 0 before that.
	firstUnseen *atomic.Int64
}

// New returns the empty view of a mailbox.
func New(uidNext id.UID, modSeq id.ModSeq, keywords []string) *View {
	return &View{modSeq: modSeq, uidNext: uidNext, keywords: keywords, starts: []int{0}, firstUnseen: new(atomic.Int64)}
}

// ModSeq returns the MODSEQ of the last change of the mailbox, its HIGHESTMODSEQ.
func (v *View) ModSeq() id.ModSeq { return v.modSeq }

// UIDNext returns the UID that the next message gets at least.
func (v *View) UIDNext() id.UID { return v.uidNext }

// Len returns the number of messages.
func (v *View) Len() int { return v.starts[len(v.chunks)] }

// Counts returns the figures of the mailbox.
func (v *View) Counts() Counts { return v.counts }

// FirstUnseen returns the number of the first message without \Seen, counting from 1; 0 if there is none.
func (v *View) FirstUnseen() int {
	if v.counts.Unseen == 0 {
		return 0
	}
	if known := v.firstUnseen.Load(); known > 0 {
		return int(known - 1)
	}
	number := 0
	for k, c := range v.chunks {
		if i := slices.IndexFunc(c.flags, func(f Flags) bool { return f&Seen == 0 }); i >= 0 {
			number = v.starts[k] + i + 1
			break
		}
	}
	v.firstUnseen.Store(int64(number + 1))
	return number
}

// Keywords returns the keyword table, which must not be changed.
func (v *View) Keywords() []string { return v.keywords }

// UIDs returns the UIDs of all messages.
func (v *View) UIDs() UIDSet { return v.uids }

// At returns the message with number i+1: i counts from 0, by ascending UID.
func (v *View) At(i int) Message {
	k := sort.SearchInts(v.starts, i+1) - 1
	return v.chunks[k].message(i - v.starts[k])
}

// Find returns the message with this UID, if there is one.
func (v *View) Find(uid id.UID) (Message, bool) {
	k := find(v.chunks, 0, uid)
	if k == len(v.chunks) {
		return Message{}, false
	}
	c := v.chunks[k]
	if i := c.seek(0, uid); c.fixed.uids[i] == uid {
		return c.message(i), true
	}
	return Message{}, false
}

// All yields all messages, by ascending UID.
func (v *View) All() iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for _, c := range v.chunks {
			for i := range c.len() {
				if !yield(c.message(i)) {
					return
				}
			}
		}
	}
}

// In yields those messages of set that exist, by ascending UID.
func (v *View) In(set UIDSet) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for k, span := range spans(v.chunks, set) {
			for i := span.from; i < span.to; i++ {
				if !yield(v.chunks[k].message(i)) {
					return
				}
			}
		}
	}
}

// Span is a run of messages, as columns. What it returns is the view's, and not to be changed.
type Span struct {
	chunk    *chunk
	from, to int
}

// SpanSize is up to how many messages a Span has.
const SpanSize = chunkSize

// Spans yields the messages whose UIDs are in set, in their order, by columns.
func (v *View) Spans(set UIDSet) iter.Seq[Span] {
	return func(yield func(Span) bool) {
		for k, span := range spans(v.chunks, set) {
			if !yield(Span{v.chunks[k], span.from, span.to}) {
				return
			}
		}
	}
}

// Len returns how many messages there are.
func (s Span) Len() int { return s.to - s.from }

// Message returns the i-th.
func (s Span) Message(i int) Message { return s.chunk.message(s.from + i) }

// UIDs returns those of the messages.
func (s Span) UIDs() []id.UID { return s.chunk.fixed.uids[s.from:s.to] }

// Flags returns those of the messages.
func (s Span) Flags() []Flags { return s.chunk.flags[s.from:s.to] }

// Sizes returns those of the messages, in octets.
func (s Span) Sizes() []int64 { return s.chunk.fixed.sizes[s.from:s.to] }

// InternalDate returns that of the i-th message, in seconds after the epoch, and how many seconds its zone is ahead of UTC.
func (s Span) InternalDate(i int) (unix, offset int64) {
	f := s.chunk.fixed
	return f.internal[s.from+i], 60 * int64(f.zone(s.from+i))
}

// ChangedSince yields the messages with a MODSEQ above since, by ascending UID.
func (v *View) ChangedSince(since id.ModSeq) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for _, m := range v.changedSince(since) {
			if !yield(m) {
				return
			}
		}
	}
}

// changedSince is ChangedSince with the index of each message.
func (v *View) changedSince(since id.ModSeq) iter.Seq2[int, Message] {
	return func(yield func(int, Message) bool) {
		for k, c := range v.chunks {
			if c.max <= since {
				continue
			}
			for i := range c.len() {
				if c.modSeq(i) > since && !yield(v.starts[k]+i, c.message(i)) {
					return
				}
			}
		}
	}
}

// Weight returns how many bytes of memory the view takes, about, counting what
// it shares with others; but of a reader's not what is the owner's.
func (v *View) Weight() int {
	if v.base != nil {
		return v.ownWeight()
	}
	weight := 200 + 16*len(v.chunks) + 12*len(v.uids.ranges)
	for _, c := range v.chunks {
		weight += c.weight()
	}
	for _, k := range v.keywords {
		weight += 16 + len(k)
	}
	return weight
}

// span is the messages [from, to) of a chunk.
type span struct{ from, to int }

// spans yields where the messages of set lie: the index of a chunk and a span
// that is not empty, ascending.
func spans(chunks []*chunk, set UIDSet) iter.Seq2[int, span] {
	return func(yield func(int, span) bool) {
		k, i := 0, 0
		for _, r := range set.ranges {
			for {
				if k < len(chunks) && chunks[k].last() < r.First {
					k, i = find(chunks, k, r.First), 0
				}
				if k == len(chunks) {
					return
				}
				c := chunks[k]
				from := c.seek(i, r.First)
				i = from
				if c.last() <= r.Last {
					i = c.len()
				} else if c.fixed.uids[from] <= r.Last {
					i = c.seek(from, r.Last+1) // r.Last is below another UID: no overflow
				}
				if from < i && !yield(k, span{from, i}) {
					return
				}
				if i < c.len() {
					break // the range ends in this chunk
				}
				k, i = k+1, 0
				if k == len(chunks) {
					return
				}
			}
		}
	}
}
