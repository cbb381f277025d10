package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/quota"
)

// ChangeQuota changes what a root is held to, and returns it as it is then. A limit below what is
// used stops what would add to it; below it a soft limit does so after its grace, from now on. *InvalidError, ErrNoQuotaRoot.
func (s *Store) ChangeQuota(ctx context.Context, r QuotaRoot, change func(quota.Terms) (quota.Terms, error)) (QuotaRoot, error) {
	const (
		// The row is there for it, and locked.
		now = `
			INSERT INTO quota_root AS q (tenant_id, level, root, hard)
			VALUES ($1, $2, $3, '{NULL,NULL,NULL,NULL}')
			ON CONFLICT (tenant_id, level, root) DO UPDATE SET hard = q.hard
			RETURNING hard, soft, grace`

		set = `UPDATE quota_root SET hard = $4, soft = $5, grace = $6 WHERE tenant_id = $1 AND level = $2 AND root = $3`
	)
	err := s.transactAllSlots(ctx, r.tenant, func(tx pgx.Tx) error {
		if err := r.lock(ctx, tx); err != nil {
			return err
		}
		var hard, soft []*int64
		var grace int64
		if err := tx.QueryRow(ctx, now, r.tenant, int(r.level), r.id).Scan(&hard, &soft, &grace); err != nil {
			return err
		}
		terms, err := change(quota.Terms{Limits: quota.Limits(hard), Soft: quota.Limits(soft), Grace: seconds(grace)})
		if err != nil {
			return err
		}
		if err := checkTerms(terms); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, set, r.tenant, int(r.level), r.id, terms.Limits[:], terms.Soft[:], int64(terms.Grace/time.Second))
		if err != nil {
			return err
		}
		if err := applyLimits(ctx, tx, r.tenant, r.level, r.id); err != nil {
			return err
		}
		return audit(ctx, tx, r.tenant, Act{Action: "quota.set", Object: r.String(), Detail: map[string]any{
			"limits": terms.Limits.Named(), "soft": terms.Soft.Named(), "grace": terms.Grace.String(),
		}})
	})
	if err != nil {
		return QuotaRoot{}, err
	}
	s.roots.forget()
	return s.QuotaRoot(ctx, r.tenant, r.Root)
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// checkTerms refuses what means nothing.
func checkTerms(terms quota.Terms) error {
	for i, r := range quota.Resources {
		for _, limit := range []*int64{terms.Limits[i], terms.Soft[i]} {
			if limit != nil && *limit < 0 {
				return &InvalidError{"limit", fmt.Sprint(r, " ", *limit), "it cannot be below zero"}
			}
		}
	}
	if terms.Grace < time.Second {
		return &InvalidError{"grace", terms.Grace.String(), "want a time of a second or more"}
	}
	return nil
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
