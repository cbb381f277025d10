package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// acts returns an audit log as "actor action object" lines.
func acts(t *testing.T, s *store.Store, c store.AuditChain) (lines []string) {
	t.Helper()
	for e, err := range s.AuditLog(t.Context(), c.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Join([]string{e.Actor, e.Action, e.Object, e.Detail}, " "))
	}
	return lines
}

// chain returns the audit log of a tenant.
func chain(t *testing.T, s *store.Store, tenant string) store.AuditChain {
	t.Helper()
	all, err := s.AuditChains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(c store.AuditChain) bool { return c.Tenant == tenant })
	if i < 0 {
		t.Fatalf("no audit log of %s among %v", tenant, all)
	}
	return all[i]
}

// TestAudit: every act of an admin stands in the log of its tenant, those that failed do not, and it outlives the tenant.
func TestAudit(t *testing.T) {
	s := storetest.New(t)
	ctx := store.WithActor(t.Context(), "root")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tenant, err := s.CreateTenant(ctx, "one")
	must(err)
	_, err = s.CreateDomain(ctx, tenant.ID, "one.test")
	must(err)
	a, err := s.CreateAccount(ctx, store.NewAccount{Login: "a@one.test"})
	must(err)
	must(s.SetPassword(ctx, a.User(), "secret"))
	limit := int64(5)
	must(s.SetLimits(ctx, a.User(), &limit, nil))
	must(s.SetRole(ctx, a.User(), store.RoleTenantAdmin))
	_, err = s.CreateAlias(ctx, "b@one.test", "a@one.test")
	must(err)
	must(s.SetAlias(ctx, "b@one.test", "a@one.test"))
	must(s.DeleteAlias(ctx, "b@one.test"))
	must(s.SetCatchAll(ctx, "one.test", "a@one.test"))
	must(s.SetTenantMetadata(ctx, tenant.ID, store.Annotation{Entry: "/shared/comment", Value: []byte("x")}))
	user := storetest.Account(t, s, "c@one.test")
	admin := a.User()
	admin.Role = store.RoleTenantAdmin
	_, _, err = s.ActAs(ctx, admin, "c@one.test")
	must(err)
	box, err := s.Create(ctx, user, "Old", nil)
	must(err)
	must(s.Delete(ctx, user, box.Name))
	_, _, err = s.UndeleteMailbox(ctx, user, "Old", "New")
	must(err)
	inbox := open(t, s, user, "INBOX")
	add(t, inbox, 1, view.Deleted)
	_, _, err = inbox.Expunge(ctx, nil)
	must(err)
	_, err = inbox.Undelete(ctx, store.Undelete{})
	must(err)
	_, err = s.Create(ctx, admin, "Shared/Sales", nil)
	must(err)
	must(s.Rename(ctx, admin, "Shared/Sales", "Shared/Old"))
	must(s.Delete(ctx, admin, "Shared/Old"))
	_, err = s.Repair(ctx, tenant.ID, func(f store.Finding) { t.Error(f) })
	must(err)
	if _, err := s.CreateDomain(ctx, tenant.ID, "one.test"); !errors.Is(err, store.ErrDomainTaken) {
		t.Fatal(err)
	}
	if _, _, err := s.ActAs(ctx, user, "a@one.test"); !errors.Is(err, store.ErrActAs) {
		t.Fatal(err)
	}
	must(s.DisableAccount(ctx, user, true))
	must(s.DisableAccount(ctx, user, false))
	must(s.DeleteAccount(ctx, user))
	must(s.DisableTenant(ctx, tenant.ID, true))
	must(s.DeleteTenant(ctx, tenant.ID))

	want := []string{
		"root tenant.create one {}",
		"root domain.create one.test {}",
		"root account.create a@one.test {}",
		"root account.password a@one.test {}",
		`root account.limits a@one.test {"messages":5,"storage":null}`,
		`root account.role a@one.test {"domains":null,"role":"tenant-admin"}`,
		`root alias.create b@one.test {"targets":["a@one.test"]}`,
		`root alias.set b@one.test {"targets":["a@one.test"]}`,
		"root alias.delete b@one.test {}",
		`root domain.catch-all one.test {"address":"a@one.test"}`,
		"root tenant.annotate /shared/comment {}",
		"mailstead account.create c@one.test {}",
		`a@one.test act-as c@one.test {"read_only":false}`,
		`root mailbox.undelete c@one.test/Old {"as":"New"}`,
		`root message.undelete c@one.test/INBOX {"messages":1}`,
		"a@one.test mailbox.create Shared/Sales {}",
		`a@one.test mailbox.rename Shared/Sales {"to":"Old"}`,
		"a@one.test mailbox.delete Shared/Old {}",
		"root fsck.repair  {}",
		"root account.disable c@one.test {}",
		"root account.enable c@one.test {}",
		"root account.delete c@one.test {}",
		"root tenant.disable one {}",
		"root tenant.delete one {}",
		"root account.delete a@one.test {}",
		fmt.Sprintf("root account.delete shared:%d {}", tenant.ID),
		"root tenant.deleted one {}",
	}
	c := chain(t, s, "one")
	if got := acts(t, s, c); !slices.Equal(got, want) {
		t.Errorf("audit log:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	must(s.VerifyAudit(ctx, c, store.AuditChain{}))
	must(s.VerifyAudit(ctx, c, c))
}

// TestAuditIsAppendOnly: who serves can neither change an audit log nor write
// into another tenant's; who owns the database is found out.
func TestAuditIsAppendOnly(t *testing.T) {
	config := storetest.Config(t)
	s := storetest.Open(t, config)
	u := storetest.Account(t, s, "a@one.test")
	other := storetest.Account(t, s, "a@two.test")
	for range 5 {
		if err := s.SetPassword(t.Context(), u, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, statement := range []string{
		`UPDATE audit_log SET actor = 'x'`, `DELETE FROM audit_log`, `TRUNCATE audit_log`, `UPDATE audit_head SET seq = 1`, `DELETE FROM audit_head`,
		fmt.Sprintf(`INSERT INTO audit_log VALUES (%d, 99, now(), '', '', '', '', '')`, u.Tenant),
		fmt.Sprintf(`SELECT write_audit(%d, 'x', 'x', 'x', '{}')`, other.Tenant),
	} {
		err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), statement)
			return err
		})
		if state(err) != "42501" {
			t.Errorf("%s: %v", statement, err)
		}
	}

	owner, err := pgx.Connect(t.Context(), config.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(t.Context())
	whole := chain(t, s, "one.test")
	for _, forgery := range []string{
		`UPDATE audit_log SET actor = 'x' WHERE seq = 3`,
		`UPDATE audit_log SET at = at + interval '1 microsecond' WHERE seq = 3`,
		`UPDATE audit_log SET detail = '{"x":1}' WHERE seq = 3`,
		`UPDATE audit_log SET action = object, object = action WHERE seq = 3`,
		`UPDATE audit_log SET hash = sha256('') WHERE seq = 3`,
		`DELETE FROM audit_log WHERE seq = 3`,
		`DELETE FROM audit_log WHERE seq = 1`,
		`DELETE FROM audit_log WHERE seq = (SELECT max(seq) FROM audit_log)`,
		`DELETE FROM audit_log`,
		`UPDATE audit_log l SET actor = r.actor, hash = r.hash FROM audit_log r WHERE l.seq = 3 AND r.seq = 4 AND l.tenant_id = r.tenant_id`,
		// As one would who knows how: the chain is whole again, but not the one that was known.
		`WITH cut AS (DELETE FROM audit_log l USING audit_head h WHERE h.tenant_id = l.tenant_id AND l.seq = h.seq RETURNING l.tenant_id, l.seq)
		 UPDATE audit_head h SET seq = cut.seq - 1, hash = (SELECT l.hash FROM audit_log l WHERE l.tenant_id = cut.tenant_id AND l.seq = cut.seq - 1)
		 FROM cut WHERE cut.tenant_id = h.tenant_id`,
	} {
		if _, err := owner.Exec(t.Context(), "CREATE TABLE kept AS SELECT * FROM audit_log; CREATE TABLE kept_head AS SELECT * FROM audit_head"); err != nil {
			t.Fatal(err)
		}
		if _, err := owner.Exec(t.Context(), forgery); err != nil {
			t.Fatalf("%s: %v", forgery, err)
		}
		if err := s.VerifyAudit(t.Context(), chain(t, s, "one.test"), whole); !errors.Is(err, store.ErrAudit) {
			t.Errorf("%s: %v, want %v", forgery, err, store.ErrAudit)
		}
		_, err := owner.Exec(t.Context(), `DELETE FROM audit_log; INSERT INTO audit_log SELECT * FROM kept; DROP TABLE kept;
			DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM kept_head; DROP TABLE kept_head`)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.VerifyAudit(t.Context(), whole, whole); err != nil {
		t.Error(err)
	}
	if _, err := owner.Exec(t.Context(), `DELETE FROM audit_log; DELETE FROM audit_head`); err != nil {
		t.Fatal(err)
	}
	if err := s.VerifyAudit(t.Context(), chain(t, s, "one.test"), store.AuditChain{}); !errors.Is(err, store.ErrAudit) {
		t.Errorf("a log that is gone: %v, want %v", err, store.ErrAudit)
	}
}

// TestNothingWithoutAudit: what cannot be written down is not done.
func TestNothingWithoutAudit(t *testing.T) {
	config := storetest.Config(t)
	s := storetest.Open(t, config)
	ctx := t.Context()
	u, user := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@one.test")
	u.Role = store.RoleTenantAdmin
	inbox := open(t, s, user, "INBOX")
	add(t, inbox, 1, view.Deleted)
	if _, _, err := inbox.Expunge(ctx, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Shared/Old", "Shared/Kept"} {
		if _, err := s.Create(ctx, u, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	owner, err := pgx.Connect(ctx, config.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(ctx)
	if _, err := owner.Exec(ctx, `REVOKE EXECUTE ON FUNCTION write_audit FROM mailstead_serving`); err != nil {
		t.Fatal(err)
	}
	names := func() []string { return entryNames(t, s, u) }
	before := names()
	for name, act := range map[string]func() error{
		"annotate": func() error {
			return s.SetTenantMetadata(ctx, u.Tenant, store.Annotation{Entry: "/shared/comment", Value: []byte("x")})
		},
		"create":   func() error { _, err := s.Create(ctx, u, "Shared/New", nil); return err },
		"delete":   func() error { return s.Delete(ctx, u, "Shared/Old") },
		"rename":   func() error { return s.Rename(ctx, u, "Shared/Old", "Shared/New") },
		"undelete": func() error { _, err := inbox.Undelete(ctx, store.Undelete{}); return err },
		"repair":   func() error { _, err := s.Repair(ctx, u.Tenant, func(store.Finding) {}); return err },
		"act as":   func() error { _, _, err := s.ActAs(ctx, u, user.Login); return err },
		"role":     func() error { return s.SetRole(ctx, user, store.RolePlatformAdmin) },
	} {
		if err := act(); state(err) != "42501" {
			t.Errorf("%s: %v", name, err)
		}
	}
	notes, err := s.TenantMetadata(ctx, u.Tenant)
	if after := names(); !slices.Equal(before, after) || len(notes) > 0 || err != nil {
		t.Errorf("mailboxes are %q, were %q; annotations %v, %v", after, before, notes, err)
	}
	if n := viewOf(t, inbox).Len(); n != 0 {
		t.Errorf("%d messages are back", n)
	}
	if login, err := s.LookupLogin(ctx, user.Login); err != nil || login.User.Role != store.RoleNone {
		t.Errorf("the role is %s, %v", login.User.Role, err)
	}
}

// TestAuditAtTheSameTime: many admins of a tenant write one chain.
func TestAuditAtTheSameTime(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	before := chain(t, s, "one.test")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				if err := s.SetPassword(t.Context(), u, ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	after := chain(t, s, "one.test")
	if after.Seq != before.Seq+80 {
		t.Errorf("%d entries, want %d", after.Seq, before.Seq+80)
	}
	if err := s.VerifyAudit(t.Context(), after, before); err != nil {
		t.Error(err)
	}
}
