package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

func makeGroup(t testing.TB, s *store.Store, name string, members ...store.User) {
	t.Helper()
	if _, err := s.CreateGroup(t.Context(), members[0].Tenant, name); err != nil {
		t.Fatal(err)
	}
	for _, u := range members {
		if err := s.AddToGroup(t.Context(), u, name); err != nil {
			t.Fatal(err)
		}
	}
}

func rightsOf(t testing.TB, s *store.Store, u store.User, name string) string {
	t.Helper()
	r, err := s.MyRights(t.Context(), u, name)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		t.Fatal(err)
	}
	return r.String()
}

// What a group may do its members may, from when they join it until they leave it, in sessions that are open too.
func TestGroupsInLists(t *testing.T) {
	s := storetest.New(t)
	ann, bob := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "bob@one.test")
	makeGroup(t, s, "Staff", bob)
	grant(t, s, ann, "INBOX", acl.Group("staff"), "lrw")
	grant(t, s, ann, "INBOX", acl.Anyone, "lrs")
	grant(t, s, ann, "INBOX", "-"+acl.User(bob.Login), "s")
	name := others(ann, "INBOX")
	if got := rightsOf(t, s, bob, name); got != "lrw" {
		t.Errorf("rights %s", got)
	}
	m, err := s.Open(t.Context(), bob, name, acl.Write)
	if err != nil {
		t.Fatal(err)
	}
	hints, stop := m.Watch()
	defer stop()
	for _, change := range []struct {
		do   func() error
		want string
	}{
		{func() error { return s.RemoveFromGroup(t.Context(), bob, "staff") }, "lr"},
		{func() error { return s.AddToGroup(t.Context(), bob, "staff") }, "lrw"},
		{func() error { return s.DeleteGroup(t.Context(), bob.Tenant, "STAFF") }, "lr"},
		{func() error { return s.DeleteACL(t.Context(), ann, "INBOX", "-"+acl.User(bob.Login)) }, "lrs"},
	} {
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-hints:
		case <-time.After(5 * time.Second):
			t.Error("who watches was told nothing")
		}
		if _, err := m.View(t.Context()); !errors.Is(err, store.ErrRightsChanged) {
			t.Errorf("view: %v", err)
		}
		if m, err = m.Renew(t.Context()); err != nil || m.Rights.String() != change.want {
			t.Fatalf("renewed: %v, %v; want %s", m, err, change.want)
		}
		viewOf(t, m)
	}
	if list, err := s.ACL(t.Context(), ann, "INBOX"); err != nil || len(list) != 2 {
		t.Errorf("list %v, %v", list, err)
	}
	if err := s.SetACL(t.Context(), ann, "INBOX", acl.Group("staff"), acl.Modification{Rights: acl.Read}); !errors.Is(err, store.ErrNoIdentifier) {
		t.Errorf("grant to a group that is gone: %v", err)
	}
}

