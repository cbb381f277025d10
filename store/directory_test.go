package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

func TestTenants(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	one, err := s.CreateTenant(ctx, "one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateTenant(ctx, "one"); !errors.Is(err, store.ErrTenantTaken) || !errors.Is(err, store.ErrExists) {
		t.Errorf("a second tenant of the name: %v, want %v", err, store.ErrTenantTaken)
	}
	for _, name := range []string{"", "One", "-one", "one two", strings.Repeat("x", 64), "one\n"} {
		var invalid *store.InvalidError
		if _, err := s.CreateTenant(ctx, name); !errors.As(err, &invalid) {
			t.Errorf("CreateTenant(%q): %v, want *InvalidError", name, err)
		}
	}
	if got, err := s.Tenant(ctx, "one"); err != nil || got != one {
		t.Errorf("Tenant = %v, %v; want %v", got, err, one)
	}
	if _, err := s.Tenant(ctx, "two"); !errors.Is(err, store.ErrNoTenant) || !errors.Is(err, store.ErrNotExist) {
		t.Errorf("Tenant of a name that is not there: %v", err)
	}
	if err := s.DisableTenant(ctx, one.ID, true); err != nil {
		t.Fatal(err)
	}
	all, err := s.Tenants(ctx)
	if err != nil || len(all) != 1 || !all[0].Disabled {
		t.Errorf("Tenants = %v, %v", all, err)
	}
	if err := s.DisableTenant(ctx, 99, true); !errors.Is(err, store.ErrNoTenant) {
		t.Errorf("DisableTenant of one that is not there: %v", err)
	}
}

func TestDomains(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	one := storetest.Domain(t, s, "one", "One.Test")
	two := storetest.Domain(t, s, "two", "bücher.test.")
	if one.Name != "one.test" || two.Name != "xn--bcher-kva.test" || store.DisplayDomain(two.Name) != "bücher.test" {
		t.Errorf("names %q and %q", one.Name, two.Name)
	}
	if _, err := s.CreateDomain(ctx, two.Tenant, "ONE.test"); !errors.Is(err, store.ErrDomainTaken) {
		t.Errorf("another tenant's domain: %v, want %v", err, store.ErrDomainTaken)
	}
	if _, err := s.CreateDomain(ctx, 99, "three.test"); !errors.Is(err, store.ErrNoTenant) {
		t.Errorf("a domain of nobody: %v, want %v", err, store.ErrNoTenant)
	}
	for _, name := range []string{"", ".", "a..b", "a_b.test", "-a.test", "a b", "[127.0.0.1]", strings.Repeat("x", 64) + ".test", "x@y.test"} {
		var invalid *store.InvalidError
		if _, err := s.CreateDomain(ctx, one.Tenant, name); !errors.As(err, &invalid) {
			t.Errorf("CreateDomain(%q): %v, want *InvalidError", name, err)
		}
	}
	user := storetest.Account(t, s, "a@one.test")
	if err := s.DeleteDomain(ctx, "one.test"); !errors.Is(err, store.ErrInUse) {
		t.Errorf("DeleteDomain of one in use: %v, want %v", err, store.ErrInUse)
	}
	if got, err := s.Domain(ctx, "one.TEST"); err != nil || got.Accounts != 1 {
		t.Errorf("Domain = %+v, %v; want one account", got, err)
	}
	if err := s.DeleteAccount(ctx, user); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteDomain(ctx, "one.test"); err != nil {
		t.Error(err)
	}
	if _, err := s.Domain(ctx, "one.test"); !errors.Is(err, store.ErrNoDomain) {
		t.Errorf("Domain after its deletion: %v", err)
	}
	if all, err := s.Domains(ctx, two.Tenant); err != nil || len(all) != 1 || all[0].ID != two.ID {
		t.Errorf("Domains = %v, %v", all, err)
	}
}

