package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Who has been let in stays for days, so what lets them in no more ends their sessions as well: another password, a
// role that is taken away, an account or tenant that is disabled or deleted. Each such act writes a
// revocation in its transaction, and every front end reads what is new each second (package auth).

// keptRevocations is for how long revocations are kept: a front end that has not reached the database
// for that long has no session that could do anything.
const keptRevocations = 24 * time.Hour

// Standing is what a session rests on: a login, as it was when it was let in.
type Standing struct {
	Tenant      id.Tenant
	Account     id.Account
	AppPassword id.AppPassword // by which it was; 0: by none

	accountRevoked, tenantRevoked int64 // the last revocations that the login knows of
}

// Revocation is of all logins of a tenant or an account that were before it, or by an app password.
type Revocation struct {
	ID          int64
	Tenant      id.Tenant
	Account     id.Account     // 0: all of the tenant
	AppPassword id.AppPassword // 0: by whatever
}

// Ends tells whether a login does not hold any more.
func (r Revocation) Ends(s Standing) bool {
	switch {
	case r.Tenant != s.Tenant:
		return false
	case r.Account == 0:
		return s.tenantRevoked < r.ID
	case r.Account != s.Account:
		return false
	case r.AppPassword != 0:
		return s.AppPassword == r.AppPassword
	}
	return s.accountRevoked < r.ID
}

// Revocations returns what has been revoked since an earlier call returned since ("0": all that is known), and what to
// ask with next. What was told before may be told again.
func (s *Store) Revocations(ctx context.Context, since string) (revoked []Revocation, next string, err error) {
	const query = `SELECT next, revocation_id, tenant_id, account_id, app_password_id FROM revocations_since($1)`

	type row struct {
		Next          string
		RevocationID  int64
		TenantID      id.Tenant
		AccountID     id.Account
		AppPasswordID id.AppPassword
	}
	rows, err := lookup[row](ctx, s, query, since)
	if err != nil {
		return nil, "", err
	}
	for _, r := range rows {
		if r.Next != "" {
			next = r.Next
			continue
		}
		revoked = append(revoked, Revocation{r.RevocationID, r.TenantID, r.AccountID, r.AppPasswordID})
	}
	return revoked, next, nil
}

// revokeAccount ends all sessions of an account whose row the transaction has locked.
func revokeAccount(ctx context.Context, tx pgx.Tx, u User) error {
	const query = `
		WITH made AS (INSERT INTO revocation (tenant_id, account_id, app_password_id) VALUES ($1, $2, 0) RETURNING revocation_id)
		UPDATE account SET revoked = made.revocation_id FROM made WHERE tenant_id = $1 AND account_id = $2`

	_, err := tx.Exec(ctx, query, u.Tenant, u.Account)
	return err
}

// revokeTenant ends all sessions of a tenant whose row the transaction has locked.
func revokeTenant(ctx context.Context, tx pgx.Tx, t id.Tenant) error {
	const query = `
		WITH made AS (INSERT INTO revocation (tenant_id, account_id, app_password_id) VALUES ($1, 0, 0) RETURNING revocation_id)
		UPDATE tenant SET revoked = made.revocation_id FROM made WHERE tenant_id = $1`

	_, err := tx.Exec(ctx, query, t)
	return err
}

// forgetRevocations is the chore that removes those that no session can be of any more.
func (s *Store) forgetRevocations(ctx context.Context) error {
	type row struct{ N int64 }
	_, err := lookupOnce[row](ctx, s, `SELECT forget_revocations($1) AS n`, []any{keptRevocations})
	return err
}
