package storetest

import (
	"errors"
	"strings"
	"testing"

	"mailstead.dev/store"
)

// Password is that of all accounts that Account makes.
const Password = "pass"

// Secret is what Password is kept as, at a cost for tests.
const Secret = "$argon2id$v=19$m=64,t=1,p=1$c3Nzc3Nzc3Nzc3Nzc3Nzcw$sUGoSVixz5PyMPoznYFn2wZCu9DZ9O4IarQIrJs6Mnc" +
	" SCRAM-SHA-256$4096:c3Nzc3Nzc3Nzc3Nzc3Nzcw==$vMlMM9T5yVu+MUC1sld46m2J1UF2ZDx1CfdmafTlkkA=:62RjcYrVfvNf2QrUMf7AQDn+oIkyY93garnhrxnELhQ=" +
	" SCRAM-SHA-1$4096:c3Nzc3Nzc3Nzc3Nzc3Nzcw==$fuq//VH/qTs2owkCAPYbsxav2q8=:LHTLhdqS0g209AZIa532GrmLyQY="

// Account makes an account, with its domain and, of the same name, its tenant
// where they are not there: other domains are other tenants.
func Account(t testing.TB, s *store.Store, login string) store.User {
	t.Helper()
	_, domain, _ := strings.Cut(login, "@")
	_, err := s.Domain(t.Context(), domain)
	if errors.Is(err, store.ErrNoDomain) {
		Domain(t, s, domain, domain)
	} else if err != nil {
		t.Fatalf("domain %s: %v", domain, err)
	}
	a, err := s.CreateAccount(t.Context(), store.NewAccount{Login: login, Password: Secret})
	if err != nil {
		t.Fatalf("create account %s: %v", login, err)
	}
	return a.User()
}

// Domain makes a domain of a tenant, which is made where it is not there.
func Domain(t testing.TB, s *store.Store, tenant, domain string) store.Domain {
	t.Helper()
	owner, err := s.Tenant(t.Context(), tenant)
	if errors.Is(err, store.ErrNoTenant) {
		owner, err = s.CreateTenant(t.Context(), tenant)
	}
	if err != nil {
		t.Fatalf("tenant %s: %v", tenant, err)
	}
	d, err := s.CreateDomain(t.Context(), owner.ID, domain)
	if err != nil {
		t.Fatalf("create domain %s: %v", domain, err)
	}
	return d
}
