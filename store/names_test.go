package store_test

import (
	"errors"
	"strings"
	"testing"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// names lists what LIST shows: names that are no mailboxes in parentheses, those that do not exist in brackets.
func names(t testing.TB, s *store.Store, u store.User) string {
	t.Helper()
	entries, err := s.List(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		switch {
		case e.Mailbox != 0:
			all = append(all, e.Name)
		case e.Exists:
			all = append(all, "("+e.Name+")")
		default:
			all = append(all, "["+e.Name+"]")
		}
	}
	return strings.Join(all, " ")
}

// bare makes an account that only has INBOX.
func bare(t testing.TB, s *store.Store, login string) store.User {
	t.Helper()
	u := storetest.Account(t, s, login)
	for _, m := range store.DefaultMailboxes {
		if err := errors.Join(s.Delete(t.Context(), u, m.Name), s.Unsubscribe(t.Context(), u, m.Name)); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

func TestNames(t *testing.T) {
	s := storetest.New(t)
	u := bare(t, s, "a@one.test")
	type step struct {
		do   func() error
		want error
		list string
	}
	ctx := t.Context()
	create := func(name string) func() error {
		return func() error { _, err := s.Create(ctx, u, name, nil); return err }
	}
	remove := func(name string) func() error { return func() error { return s.Delete(ctx, u, name) } }
	rename := func(from, to string) func() error { return func() error { return s.Rename(ctx, u, from, to) } }
	openIt := func(name string) func() error {
		return func() error { _, err := s.Open(ctx, u, name, acl.Read); return err }
	}
	long := strings.Repeat("x", 999)
	for i, st := range []step{
		{create("a/b/c/"), nil, "INBOX a a/b a/b/c"},
		{create("a/b"), store.ErrExists, ""},
		{create("inbox"), store.ErrExists, ""},
		{create("Inbox/x"), nil, "INBOX INBOX/x a a/b a/b/c"},
		{create(""), store.ErrBadName, ""},
		{create("/a"), store.ErrBadName, ""},
		{create("a//b"), store.ErrBadName, ""},
		{create("a\x00b"), store.ErrBadName, ""},
		{create("a\nb"), store.ErrBadName, ""},
		{create("a\xff"), store.ErrBadName, ""},
		{create(long + "xx"), store.ErrBadName, ""},
		{create(strings.Repeat("d/", 64) + "d"), store.ErrBadName, ""},
		{remove("a/b"), nil, "INBOX INBOX/x a (a/b) a/b/c"}, // RFC 9051 section 6.3.5
		{remove("a/b"), store.ErrHasChildren, ""},
		{openIt("a/b"), store.ErrNoSelect, ""},
		{openIt("a/x"), store.ErrNotExist, ""},
		{openIt("a\x00x"), store.ErrNotExist, ""},
		{remove("inbox"), store.ErrBadName, ""},
		{remove("nowhere"), store.ErrNotExist, ""},
		{create("a/b"), nil, "INBOX INBOX/x a a/b a/b/c"},
		{rename("a", "p/q"), nil, "INBOX INBOX/x p p/q p/q/b p/q/b/c"},
		{rename("p/q", "p/q/r"), store.ErrBadName, ""},
		{rename("p/q", "p"), store.ErrExists, ""},
		{rename("p", "inbox"), store.ErrExists, ""},
		{rename("nowhere", "z"), store.ErrNotExist, ""},
		{rename("p/q/b", "p/"+long[:997]), store.ErrBadName, ""}, // what is below would have too long a name
		{remove("p/q"), nil, "INBOX INBOX/x p (p/q) p/q/b p/q/b/c"},
		{rename("p/q", "q"), nil, "INBOX INBOX/x p (q) q/b q/b/c"}, // only what is below moves
		{func() error { return s.Subscribe(ctx, u, "shared/z") }, nil, ""},
		{func() error { return s.Subscribe(ctx, u, "p") }, nil, "INBOX INBOX/x p (q) q/b q/b/c [shared/z]"},
		{remove("p"), nil, "INBOX INBOX/x [p] (q) q/b q/b/c [shared/z]"},
		{func() error { return s.Unsubscribe(ctx, u, "p") }, nil, "INBOX INBOX/x (q) q/b q/b/c [shared/z]"},
	} {
		err := st.do()
		if !errors.Is(err, st.want) {
			t.Errorf("step %d: %v, want %v", i, err, st.want)
		}
		if got := names(t, s, u); st.list != "" && got != st.list {
			t.Errorf("step %d: names %s, want %s", i, got, st.list)
		}
	}
	checkAccount(t, s, u)
}

// A name never shows a UIDVALIDITY again, and never a lower one (RFC 9051 section 2.3.1.1).
func TestUIDValidity(t *testing.T) {
	s := storetest.New(t)
	u := bare(t, s, "a@one.test")
	ctx := t.Context()
	validity := func(name string) uint32 { return open(t, s, u, name).UIDValidity }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	create := func(name string) { t.Helper(); _, err := s.Create(ctx, u, name, nil); must(err) }

	create("a")
	first := validity("a")
	must(s.Delete(ctx, u, "a"))
	create("a")
	if second := validity("a"); second <= first {
		t.Errorf("made anew: %d after %d", second, first)
	}
	create("b")
	b := validity("b")
	must(s.Rename(ctx, u, "a", "c"))
	must(s.Rename(ctx, u, "b", "a"))
	if got := validity("a"); got != b {
		t.Errorf("b renamed to a: %d, want b's %d, for it is higher than a's", got, b)
	}
	must(s.Rename(ctx, u, "c", "b")) // older than the b that was
	if got := validity("b"); got <= b {
		t.Errorf("c renamed to b: %d after %d", got, b)
	}
	must(s.Rename(ctx, u, "a", "z"))
	must(s.Rename(ctx, u, "z", "a"))
	if got := validity("a"); got != b {
		t.Errorf("there and back: %d, want %d", got, b)
	}
}

// RFC 9051 section 6.3.6.
func TestRenameInbox(t *testing.T) {
	s := storetest.New(t)
	u := bare(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 3)
	flag(t, m, set(2), view.Add, view.Seen, "work")
	if _, err := s.Create(t.Context(), u, "INBOX/sub", nil); err != nil {
		t.Fatal(err)
	}
	before := viewOf(t, m)
	if err := s.Rename(t.Context(), u, "inbox", "old/mail"); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, s, u), "INBOX INBOX/sub old old/mail"; got != want {
		t.Errorf("names %s, want %s", got, want)
	}
	after := viewOf(t, m)
	if after.Len() != 0 || after.UIDNext() != before.UIDNext() || after.ModSeq() != before.ModSeq()+1 || validityOf(t, s, u) != m.UIDValidity {
		t.Errorf("INBOX has %d messages, UIDNEXT %d, MODSEQ %d", after.Len(), after.UIDNext(), after.ModSeq())
	}
	moved := viewOf(t, open(t, s, u, "old/mail"))
	if msg, _ := moved.Find(2); moved.UIDs().String() != "1:3" || msg.Flags != view.Seen || !msg.Keywords.Has(0) || msg.Email != before.At(1).Email {
		t.Errorf("moved %s, %+v", moved.UIDs(), msg)
	}
	if err := s.Rename(t.Context(), u, "INBOX", "old"); !errors.Is(err, store.ErrExists) {
		t.Errorf("onto a name that is taken: %v", err)
	}
	if err := s.Rename(t.Context(), u, "INBOX", "empty"); err != nil {
		t.Errorf("of an empty INBOX: %v", err)
	}
	checkAccount(t, s, u)
}

func validityOf(t testing.TB, s *store.Store, u store.User) uint32 {
	return open(t, s, u, "INBOX").UIDValidity
}

func TestStatusAndRecent(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 4)
	flag(t, m, set(2, 3), view.Add, view.Seen|view.Deleted)
	if _, _, err := m.Expunge(t.Context(), ptr(set(2))); err != nil {
		t.Fatal(err)
	}
	status := func() store.Status {
		t.Helper()
		all, err := s.Status(t.Context(), u, []string{"inbox", "Sent", "nowhere", "bad\x00"})
		if err != nil || len(all) != 2 {
			t.Fatalf("status of %d mailboxes, %v", len(all), err)
		}
		if err := s.CountRecent(t.Context(), u, all); err != nil {
			t.Fatal(err)
		}
		return all["inbox"]
	}
	got := status()
	if got.UIDNext != 5 || got.HighestModSeq != 4 || got.UIDValidity != m.UIDValidity || got.MailboxID != m.ObjectID ||
		got.Counts.Messages != 3 || got.Counts.Unseen != 2 || got.Counts.Deleted != 1 || got.Recent != 3 {
		t.Errorf("status %+v", got)
	}
	for _, step := range []struct {
		next, want uint32
		peek       bool
		recent     int64
	}{
		{5, 1, true, 3}, {3, 1, false, 2}, {5, 3, false, 0}, {5, 5, false, 0}, {2, 2, false, 0},
	} {
		first, err := m.ClaimRecent(t.Context(), id.UID(step.next), step.peek)
		if err != nil || first != id.UID(step.want) {
			t.Errorf("claim up to %d: from %d, %v; want %d", step.next, first, err, step.want)
		}
		if got := status().Recent; got != step.recent {
			t.Errorf("after a claim up to %d: %d recent, want %d", step.next, got, step.recent)
		}
	}
}

// Nothing comes into an account that is being deleted, so that nothing is left of it.
func TestSubscribeInADeletedAccount(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	if err := s.DeleteAccount(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if err := s.Subscribe(t.Context(), u, "Sent"); !errors.Is(err, store.ErrNotExist) { // by a session that is still there
		t.Errorf("Subscribe = %v, want %v", err, store.ErrNotExist)
	}
	if n := count(t, s, u.Tenant, "subscription"); n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}
