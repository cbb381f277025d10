package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Errors of app passwords. Each is an ErrNotExist or an ErrExists.
var (
	ErrNoAppPassword    error = missing("app password")
	ErrAppPasswordTaken error = taken("the account has an app password of that name")
)

// ErrAppPasswords says that an account has as many app passwords as it can have.
var ErrAppPasswords = errors.New("too many app passwords")

// maxAppPasswords bounds those of an account, each of which a wrong password is compared with.
const maxAppPasswords = 50

// AppPassword is a password for one program: it lets in to some protocols, perhaps only to read, perhaps for a
// time, and never with the role of its account.
type AppPassword struct {
	ID        id.AppPassword `db:"app_password_id"`
	Name      string         `db:"name"`
	Secret    string         `db:"-"` // as Login.Password; AppPasswords does not tell it
	Protocols []string       `db:"protocols"`
	ReadOnly  bool           `db:"read_only"`
	Created   time.Time      `db:"created_at"`
	Expires   *time.Time     `db:"expires_at"` // nil: never
	LastUsed  *time.Time     `db:"last_used"`  // to within an hour; nil: never
}

// AddAppPassword gives an account an app password; ErrAppPasswordTaken, ErrAppPasswords, ErrGuest.
func (s *Store) AddAppPassword(ctx context.Context, u User, p AppPassword) error {
	const (
		lock  = `SELECT FROM account WHERE tenant_id = $1 AND account_id = $2 AND NOT deleting FOR NO KEY UPDATE`
		count = `SELECT count(*) FROM app_password WHERE tenant_id = $1 AND account_id = $2`
		add   = `
			INSERT INTO app_password (tenant_id, account_id, name, secret, protocols, read_only, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`
	)
	if p.Name == "" || len(p.Name) > 100 || strings.ContainsFunc(p.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return &InvalidError{"app password", p.Name, "want a name of at most 100 bytes, without control characters"}
	}
	return s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, lock, u.Tenant, u.Account)
		if err := affected(tag, err, ErrNoAccount); err != nil {
			return err
		}
		if err := notGuest(ctx, tx, u); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, count, u.Tenant, u.Account).Scan(&n); err != nil {
			return err
		}
		if n >= maxAppPasswords {
			return fmt.Errorf("%w: %d", ErrAppPasswords, n)
		}
		if _, err := tx.Exec(ctx, add, u.Tenant, u.Account, p.Name, p.Secret, p.Protocols, p.ReadOnly, p.Expires); err != nil {
			return unique(err, ErrAppPasswordTaken)
		}
		return audit(ctx, tx, u.Tenant, Act{Action: "app-password.add", Object: u.Login, Detail: map[string]any{"name": p.Name, "read_only": p.ReadOnly}})
	})
}

// AppPasswords returns those of an account by name, also those that have expired.
func (s *Store) AppPasswords(ctx context.Context, u User) ([]AppPassword, error) {
	const query = `
		SELECT app_password_id, name, protocols, read_only, created_at, expires_at, last_used
		FROM app_password
		WHERE tenant_id = $1 AND account_id = $2
		ORDER BY name`

	var all []AppPassword
	err := s.snapshot(ctx, u.Tenant, func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(ctx, query, u.Tenant, u.Account) // CollectRows reports the error
		all, err = pgx.CollectRows(rows, pgx.RowToStructByName[AppPassword])
		return err
	})
	return all, err
}

// RevokeAppPassword takes an app password away, and ends the sessions that it has let in; ErrNoAppPassword.
func (s *Store) RevokeAppPassword(ctx context.Context, u User, name string) error {
	const (
		remove = `DELETE FROM app_password WHERE tenant_id = $1 AND account_id = $2 AND name = $3 RETURNING app_password_id`
		revoke = `INSERT INTO revocation (tenant_id, account_id, app_password_id) VALUES ($1, $2, $3)`
	)
	return s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		var gone id.AppPassword
		if err := tx.QueryRow(ctx, remove, u.Tenant, u.Account, name).Scan(&gone); err != nil {
			return noRow(err, ErrNoAppPassword)
		}
		if _, err := tx.Exec(ctx, revoke, u.Tenant, u.Account, gone); err != nil {
			return err
		}
		return audit(ctx, tx, u.Tenant, Act{Action: "app-password.revoke", Object: u.Login, Detail: map[string]string{"name": name}})
	})
}

// UsedAppPassword notes that an app password has been used now.
func (s *Store) UsedAppPassword(ctx context.Context, u User, p id.AppPassword) error {
	const query = `UPDATE app_password SET last_used = now() WHERE tenant_id = $1 AND account_id = $2 AND app_password_id = $3`

	return s.batch(ctx, u.Tenant, func(b *pgx.Batch) { b.Queue(query, u.Tenant, u.Account, p) })
}
