package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// ErrNoDirectory is an ErrNotExist.
var ErrNoDirectory error = missing("directory")

// TenantDirectory returns the settings of the directory that a tenant has elsewhere, in the words of package directory; ErrNoDirectory.
func (s *Store) TenantDirectory(ctx context.Context, t id.Tenant) (settings string, err error) {
	const query = `SELECT settings FROM tenant_directory WHERE tenant_id = $1`

	err = s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t).QueryRow(func(row pgx.Row) error { return noRow(row.Scan(&settings), ErrNoDirectory) })
	})
	return settings, err
}

// SetTenantDirectory has a directory say who a tenant's users are, in the place of the passwords of their accounts, and ends the tenant's sessions.
func (s *Store) SetTenantDirectory(ctx context.Context, t id.Tenant, settings string) error {
	const query = `
		INSERT INTO tenant_directory (tenant_id, settings)
		VALUES ($1, $2)
		ON CONFLICT (tenant_id) DO UPDATE SET settings = excluded.settings`

	return s.changeTenantDirectory(ctx, t, func(tx pgx.Tx) (Act, error) {
		_, err := tx.Exec(ctx, query, t, settings)
		return Act{Action: "directory.set", Detail: map[string]string{"settings": settings}}, err
	})
}

// RemoveTenantDirectory takes back SetTenantDirectory; ErrNoDirectory.
func (s *Store) RemoveTenantDirectory(ctx context.Context, t id.Tenant) error {
	const query = `DELETE FROM tenant_directory WHERE tenant_id = $1`

	return s.changeTenantDirectory(ctx, t, func(tx pgx.Tx) (Act, error) {
		tag, err := tx.Exec(ctx, query, t)
		return Act{Action: "directory.remove"}, affected(tag, err, ErrNoDirectory)
	})
}

func (s *Store) changeTenantDirectory(ctx context.Context, t id.Tenant, change func(tx pgx.Tx) (Act, error)) error {
	const lock = `SELECT FROM tenant WHERE tenant_id = $1 AND NOT deleting FOR NO KEY UPDATE`

	return s.transact(ctx, t, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, lock, t)
		if err := affected(tag, err, ErrNoTenant); err != nil {
			return err
		}
		act, err := change(tx)
		if err != nil {
			return err
		}
		if err := revokeTenant(ctx, tx, t); err != nil {
			return err
		}
		return audit(ctx, tx, t, act)
	})
}
