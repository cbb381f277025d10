package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

const (
	closeEvery  = time.Minute        // how often hours are looked for that are over
	closeStep   = 200                // accounts whose hours one transaction closes, at most
	hoursAtOnce = 100                // hours of each, at most
	flushesKept = 7 * 24 * time.Hour // how long a front end that says nothing is remembered
	forgetHours = 5000               // hours that one transaction removes
	readsKept   = 24 * time.Hour     // how long reads stay that came too late for an account that is gone
)

// closeAll closes the hours of all accounts that are over, tenant by tenant. Where an account
// has been charged since, that is done already; here it is those in which nothing happened, also many of them after a time without maintenance.
func (s *Store) closeAll(ctx context.Context) error {
	return s.eachTenant(ctx, "close the hours of", s.CloseHours)
}

// CloseHours closes the hours of a tenant's accounts that are over. ErrBusy while another process does so.
func (s *Store) CloseHours(ctx context.Context, t id.Tenant) error {
	return s.inTurn(ctx, fmt.Sprintf("usage/%d", t), func(ctx context.Context, l *lease) error { return s.closeTenant(ctx, t, l) })
}

func (s *Store) closeTenant(ctx context.Context, t id.Tenant, l *lease) error {
	const due = `
		SELECT to_timestamp(c.now - c.now % 3600), u.closed_to
		FROM (SELECT metering_clock() AS now) c
		LEFT JOIN usage_tenant u ON u.tenant_id = $1`

	var upTo time.Time
	var closed *time.Time
	err := s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(due, t).QueryRow(func(row pgx.Row) error { return row.Scan(&upTo, &closed) })
	})
	if err != nil || closed != nil && !closed.Before(upTo) {
		return err
	}
	for more := true; more; {
		if more, err = s.closeSome(ctx, t, l, upTo); err != nil {
			return err
		}
	}
	if err := s.auditUsage(ctx, t, closed, upTo); err != nil {
		return err
	}
	return s.forgetUsage(ctx, t, upTo.Add(-s.options.UsageRetention))
}

// closeSome closes the hours of some accounts up to a time, or says that all are closed.
func (s *Store) closeSome(ctx context.Context, t id.Tenant, l *lease, upTo time.Time) (more bool, err error) {
	const (
		some = `
			SELECT count(close_hours($1, o.account_id, least(extract(epoch FROM $2::timestamptz)::bigint, o.metered_to + $4 * 3600), false))
			FROM (
				SELECT account_id, metered_to FROM account_state
				WHERE tenant_id = $1 AND metered_to < extract(epoch FROM $2::timestamptz)::bigint
				ORDER BY account_id
				LIMIT $3
				FOR NO KEY UPDATE
			) o`

		all = `SELECT close_tenant($1, $2)`
	)
	err = s.transact(ctx, t, func(tx pgx.Tx) error {
		more = true
		if err := l.check(ctx, tx); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, some, t, upTo, closeStep, hoursAtOnce).Scan(&n); err != nil || n > 0 {
			return err
		}
		var done bool
		err := tx.QueryRow(ctx, all, t, upTo).Scan(&done)
		more = !done
		return err
	})
	return more, err
}

// auditUsage counts what is wrong with the hours that were closed just now as drift.
func (s *Store) auditUsage(ctx context.Context, t id.Tenant, from *time.Time, to time.Time) error {
	missing, wrong, err := s.AuditUsage(ctx, t, from, to)
	if err != nil {
		return err
	}
	if missing != 0 || wrong > 0 {
		s.maintained.drift.Add(max(missing, -missing) + wrong)
		s.log.ErrorContext(ctx, "the ledger of usage does not agree with itself", "tenant", t, "to", to, "missing", missing, "wrong", wrong)
	}
	return nil
}

// AuditUsage checks the hours of a tenant's ledger from a time (nil: its
// beginning) to another: how many are missing of accounts that were there then, and how many do not fit those before:
// whatever was stored at the end of an hour was stored in the next one too, if only for a moment.
func (s *Store) AuditUsage(ctx context.Context, t id.Tenant, from *time.Time, to time.Time) (missing, wrong int64, err error) {
	const query = `
		WITH asked AS (
			SELECT greatest($2, kept_from, 'epoch') AS began, $3::timestamptz AS ended
			FROM usage_tenant
			WHERE tenant_id = $1
		), there AS (
			SELECT account_id,
			       greatest(since - since % 3600, extract(epoch FROM began)::bigint) AS began,
			       least(until - until % 3600 + 3600, extract(epoch FROM ended)::bigint) AS ended
			FROM usage_account, asked
			WHERE tenant_id = $1
		), closed AS (
			SELECT u.account_id, u.hour, u.peak_bytes, lag(u.bytes) OVER (PARTITION BY u.account_id ORDER BY u.hour) AS was
			FROM usage_hour u, asked
			WHERE u.tenant_id = $1 AND u.hour >= began - interval '1 hour' AND u.hour < ended
			UNION ALL
			SELECT s.account_id, ended, s.hour_peak_bytes, u.bytes
			FROM asked, account_state s
			JOIN usage_hour u ON u.tenant_id = s.tenant_id AND u.account_id = s.account_id AND u.hour = to_timestamp(s.metered_to - s.metered_to % 3600 - 3600)
			WHERE s.tenant_id = $1
		)
		SELECT (SELECT coalesce(sum(greatest(ended - began, 0) / 3600), 0) FROM there)
		     - (SELECT count(*) FROM closed, asked WHERE hour >= began AND hour < ended),
		       (SELECT count(*) FROM closed WHERE was > peak_bytes)`

	err = s.snapshot(ctx, t, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, unhurried); err != nil {
			return err
		}
		return tx.QueryRow(ctx, query, t, from, to).Scan(&missing, &wrong)
	})
	return missing, wrong, err
}

// forgetUsage removes what is too old of a tenant's ledger.
func (s *Store) forgetUsage(ctx context.Context, t id.Tenant, before time.Time) error {
	const (
		hours    = `SELECT forget_usage($1, $2)`
		accounts = `DELETE FROM usage_account WHERE tenant_id = $1 AND until < extract(epoch FROM $2::timestamptz)::bigint`
		flushes  = `DELETE FROM usage_flush WHERE tenant_id = $1 AND at < now() - $2::interval`
		late     = `DELETE FROM usage_read WHERE tenant_id = $1 AND hour < to_timestamp(metering_clock()) - $2::interval`
	)
	for n := int64(forgetHours); n == forgetHours; {
		err := s.transact(ctx, t, func(tx pgx.Tx) error { return tx.QueryRow(ctx, hours, before, forgetHours).Scan(&n) })
		if err != nil {
			return fmt.Errorf("forget old usage: %w", err)
		}
	}
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		for query, arg := range map[string]any{accounts: before, flushes: flushesKept, late: readsKept} {
			if _, err := tx.Exec(ctx, query, t, arg); err != nil {
				return err
			}
		}
		return nil
	})
}

// UsageOpen returns for how long the ledger has not been closed for all tenants, by the database's clock.
func (s *Store) UsageOpen(ctx context.Context) (time.Duration, error) {
	type row struct{ Seconds int64 }
	rows, err := lookup[row](ctx, s, `SELECT usage_open() AS seconds`)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	return time.Duration(rows[0].Seconds) * time.Second, nil
}