func TestAccounts(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	domain := storetest.Domain(t, s, "one", "one.test")
	limit := int64(10)
	a, err := s.CreateAccount(ctx, store.NewAccount{Login: "Ann.Other@One.Test", Password: "$x", MessageLimit: &limit})
	if err != nil {
		t.Fatal(err)
	}
	if a.Login != "ann.other@one.test" || !a.HasPassword || a.MessageLimit == nil || *a.MessageLimit != 10 || a.StorageLimit != nil {
		t.Errorf("CreateAccount = %+v", a)
	}
	for _, test := range []struct {
		login string
		want  error
	}{
		{"ann.other@one.test", store.ErrAddressTaken},
		{"ANN.OTHER@one.test", store.ErrAddressTaken},
		{"a@two.test", store.ErrNoDomain},
	} {
		if _, err := s.CreateAccount(ctx, store.NewAccount{Login: test.login}); !errors.Is(err, test.want) {
			t.Errorf("CreateAccount(%q): %v, want %v", test.login, err, test.want)
		}
	}
	for _, login := range []string{
		"", "a", "@one.test", "a@", "a b@one.test", ".a@one.test", "a..b@one.test", "a.@one.test", `"a"@one.test`,
		"a+b@one.test", "a\x00@one.test", "a\xff@one.test", strings.Repeat("x", 65) + "@one.test", "a@b@one.test",
	} {
		var invalid *store.InvalidError
		if _, err := s.CreateAccount(ctx, store.NewAccount{Login: login}); !errors.As(err, &invalid) {
			t.Errorf("CreateAccount(%q): %v, want *InvalidError", login, err)
		}
	}
	if err := s.SetLimits(ctx, a.User(), nil, &limit); err != nil {
		t.Fatal(err)
	}
	if err := s.SetPassword(ctx, a.User(), ""); err != nil {
		t.Fatal(err)
	}
	if a, err = s.Account(ctx, "ann.other@one.test"); err != nil || a.HasPassword || a.MessageLimit != nil || *a.StorageLimit != 10 {
		t.Errorf("Account = %+v, %v", a, err)
	}
	negative := int64(-1)
	if err := s.SetLimits(ctx, a.User(), &negative, nil); err == nil {
		t.Error("a limit below zero was set")
	}
	if err := s.SetPassword(ctx, store.User{Tenant: domain.Tenant, Account: 999}, "x"); !errors.Is(err, store.ErrNoAccount) {
		t.Errorf("SetPassword of nobody: %v", err)
	}
}

// Another tenant's account cannot be changed under one's own tenant.
func TestAccountOfAnotherTenant(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	one, two := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "a@two.test")
	mixed := store.User{Tenant: one.Tenant, Account: two.Account, Login: two.Login}
	for what, err := range map[string]error{
		"SetPassword":    s.SetPassword(ctx, mixed, "x"),
		"DisableAccount": s.DisableAccount(ctx, mixed, true),
		"DeleteAccount":  s.DeleteAccount(ctx, mixed),
		"SetLimits":      s.SetLimits(ctx, mixed, nil, nil),
	} {
		if !errors.Is(err, store.ErrNoAccount) {
			t.Errorf("%s: %v, want %v", what, err, store.ErrNoAccount)
		}
	}
	if _, err := s.LookupLogin(ctx, "a@two.test"); err != nil {
		t.Errorf("the other account after it: %v", err)
	}
}

func TestCreateAccountsInBulk(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	domain := storetest.Domain(t, s, "one", "one.test")
	var wanted []store.NewAccount
	for i := range 120 {
		wanted = append(wanted, store.NewAccount{Login: fmt.Sprintf("user%04d@one.test", i)})
	}
	if err := s.CreateAccounts(ctx, wanted); err != nil {
		t.Fatal(err)
	}
	n := 0
	for a, err := range s.Accounts(ctx, domain.Tenant) {
		if err != nil {
			t.Fatal(err)
		}
		if a.Login != wanted[n].Login {
			t.Errorf("account %d is %s, want %s", n, a.Login, wanted[n].Login)
		}
		n++
	}
	if n != len(wanted) {
		t.Errorf("%d accounts, want %d", n, len(wanted))
	}
}

func TestLookupLogin(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	user := storetest.Account(t, s, "a@one.test")
	login, err := s.LookupLogin(ctx, "A@ONE.test")
	user.Subject = login.User.Subject
	if err != nil || login.User != user || login.Disabled || login.Password == "" {
		t.Errorf("LookupLogin = %+v, %v", login, err)
	}
	for _, unknown := range []string{"", "a", "b@one.test", "a@two.test", "a+x@one.test", "' OR 1=1 --@one.test", "a@\x00", "a\x00@one.test"} {
		if got, err := s.LookupLogin(ctx, unknown); !errors.Is(err, store.ErrNoAccount) {
			t.Errorf("LookupLogin(%q) = %v, %v; want %v", unknown, got, err, store.ErrNoAccount)
		}
	}
	disabled := func(want bool) {
		t.Helper()
		if login, err := s.LookupLogin(ctx, "a@one.test"); err != nil || login.Disabled != want {
			t.Errorf("LookupLogin = %+v, %v; want disabled %t", login, err, want)
		}
	}
	tenantDisabled := func(want bool) {
		t.Helper()
		if login, err := s.LookupLogin(ctx, "nobody@one.test"); !errors.Is(err, store.ErrNoAccount) || login.Disabled != want {
			t.Errorf("LookupLogin of nobody = %+v, %v; want disabled %t", login, err, want)
		}
	}
	for _, off := range []bool{true, false} {
		if err := s.DisableAccount(ctx, user, off); err != nil {
			t.Fatal(err)
		}
		disabled(off)
	}
	tenantDisabled(false)
	if err := s.DisableTenant(ctx, user.Tenant, true); err != nil {
		t.Fatal(err)
	}
	disabled(true)
	tenantDisabled(true)
}

