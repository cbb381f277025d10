package view

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"mailstead.dev/store/id"
)

// model is a mailbox as a plain list of messages.
type model struct {
	rnd      *rand.Rand
	modSeq   id.ModSeq
	uidNext  id.UID
	email    id.Email
	keywords []string
	messages []Message
	seconds  int64
}

func newModel(seed uint64) *model {
	return &model{rnd: rand.New(rand.NewPCG(seed, 2)), modSeq: 1, uidNext: 1, seconds: 1_700_000_000}
}

func (m *model) randomFlags() Flags { return Flags(m.rnd.IntN(int(AllFlags) + 1)) }

func (m *model) randomKeywords() Keywords {
	var k Keywords
	if len(m.keywords) > 0 && m.rnd.IntN(3) == 0 {
		k = k.Union(KeywordBit(m.rnd.IntN(len(m.keywords))))
	}
	return k
}

// randomSet draws a set with at least one message in it, some of which do not exist.
func (m *model) randomSet() UIDSet {
	uids := []id.UID{m.messages[m.rnd.IntN(len(m.messages))].UID}
	switch m.rnd.IntN(10) {
	case 0:
		return UIDSetOf(Range{1, m.uidNext + 7})
	case 1, 2, 3:
		last := uids[0] + id.UID(m.rnd.IntN(2000))
		return UIDSetOf(Range{uids[0], last})
	}
	for range m.rnd.IntN(20) {
		uids = append(uids, 1+id.UID(m.rnd.IntN(int(m.uidNext))))
	}
	return NewUIDSet(uids...)
}

func (m *model) randomMessages() []Message {
	n := 1 + m.rnd.IntN(3)
	if m.rnd.IntN(20) == 0 {
		n = m.rnd.IntN(3000)
	}
	messages := make([]Message, n)
	for i := range messages {
		m.seconds += int64(m.rnd.IntN(100))
		m.email++
		messages[i] = Message{
			UID:          m.uidNext + id.UID(m.rnd.IntN(2)),
			Email:        m.email - id.Email(m.rnd.IntN(int(m.email))),
			Flags:        m.randomFlags(),
			Keywords:     m.randomKeywords(),
			InternalDate: inZone(m.seconds-int64(m.rnd.IntN(1000)), int16(m.rnd.IntN(2)*60)),
			SaveDate:     inZone(m.seconds, 0),
			Size:         int64(m.rnd.IntN(100000)),
		}
		m.uidNext = messages[i].UID + 1
	}
	return messages
}

// step changes the model, and returns the record of the change.
func (m *model) step() Record {
	m.modSeq++
	var r Record
	for {
		switch op := m.rnd.IntN(10); {
		case op == 0 && len(m.keywords) < MaxKeywords:
			name := fmt.Sprintf("kw%d", len(m.keywords))
			m.keywords = append(slices.Clip(m.keywords), name)
			r = append(r, DefineKeyword{name})
		case op < 3 || len(m.messages) == 0:
			messages := m.randomMessages()
			r = append(r, Append{messages})
			for _, a := range messages {
				a.ModSeq = m.modSeq
				m.messages = append(m.messages, a)
			}
		case op < 8:
			set := SetFlags{UIDs: m.randomSet(), Mode: Mode(m.rnd.IntN(3)), Flags: m.randomFlags(), Keywords: m.randomKeywords()}
			r = append(r, set)
			for i := range m.messages {
				if a := &m.messages[i]; set.UIDs.Contains(a.UID) {
					a.ModSeq, a.Flags, a.Keywords = m.modSeq, set.flags(a.Flags), set.keywords(a.Keywords)
				}
			}
		default:
			set := m.randomSet()
			var gone, kept []Message
			for _, a := range m.messages {
				if set.Contains(a.UID) {
					gone = append(gone, a)
				} else {
					kept = append(kept, a)
				}
			}
			r = append(r, Expunge{gone})
			m.messages = kept
		}
		if m.rnd.IntN(5) != 0 {
			return r
		}
	}
}

func (m *model) uids() UIDSet {
	uids := make([]id.UID, len(m.messages))
	for i := range m.messages {
		uids[i] = m.messages[i].UID
	}
	return NewUIDSet(uids...)
}

func (m *model) counts() Counts {
	var c Counts
	for _, a := range m.messages {
		c.add(a.Flags, a.Size, 1)
	}
	return c
}

