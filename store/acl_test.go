package store_test

import (
	"errors"
	"slices"
	"testing"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// grant sets the rights of an identifier on a mailbox of u.
func grant(t testing.TB, s *store.Store, u store.User, name string, of acl.Identifier, rights string) {
	t.Helper()
	r, err := acl.ParseRights(rights)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetACL(t.Context(), u, name, of, acl.Modification{Rights: r}); err != nil {
		t.Fatalf("give %s %q on %s: %v", of, rights, name, err)
	}
}

func others(u store.User, name string) string { return store.OtherUsers + "/" + u.Login + "/" + name }

func entryNames(t testing.TB, s *store.Store, u store.User) (names []string) {
	t.Helper()
	entries, err := s.List(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

// A mailbox that is shared is the other's by its name, with the rights that were given and no others; and it is gone
// once they are taken back.
func TestShareMailbox(t *testing.T) {
	s := storetest.New(t)
	ann, bob := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "bob@one.test")
	eve := storetest.Account(t, s, "eve@two.test")
	box := open(t, s, ann, "INBOX")
	add(t, box, 1, 0)

	name := others(ann, "INBOX")
	if _, err := s.Open(t.Context(), bob, name, 0); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("before it is shared: %v", err)
	}
	grant(t, s, ann, "INBOX", acl.User(bob.Login), "lrs")
	shared, err := s.Open(t.Context(), bob, others(ann, "inbox"), acl.Read)
	if err != nil {
		t.Fatal(err)
	}
	if shared.ID != box.ID || shared.Owner != ann.Account || shared.Name != name || shared.Rights != acl.Lookup|acl.Read|acl.Seen {
		t.Errorf("opened %+v", shared)
	}
	var denied *acl.DeniedError
	if _, err := s.Open(t.Context(), bob, name, acl.Read|acl.Insert); !errors.As(err, &denied) || denied.Missing != acl.Insert {
		t.Errorf("to insert: %v", err)
	}
	if got := viewOf(t, shared); got.Len() != 1 {
		t.Errorf("%d messages", got.Len())
	}
	status, err := s.Status(t.Context(), bob, []string{name, "INBOX", "Other Users/x@one.test/INBOX"})
	if err != nil || status[name].Counts.Messages != 1 || status[name].Rights != shared.Rights || status["INBOX"].Rights != acl.All || len(status) != 2 {
		t.Errorf("status %+v, %v", status, err)
	}
	names := entryNames(t, s, bob)
	for _, want := range []string{"INBOX", "Other Users", "Other Users/ann@one.test", name} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not in %q", want, names)
		}
	}
	for _, name := range []string{"Other Users", "Other Users/ann@one.test"} {
		if _, err := s.Open(t.Context(), bob, name, 0); !errors.Is(err, store.ErrNoSelect) {
			t.Errorf("open %s: %v", name, err)
		}
		if _, err := s.Open(t.Context(), eve, name, 0); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("another tenant opens %s: %v", name, err)
		}
	}
	if err := s.SetACL(t.Context(), ann, "INBOX", acl.User(eve.Login), acl.Modification{Rights: acl.All}); !errors.Is(err, store.ErrNoIdentifier) {
		t.Errorf("share with another tenant: %v", err)
	}

	if err := s.DeleteACL(t.Context(), ann, "INBOX", acl.User(bob.Login)); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.View(t.Context()); !errors.Is(err, store.ErrRightsChanged) {
		t.Errorf("view of what is not shared any more: %v", err)
	}
	if _, err := shared.SetFlags(t.Context(), store.FlagChange{UIDs: set(1), Mode: view.Add, Flags: view.Seen, UnchangedSince: -1}); !errors.Is(err, store.ErrRightsChanged) {
		t.Errorf("flags in what is not shared any more: %v", err)
	}
	if now, err := shared.Renew(t.Context()); err != nil || now.Rights != 0 {
		t.Errorf("renewed: %+v, %v", now, err)
	}
	if names := entryNames(t, s, bob); slices.Contains(names, name) || slices.Contains(names, "Other Users") {
		t.Errorf("listed %q", names)
	}
	for _, name := range []string{name, "Other Users/ann@one.test", "Other Users"} {
		if _, err := s.Select(t.Context(), bob, name, acl.Read); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("select %s: %v", name, err)
		}
	}
	checkAccount(t, s, ann)
}