func TestAliases(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	user := storetest.Account(t, s, "a@one.test")
	storetest.Account(t, s, "a@two.test")
	if _, err := s.CreateAlias(ctx, "Sales@one.test", "A@one.test", "a@one.test"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		address string
		targets []string
		want    error
	}{
		{"sales@one.test", []string{"a@one.test"}, store.ErrAddressTaken},
		{"a@one.test", []string{"sales@one.test"}, store.ErrAddressTaken},
		{"x@three.test", []string{"a@one.test"}, store.ErrNoDomain},
		{"x@one.test", []string{"a@two.test"}, nil},
		{"x@one.test", []string{"a@three.test"}, nil},
		{"x@one.test", []string{"x@one.test"}, nil},
		{"x@one.test", []string{"nonsense"}, nil},
		{"x@one.test", nil, nil},
	} {
		_, err := s.CreateAlias(ctx, test.address, test.targets...)
		var invalid *store.InvalidError
		if test.want == nil && !errors.As(err, &invalid) || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("CreateAlias(%q, %q): %v, want %v", test.address, test.targets, err, test.want)
		}
	}
	if _, err := s.CreateAccount(ctx, store.NewAccount{Login: "sales@one.test"}); !errors.Is(err, store.ErrAddressTaken) {
		t.Errorf("an account under an alias's address: %v", err)
	}
	all, err := s.Aliases(ctx, user.Tenant)
	if err != nil || len(all) != 1 || !slices.Equal(all[0].Targets, []string{"a@one.test"}) {
		t.Errorf("Aliases = %v, %v", all, err)
	}
	if err := s.DeleteAlias(ctx, "sales@ONE.test"); err != nil {
		t.Error(err)
	}
	if err := s.DeleteAlias(ctx, "sales@one.test"); !errors.Is(err, store.ErrNoAlias) {
		t.Errorf("DeleteAlias again: %v", err)
	}
	if err := s.SetAlias(ctx, "sales@one.test", "a@one.test"); !errors.Is(err, store.ErrNoAlias) {
		t.Errorf("SetAlias of one that is not there: %v", err)
	}
}

// resolve returns what an address delivers to, as logins with their mailboxes.
func resolve(t *testing.T, s *store.Store, address string) (to []string, err error) {
	t.Helper()
	recipients, err := s.ResolveRecipient(t.Context(), address)
	for _, r := range recipients {
		to = append(to, r.User.Login+" "+r.Mailbox.Name)
	}
	slices.Sort(to)
	return to, err
}

