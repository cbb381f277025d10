package store

import (
	"context"

	"mailstead.dev/store/id"
)

// Login is what is needed to let somebody in.
type Login struct {
	User     User
	Password string // PHC string of the hash
	Disabled bool   // the account or its tenant
}

// LookupLogin finds an account by its login, whatever its tenant; ErrNoAccount.
func (s *Store) LookupLogin(ctx context.Context, login string) (Login, error) {
	const query = `SELECT tenant_id, account_id, login, role, password, disabled FROM lookup_login($1)`

	local, domain, err := normalizeAddress(login)
	if err != nil {
		return Login{}, ErrNoAccount
	}
	type row struct {
		TenantID  id.Tenant
		AccountID id.Account
		Login     string
		Role      Role
		Password  string
		Disabled  bool
	}
	rows, err := lookup[row](ctx, s, query, fold(local)+"@"+domain)
	if err != nil {
		return Login{}, err
	}
	if len(rows) == 0 {
		return Login{}, ErrNoAccount
	}
	r := rows[0]
	return Login{User: User{Tenant: r.TenantID, Account: r.AccountID, Login: r.Login, Role: r.Role}, Password: r.Password, Disabled: r.Disabled}, nil
}