// Names of others' mailboxes: k on the nearest above, x on what goes; what one may not look up is not there.
func TestChangeNamesOfOthers(t *testing.T) {
	s := storetest.New(t)
	ann, bob := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "bob@one.test")
	for _, name := range []string{"A", "A/Secret", "B", "C", "D", "D/Seen", "E/Seen", "F", "F/Mine", "G/Mine"} {
		if _, err := s.Create(t.Context(), ann, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"E", "G"} { // which are above the others no more than names
		if err := s.Delete(t.Context(), ann, name); err != nil {
			t.Fatal(err)
		}
	}
	grant(t, s, ann, "A", acl.User(bob.Login), "lrkx")
	for _, name := range []string{"B", "D/Seen", "E/Seen"} {
		grant(t, s, ann, name, acl.User(bob.Login), "lr")
	}
	for _, name := range []string{"F/Mine", "G/Mine"} {
		grant(t, s, ann, name, acl.User(bob.Login), "lrx")
	}
	at := func(name string) string { return others(ann, name) }
	denied := func(r acl.Rights) error { return &acl.DeniedError{Missing: r} }
	create := func(name string) error { _, err := s.Create(t.Context(), bob, name, nil); return err }
	remove := func(name string) error { return s.Delete(t.Context(), bob, name) }
	rename := func(from, to string) error { return s.Rename(t.Context(), bob, from, to) }
	for _, test := range []struct {
		what string
		err  error
		want error
	}{
		{"create below A", create(at("A/x/y")), nil},
		{"create it again", create(at("A/x/y")), store.ErrExists},
		{"create below B", create(at("B/x")), denied(acl.Create)},
		{"create below C", create(at("C/x")), denied(acl.Create)},
		{"create at the top", create(at("X")), denied(acl.Create)},
		{"create of nobody", create("Other Users/eve@one.test/D"), denied(acl.Create)},
		{"create what is hidden", create(at("A/Secret")), denied(acl.Create)},
		{"create INBOX", create(at("INBOX")), denied(acl.Create)},
		{"create a user", create("Other Users/eve@one.test"), store.ErrBadName},
		{"create a namespace", create("Other Users"), store.ErrBadName},
		{"create in Shared", create("Shared/x"), denied(acl.Create)},
		{"create one's own by another name", create(others(bob, "x")), denied(acl.Create)},
		{"rename where one may", rename(at("A/x"), at("A/z")), nil},
		{"rename to where one may not", rename(at("A/z"), at("B/z")), denied(acl.Create)},
		{"rename what one may not", rename(at("B"), at("A/B")), denied(acl.DeleteMailbox)},
		{"rename what is hidden", rename(at("A/Secret"), at("A/B")), store.ErrNotExist},
		{"rename what is not there", rename(at("A/nothing"), at("A/B")), store.ErrNotExist},
		{"rename what is hidden above what one sees", rename(at("D"), at("A/D")), denied(acl.DeleteMailbox)},
		{"rename what is not there above what one sees", rename(at("E"), at("A/E")), denied(acl.DeleteMailbox)},
		{"rename what is hidden above what one may rename", rename(at("F"), at("A/F")), denied(acl.DeleteMailbox)},
		{"rename what is not there above what one may rename", rename(at("G"), at("A/G")), nil},
		{"rename onto what is hidden", rename(at("A/z"), at("A/Secret")), denied(acl.Create)},
		{"rename to one's own", rename(at("A/z"), "z"), store.ErrNamespace},
		{"rename one's own to there", rename("Sent", at("A/Sent")), store.ErrNamespace},
		{"rename what is hidden to one's own", rename(at("C"), "z"), store.ErrNotExist},
		{"delete what one may not", remove(at("B")), denied(acl.DeleteMailbox)},
		{"delete what is hidden", remove(at("A/Secret")), store.ErrNotExist},
		{"delete what is not there", remove(at("nothing")), store.ErrNotExist},
		{"delete a user", remove("Other Users/ann@one.test"), store.ErrHasChildren},
		{"delete nobody", remove("Other Users/eve@one.test"), store.ErrNotExist},
		{"delete", remove(at("A/z/y")), nil},
	} {
		var d *acl.DeniedError
		same := errors.Is(test.err, test.want)
		if want, ok := test.want.(*acl.DeniedError); ok {
			same = errors.As(test.err, &d) && d.Missing == want.Missing
		}
		if !same {
			t.Errorf("%s: %v, want %v", test.what, test.err, test.want)
		}
	}
	if got := rightsOf(t, s, bob, at("A/z")); got != "lrkx" {
		t.Errorf("%s are the rights on what was made below", got)
	}
	if _, err := s.Create(t.Context(), ann, "A/z/of ann", nil); err != nil {
		t.Fatal(err)
	}
	if got := rightsOf(t, s, bob, at("A/z/of ann")); got != "lrkx" {
		t.Errorf("%s are the rights on what its owner made below", got)
	}
	grant(t, s, ann, "A", acl.User(ann.Login), "lra")
	if err := s.Delete(t.Context(), ann, "A"); !errors.As(err, new(*acl.DeniedError)) {
		t.Errorf("an owner without the right deletes: %v", err)
	}
	if _, err := s.Create(t.Context(), ann, "A/more", nil); !errors.As(err, new(*acl.DeniedError)) {
		t.Errorf("an owner without the right creates: %v", err)
	}
}