func (m *model) check(t *testing.T, v *View) {
	t.Helper()
	if v.ModSeq() != m.modSeq || v.UIDNext() != m.uidNext || v.Len() != len(m.messages) || v.Counts() != m.counts() {
		t.Fatalf("view has MODSEQ %d, UIDNEXT %d, %d messages, %+v; want %d, %d, %d, %+v",
			v.ModSeq(), v.UIDNext(), v.Len(), v.Counts(), m.modSeq, m.uidNext, len(m.messages), m.counts())
	}
	if got := slices.Collect(v.All()); !slices.Equal(got, m.messages) {
		t.Fatalf("All differs: %v, want %v", got, m.messages)
	}
	if !v.UIDs().Equal(m.uids()) {
		t.Fatalf("UIDs = %s, want %s", v.UIDs(), m.uids())
	}
	if !slices.Equal(v.Keywords(), m.keywords) {
		t.Fatalf("Keywords = %q, want %q", v.Keywords(), m.keywords)
	}
	for i, c := range v.chunks {
		if c.len() == 0 || c.len() > chunkSize || v.starts[i+1]-v.starts[i] != c.len() {
			t.Fatalf("chunk %d of %d messages, starts %v", i, c.len(), v.starts)
		}
	}
	if len(v.chunks) > 8+4*len(m.messages)/chunkSize {
		t.Fatalf("%d chunks for %d messages", len(v.chunks), len(m.messages))
	}
	if len(m.messages) == 0 {
		return
	}
	i := m.rnd.IntN(len(m.messages))
	if got := v.At(i); got != m.messages[i] {
		t.Fatalf("At(%d) = %v, want %v", i, got, m.messages[i])
	}
	if got, ok := v.Find(m.messages[i].UID); !ok || got != m.messages[i] {
		t.Fatalf("Find(%d) = %v, %v", m.messages[i].UID, got, ok)
	}
	uid := id.UID(m.rnd.IntN(int(m.uidNext) + 3))
	if _, ok := v.Find(uid); ok != m.uids().Contains(uid) {
		t.Fatalf("Find(%d) = %v", uid, ok)
	}
	since := id.ModSeq(m.rnd.IntN(int(m.modSeq) + 1))
	set := m.randomSet()
	var changed, in []Message
	for _, a := range m.messages {
		if a.ModSeq > since {
			changed = append(changed, a)
		}
		if set.Contains(a.UID) {
			in = append(in, a)
		}
	}
	if got := slices.Collect(v.ChangedSince(since)); !slices.Equal(got, changed) {
		t.Fatalf("ChangedSince(%d) = %v, want %v", since, got, changed)
	}
	if got := slices.Collect(v.In(set)); !slices.Equal(got, in) {
		t.Fatalf("In(%s) = %v, want %v", set, got, in)
	}
}

// TestHistories applies random records, encoded and read again, one by one and
// several at once, to views and to plain lists; earlier views stay as they were.
func TestHistories(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newModel(seed)
			v := New(1, 1, nil)
			var early *View
			var earlyModel model
			for range 40 {
				var records []Record
				from := m.modSeq + 1
				for range 1 + m.rnd.IntN(6) {
					r := m.step()
					decoded, err := DecodeRecord(r.Encode(0, 0), 0, 0)
					if err != nil {
						t.Fatal(err)
					}
					records = append(records, decoded)
				}
				next, err := v.ApplyAll(from, records...)
				if err != nil {
					t.Fatal(err)
				}
				single := v
				for i, r := range records {
					if single, err = single.Apply(from+id.ModSeq(i), r); err != nil {
						t.Fatal(err)
					}
				}
				m.check(t, single)
				v = next
				m.check(t, v)
				if early != nil {
					earlyModel.rnd = m.rnd
					earlyModel.check(t, early)
				}
				if m.rnd.IntN(5) == 0 {
					early, earlyModel = v, *m
					earlyModel.messages = slices.Clone(m.messages)
				}
				if m.rnd.IntN(5) == 0 {
					v = reload(t, m.rnd, v)
					m.check(t, v)
				}
			}
		})
	}
}

