package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
)

func TestAppPasswords(t *testing.T) {
	ctx := t.Context()
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	soon, over := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for _, p := range []store.AppPassword{
		{Name: "phone", Secret: "one", Protocols: []string{"imap"}, ReadOnly: true, Expires: &soon},
		{Name: "old", Secret: "two", Protocols: []string{"imap"}, Expires: &over},
	} {
		if err := s.AddAppPassword(ctx, u, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddAppPassword(ctx, u, store.AppPassword{Name: "phone", Secret: "x", Protocols: []string{"imap"}}); !errors.Is(err, store.ErrAppPasswordTaken) {
		t.Errorf("the same name again: %v", err)
	}
	var invalid *store.InvalidError
	for _, name := range []string{"", "a\nb", strings.Repeat("x", 101)} {
		if err := s.AddAppPassword(ctx, u, store.AppPassword{Name: name, Secret: "x", Protocols: []string{"imap"}}); !errors.As(err, &invalid) {
			t.Errorf("the name %q: %v", name, err)
		}
	}
	login, err := s.LookupLogin(ctx, u.Login)
	if err != nil || len(login.AppPasswords) != 1 {
		t.Fatalf("LookupLogin = %+v, %v; want the one app password that has not expired", login, err)
	}
	p := login.AppPasswords[0]
	if p.Secret != "one" || !p.ReadOnly || !p.Stale || p.Expires.Sub(soon).Abs() > time.Second || fmt.Sprint(p.Protocols) != "[imap]" {
		t.Errorf("it is %+v", p)
	}
	if err := s.UsedAppPassword(ctx, u, p.ID); err != nil {
		t.Fatal(err)
	}
	if login, err := s.LookupLogin(ctx, u.Login); err != nil || login.AppPasswords[0].Stale {
		t.Errorf("after its use: %+v, %v", login.AppPasswords, err)
	}
	all, err := s.AppPasswords(ctx, u)
	if err != nil || len(all) != 2 || all[0].Name != "old" || all[0].LastUsed != nil || all[1].LastUsed == nil {
		t.Errorf("AppPasswords = %+v, %v", all, err)
	}
	for _, want := range []error{nil, store.ErrNoAppPassword} {
		if err := s.RevokeAppPassword(ctx, u, "phone"); !errors.Is(err, want) {
			t.Errorf("revoke: %v, want %v", err, want)
		}
	}
	for n := range 50 {
		err = s.AddAppPassword(ctx, u, store.AppPassword{Name: fmt.Sprint(n), Secret: "x", Protocols: []string{"imap"}})
	}
	if !errors.Is(err, store.ErrAppPasswords) {
		t.Errorf("one too many: %v", err)
	}
}

// Each act that takes a login's right away ends what was let in before, and nothing that is let in after.
func TestRevocations(t *testing.T) {
	ctx := t.Context()
	s := storetest.New(t)
	a, b, other := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@one.test"), storetest.Account(t, s, "a@two.test")
	if err := s.AddAppPassword(ctx, a, store.AppPassword{Name: "phone", Secret: "x", Protocols: []string{"imap"}}); err != nil {
		t.Fatal(err)
	}
	_, since, err := s.Revocations(ctx, "0")
	if err != nil {
		t.Fatal(err)
	}
	standing := func(u store.User, by id.AppPassword) store.Standing {
		t.Helper()
		login, err := s.LookupLogin(ctx, u.Login)
		if err != nil {
			t.Fatal(err)
		}
		login.Standing.AppPassword = by
		return login.Standing
	}
	login, err := s.LookupLogin(ctx, a.Login)
	if err != nil {
		t.Fatal(err)
	}
	app := login.AppPasswords[0].ID
	for _, test := range []struct {
		name string
		act  func() error
		ends string // of a, of a by the app password, of b, of another tenant's
	}{
		{"password", func() error { return s.SetPassword(ctx, a, "x") }, "yes yes no no"},
		{"upgrade", func() error { return s.UpgradePassword(ctx, a, "x", "y") }, "no no no no"},
		{"disable", func() error { return s.DisableAccount(ctx, a, true) }, "yes yes no no"},
		{"role", func() error { return s.SetRole(ctx, b, store.RoleSupport) }, "no no yes no"},
		{"app password", func() error { return s.RevokeAppPassword(ctx, a, "phone") }, "no yes no no"},
		{"tenant", func() error { return s.DisableTenant(ctx, a.Tenant, true) }, "yes yes yes no"},
	} {
		before := []store.Standing{standing(a, 0), standing(a, app), standing(b, 0), standing(other, 0)}
		if err := test.act(); err != nil {
			t.Fatal(err)
		}
		after := []store.Standing{standing(a, 0), standing(b, 0), standing(other, 0)}
		revoked, next, err := s.Revocations(ctx, since)
		if err != nil {
			t.Fatal(err)
		}
		since = next
		var ends []string
		for _, of := range before {
			ends = append(ends, map[bool]string{true: "yes", false: "no"}[endedBy(revoked, of)])
		}
		if got := strings.Join(ends, " "); got != test.ends {
			t.Errorf("%s ends %s, want %s", test.name, got, test.ends)
		}
		for _, of := range after {
			if endedBy(revoked, of) {
				t.Errorf("%s ends %+v, which began after it", test.name, of)
			}
		}
	}
	if login, err := s.LookupLogin(ctx, a.Login); err != nil || login.Password != "y" {
		t.Errorf("after the upgrade it is kept as %q, %v", login.Password, err)
	}
}

func endedBy(revoked []store.Revocation, of store.Standing) bool {
	for _, r := range revoked {
		if r.Ends(of) {
			return true
		}
	}
	return false
}

// A revocation is told whenever its transaction commits, also if later ones have been told before.
func TestRevocationsOfLateCommits(t *testing.T) {
	ctx := t.Context()
	s := storetest.New(t)
	a, b := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@two.test")
	login, err := s.LookupLogin(ctx, a.Login)
	if err != nil {
		t.Fatal(err)
	}
	_, since, err := s.Revocations(ctx, "0")
	if err != nil {
		t.Fatal(err)
	}
	err = s.Transact(ctx, a.Tenant, func(tx pgx.Tx) error {
		if err := store.RevokeAccount(ctx, tx, a); err != nil {
			return err
		}
		if err := s.SetPassword(ctx, b, "x"); err != nil { // later, and committed before
			return err
		}
		revoked, next, err := s.Revocations(ctx, since)
		if len(revoked) != 1 || revoked[0].Account != b.Account {
			t.Errorf("revoked before the commit: %+v", revoked)
		}
		since = next
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if revoked, _, err := s.Revocations(ctx, since); err != nil || !endedBy(revoked, login.Standing) {
		t.Errorf("after the commit: %+v, %v", revoked, err)
	}
}

// Who is deleted, or whose tenant is, is sent away by front ends that read of it later, and what is told of that goes after a day.
func TestRevocationsOfDeleted(t *testing.T) {
	ctx := t.Context()
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	for _, test := range []struct {
		login string
		gone  func(u store.User) error
	}{
		{"a@one.test", func(u store.User) error { return s.DeleteAccount(ctx, u) }},
		{"b@two.test", func(u store.User) error { return s.DeleteTenant(ctx, u.Tenant) }},
	} {
		u := storetest.Account(t, s, test.login)
		login, err := s.LookupLogin(ctx, u.Login)
		if err != nil {
			t.Fatal(err)
		}
		_, since, err := s.Revocations(ctx, "0")
		if err != nil {
			t.Fatal(err)
		}
		if err := test.gone(u); err != nil {
			t.Fatal(err)
		}
		if revoked, _, err := s.Revocations(ctx, since); err != nil || !endedBy(revoked, login.Standing) {
			t.Errorf("%s: %+v, %v", test.login, revoked, err)
		}
	}
	if err := store.ForgetRevocations(s, ctx); err != nil {
		t.Fatal(err)
	}
	if revoked, _, err := s.Revocations(ctx, "0"); err != nil || len(revoked) < 2 {
		t.Errorf("soon after: %+v, %v", revoked, err)
	}
	if _, err := connectAs(t, c.OwnerDSN).Exec(ctx, `UPDATE revocation SET at = at - interval '25 hours'`); err != nil {
		t.Fatal(err)
	}
	if err := store.ForgetRevocations(s, ctx); err != nil {
		t.Fatal(err)
	}
	if revoked, _, err := s.Revocations(ctx, "0"); err != nil || len(revoked) != 0 {
		t.Errorf("a day later: %+v, %v", revoked, err)
	}
}

// An issuer is believed as its tenant has said, and nobody's session outlives it.
func TestIssuers(t *testing.T) {
	ctx := t.Context()
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	i := store.Issuer{URL: "https://login.one.test", Audience: "mail", Scope: "imap", Claim: "email", Unverified: true, Roles: true}
	if err := s.AddIssuer(ctx, u.Tenant, i); err != nil {
		t.Fatal(err)
	}
	if err := s.AddIssuer(ctx, u.Tenant, i); !errors.Is(err, store.ErrIssuerTaken) {
		t.Errorf("again: %v", err)
	}
	if all, err := s.Issuers(ctx, u.Tenant); err != nil || len(all) != 1 || all[0] != i {
		t.Errorf("Issuers = %+v, %v", all, err)
	}
	for _, wrong := range []store.Issuer{
		{URL: "http://login.one.test", Audience: "mail", Claim: "email"}, {URL: "https://", Audience: "mail", Claim: "email"},
		{URL: "https://x", Claim: "email"}, {URL: "https://x", Audience: "mail", Claim: "name"},
	} {
		var invalid *store.InvalidError
		if err := s.AddIssuer(ctx, u.Tenant, wrong); !errors.As(err, &invalid) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	login, err := s.LookupLogin(ctx, u.Login)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []error{nil, store.ErrNoIssuer} {
		if err := s.RemoveIssuer(ctx, u.Tenant, i.URL); !errors.Is(err, want) {
			t.Errorf("remove: %v, want %v", err, want)
		}
	}
	if revoked, _, err := s.Revocations(ctx, "0"); err != nil || !endedBy(revoked, login.Standing) {
		t.Errorf("sessions go on: %+v, %v", revoked, err)
	}
}