// The tenant's mailboxes are made by who administers it, and seen by those to whom they are given.
func TestSharedMailboxes(t *testing.T) {
	s := storetest.New(t)
	ann, bob := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "bob@one.test")
	eve := storetest.Account(t, s, "eve@two.test")
	admin := ann
	admin.Role = store.RoleTenantAdmin
	if err := s.SetAutoSubscribe(t.Context(), ann.Tenant, true); err != nil {
		t.Fatal(err)
	}
	m, err := s.Create(t.Context(), admin, "Shared/Support/Open", nil)
	if err != nil || m.Rights != acl.All {
		t.Fatalf("made %+v, %v", m, err)
	}
	add(t, m, 1, 0)
	if names := entryNames(t, s, bob); slices.Contains(names, "Shared") {
		t.Errorf("listed %q", names)
	}
	grant(t, s, admin, "Shared/Support/Open", acl.Anyone, "lrp")
	entries, err := s.List(t.Context(), bob)
	i := slices.IndexFunc(entries, func(e store.Entry) bool { return e.Name == "Shared/Support/Open" })
	if err != nil || i < 0 || !entries[i].Subscribed || entries[i].Rights.String() != "lrp" {
		t.Errorf("listed %+v, %v", entries, err)
	}
	for _, e := range entries {
		if e.Name == "Shared/Support" && (e.Mailbox != 0 || !e.Exists) {
			t.Errorf("what is only above a mailbox: %+v", e)
		}
	}
	if got := rightsOf(t, s, eve, "Shared/Support/Open"); got != "" {
		t.Errorf("another tenant has %s", got)
	}
	if err := s.SetACL(t.Context(), bob, "Shared/Support/Open", acl.User(bob.Login), acl.Modification{Rights: acl.All}); !errors.As(err, new(*acl.DeniedError)) {
		t.Errorf("one who may not administer: %v", err)
	}

	// Mail to user+folder is posted by that user.
	for address, want := range map[string]string{
		"bob+Shared/Support/Open@one.test": "Shared/Support/Open",
		"bob+Shared/Support@one.test":      "INBOX",
		"bob+sent@one.test":                "Sent",
	} {
		to, err := s.ResolveRecipient(t.Context(), address)
		if err != nil || len(to) != 1 || to[0].Mailbox.Name != want {
			t.Errorf("%s leads to %+v, %v", address, to, err)
			continue
		}
		add(t, to[0].Mailbox, 2, 0)
	}
	grant(t, s, bob, "Sent", acl.User(bob.Login), "lrswi")
	if to, err := s.ResolveRecipient(t.Context(), "bob+sent@one.test"); err != nil || to[0].Mailbox.Name != "INBOX" {
		t.Errorf("where nobody may post: %+v, %v", to, err)
	}

	shared, err := s.SharedAccount(t.Context(), ann.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	checkAccount(t, s, shared)
	if _, err := s.LookupLogin(t.Context(), shared.Login); !errors.Is(err, store.ErrNoAccount) {
		t.Errorf("somebody may log in as %s: %v", shared.Login, err)
	}
	var found []store.Finding
	if _, err := s.Fsck(t.Context(), ann.Tenant, func(f store.Finding) { found = append(found, f) }); err != nil || len(found) > 0 {
		t.Errorf("fsck: %v, %v", found, err)
	}
	if err := s.Delete(t.Context(), admin, "Shared/Support/Open"); err != nil {
		t.Error(err)
	}
	if err := s.DeleteTenant(t.Context(), ann.Tenant); err != nil {
		t.Error(err)
	}
}

// What an account was granted goes with it, and whoever has its login later has nothing of it.
func TestDeleteAccountWithGrants(t *testing.T) {
	s := storetest.New(t)
	ann, bob := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "bob@one.test")
	makeGroup(t, s, "staff", bob, ann)
	grant(t, s, ann, "INBOX", acl.User(bob.Login), "lr")
	grant(t, s, ann, "Sent", acl.Group("staff"), "lr")
	grant(t, s, ann, "Archive", acl.Anyone, "lr")
	grant(t, s, bob, "Sent", acl.User(ann.Login), "lr")
	var opened []*store.Mailbox
	for _, name := range []string{"INBOX", "Archive"} {
		m, err := s.Open(t.Context(), bob, others(ann, name), acl.Read)
		if err != nil {
			t.Fatal(err)
		}
		opened = append(opened, m)
	}
	bobs, err := s.Open(t.Context(), ann, others(bob, "Sent"), acl.Read)
	if err != nil {
		t.Fatal(err)
	}
	hints, stop := bobs.Watch()
	defer stop()
	if err := s.DeleteAccount(t.Context(), bob); err != nil {
		t.Fatal(err)
	}
	select {
	case <-hints:
	case <-time.After(5 * time.Second):
		t.Error("who watches a mailbox of the account was told nothing")
	}
	for _, m := range opened { // in sessions that are still there
		if _, err := m.View(t.Context()); !errors.Is(err, store.ErrRightsChanged) {
			t.Errorf("view of %s: %v", m.Name, err)
		}
		if now, err := m.Renew(t.Context()); err != nil || now.Rights != 0 {
			t.Errorf("renewed %+v, %v", now, err)
		}
		if _, err := s.Open(t.Context(), bob, m.Name, 0); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("open %s: %v", m.Name, err)
		}
	}
	if names := entryNames(t, s, bob); len(names) > 0 {
		t.Errorf("listed %q", names)
	}
	bob = storetest.Account(t, s, "bob@one.test")
	for _, name := range []string{"INBOX", "Sent"} {
		if got := rightsOf(t, s, bob, others(ann, name)); got != "" {
			t.Errorf("the next of that login has %s on %s", got, name)
		}
	}
	if names := entryNames(t, s, ann); slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "Other") }) {
		t.Errorf("listed %q", names)
	}
}

