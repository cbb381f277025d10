package store

import (
	"context"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Tenant is a customer of the platform.
type Tenant struct {
	ID       id.Tenant `db:"tenant_id"`
	Name     string    `db:"name"`
	Disabled bool      `db:"disabled"`   // its accounts can neither log in nor get mail
	Deleting bool      `db:"deleting"`   // DeleteTenant has begun
	Created  time.Time `db:"created_at"` // when it was made
}

var tenantName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

// CreateTenant makes a tenant; ErrTenantTaken.
func (s *Store) CreateTenant(ctx context.Context, name string) (Tenant, error) {
	const query = `SELECT tenant_id, name, disabled, deleting, created_at FROM create_tenant($1, $2)`

	if !tenantName.MatchString(name) {
		return Tenant{}, &InvalidError{"tenant", name, "want up to 63 of a-z, 0-9, dot and hyphen, the first of them a letter or digit"}
	}
	conn, err := s.acquire(ctx)
	if err != nil {
		return Tenant{}, err
	}
	defer conn.Release()
	rows, _ := conn.Query(ctx, query, name, actor(ctx)) // CollectExactlyOneRow reports the error
	t, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Tenant])
	return t, unique(s.lost(ctx, conn, err, sent), ErrTenantTaken)
}

// Tenants lists all tenants by name.
func (s *Store) Tenants(ctx context.Context) ([]Tenant, error) {
	return lookup[Tenant](ctx, s, `SELECT tenant_id, name, disabled, deleting, created_at FROM list_tenants()`)
}

// Tenant finds a tenant by its name; ErrNoTenant.
func (s *Store) Tenant(ctx context.Context, name string) (Tenant, error) {
	const query = `SELECT tenant_id, name, disabled, deleting, created_at FROM list_tenants() WHERE name = $1`

	found, err := lookup[Tenant](ctx, s, query, name)
	if err != nil {
		return Tenant{}, err
	}
	if len(found) == 0 {
		return Tenant{}, ErrNoTenant
	}
	return found[0], nil
}

// DisableTenant locks all accounts of a tenant out, or lets them in again.
func (s *Store) DisableTenant(ctx context.Context, t id.Tenant, disabled bool) error {
	const query = `UPDATE tenant SET disabled = $2 WHERE tenant_id = $1 RETURNING name`

	return s.transact(ctx, t, func(tx pgx.Tx) error {
		var name string
		if err := tx.QueryRow(ctx, query, t, disabled).Scan(&name); err != nil {
			return noRow(err, ErrNoTenant)
		}
		if err := revokeTenant(ctx, tx, t); err != nil {
			return err
		}
		return audit(ctx, tx, t, Act{Action: onOff("tenant", disabled), Object: name})
	})
}

// lockTenant keeps a tenant from being deleted while something is made in it.
func lockTenant(ctx context.Context, tx pgx.Tx, t id.Tenant) error {
	const query = `SELECT FROM tenant WHERE tenant_id = $1 AND NOT deleting FOR SHARE`

	tag, err := tx.Exec(ctx, query, t)
	return affected(tag, err, ErrNoTenant)
}
