package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// LookAtQuotas looks, tenant by tenant, what time and use have made of quotas: whether grace is over, and what is to be warned of. It
// is one of Maintain's chores, and one process at a time does it: ErrBusy for the others.
func (s *Store) LookAtQuotas(ctx context.Context) error {
	defer s.roots.forget()
	return s.inTurn(ctx, "quotas", func(ctx context.Context, l *lease) error {
		limited, err := s.tenantsOf(ctx, `SELECT tenant_id FROM limited_tenants()`)
		if err != nil {
			return err
		}
		err = each(ctx, limited, "look at quotas of", func(ctx context.Context, t id.Tenant) error {
			return errors.Join(s.settleTenant(ctx, l, t), s.warnTenant(ctx, l, t))
		})
		if err != nil {
			return err
		}
		told, err := s.tenantsOf(ctx, `SELECT tenant_id FROM tenants_to_tell(true)`)
		if err != nil {
			return err
		}
		return each(ctx, told, "mail warnings of", func(ctx context.Context, t id.Tenant) error { return s.mailWarnings(ctx, l, t) })
	})
}

// tenantsOf asks for tenants that there is something to do for.
func (s *Store) tenantsOf(ctx context.Context, query string) ([]id.Tenant, error) {
	type row struct{ TenantID id.Tenant }
	found, err := lookup[row](ctx, s, query)
	tenants := make([]id.Tenant, len(found))
	for i, t := range found {
		tenants[i] = t.TenantID
	}
	return tenants, err
}

// settleTenant holds a tenant and its domains to their soft limits where grace is over, and lets them go again where no more is used.
func (s *Store) settleTenant(ctx context.Context, l *lease, t id.Tenant) error {
	const (
		due = `
			SELECT q.root
			FROM quota_root q
			WHERE q.tenant_id = $1 AND q.level > 0 AND q.soft <> '{NULL,NULL,NULL,NULL}'
			  AND root_now(q, slots_sum($1, q.root)) <> q
			ORDER BY q.root = 0, q.root`

		lock   = `SELECT FROM quota_slot WHERE tenant_id = $1 AND root = $2 ORDER BY slot FOR NO KEY UPDATE`
		settle = `SELECT FROM settle_root($1, $2, false)`
	)
	var roots []int64
	err := s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(due, t).Query(func(rows pgx.Rows) (err error) {
			roots, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			return err
		})
	})
	if err != nil || len(roots) == 0 {
		return err
	}
	return s.transactAllSlots(ctx, t, func(tx pgx.Tx) error {
		for _, root := range roots { // domains first, as the order of locks is
			for _, query := range []string{lock, settle} {
				if _, err := tx.Exec(ctx, query, t, root); err != nil {
					return fmt.Errorf("root %d: %w", root, err)
				}
			}
		}
		return l.check(ctx, tx)
	})
}