// reload folds a view into segments and loads them.
func reload(t *testing.T, rnd *rand.Rand, v *View) *View {
	t.Helper()
	var segments [][]byte
	messages := slices.Collect(v.All())
	for len(messages) > 0 {
		n := min(len(messages), 1+rnd.IntN(5000))
		segments = append(segments, EncodeSegment(messages[:n]))
		messages = messages[n:]
	}
	loaded, err := Load(v.ModSeq(), v.UIDNext(), v.Keywords(), segments)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// client knows nothing of the mailbox but what it is told.
type client struct {
	told     Told
	uids     []id.UID
	flags    map[id.UID]Message
	keywords int
	highest  id.ModSeq // of HIGHESTMODSEQ, that it would resynchronize from
}

// update plays what Diff says. Like a client it asks for the flags of new messages.
func (c *client) update(t *testing.T, now *View, expunges bool) {
	t.Helper()
	updates, told := Diff(c.told, now, expunges)
	c.told = told
	for _, u := range updates {
		switch u := u.(type) {
		case FlagsDefined:
			c.keywords = len(u.Keywords)
		case Expunged:
			if !expunges {
				t.Fatal("EXPUNGE where none may be sent")
			}
			for _, n := range u.Numbers {
				uid := c.uids[n-1]
				if !u.UIDs.Contains(uid) {
					t.Fatalf("EXPUNGE of number %d, which is UID %d, not of %s", n, uid, u.UIDs)
				}
				c.uids = slices.Delete(c.uids, int(n-1), int(n))
				delete(c.flags, uid)
			}
			if u.UIDs.Len() != len(u.Numbers) {
				t.Fatalf("%d numbers for UIDs %s", len(u.Numbers), u.UIDs)
			}
		case Exists:
			for uid := range u.New.All() {
				c.uids = append(c.uids, uid)
				c.flags[uid], _ = now.Find(uid)
			}
			if int(u.Messages) != len(c.uids) {
				t.Fatalf("EXISTS %d, client counts %d", u.Messages, len(c.uids))
			}
		case Changed:
			if c.uids[u.Number-1] != u.Message.UID {
				t.Fatalf("FETCH of number %d, which is UID %d, not %d", u.Number, c.uids[u.Number-1], u.Message.UID)
			}
			c.flags[u.Message.UID] = u.Message
		}
	}
}

// TestDiff plays random histories to clients that know nothing but the updates.
func TestDiff(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newModel(seed)
			v := New(1, 1, nil)
			expungedAt := map[id.UID]id.ModSeq{}
			clients := make([]client, 4)
			for i := range clients {
				clients[i].flags = map[id.UID]Message{}
			}
			for range 120 {
				r := m.step()
				before := v.UIDs()
				next, err := v.Apply(m.modSeq, r)
				if err != nil {
					t.Fatal(err)
				}
				v = next
				for uid := range before.Minus(v.UIDs()).All() {
					expungedAt[uid] = v.ModSeq()
				}
				for i := range clients {
					if m.rnd.IntN(3) == 0 {
						c := &clients[i]
						expunges := m.rnd.IntN(2) == 0
						c.update(t, v, expunges)
						c.check(t, v, expunges, expungedAt)
					}
				}
			}
		})
	}
}

func (c *client) check(t *testing.T, now *View, expunges bool, expungedAt map[id.UID]id.ModSeq) {
	t.Helper()
	set := NewUIDSet(c.uids...)
	if !set.Equal(c.told.UIDs) || !slices.IsSorted(c.uids) {
		t.Fatalf("client has %v, Told %s", c.uids, c.told.UIDs)
	}
	if c.keywords != len(now.Keywords()) {
		t.Fatalf("client knows %d keywords of %d", c.keywords, len(now.Keywords()))
	}
	for m := range now.All() {
		if c.flags[m.UID] != m {
			t.Fatalf("client has %v, want %v", c.flags[m.UID], m)
		}
	}
	gone := set.Minus(now.UIDs())
	if expunges && !gone.Empty() {
		t.Fatalf("client still has %s", gone)
	}
	if c.told.ModSeq != now.ModSeq() {
		t.Fatalf("told up to %d, now %d", c.told.ModSeq, now.ModSeq())
	}
	for uid := range gone.All() {
		if c.told.Covered >= expungedAt[uid] {
			t.Fatalf("covered up to %d, but UID %d went at %d", c.told.Covered, uid, expungedAt[uid])
		}
	}
	if gone.Empty() && c.told.Covered != now.ModSeq() {
		t.Fatalf("nothing is withheld, but covered only up to %d of %d", c.told.Covered, now.ModSeq())
	}
	if c.told.Covered < c.highest {
		t.Fatalf("covered goes back from %d to %d", c.highest, c.told.Covered)
	}
	c.highest = c.told.Covered
	if updates, told := Diff(c.told, now, false); len(updates) > 0 || told.Covered != c.told.Covered {
		t.Fatalf("told again: %v", updates)
	}
}

func TestDiffOfAnOlderViewIsNothing(t *testing.T) {
	v := New(1, 1, nil)
	m := newModel(1)
	older := v
	for range 5 {
		r := m.step()
		var err error
		if v, err = v.Apply(m.modSeq, r); err != nil {
			t.Fatal(err)
		}
	}
	_, told := Diff(Told{}, v, true)
	if updates, again := Diff(told, older, true); len(updates) > 0 || again.ModSeq != told.ModSeq {
		t.Errorf("Diff = %v, %+v", updates, again)
	}
}

// 2023, a zone of its own and whole seconds survive.
func TestDates(t *testing.T) {
	given := time.Date(2023, 5, 6, 7, 8, 9, 0, time.FixedZone("", -(3*60+30)*60))
	r := Record{Append{[]Message{{UID: 1, Email: 1, InternalDate: given, SaveDate: given}}}}
	decoded, err := DecodeRecord(r.Encode(0, 0), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := decoded[0].(Append).Messages[0]
	if got, want := m.InternalDate.Format(time.RFC3339), "2023-05-06T07:08:09-03:30"; got != want {
		t.Errorf("INTERNALDATE %s, want %s", got, want)
	}
	if got, want := m.SaveDate.Format(time.RFC3339), "2023-05-06T10:38:09Z"; got != want {
		t.Errorf("SAVEDATE %s, want %s", got, want)
	}
}
