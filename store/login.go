package store

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Login is what is needed to let somebody in.
type Login struct {
	User         User
	Password     string // what it is verified by, in the words of package auth; "" lets nobody in
	Disabled     bool   // the account or its tenant
	Standing     Standing
	AppPasswords []LoginAppPassword // those that have not expired
	Directory    string             // the settings of the tenant's directory elsewhere, which is asked in the place of Password; "": there is none

	// Where it was looked up for an address:
	Attempts Attempts
	Known    time.Time // when it was noted last, to within a day, that the account had been logged in to from there; zero: never
	Trusted  bool      // the tenant lets nobody be kept out who comes from there

	Cell string // where there is no account: in which other cell the login's domain lives; "": in none
	Home Home   // of a guest
}

// LoginAppPassword is an app password, as what it takes to log in by it.
type LoginAppPassword struct {
	ID        id.AppPassword `json:"id"`
	Secret    string         `json:"secret"` // as Login.Password
	Protocols []string       `json:"protocols"`
	ReadOnly  bool           `json:"read_only"`
	Expires   time.Time      `json:"expires"` // zero: never
	Stale     bool           `json:"stale"`   // it was used last, as far as is known, more than an hour ago
}

// LookupLogin finds an account by its login, whatever its tenant; ErrNoAccount.
func (s *Store) LookupLogin(ctx context.Context, login string) (Login, error) {
	return s.LookupLoginFrom(ctx, login, netip.Addr{})
}

// LookupLoginFrom is LookupLogin for somebody who comes from an address. With ErrNoAccount it tells the tenant whose account it would be, whether that
// is disabled, its directory, or the cell, and what has failed.
func (s *Store) LookupLoginFrom(ctx context.Context, login string, from netip.Addr) (Login, error) {
	const query = `
		SELECT tenant_id, account_id, login, role, password, disabled, revoked, tenant_revoked, app_passwords, attempts, known, trusted, directory, cell, home, home_cell, home_subject, subject
		FROM lookup_login($1, nullif($2::text, '')::inet, $3)`

	normal, err := NormalLogin(login)
	if err != nil && !from.IsValid() {
		return Login{}, ErrNoAccount
	}
	type row struct { // nil: there is none
		TenantID      *id.Tenant
		AccountID     *id.Account
		Login         *string
		Role          *Role
		Password      *string
		Disabled      *bool
		Revoked       *int64
		TenantRevoked *int64
		AppPasswords  *string
		Attempts      *string
		Known         *time.Time
		Trusted       bool
		Directory     *string
		Cell          *string
		Home          *string
		HomeCell      *string
		HomeSubject   *string
		Subject       *string
	}
	rows, err := lookup[row](ctx, s, query, normal, inet(from), attemptsWithin) // normal may be "", which is nobody's
	if err != nil {
		return Login{}, err
	}
	r := rows[0]
	l := Login{Trusted: r.Trusted}
	if r.Directory != nil {
		l.Directory = *r.Directory
	}
	if r.Cell != nil {
		l.Cell = *r.Cell
	}
	if r.TenantID != nil {
		l.User.Tenant = *r.TenantID
	}
	if r.Disabled != nil {
		l.Disabled = *r.Disabled
	}
	if r.Attempts != nil {
		if err := json.Unmarshal([]byte(*r.Attempts), &l.Attempts); err != nil {
			return Login{}, fmt.Errorf("attempts: %w", err)
		}
	}
	if r.AccountID == nil {
		return l, ErrNoAccount
	}
	l.User = User{Tenant: *r.TenantID, Account: *r.AccountID, Login: *r.Login, Role: *r.Role, Subject: *r.Subject}
	l.Password = *r.Password
	l.Standing = Standing{Tenant: *r.TenantID, Account: *r.AccountID, accountRevoked: *r.Revoked, tenantRevoked: *r.TenantRevoked}
	if r.Home != nil {
		l.User.Guest, l.Home.Login = true, *r.Home
	}
	if r.HomeCell != nil {
		l.Home.Cell = *r.HomeCell
	}
	if r.HomeSubject != nil {
		l.Home.Subject = *r.HomeSubject
	}
	if r.Known != nil {
		l.Known = *r.Known
	}
	if r.AppPasswords != nil {
		if err := json.Unmarshal([]byte(*r.AppPasswords), &l.AppPasswords); err != nil {
			return Login{}, fmt.Errorf("app passwords of account %d: %w", l.User.Account, err)
		}
	}
	return l, nil
}

// NormalLogin returns a login as accounts have it, whether or not there is such an account.
func NormalLogin(login string) (string, error) {
	local, domain, err := normalizeAddress(login)
	if err != nil {
		return "", err
	}
	return fold(local) + "@" + domain, nil
}

// UpgradePassword puts another proof of the same password in the place of old, unless the account has got another password meanwhile.
func (s *Store) UpgradePassword(ctx context.Context, u User, old, secret string) error {
	const query = `UPDATE account SET password = $4 WHERE tenant_id = $1 AND account_id = $2 AND password = $3 AND NOT deleting`

	return s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, query, u.Tenant, u.Account, old, secret)
		return err
	})
}

// LoginSecret returns a secret of the deployment, with which what strangers are told of logins that do not exist is made: the same everywhere and
// each time, and nothing that they could compute.
func (s *Store) LoginSecret(ctx context.Context) ([]byte, error) {
	type row struct{ Secret []byte }
	rows, err := lookup[row](ctx, s, `SELECT secret FROM login_secret`)
	if err != nil {
		return nil, err
	}
	return rows[0].Secret, nil
}
