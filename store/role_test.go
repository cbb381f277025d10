package store_test

import (
	"errors"
	"testing"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// TestActAs tries every role on users of its domain, its tenant and another
// tenant, and on those who have a role themselves.
func TestActAs(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	storetest.Domain(t, s, "one", "one.test")
	storetest.Domain(t, s, "one", "uno.test")
	actors := make(map[store.Role]store.User)
	for role := store.RoleNone; role <= store.RolePlatformAdmin; role++ {
		u := storetest.Account(t, s, role.String()+"@one.test")
		var domains []string
		if role == store.RoleDomainAdmin {
			domains = []string{"one.test"}
		}
		if err := s.SetRole(ctx, u, role, domains...); err != nil {
			t.Fatal(err)
		}
		login, err := s.LookupLogin(ctx, u.Login)
		if err != nil || login.User.Role != role {
			t.Fatalf("role of %s: %v, %v", u.Login, login.User.Role, err)
		}
		actors[role] = login.User
	}
	for _, login := range []string{"a@one.test", "a@uno.test", "a@two.test", "off@one.test"} {
		storetest.Account(t, s, login)
	}
	off, err := s.Account(ctx, "off@one.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DisableAccount(ctx, off.User(), true); err != nil {
		t.Fatal(err)
	}

	const refused, looks, acts, disabled = "refused", "looks", "acts", "disabled"
	for _, test := range []struct {
		login string
		want  map[store.Role]string // refused where a role is not named
	}{
		{"a@one.test", map[store.Role]string{store.RoleSupport: looks, store.RoleDomainAdmin: acts, store.RoleTenantAdmin: acts, store.RolePlatformSupport: looks, store.RolePlatformAdmin: acts}},
		{"A@UNO.TEST", map[store.Role]string{store.RoleSupport: looks, store.RoleTenantAdmin: acts, store.RolePlatformSupport: looks, store.RolePlatformAdmin: acts}},
		{"a@two.test", map[store.Role]string{store.RolePlatformSupport: looks, store.RolePlatformAdmin: acts}},
		{"off@one.test", map[store.Role]string{store.RoleSupport: disabled, store.RoleDomainAdmin: disabled, store.RoleTenantAdmin: disabled, store.RolePlatformSupport: disabled, store.RolePlatformAdmin: disabled}},
		{"nobody@one.test", nil},
		{"no address", nil},
		{"", nil},
		{"none@one.test", map[store.Role]string{store.RoleNone: acts, store.RoleSupport: looks, store.RoleDomainAdmin: acts, store.RoleTenantAdmin: acts, store.RolePlatformSupport: looks, store.RolePlatformAdmin: acts}},
		{"support@one.test", map[store.Role]string{store.RoleSupport: acts, store.RoleTenantAdmin: acts, store.RolePlatformAdmin: acts}},
		{"domain-admin@one.test", map[store.Role]string{store.RoleDomainAdmin: acts, store.RoleTenantAdmin: acts, store.RolePlatformAdmin: acts}},
		{"tenant-admin@one.test", map[store.Role]string{store.RoleTenantAdmin: acts, store.RolePlatformAdmin: acts}},
		{"platform-admin@one.test", map[store.Role]string{store.RolePlatformAdmin: acts}},
	} {
		for role, actor := range actors {
			want := refused
			if w, ok := test.want[role]; ok {
				want = w
			}
			u, _, err := s.ActAs(ctx, actor, test.login)
			got := acts
			switch {
			case errors.Is(err, store.ErrActAs):
				got = refused
			case errors.Is(err, store.ErrDisabled):
				got = disabled
			case err != nil:
				t.Fatalf("%s as %s: %v", role, test.login, err)
			case u.ReadOnly:
				got = looks
			}
			if got != want {
				t.Errorf("%s as %q: %s, want %s", role, test.login, got, want)
			}
			if err == nil && u.Account != actor.Account && (u.Role != store.RoleNone || u.Actor != actor.Login) {
				t.Errorf("%s as %q has role %s, and acts for %q", role, test.login, u.Role, u.Actor)
			}
		}
	}
}

// TestRolesOfDomains: a domain admin's domains are those of their tenant, and go with them.
func TestRolesOfDomains(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	mine := storetest.Domain(t, s, "one", "one.test")
	second := storetest.Domain(t, s, "one", "uno.test")
	theirs := storetest.Domain(t, s, "two", "two.test")
	u := storetest.Account(t, s, "a@one.test")
	var invalid *store.InvalidError
	for role, domains := range map[store.Role][]string{store.RoleDomainAdmin: nil, store.RoleTenantAdmin: {"one.test"}} {
		if err := s.SetRole(ctx, u, role, domains...); !errors.As(err, &invalid) {
			t.Errorf("%s of %q: %v, want *InvalidError", role, domains, err)
		}
	}
	if err := s.SetRole(ctx, u, store.RoleDomainAdmin, "one.test", "two.test"); !errors.Is(err, store.ErrNoDomain) {
		t.Errorf("an admin of another tenant's domain: %v, want %v", err, store.ErrNoDomain)
	}
	if a, err := s.Account(ctx, u.Login); err != nil || a.Role != store.RoleNone {
		t.Errorf("after a refusal the role is %s, %v", a.Role, err)
	}
	if err := s.SetRole(ctx, u, store.RoleDomainAdmin, "uno.test", "one.test"); err != nil {
		t.Fatal(err)
	}
	u.Role = store.RoleDomainAdmin
	for d, want := range map[*store.Domain]bool{&mine: true, &second: true, &theirs: false} {
		if got, err := s.AdministersDomain(ctx, u, *d); err != nil || got != want {
			t.Errorf("administers %s: %v, %v; want %v", d.Name, got, err, want)
		}
	}
	if err := s.DeleteDomain(ctx, "uno.test"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.AdministersDomain(ctx, u, second); err != nil || got {
		t.Errorf("administers a domain that is gone: %v, %v", got, err)
	}
	if err := s.SetRole(ctx, u, store.RoleNone); err != nil {
		t.Fatal(err)
	}
	if got, err := s.AdministersDomain(ctx, u, mine); err != nil || got {
		t.Errorf("administers after the role is gone: %v, %v", got, err)
	}
}
