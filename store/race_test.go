package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// frontEnds opens several stores on one database, and an account on it.
func frontEnds(t testing.TB, n int, change ...func(*store.Options)) ([]*store.Store, store.User) {
	t.Helper()
	c := storetest.Config(t)
	var all []*store.Store
	for range n {
		all = append(all, storetest.Open(t, c, change...))
	}
	return all, storetest.Account(t, all[0], "a@one.test")
}

// together runs f for each n at once, and reports its errors.
func together(t testing.TB, n int, f func(i int) error) {
	t.Helper()
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() {
			if err := f(i); err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	work.Wait()
}

// UIDs are given out once each, in the order in which the messages become visible.
func TestConcurrentAppends(t *testing.T) {
	stores, u := frontEnds(t, 2)
	const clients, each = 8, 25
	uids := make([][]id.UID, clients)
	together(t, clients, func(i int) error {
		m := open(t, stores[i%2], u, "INBOX")
		for n := range each {
			in := incoming(m, n%7) // the same content again and again, from several at once
			if n%5 == 0 {
				in.Keywords = []string{fmt.Sprintf("k%d", n)}
			}
			a, err := m.Append(t.Context(), in)
			if err != nil {
				return err
			}
			uids[i] = append(uids[i], a.UIDs.Max())
			v, err := m.View(t.Context())
			if err != nil {
				return err
			}
			if _, ok := v.Find(a.UIDs.Max()); !ok || v.Len() != int(v.UIDNext()-1) {
				return fmt.Errorf("UID %d not seen, or a gap below UIDNEXT %d of %d messages", a.UIDs.Max(), v.UIDNext(), v.Len())
			}
		}
		return nil
	})
	seen := make(map[id.UID]bool)
	for _, list := range uids {
		for i, uid := range list {
			if seen[uid] || i > 0 && uid < list[i-1] {
				t.Errorf("UID %d given out twice, or not ascending", uid)
			}
			seen[uid] = true
		}
	}
	if len(seen) != clients*each {
		t.Errorf("%d UIDs for %d messages", len(seen), clients*each)
	}
	checkAccount(t, stores[0], u)
}

// Of racing moves of a message exactly one wins; nothing is doubled or lost.
func TestRacingMoves(t *testing.T) {
	stores, u := frontEnds(t, 2)
	const messages, racers = 20, 6
	source := open(t, stores[0], u, "INBOX")
	fill(t, source, messages)
	targets := []string{"Archive", "Trash", "Junk"}
	var mu sync.Mutex
	won := make(map[id.UID]int)
	together(t, racers, func(i int) error {
		s := stores[i%2]
		from, to := open(t, s, u, "INBOX"), open(t, s, u, targets[i%3])
		for _, uid := range rand.Perm(messages) {
			c, err := from.Move(t.Context(), set(id.UID(uid+1)), to)
			if err != nil {
				return err
			}
			mu.Lock()
			for _, uid := range c.From {
				won[uid]++
			}
			mu.Unlock()
		}
		return nil
	})
	for uid := id.UID(1); uid <= messages; uid++ {
		if won[uid] != 1 {
			t.Errorf("UID %d was moved %d times", uid, won[uid])
		}
	}
	total := viewOf(t, source).Len()
	for _, name := range targets {
		total += viewOf(t, open(t, stores[1], u, name)).Len()
	}
	if total != messages || viewOf(t, source).Len() != 0 {
		t.Errorf("%d messages in all, %d left", total, viewOf(t, source).Len())
	}
	checkAccount(t, stores[0], u)
}

// A counter kept by conditional stores loses no step: of those that name the same MODSEQ one succeeds.
func TestRacingConditionalStores(t *testing.T) {
	stores, u := frontEnds(t, 2)
	fill(t, open(t, stores[0], u, "INBOX"), 1)
	const clients, steps = 6, 10
	var mu sync.Mutex
	winners := make(map[id.ModSeq]int) // by the MODSEQ that the condition named
	together(t, clients, func(i int) error {
		m := open(t, stores[i%2], u, "INBOX")
		for range steps {
			v, err := m.View(t.Context())
			if err != nil {
				return err
			}
			msg := v.At(0)
			mode := view.Add
			if msg.Flags&view.Flagged != 0 {
				mode = view.Remove
			}
			r, err := m.SetFlags(t.Context(), store.FlagChange{UIDs: set(1), Mode: mode, Flags: view.Flagged, UnchangedSince: msg.ModSeq})
			if err != nil {
				return err
			}
			if r.Changed.Empty() == r.Modified.Empty() {
				return fmt.Errorf("changed %s and modified %s", r.Changed, r.Modified)
			}
			if !r.Changed.Empty() {
				mu.Lock()
				winners[msg.ModSeq]++
				mu.Unlock()
			}
		}
		return nil
	})
	for modSeq, n := range winners {
		if n != 1 {
			t.Errorf("%d stores unchanged since %d succeeded", n, modSeq)
		}
	}
	checkAccount(t, stores[1], u)
}

// Everything at once, on several front ends that fold all the time: the
// invariants hold, and each front end ends with the same views.
func TestEverythingAtOnce(t *testing.T) {
	stores, u := frontEnds(t, 3, func(o *store.Options) { o.FoldMin, o.FoldRatio, o.ViewCacheBytes = 200, 0.01, 20_000 })
	mailboxes := []string{"INBOX", "Archive", "Trash"}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	together(t, 9, func(i int) error {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		s := stores[i%3]
		pick := func() *store.Mailbox { return open(t, s, u, mailboxes[random.IntN(3)]) }
		for n := range 60 {
			m := pick()
			v, err := m.View(t.Context())
			if err != nil {
				return err
			}
			uids := between(1+id.UID(random.IntN(int(v.UIDNext()))), v.UIDNext())
			switch random.IntN(8) {
			case 0, 1, 2:
				_, err = m.Append(t.Context(), incoming(m, n%10), incoming(m, n%3))
			case 3, 4:
				_, err = m.SetFlags(t.Context(), store.FlagChange{UIDs: uids, Mode: view.Mode(random.IntN(3)), Flags: view.Flags(random.IntN(32)),
					Keywords: []string{fmt.Sprintf("k%d", random.IntN(9))}, UnchangedSince: id.ModSeq(random.IntN(20) - 1)})
			case 5:
				if v.Len() < 100 {
					_, err = m.Copy(t.Context(), uids, pick())
				}
			case 6:
				_, err = m.Move(t.Context(), uids, pick())
			case 7:
				_, _, err = m.Expunge(t.Context(), &uids)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	for _, name := range mailboxes {
		a, b, c := viewOf(t, open(t, stores[0], u, name)), viewOf(t, open(t, stores[1], u, name)), viewOf(t, open(t, stores[2], u, name))
		if !sameView(a, b) || !sameView(b, c) {
			t.Errorf("%s differs between front ends", name)
		}
		t.Logf("%s: %d messages at MODSEQ %d", name, a.Len(), a.ModSeq())
	}
	if n := count(t, stores[0], u.Tenant, "mailbox_segment"); n == 0 {
		t.Error("nothing was folded")
	}
	checkAccount(t, stores[0], u)
}

// Names change while mail comes in: it goes where the mailbox is, or the mailbox is gone.
func TestNamesAtOnce(t *testing.T) {
	stores, u := frontEnds(t, 2)
	together(t, 6, func(i int) error {
		s := stores[i%2]
		for n := range 15 {
			var err error
			switch i {
			case 0, 1:
				err = s.Rename(t.Context(), u, "INBOX", fmt.Sprintf("old/%d-%d", i, n))
			case 2:
				err = errors.Join(s.Rename(t.Context(), u, "Archive", "x/Archive"), s.Rename(t.Context(), u, "x/Archive", "Archive"))
			case 3:
				if _, err = s.Create(t.Context(), u, "new/mail", nil); err == nil {
					err = s.Delete(t.Context(), u, "new/mail")
				}
			default:
				m := open(t, s, u, "INBOX")
				_, err = m.Append(t.Context(), incoming(m, n))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	checkAccount(t, stores[1], u)
}

// Where the database has gone back to an earlier state, as after a failover
// that lost commits, and has gone on from there, a view of what was lost does not stay in the way.
func TestCachedViewOfALostHistory(t *testing.T) {
	stores, u := frontEnds(t, 2)
	for name, change := range map[string]func(m *store.Mailbox) error{
		"Sent": func(*store.Mailbox) error { return nil },
		"Junk": func(m *store.Mailbox) error {
			_, err := m.SetFlags(t.Context(), store.FlagChange{UIDs: set(2), Flags: view.Seen, UnchangedSince: -1})
			return err
		},
	} {
		m, other := open(t, stores[0], u, name), open(t, stores[1], u, name)
		fill(t, m, 2)
		viewOf(t, m)
		err := stores[1].Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
			for _, back := range []string{
				`DELETE FROM mailbox_log WHERE mailbox_id = $1`,
				`UPDATE account_state s SET messages = s.messages - m.messages, bytes = s.bytes - m.bytes
				 FROM mailbox m WHERE m.mailbox_id = $1`,
				`UPDATE mailbox SET uidnext = 1, highestmodseq = 1, log_bytes = 0, messages = 0, unseen = 0, bytes = 0
				 WHERE mailbox_id = $1`,
			} {
				if _, err := tx.Exec(t.Context(), back, m.ID); err != nil {
					return err
				}
			}
			_, err := tx.Exec(t.Context(), `SELECT recount_slots($1)`, u.Tenant)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		add(t, other, 3, 0)
		add(t, other, 4, 0)
		if err := change(m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if v, want := viewOf(t, m), viewOf(t, other); !sameView(v, want) {
			t.Errorf("%s: %d messages at %d, want %d at %d", name, v.Len(), v.ModSeq(), want.Len(), want.ModSeq())
		}
	}
	checkAccount(t, stores[0], u)
}
