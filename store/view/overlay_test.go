package view

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"mailstead.dev/store/id"
)

// readersModel is a mailbox with readers who have a \Seen of their own, as plain lists. Reader 0 is the owner.
type readersModel struct {
	*model
	shared bool
	seen   map[id.Account]map[id.UID]bool
	at     map[id.Account]map[id.UID]id.ModSeq // as each sees it
}

const readers = 3

func newReadersModel(seed uint64) *readersModel {
	m := &readersModel{model: newModel(seed), seen: map[id.Account]map[id.UID]bool{}, at: map[id.Account]map[id.UID]id.ModSeq{}}
	for r := range id.Account(readers + 1) {
		m.seen[r], m.at[r] = map[id.UID]bool{}, map[id.UID]id.ModSeq{}
	}
	return m
}

// touch gives a message the MODSEQ of the change for a reader.
func (m *readersModel) touch(r id.Account, uid id.UID) { m.at[r][uid] = m.modSeq }

func (m *readersModel) touchAll(uid id.UID) {
	for r := range m.at {
		m.touch(r, uid)
	}
}

// change makes a change, and returns its record.
func (m *readersModel) change() Record {
	if len(m.messages) == 0 || m.rnd.IntN(3) == 0 {
		return m.common()
	}
	m.modSeq++
	reader, seen := id.Account(m.rnd.IntN(readers+1)), m.rnd.IntN(3) > 0
	switch {
	case m.rnd.IntN(12) == 0:
		return Record{m.mode(!m.shared)}
	case m.shared:
		reader = 0
		fallthrough
	case reader == 0:
		set := SetFlags{UIDs: m.randomSet(), Mode: Remove, Flags: Seen, Own: !m.shared}
		if seen {
			set.Mode = Add
		}
		for i := range m.messages {
			a := &m.messages[i]
			if !set.UIDs.Contains(a.UID) {
				continue
			}
			a.Flags = set.flags(a.Flags)
			m.seen[0][a.UID] = seen
			if m.touch(0, a.UID); m.shared {
				m.touchAll(a.UID)
			}
		}
		return Record{set}
	}
	op := SetSeen{Reader: reader, Seen: seen, UIDs: m.randomSet().Intersect(UIDSetOf(Range{1, m.uidNext - 1}))}
	for _, a := range m.messages {
		if op.UIDs.Contains(a.UID) {
			m.seen[reader][a.UID] = seen
			m.touch(reader, a.UID)
		}
	}
	return Record{op}
}

// common makes a change that concerns all: that of the model without readers.
func (m *readersModel) common() Record {
	r := m.step()
	for _, a := range m.messages {
		m.seen[0][a.UID] = a.Flags&Seen != 0
		if a.ModSeq == m.modSeq { // step has set no other
			m.touchAll(a.UID)
		}
	}
	if added, ok := r[0].(Append); ok && !m.shared && len(added.Messages) > 0 && m.uids().Contains(added.Messages[0].UID) {
		reader, uid := id.Account(1+m.rnd.IntN(readers)), added.Messages[0].UID
		m.seen[reader][uid] = true
		r = append(r, SetSeen{reader, true, NewUIDSet(uid)})
	}
	return r
}

func (m *readersModel) mode(shared bool) SeenMode {
	var seen []id.UID
	m.shared = shared
	for _, a := range m.messages {
		m.touchAll(a.UID)
		if m.seen[0][a.UID] {
			seen = append(seen, a.UID)
		}
		for r := range m.seen {
			m.seen[r][a.UID] = m.seen[0][a.UID]
		}
	}
	return SeenMode{shared, NewUIDSet(seen...)}
}

// as is the mailbox as a reader has it.
func (m *readersModel) as(r id.Account) *model {
	own := *m.model
	own.messages = slices.Clone(m.messages)
	for i := range own.messages {
		a := &own.messages[i]
		a.ModSeq, a.SharedModSeq = m.at[r][a.UID], 0
		if r > 0 && !m.shared {
			if a.Flags &^= Seen; m.seen[r][a.UID] {
				a.Flags |= Seen
			}
		}
	}
	return &own
}

