package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// auditQuotas is the chore that audits quotas, tenant by tenant.
func (s *Store) auditQuotas(ctx context.Context) error {
	return s.eachTenant(ctx, "audit quotas of", func(ctx context.Context, t id.Tenant) error {
		return s.inTurn(ctx, fmt.Sprintf("quota/%d", t), func(ctx context.Context, l *lease) error { return s.auditOften(ctx, l, t) })
	})
}

// auditOften audits a tenant if nobody has within the interval. What it finds is a metric and a line in the log: a
// counter that is wrong stays so until an operator has seen it.
func (s *Store) auditOften(ctx context.Context, l *lease, t id.Tenant) error {
	const (
		last = `SELECT at FROM quota_audit WHERE tenant_id = $1 AND at > now() - $2::interval`

		note = `
			INSERT INTO quota_audit (tenant_id, at, drift) VALUES ($1, now(), $2)
			ON CONFLICT (tenant_id) DO UPDATE SET at = excluded.at, drift = excluded.drift`
	)
	var at time.Time
	err := s.snapshot(ctx, t, func(tx pgx.Tx) error { return tx.QueryRow(ctx, last, t, s.options.AuditEvery).Scan(&at) })
	if !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	drift, _, err := s.AuditQuota(ctx, t)
	if err != nil {
		return err
	}
	s.maintained.audits.Add(1)
	s.maintained.quotaDrift.Add(int64(len(drift)))
	for _, d := range drift {
		s.log.ErrorContext(ctx, "a quota counter is not the recount", "tenant", t, "account", d.Account, "drift", d.String())
	}
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		if err := l.check(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, note, t, len(drift))
		return err
	})
}
