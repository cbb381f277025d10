package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"mailstead.dev/auth"
	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/quota"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// devState is what `mailstead dev` must remember between its starts.
type devState struct {
	S3Access  string
	S3Secret  string
	Cells     string            // their secret
	Passwords map[string]string // of the demo users

	psql string // DSN for people; not kept
}

// domains are those of the demo tenant.
func (o devOptions) domains() [2]string {
	if o.demo == firstDemo {
		return [2]string{"demo.test", "second.test"}
	}
	return [2]string{o.demo + ".test", "second." + o.demo + ".test"}
}

// users are those of the demo tenant. Aliases in its second domain lead to them.
func (o devOptions) users() [2]string {
	return [2]string{"demo1@" + o.domains()[0], "demo2@" + o.domains()[0]}
}

// loadDevState reads the state, or makes a new one.
func loadDevState(path string, users [2]string) (*devState, error) {
	state := &devState{}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, state)
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
		if err != nil || state.Cells != "" {
			return state, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if state.S3Secret == "" {
		state.S3Access, state.S3Secret, state.Passwords = "mailstead", rand.Text(), map[string]string{}
		for _, login := range users {
			state.Passwords[login] = auth.Generate()
		}
	}
	state.Cells = rand.Text() + rand.Text()
	if text, err = json.MarshalIndent(state, "", "  "); err != nil {
		return nil, err
	}
	return state, writeWhole(path, text)
}

// writeWhole writes a file so that it is there whole or not at all.
func writeWhole(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // an error says that it has been renamed
	if _, err := f.Write(text); err != nil {
		f.Close()
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// provision makes the tenants, domains and accounts of `mailstead dev` that are missing.
func provision(ctx context.Context, c *config.Config, o devOptions, state *devState) (err error) {
	s, err := openStore(ctx, c, storeOptions(c, slog.New(slog.DiscardHandler)), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	domains, users, accounts := o.domains(), o.users(), o.accounts
	demo, err := provisionTenant(ctx, s, o.demo, domains[:]...)
	if err != nil {
		return err
	}
	for _, login := range users {
		if err := provisionAccounts(ctx, s, c, demo, []string{login}, state.Passwords[login]); err != nil {
			return err
		}
	}
	if err := provisionQuotas(ctx, s, o); err != nil {
		return err
	}
	for i, target := range users {
		if _, err := s.CreateAlias(ctx, fmt.Sprintf("demo%d@%s", i+1, domains[1]), target); err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	if accounts == 0 {
		return nil
	}
	others := accounts / 10
	if err := provisionAccounts(ctx, s, c, demo, numbered(domains[0], accounts-others), accountPassword); err != nil || others == 0 {
		return err
	}
	other, err := provisionTenant(ctx, s, "other", "other.test")
	if err != nil {
		return err
	}
	return provisionAccounts(ctx, s, c, other, numbered("other.test", others), accountPassword)
}

// quotas are the limits of STORAGE and MESSAGE of the demo users, their domain and their tenant.
func (o devOptions) quotas() map[quota.Root][2]int64 {
	return map[quota.Root][2]int64{
		{Level: quota.Account, Name: o.users()[0]}:  {10 << 30, 1_000_000},
		{Level: quota.Account, Name: o.users()[1]}:  {10 << 30, 1_000_000},
		{Level: quota.Domain, Name: o.domains()[0]}: {500 << 30, 50_000_000},
		{Level: quota.Tenant, Name: o.demo}:         {1 << 40, 100_000_000},
	}
}

// provisionQuotas sets the limits of roots that have none.
func provisionQuotas(ctx context.Context, s *store.Store, o devOptions) error {
	for root, limits := range o.quotas() {
		r, err := s.AnyQuota(ctx, root)
		if err != nil {
			return err
		}
		if r.Limits.Any() {
			continue
		}
		_, err = s.ChangeQuota(ctx, r, func(l quota.Terms) (quota.Terms, error) {
			return l.With(quota.Storage, &limits[0]).With(quota.Message, &limits[1]), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// accountPassword is that of all accounts of --accounts, for load generators.
const accountPassword = "pass"

func numbered(domain string, n int) []string {
	logins := make([]string, n)
	for i := range logins {
		logins[i] = fmt.Sprintf("user%04d@%s", i+1, domain)
	}
	return logins
}

func provisionTenant(ctx context.Context, s *store.Store, name string, domains ...string) (id.Tenant, error) {
	tenant, err := s.Tenant(ctx, name)
	if errors.Is(err, store.ErrNoTenant) {
		tenant, err = s.CreateTenant(ctx, name)
	}
	if err != nil {
		return 0, err
	}
	have := map[string]bool{}
	list, err := s.Domains(ctx, tenant.ID)
	if err != nil {
		return 0, err
	}
	for _, d := range list {
		have[d.Name] = true
	}
	for _, d := range domains {
		if !have[d] {
			if _, err := s.CreateDomain(ctx, tenant.ID, d); err != nil {
				return 0, err
			}
		}
	}
	return tenant.ID, nil
}

// provisionAccounts makes those of the logins, all of one domain, that are missing.
// They share what it is kept as: this is for data that anybody may see.
func provisionAccounts(ctx context.Context, s *store.Store, c *config.Config, t id.Tenant, logins []string, password string) error {
	have := map[string]bool{}
	for account, err := range s.Accounts(ctx, t) {
		if err != nil {
			return err
		}
		have[account.Login] = true
	}
	secret := ""
	var missing []store.NewAccount
	for _, login := range logins {
		if have[login] {
			continue
		}
		if secret == "" {
			var err error
			if secret, err = auth.NewSecret(store.Login{}, password, mechanisms(c)); err != nil {
				return err
			}
		}
		missing = append(missing, store.NewAccount{Login: login, Password: secret, Mailboxes: newMailboxes(c)})
	}
	if len(missing) == 0 {
		return nil
	}
	return s.CreateAccounts(ctx, missing)
}