// during does something while a transaction goes on that has done in, and ends once it is waited for.
func during(t testing.TB, s *store.Store, tenant id.Tenant, in func(tx pgx.Tx) error, do func() error) error {
	t.Helper()
	const query = `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))`

	done := make(chan error, 1)
	err := s.Transact(t.Context(), tenant, func(tx pgx.Tx) error {
		if err := in(tx); err != nil {
			return err
		}
		go func() { done <- do() }()
		for waits := false; !waits && len(done) == 0; time.Sleep(time.Millisecond) {
			if err := tx.QueryRow(t.Context(), query).Scan(&waits); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return <-done
}

// What changes names goes by the rights that there are when it does, and so does what is inherited.
func TestNamesWhileRevoked(t *testing.T) {
	s := storetest.New(t)
	ann, bob := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "bob@one.test")
	create := func(u store.User, name string) func() error {
		return func() error { _, err := s.Create(t.Context(), u, name, nil); return err }
	}
	for what, test := range map[string]struct {
		do   func() error
		want string
	}{
		"owner creates below": {create(ann, "P/child"), ""},
		"create below":        {create(bob, others(ann, "P/child")), "missing rights k"},
		"delete":              {func() error { return s.Delete(t.Context(), bob, others(ann, "P")) }, store.ErrNotExist.Error()},
		"rename":              {func() error { return s.Rename(t.Context(), bob, others(ann, "P"), others(ann, "P2")) }, store.ErrNotExist.Error()},
	} {
		if err := create(ann, "P")(); err != nil {
			t.Fatal(err)
		}
		grant(t, s, ann, "P", acl.User(bob.Login), "lrkx")
		err := during(t, s, ann.Tenant, func(tx pgx.Tx) error {
			for _, query := range []string{
				`DELETE FROM mailbox_acl a USING mailbox m WHERE a.mailbox_id = m.mailbox_id AND m.name = 'P'`,
				`UPDATE mailbox SET acl_epoch = acl_epoch + 1 WHERE name = 'P'`,
			} {
				if _, err := tx.Exec(t.Context(), query); err != nil {
					return err
				}
			}
			return nil
		}, test.do)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", what, err, test.want)
		}
		for _, name := range []string{"P", "P/child", "P2"} {
			if got := rightsOf(t, s, bob, others(ann, name)); got != "" {
				t.Errorf("%s: %s are the rights on %s", what, got, name)
			}
			if err := s.Delete(t.Context(), ann, name); err != nil && !errors.Is(err, store.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
}

// Who leaves a group loses what is given to it by a list that is inherited just then.
func TestLeaveAGroupWhileInherited(t *testing.T) {
	s := storetest.New(t)
	ann, bob := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "bob@one.test")
	makeGroup(t, s, "staff", bob)
	grant(t, s, ann, "Archive", acl.Group("staff"), "lr")
	epoch := func() (epoch int64) {
		t.Helper()
		err := s.Transact(t.Context(), ann.Tenant, func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), `SELECT acl_epoch FROM mailbox WHERE account_id = $1 AND name = 'Sent'`, ann.Account).Scan(&epoch)
		})
		if err != nil {
			t.Fatal(err)
		}
		return epoch
	}
	before := epoch()
	err := during(t, s, ann.Tenant, func(tx pgx.Tx) error {
		for _, query := range []string{
			`SELECT FROM mailbox WHERE account_id = $1 AND name = 'Archive' FOR NO KEY UPDATE`,
			`INSERT INTO mailbox_acl SELECT tenant_id, mailbox_id, 'group:staff', 3 FROM mailbox WHERE account_id = $1 AND name = 'Sent'`,
		} {
			if _, err := tx.Exec(t.Context(), query, ann.Account); err != nil {
				return err
			}
		}
		return nil
	}, func() error { return s.RemoveFromGroup(t.Context(), bob, "staff") })
	if err != nil || epoch() == before {
		t.Errorf("%v; the epoch was %d and is %d", err, before, epoch())
	}
}

