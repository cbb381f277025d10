package store_test

import (
	"errors"
	"testing"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// Two front ends select, while mailboxes change, are folded, and change their
// names: SELECT tells the truth, whatever is cached.
func TestSelect(t *testing.T) {
	ctx, cluster := t.Context(), storetest.Config(t)
	here, there := storetest.Open(t, cluster), storetest.Open(t, cluster)
	u := bare(t, here, "a@one.test")

	// Select here, against what the other front end knows.
	check := func(name string, messages, firstUnseen int) {
		t.Helper()
		sel, err := here.Select(ctx, u, name, acl.Read)
		if err != nil {
			t.Fatalf("select %s: %v", name, err)
		}
		m := open(t, there, u, name)
		if sel.ID != m.ID || sel.UIDValidity != m.UIDValidity || sel.ObjectID != m.ObjectID || sel.Name != m.Name {
			t.Errorf("select %s: mailbox %d %d %s %s, want %d %d %s %s", name,
				sel.ID, sel.UIDValidity, sel.ObjectID, sel.Name, m.ID, m.UIDValidity, m.ObjectID, m.Name)
		}
		if now := viewOf(t, m); sel.View.ModSeq() != now.ModSeq() || sel.View.UIDNext() != now.UIDNext() {
			t.Errorf("select %s: at %d with UIDNEXT %d, want %d, %d", name, sel.View.ModSeq(), sel.View.UIDNext(), now.ModSeq(), now.UIDNext())
		}
		if sel.View.Len() != messages || sel.View.FirstUnseen() != firstUnseen {
			t.Errorf("select %s: %d messages, first unseen %d, want %d, %d", name, sel.View.Len(), sel.View.FirstUnseen(), messages, firstUnseen)
		}
	}
	create := func(name string) {
		t.Helper()
		if _, err := there.Create(ctx, u, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	rename := func(from, to string) {
		t.Helper()
		if err := there.Rename(ctx, u, from, to); err != nil {
			t.Fatal(err)
		}
	}

	create("A")
	check("A", 0, 0)
	fill(t, open(t, there, u, "A"), 3)
	check("A", 3, 1)
	flag(t, open(t, there, u, "A"), between(1, 2), view.Add, view.Seen)
	check("A", 3, 3)
	if err := open(t, there, u, "A").Fold(ctx); err != nil {
		t.Fatal(err)
	}
	check("A", 3, 3)

	flag(t, open(t, there, u, "A"), set(3), view.Add, view.Seen) // the cached view is older
	if err := open(t, there, u, "A").Fold(ctx); err != nil {
		t.Fatal(err)
	}
	check("A", 3, 0)

	create("B")
	fill(t, open(t, there, u, "B"), 1)
	check("B", 1, 1)
	rename("A", "C")
	rename("B", "A")
	check("A", 1, 1)
	check("C", 3, 0)
	rename("A", "B")
	rename("C", "A")
	check("A", 3, 0)
	check("B", 1, 1)

	if err := there.Delete(ctx, u, "A"); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Select(ctx, u, "A", acl.Read); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("select of a deleted mailbox: %v", err)
	}
	create("A")
	check("A", 0, 0)

	other := bare(t, there, "b@one.test")
	if _, err := there.Create(ctx, other, "A", nil); err != nil {
		t.Fatal(err)
	}
	if sel, err := here.Select(ctx, other, "A", acl.Read); err != nil || sel.Owner != other.Account || sel.ID == open(t, there, u, "A").ID {
		t.Errorf("the other user's A is mailbox %d of %d: %v", sel.ID, sel.Owner, err)
	}
}

// What a session has claimed as \Recent is told by the next SELECT's row.
func TestSelectRecent(t *testing.T) {
	s := storetest.New(t)
	u := bare(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 2)
	for _, want := range []struct {
		claim bool
		first int
	}{{false, 1}, {true, 1}, {false, 3}} {
		sel, err := s.Select(t.Context(), u, "INBOX", acl.Read)
		if err != nil {
			t.Fatal(err)
		}
		if int(sel.Recent) != want.first {
			t.Errorf("recent from %d on, want %d", sel.Recent, want.first)
		}
		if want.claim {
			if _, err := m.ClaimRecent(t.Context(), sel.View.UIDNext(), false); err != nil {
				t.Fatal(err)
			}
		}
	}
}
