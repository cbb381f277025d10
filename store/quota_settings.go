package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/quota"
)

// ChangeQuota changes the limits of a root, and returns it as it is then. A limit below what is
// used stops what would add to it. *InvalidError, ErrNoQuotaRoot.
func (s *Store) ChangeQuota(ctx context.Context, r QuotaRoot, change func(quota.Limits) (quota.Limits, error)) (QuotaRoot, error) {
	const (
		now = `SELECT root_limits($1, $2, $3)`

		set = `
			INSERT INTO quota_root (tenant_id, level, root, hard)
			VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant_id, level, root) DO UPDATE SET hard = excluded.hard`
	)
	err := s.transactAllSlots(ctx, r.tenant, func(tx pgx.Tx) error {
		if err := r.lock(ctx, tx); err != nil {
			return err
		}
		var have []*int64
		if err := tx.QueryRow(ctx, now, r.tenant, int(r.level), r.id).Scan(&have); err != nil {
			return err
		}
		limits, err := change(quota.Limits(have))
		if err != nil {
			return err
		}
		for i, limit := range limits {
			if limit != nil && *limit < 0 {
				return &InvalidError{"limit", fmt.Sprint(quota.Resources[i], " ", *limit), "it cannot be below zero"}
			}
		}
		if _, err := tx.Exec(ctx, set, r.tenant, int(r.level), r.id, limits[:]); err != nil {
			return err
		}
		if err := applyLimits(ctx, tx, r.tenant, r.level, r.id); err != nil {
			return err
		}
		return audit(ctx, tx, r.tenant, Act{Action: "quota.set", Object: r.String(), Detail: limits.Named()})
	})
	if err != nil {
		return QuotaRoot{}, err
	}
	return s.QuotaRoot(ctx, r.tenant, r.Root)
}

// lock keeps what the root is of from being deleted.
func (r QuotaRoot) lock(ctx context.Context, tx pgx.Tx) error {
	const (
		account = `SELECT FROM account WHERE tenant_id = $1 AND account_id = $2 AND NOT deleting FOR SHARE`
		domain  = `SELECT FROM domain WHERE tenant_id = $1 AND domain_id = $2 FOR SHARE`
		tenant  = `SELECT FROM tenant WHERE tenant_id = $1 AND $2 = 0 AND NOT deleting FOR SHARE`
	)
	tag, err := tx.Exec(ctx, [...]string{account, domain, tenant}[r.level], r.tenant, r.id)
	return affected(tag, err, ErrNoQuotaRoot)
}
