package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// segmentRow is a segment as the database has it.
type segmentRow struct {
	First, Last id.UID
	ModSeq      id.ModSeq
}

func segments(t testing.TB, s *store.Store, m *store.Mailbox) []segmentRow {
	t.Helper()
	var all []segmentRow
	err := s.Transact(t.Context(), m.Tenant, func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(t.Context(), `SELECT first_uid, last_uid, modseq FROM mailbox_segment WHERE mailbox_id = $1 ORDER BY first_uid`, m.ID)
		all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[segmentRow])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func fold(t testing.TB, m *store.Mailbox) {
	t.Helper()
	if err := m.Fold(t.Context()); err != nil {
		t.Fatalf("fold: %v", err)
	}
}

// Only what was touched is rewritten, and what a client asks for past MODSEQs stays the same.
func TestFold(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 3)
	for len(viewOf(t, m).Keywords()) < 1 || viewOf(t, m).Len() < 40_000 { // copies of the first grow fast
		v := viewOf(t, m)
		flag(t, m, set(1), view.Add, 0, "work")
		if _, err := m.Copy(t.Context(), v.UIDs(), m); err != nil {
			t.Fatal(err)
		}
	}
	add(t, m, 76, 0)
	fold(t, m)
	before := segments(t, s, m)
	if n := viewOf(t, m).Len(); len(before) != (n+16383)/16384 || count(t, s, u.Tenant, "mailbox_log") != 0 {
		t.Errorf("%d segments of %d messages", len(before), n)
	}
	fold(t, m) // of nothing
	flag(t, m, set(before[2].First+5), view.Add, view.Deleted|view.Seen)
	if _, _, err := m.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	since := viewOf(t, m).ModSeq()
	add(t, m, 77, 0)
	flag(t, m, set(before[2].First+7), view.Add, view.Deleted)
	if _, _, err := m.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	vanished := func() (all, late string) {
		t.Helper()
		a, err := m.Vanished(t.Context(), 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		l, err := m.Vanished(t.Context(), since, ptr(between(before[2].First, before[2].Last)))
		if err != nil {
			t.Fatal(err)
		}
		return a.String(), l.String()
	}
	all, late := vanished()
	if all != set(before[2].First+5, before[2].First+7).String() || late != set(before[2].First+7).String() {
		t.Errorf("vanished %s and %s", all, late)
	}
	checkAccount(t, s, u)
	fold(t, m)
	after := segments(t, s, m)
	for i, g := range after {
		if changed := g != before[i]; changed != (i == 2 || i == len(before)-1) {
			t.Errorf("segment %d: %+v, was %+v", i, g, before[i])
		}
	}
	if a, l := vanished(); a != all || l != late {
		t.Errorf("vanished %s and %s after the fold, %s and %s before", a, l, all, late)
	}
	checkAccount(t, s, u)

	// A segment that has become small joins its neighbour; one that is empty goes.
	flag(t, m, between(before[1].First, before[2].Last-100), view.Add, view.Deleted)
	if _, _, err := m.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	fold(t, m)
	if got := segments(t, s, m); len(got) != len(before)-1 && len(got) != len(before)-2 {
		t.Errorf("segments %+v", got)
	}
	flag(t, m, between(1, viewOf(t, m).UIDNext()), view.Add, view.Deleted)
	if _, _, err := m.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	fold(t, m)
	if got := segments(t, s, m); len(got) != 0 {
		t.Errorf("segments of an empty mailbox: %+v", got)
	}
	add(t, m, 1, 0, "play")
	checkAccount(t, s, u)
}

// A mailbox folds by itself once its log has grown.
func TestFoldInBackground(t *testing.T) {
	s := storetest.New(t, func(o *store.Options) { o.FoldMin = 500 })
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	for i := 0; count(t, s, u.Tenant, "mailbox_segment") == 0; i++ {
		if i == 500 {
			t.Fatal("nothing was folded")
		}
		add(t, m, i, 0)
	}
	checkAccount(t, s, u)
	if err := s.FoldTenant(t.Context(), u.Tenant); err != nil {
		t.Error(err)
	}
	checkAccount(t, s, u)
}

// A mailbox that is damaged keeps no other from being folded, and is told of, but not each of many.
func TestFoldTenantPastDamage(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c) // which folds nothing by itself
	folder := storetest.Open(t, c, func(o *store.Options) { o.FoldMin, o.FoldRatio = 1, 0.01 })
	u := storetest.Account(t, s, "a@one.test")
	var all []*store.Mailbox
	for i := range 12 {
		name := fmt.Sprint("m", i)
		if _, err := s.Create(t.Context(), u, name, nil); err != nil {
			t.Fatal(err)
		}
		m := open(t, s, u, name)
		add(t, m, i, 0)
		all = append(all, m)
	}
	damage := func(some []*store.Mailbox) {
		t.Helper()
		for _, m := range some {
			err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), `UPDATE mailbox_log SET record = '\xffff' WHERE mailbox_id = $1`, m.ID)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		folder.ForgetViews()
	}
	damage(all[:1])
	if err := folder.FoldTenant(t.Context(), u.Tenant); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("mailbox %d: ", all[0].ID)) {
		t.Errorf("fold with a damaged mailbox: %v", err)
	}
	if n := count(t, s, u.Tenant, "mailbox_segment"); n != len(all)-1 {
		t.Errorf("%d segments of %d mailboxes that are whole", n, len(all)-1)
	}
	for i, m := range all[1:11] {
		add(t, m, 20+i, 0)
	}
	damage(all[:11])
	err := folder.FoldTenant(t.Context(), u.Tenant)
	if err == nil || strings.Count(err.Error(), "load mailbox ") != 5 || !strings.Contains(err.Error(), "and 7 more") {
		t.Errorf("fold with 11 damaged mailboxes: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := folder.FoldTenant(ctx, u.Tenant); !errors.Is(err, context.Canceled) {
		t.Errorf("fold that was ended: %v", err)
	}
}

// Another front end's view that is older than the fold is loaded anew.
func TestFoldBehindACachedView(t *testing.T) {
	stores, u := frontEnds(t, 2)
	a, b := open(t, stores[0], u, "INBOX"), open(t, stores[1], u, "INBOX")
	fill(t, a, 3)
	old := viewOf(t, b)
	add(t, a, 4, 0)
	flag(t, a, set(1), view.Add, view.Deleted)
	if _, _, err := a.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	fold(t, a)
	add(t, a, 5, 0)
	if old.Len() != 3 || viewOf(t, b).UIDs().String() != "2:5" {
		t.Errorf("view %s", viewOf(t, b).UIDs())
	}
	flag(t, a, set(2), view.Add, view.Seen)
	fold(t, a)
	if r := flag(t, b, set(2, 3), view.Add, view.Seen); r.Changed.String() != "3" {
		t.Errorf("changed %s", r.Changed)
	}
	checkAccount(t, stores[1], u)
}

// Where expunge records are not kept any more, the gaps tell (RFC 7162 section 3.2.5.2).
func TestVanishedFromGaps(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 5)
	flag(t, m, set(2, 4), view.Add, view.Deleted)
	if _, _, err := m.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	fold(t, m)
	err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `DELETE FROM mailbox_expunged`)
		if err == nil {
			_, err = tx.Exec(t.Context(), `UPDATE mailbox SET expunged_modseq = folded_modseq`)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for since, want := range map[id.ModSeq]string{1: "2,4", 3: "2,4", 4: ""} {
		if got, err := m.Vanished(t.Context(), since, nil); err != nil || got.String() != want {
			t.Errorf("since %d: %s, %v; want %s", since, got, err, want)
		}
	}
}
