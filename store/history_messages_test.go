package store_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// shown is what a client knows of a message. Its INTERNALDATE says which it is.
type shown struct {
	Tag, Size int64
	ModSeq    id.ModSeq
	Flags     view.Flags
	Keywords  string // in lower case, sorted
}

// messageSet is what a client, or the model, knows of the messages of a
// mailbox. Each message has a digest, and their sum stands for all: it moves with
// each change, so that a set is compared with another, in another process, without a walk through it.
type messageSet struct {
	by     map[id.UID]summed
	sum    digestSum
	counts view.Counts
}

type summed struct {
	shown
	digest digestSum
}

// digestSum adds up in any order, modulo 2 to the 64th in each half.
type digestSum [2]uint64

func newMessageSet() messageSet { return messageSet{by: make(map[id.UID]summed)} }

func (s *messageSet) clone() messageSet {
	c := *s
	c.by = maps.Clone(s.by)
	return c
}

func (s *messageSet) put(uid id.UID, m shown) {
	s.remove(uid)
	now := summed{m, m.digest(uid)}
	s.by[uid] = now
	s.count(now, 1)
}

func (s *messageSet) remove(uid id.UID) {
	if old, ok := s.by[uid]; ok {
		delete(s.by, uid)
		s.count(old, -1)
	}
}

func (s *messageSet) count(m summed, n int64) {
	for i := range s.sum {
		s.sum[i] += uint64(n) * m.digest[i]
	}
	s.counts.Messages += n
	s.counts.Bytes += n * m.Size
	if m.Flags&view.Seen == 0 {
		s.counts.Unseen += n
	}
	if m.Flags&view.Deleted != 0 {
		s.counts.Deleted += n
		s.counts.DeletedBytes += n * m.Size
	}
}

// digest stands for the messages except for some.
func (s *messageSet) digest(except view.UIDSet) string {
	rest := messageSet{sum: s.sum, counts: s.counts}
	for uid := range except.All() {
		if m, ok := s.by[uid]; ok {
			rest.count(m, -1)
		}
	}
	return fmt.Sprintf("%d %x", rest.counts.Messages, rest.sum)
}

// equal compares message by message.
func (s *messageSet) equal(o messageSet) bool { return maps.Equal(s.by, o.by) && s.sum == o.sum }

func (m shown) digest(uid id.UID) digestSum {
	b := make([]byte, 0, 128)
	for _, n := range []int64{int64(uid), m.Tag, m.Size, int64(m.ModSeq), int64(m.Flags)} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	sum := sha256.Sum256(append(b, m.Keywords...))
	return digestSum{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}

// shower returns a function that says what a client is shown of the messages of a view.
func shower(v *view.View) func(view.Message) shown {
	names := make(map[view.Keywords]string)
	return func(m view.Message) shown {
		keywords, ok := names[m.Keywords]
		if !ok {
			var set []string
			for i, name := range v.Keywords() {
				if m.Keywords.Has(i) {
					set = append(set, name)
				}
			}
			keywords = foldKeywords(set)
			names[m.Keywords] = keywords
		}
		return shown{m.InternalDate.Unix(), m.Size, m.ModSeq, m.Flags, keywords}
	}
}
