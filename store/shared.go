package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// noDomain is what a tenant's own account is counted under in the place of a domain.
const noDomain id.Domain = -1

// SharedAccount returns the account that a tenant's Shared mailboxes belong to, as one who acts: to it they
// are its own, by their names without SharedFolders. Where there is none yet it is made. It is no address and has no
// password, so nobody logs in as it and no mail goes there; it is counted and charged like others.
func (s *Store) SharedAccount(ctx context.Context, t id.Tenant) (u User, err error) {
	err = s.transact(ctx, t, func(tx pgx.Tx) error {
		u, err = sharedAccount(ctx, tx, t)
		return err
	})
	return u, err
}

func sharedAccount(ctx context.Context, tx pgx.Tx, t id.Tenant) (User, error) {
	const (
		find = `SELECT account_id FROM account WHERE tenant_id = $1 AND login = $2`
		make = `INSERT INTO account (tenant_id, domain_id, login, password) VALUES ($1, $3, $2, '') ON CONFLICT (login) DO NOTHING`
	)
	u := User{Tenant: t, Login: sharedLogin(t)}
	if err := lockTenant(ctx, tx, t); err != nil {
		return u, err
	}
	made, err := tx.Exec(ctx, make, t, u.Login, noDomain)
	if err != nil {
		return u, err
	}
	if err := tx.QueryRow(ctx, find, t, u.Login).Scan(&u.Account); err != nil || made.RowsAffected() == 0 {
		return u, err
	}
	return u, createState(ctx, tx, t, noDomain, u.Account)
}

// SetAutoSubscribe says whether users of a tenant are subscribed to what they are given the right to look up, from now on.
func (s *Store) SetAutoSubscribe(ctx context.Context, t id.Tenant, on bool) error {
	const query = `UPDATE tenant SET auto_subscribe = $2 WHERE tenant_id = $1`

	return s.transact(ctx, t, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, query, t, on)
		if err := affected(tag, err, ErrNoTenant); err != nil {
			return err
		}
		return audit(ctx, tx, t, Act{Action: "tenant.auto-subscribe", Detail: on})
	})
}