// Who is subscribed to what they are given hears nothing of what is taken from them at the same time.
func TestAutoSubscribe(t *testing.T) {
	s := storetest.New(t)
	ann, bob, carl := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "bob@one.test"), storetest.Account(t, s, "carl@one.test")
	if err := s.SetAutoSubscribe(t.Context(), ann.Tenant, true); err != nil {
		t.Fatal(err)
	}
	makeGroup(t, s, "staff", carl)
	grant(t, s, ann, "Sent", "-"+acl.User(bob.Login), "l")
	grant(t, s, ann, "Sent", acl.Anyone, "lr")
	grant(t, s, ann, "Archive", acl.Group("staff"), "lr")
	grant(t, s, ann, "Archive", "-"+acl.User(bob.Login), "lrs")
	if err := s.AddToGroup(t.Context(), bob, "staff"); err != nil {
		t.Fatal(err)
	}
	for u, want := range map[store.User]bool{bob: false, carl: true} {
		for _, name := range []string{"Sent", "Archive"} {
			if names := entryNames(t, s, u); slices.Contains(names, others(ann, name)) != want {
				t.Errorf("listed %q for %s", names, u.Login)
			}
		}
	}
}

// While others append, copy and set flags, rights come and go: nothing is done without them, and nothing half.
func TestRevokeWhileOthersChange(t *testing.T) {
	s := storetest.New(t)
	ann, bob := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "bob@one.test")
	name := others(ann, "INBOX")
	from := open(t, s, bob, "INBOX")
	uid := add(t, from, 1, 0)

	var work sync.WaitGroup
	for client := range 3 {
		work.Go(func() {
			for n := range 15 {
				m, err := s.Open(t.Context(), bob, name, acl.Insert)
				if err != nil {
					continue // not granted just now
				}
				switch client {
				case 0:
					_, err = m.Append(t.Context(), incoming(m, n))
				case 1:
					_, err = from.Copy(t.Context(), set(uid), m)
				default:
					_, err = m.SetFlags(t.Context(), store.FlagChange{UIDs: between(1, 99), Mode: view.Mode(n % 2), Flags: view.Seen, UnchangedSince: -1})
				}
				if err != nil && !errors.Is(err, store.ErrRightsChanged) && !errors.Is(err, store.ErrNotExist) {
					t.Errorf("client %d: %v", client, err)
				}
			}
		})
	}
	for n := range 15 {
		grant(t, s, ann, "INBOX", acl.User(bob.Login), "lrswi")
		if n%2 == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		if err := s.DeleteACL(t.Context(), ann, "INBOX", acl.User(bob.Login)); err != nil {
			t.Error(err)
		}
		m := open(t, s, ann, "INBOX")
		before := viewOf(t, m).ModSeq()
		time.Sleep(2 * time.Millisecond)
		if after := viewOf(t, m).ModSeq(); after != before {
			t.Errorf("from %d to %d without a right", before, after)
		}
	}
	work.Wait()
	checkAccount(t, s, ann)
	checkAccount(t, s, bob)
}

// An owner's rights that are not those of the list are found, and put right.
func TestFsckRights(t *testing.T) {
	s := storetest.New(t)
	ann := storetest.Account(t, s, "ann@one.test")
	grant(t, s, ann, "Sent", acl.User(ann.Login), "lra")
	err := s.Transact(t.Context(), ann.Tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE mailbox SET owner_rights = 2047 WHERE name = 'Sent'`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"[rights true]", "[]"} {
		got := []string{}
		_, err := s.Repair(t.Context(), ann.Tenant, func(f store.Finding) { got = append(got, fmt.Sprint(f.Kind, " ", f.Repaired)) })
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("found %v, %v; want %s", got, err, want)
		}
	}
	if got := rightsOf(t, s, ann, "Sent"); got != "lra" {
		t.Errorf("rights %s", got)
	}
}