// An owner can bind themself, and loose themself again.
func TestOwnerKeepsTheKeys(t *testing.T) {
	s := storetest.New(t)
	ann := storetest.Account(t, s, "ann@one.test")
	m := open(t, s, ann, "Sent")
	grant(t, s, ann, "Sent", acl.User(ann.Login), "")
	if _, err := m.Append(t.Context(), incoming(m, 1)); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("append with rights that are gone: %v", err)
	}
	if r, err := s.MyRights(t.Context(), ann, "Sent"); err != nil || r != acl.Irrevocable {
		t.Errorf("rights %v, %v", r, err)
	}
	grant(t, s, ann, "Sent", "-"+acl.Anyone, "lrswipkxtea")
	list, err := s.ACL(t.Context(), ann, "Sent")
	want := []acl.Entry{{Identifier: acl.User(ann.Login), Rights: acl.Irrevocable}, {Identifier: "-anyone", Rights: acl.All}}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("list %v, %v", list, err)
	}
	for _, of := range []acl.Identifier{"-anyone", acl.User(ann.Login), "nobody@one.test"} {
		if err := s.DeleteACL(t.Context(), ann, "Sent", of); err != nil {
			t.Fatal(err)
		}
	}
	add(t, open(t, s, ann, "Sent"), 1, 0)
	if list, err = s.ACL(t.Context(), ann, "Sent"); err != nil || !slices.Equal(list, []acl.Entry{{Identifier: acl.User(ann.Login), Rights: acl.All}}) {
		t.Errorf("list %v, %v", list, err)
	}
}

// An owner whose login begins with a dash has no entry of their own: what looks like it takes rights from another.
func TestOwnerWithDash(t *testing.T) {
	s := storetest.New(t)
	dash, ann := storetest.Account(t, s, "-ann@one.test"), storetest.Account(t, s, "ann@one.test")
	grant(t, s, dash, "Sent", acl.Anyone, "lrws")
	less := "-" + acl.User(ann.Login)
	if err := s.SetACL(t.Context(), dash, "Sent", less, acl.Modification{Keep: acl.All, Rights: acl.Write}); err != nil {
		t.Fatal(err)
	}
	if got := rightsOf(t, s, ann, others(dash, "Sent")); got != "lrs" {
		t.Errorf("rights %s", got)
	}
	list, err := s.ACL(t.Context(), dash, "Sent")
	if want := []acl.Entry{{Identifier: less, Rights: acl.Write}, {Identifier: acl.Anyone, Rights: acl.Lookup | acl.Read | acl.Write | acl.Seen}}; err != nil || !slices.Equal(list, want) {
		t.Errorf("list %v, %v", list, err)
	}
	if got := rightsOf(t, s, dash, "Sent"); got != acl.All.String() {
		t.Errorf("the owner's rights are %s", got)
	}
	dash.Role = store.RoleTenantAdmin
	if _, err := s.Create(t.Context(), dash, "Shared/x", nil); err != nil {
		t.Fatal(err)
	}
	if list, err := s.ACL(t.Context(), dash, "Shared/x"); err != nil || len(list) > 0 {
		t.Errorf("list %v, %v", list, err)
	}
}

// What goes from account to account is the same email, with the flags that its bearer may set, and each account is charged its own.
func TestCopyAndMoveBetweenAccounts(t *testing.T) {
	s := storetest.New(t)
	ann, bob := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "bob@one.test")
	grant(t, s, ann, "Archive", acl.User(bob.Login), "lris")
	from := open(t, s, bob, "INBOX")
	for n := range 3 {
		add(t, from, n, view.Seen|view.Flagged, "todo")
	}
	to, err := s.Open(t.Context(), bob, others(ann, "Archive"), acl.Insert)
	if err != nil {
		t.Fatal(err)
	}
	done, err := from.Copy(t.Context(), set(1, 2), to)
	if err != nil || len(done.To) != 2 {
		t.Fatalf("copied %+v, %v", done, err)
	}
	if done, err = from.Move(t.Context(), set(2, 3), to); err != nil || len(done.To) != 2 || done.SourceView.Len() != 1 {
		t.Fatalf("moved %+v, %v", done, err)
	}
	mine, theirs := emailIDs(t, from), emailIDs(t, open(t, s, ann, "Archive"))
	if len(theirs) != 4 || theirs[0] != mine[0] || theirs[1] != theirs[2] {
		t.Errorf("emails %v went to %v", mine, theirs)
	}
	for msg := range viewOf(t, to).All() {
		if msg.Flags != view.Seen || msg.Keywords != (view.Keywords{}) {
			t.Errorf("flags %v and keywords %v came along", msg.Flags, msg.Keywords)
		}
	}
	back := open(t, s, bob, "Sent")
	if done, err = to.CopyAll(t.Context(), set(1), back); err != nil || len(done.To) != 1 {
		t.Errorf("copied back %+v, %v", done, err)
	}
	if _, err := from.Replace(t.Context(), 1, to, incoming(to, 9)); err != nil {
		t.Errorf("replace: %v", err)
	}
	checkAccount(t, s, ann)
	checkAccount(t, s, bob)
	if viewOf(t, from).Len() != 0 || viewOf(t, to).Len() != 5 {
		t.Errorf("%d and %d messages", viewOf(t, from).Len(), viewOf(t, to).Len())
	}
}

func emailIDs(t testing.TB, m *store.Mailbox) (ids []string) {
	t.Helper()
	for msg := range viewOf(t, m).All() {
		err := m.Emails(t.Context(), []id.Email{msg.Email}, func(e store.Email) error {
			ids = append(ids, string(e.EmailID))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return ids
}