func TestResolveRecipient(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	for _, login := range []string{"a@one.test", "b@one.test", "off@one.test", "rest@one.test", "é@xn--bcher-kva.test", "a@two.test"} {
		storetest.Account(t, s, login)
	}
	off, err := s.Account(ctx, "off@one.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DisableAccount(ctx, off.User(), true); err != nil {
		t.Fatal(err)
	}
	for address, targets := range map[string][]string{
		"list@one.test":      {"a@one.test", "b@one.test"},
		"lists@one.test":     {"list@one.test", "a@one.test", "off@one.test"},
		"loop@one.test":      {"round@one.test"},
		"round@one.test":     {"loop@one.test"},
		"loopplus@one.test":  {"loopplus2@one.test", "a@one.test"},
		"loopplus2@one.test": {"loopplus@one.test"},
		"exact+it@one.test":  {"b@one.test"},
		"folder@one.test":    {"a@one.test", "b+Trash@one.test"},
		"offs@one.test":      {"off@one.test"},
	} {
		if _, err := s.CreateAlias(ctx, address, targets...); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 14 {
		to := fmt.Sprintf("deep%d@one.test", i+1)
		if i == 13 {
			to = "a@one.test"
		}
		if _, err := s.CreateAlias(ctx, fmt.Sprintf("deep%d@one.test", i), to); err != nil {
			t.Fatal(err)
		}
	}
	check := func(address string, wantErr error, want ...string) {
		t.Helper()
		if got, err := resolve(t, s, address); !errors.Is(err, wantErr) || !slices.Equal(got, want) {
			t.Errorf("ResolveRecipient(%q) = %q, %v; want %q, %v", address, got, err, want, wantErr)
		}
	}
	check("a@one.test", nil, "a@one.test INBOX")
	check("A@ONE.Test", nil, "a@one.test INBOX")
	check("a@one.test.", nil, "a@one.test INBOX")
	check("É@bücher.test", nil, "é@xn--bcher-kva.test INBOX")
	check("e\u0301@BÜCHER.test", nil, "é@xn--bcher-kva.test INBOX")
	check("a+Sent@one.test", nil, "a@one.test Sent")
	check("a+sENT@one.test", nil, "a@one.test Sent")
	check("a+inbox@one.test", nil, "a@one.test INBOX")
	check("a+nothing@one.test", nil, "a@one.test INBOX")
	check("a+@one.test", nil, "a@one.test INBOX")
	check("a+Sent+x@one.test", nil, "a@one.test INBOX")
	check("list@one.test", nil, "a@one.test INBOX", "b@one.test INBOX")
	check("list+Junk@one.test", nil, "a@one.test Junk", "b@one.test Junk")
	check("lists@one.test", nil, "a@one.test INBOX", "b@one.test INBOX")
	check("folder@one.test", nil, "a@one.test INBOX", "b@one.test Trash")
	check("folder+Junk@one.test", nil, "a@one.test Junk", "b@one.test Trash")
	check("exact+it@one.test", nil, "b@one.test INBOX")
	check("loopplus@one.test", nil, "a@one.test INBOX")
	check("loop@one.test", store.ErrNoAccount)
	check("nobody@one.test", store.ErrNoAccount)
	check("+x@one.test", store.ErrNoAccount)
	check("a@nowhere.test", store.ErrNoAccount)
	check("", store.ErrNoAccount)
	check("a\x00@one.test", store.ErrNoAccount)
	check("off@one.test", store.ErrDisabled)
	check("offs@one.test", store.ErrDisabled)
	check("deep4@one.test", store.ErrUnavailable)
	check("deep6@one.test", nil, "a@one.test INBOX")

	if err := s.SetCatchAll(ctx, "one.test", "a@two.test"); err == nil {
		t.Error("another tenant's address became the catch-all")
	}
	if err := s.SetCatchAll(ctx, "one.test", "rest@one.test"); err != nil {
		t.Fatal(err)
	}
	check("nobody@one.test", nil, "rest@one.test INBOX")
	check("nobody+Sent@one.test", nil, "rest@one.test INBOX")
	check("a@one.test", nil, "a@one.test INBOX")
	check("off@one.test", store.ErrDisabled)
	if err := s.SetCatchAll(ctx, "one.test", ""); err != nil {
		t.Fatal(err)
	}
	check("nobody@one.test", store.ErrNoAccount)
}

// A domain that goes to another tenant does not take with it what aliases of
// the first still say.
func TestAliasIntoAnotherTenant(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	one := storetest.Account(t, s, "a@one.test")
	if _, err := s.CreateDomain(ctx, one.Tenant, "second.test"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateAlias(ctx, "list@one.test", "a@one.test", "a@second.test"); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteDomain(ctx, "second.test"); err != nil {
		t.Fatal(err)
	}
	storetest.Domain(t, s, "two", "second.test")
	storetest.Account(t, s, "a@second.test")
	if got, err := resolve(t, s, "list@one.test"); err != nil || !slices.Equal(got, []string{"a@one.test INBOX"}) {
		t.Errorf("ResolveRecipient = %q, %v; want one.test's account alone", got, err)
	}
}

func TestDeleteAccountWithoutMail(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	user := storetest.Account(t, s, "a@one.test")
	if err := s.DeleteAccount(ctx, user); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteAccount(ctx, user); !errors.Is(err, store.ErrNoAccount) {
		t.Errorf("DeleteAccount again: %v, want %v", err, store.ErrNoAccount)
	}
	if _, err := s.Account(ctx, "a@one.test"); !errors.Is(err, store.ErrNoAccount) {
		t.Errorf("Account after it: %v, want %v", err, store.ErrNoAccount)
	}
	if again := storetest.Account(t, s, "a@one.test"); again.Account == user.Account {
		t.Error("the account's number was used again")
	}
}

func TestDeleteTenantWithoutMail(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	one, two := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "a@two.test")
	storetest.Account(t, s, "b@one.test")
	if _, err := s.CreateAlias(ctx, "list@one.test", "a@one.test"); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteTenant(ctx, one.Tenant); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tenant(ctx, "one.test"); !errors.Is(err, store.ErrNoTenant) {
		t.Errorf("Tenant after its deletion: %v", err)
	}
	if err := s.DeleteTenant(ctx, one.Tenant); !errors.Is(err, store.ErrNoTenant) {
		t.Errorf("DeleteTenant again: %v", err)
	}
	if got, err := s.LookupLogin(ctx, "a@two.test"); err != nil || got.User.Account != two.Account || got.User.Tenant != two.Tenant {
		t.Errorf("the other tenant's login: %v, %v", got, err)
	}
	storetest.Domain(t, s, "three", "one.test") // is free again
}