// What each reader sees is their own, whether their view was followed record by record, followed beside that of the owner, or made
// of the owner's and what was folded at some time, and stored.
func TestReaders(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newReadersModel(seed)
			owners := New(1, 1, nil)
			followed, folded := map[id.Account]*View{}, map[id.Account]Overlay{}
			for r := id.Account(1); r <= readers; r++ {
				followed[r] = owners.As(r, Overlay{})
			}
			for range 200 {
				record := m.change()
				base := id.UID(0)
				if m.rnd.IntN(2) == 0 {
					base = owners.UIDNext() - 1
				}
				record, err := DecodeRecord(record.Encode(base, 0), base, 0)
				if err != nil {
					t.Fatal(err)
				}
				now, err := owners.Apply(owners.ModSeq()+1, record)
				if err != nil {
					t.Fatal(err)
				}
				for r, v := range followed {
					folded[r] = folded[r].Apply(r, now.ModSeq(), record)
					if m.rnd.IntN(2) == 0 {
						v = v.Over(now, record)
					} else if v, err = v.Apply(now.ModSeq(), record); err != nil {
						t.Fatal(err)
					}
					followed[r] = v
					m.as(r).check(t, v)
				}
				owners = now
				if m.rnd.IntN(10) == 0 {
					owners = restore(t, owners)
					for r, o := range folded {
						folded[r] = restoreOverlay(t, m.rnd, o, owners, followed[r])
					}
				}
				for r, o := range folded {
					m.as(r).check(t, owners.As(r, o))
				}
				if got := m.as(0); !slices.EqualFunc(slices.Collect(owners.All()), got.messages, func(a, b Message) bool {
					a.SharedModSeq = 0
					return a == b
				}) {
					t.Fatal("the owner's view differs")
				}
			}
		})
	}
}

// restore returns a view as it comes back from what is stored.
func restore(t *testing.T, v *View) *View {
	t.Helper()
	var segments [][]byte
	if v.Len() > 0 {
		segments = append(segments, EncodeSegment(slices.Collect(v.All())))
	}
	again, err := Load(v.ModSeq(), v.UIDNext(), v.Keywords(), segments)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// restoreOverlay folds an overlay, and returns it as it comes back from what is stored.
func restoreOverlay(t *testing.T, rnd *rand.Rand, o Overlay, owners, reader *View) Overlay {
	t.Helper()
	if o.shared {
		return o // of which nothing is stored
	}
	small := o.Fold(owners)
	if rnd.IntN(2) == 0 {
		small = small.Fold(owners)
	}
	if len(small.marks) > owners.Len() {
		t.Fatalf("%d marks folded to %d others", len(o.marks), len(small.marks))
	}
	data := small.Encode()
	again, err := DecodeOverlay(data)
	if err != nil || !slices.Equal(again.marks, small.marks) {
		t.Fatalf("%v comes back as %v, %v", small, again, err)
	}
	return again
}

// Of the chunks of a reader's view those that a change has not touched are the same as before.
func TestReadersShareChunks(t *testing.T) {
	v := New(1, 1, nil)
	v, err := v.Apply(2, Record{Append{someMessages(3 * chunkSize)}})
	if err != nil {
		t.Fatal(err)
	}
	before := v.As(7, Overlay{})
	now, err := before.Apply(3, Record{SetSeen{Reader: 7, Seen: true, UIDs: NewUIDSet(v.At(5).UID)}, SetSeen{Reader: 8, Seen: true, UIDs: NewUIDSet(v.At(2000).UID)}})
	if err != nil {
		t.Fatal(err)
	}
	if now.chunks[0] == before.chunks[0] || now.chunks[1] != before.chunks[1] || now.chunks[2] != before.chunks[2] {
		t.Error("the wrong chunks are others")
	}
	if v.chunks[1].fixed != now.chunks[1].fixed || now.Weight() > v.Weight()/4 {
		t.Errorf("a reader's view weighs %d, the owner's %d", now.Weight(), v.Weight())
	}
	if now.Counts().Unseen != v.Counts().Messages-1 || v.Counts() != now.Base().Counts() {
		t.Errorf("counts %+v", now.Counts())
	}
}

// A reader who reads one message after the other costs few octets each, and nothing when all is read.
func TestOverlaySize(t *testing.T) {
	const n = 10_000
	v := New(1, 1, nil)
	v, err := v.Apply(2, Record{Append{someMessages(n)}})
	if err != nil {
		t.Fatal(err)
	}
	var o Overlay
	for i := range n {
		o = o.Apply(1, id.ModSeq(i+3), Record{SetSeen{Reader: 1, Seen: true, UIDs: NewUIDSet(v.At(i).UID)}})
	}
	if got := len(o.Fold(v).Encode()); got > n/50 {
		t.Errorf("%d octets for %d messages", got, n)
	}
	o = o.Apply(1, n+3, Record{SetSeen{Reader: 1, Seen: true, UIDs: UIDSetOf(Range{1, v.UIDNext()})}})
	if got := len(o.Fold(v).Encode()); got > 20 {
		t.Errorf("%d octets where all is read", got)
	}
}

func FuzzDecodeOverlay(f *testing.F) {
	o := Overlay{marks: []Mark{{Range{1, 3}, 7, true}, {Range{4, 4}, 0, false}, {Range{9, 12}, 8, true}}}
	sealed := o.Encode()
	f.Add(sealed[2 : len(sealed)-4])
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := DecodeOverlay(seal(overlayVersion, body))
		if err != nil {
			return
		}
		again, err := DecodeOverlay(o.Encode())
		if err != nil || !slices.Equal(o.marks, again.marks) {
			t.Errorf("%v comes back as %v, %v", o, again, err)
		}
	})
}
