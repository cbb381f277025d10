package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"mailstead.dev/store/id"
)

// Usage is what an account, a domain or a tenant used of one period.
type Usage struct {
	// ID is the same each time the same is asked for, and nothing else has it: who bills by it
	// bills once. "" where it is a part of a period, or of those in it, only.
	ID      string
	Account id.Account // 0 of a domain or a tenant
	Name    string     // a login, a domain, or the tenant's name as the caller knows it
	Domain  string     // "" of a tenant, and of what its Shared mailboxes hold
	From    time.Time  // when the period began
	To      time.Time  // and ended

	Bytes       int64       // stored at the end: the sum of RFC822.SIZE of every copy
	Messages    int64       // stored at the end
	ByteSeconds ByteSeconds // the integral of Bytes over the period
	// PeakBytes is the most that was stored at once. Of several accounts it is the sum of each one's most in an hour, in the hour in which that is highest.
	PeakBytes         int64
	AppendedMessages  int64 // by clients,
	AppendedBytes     int64
	DeliveredMessages int64 // by mail servers
	DeliveredBytes    int64
	FetchedBytes      int64 // that FETCH answered, before compression and TLS
	Searches          int64
}

// ByteSeconds is a number of octets times seconds: a whole number that may need more than 64 bits.
type ByteSeconds struct{ big.Int }

// ScanNumeric implements pgtype.NumericScanner.
func (b *ByteSeconds) ScanNumeric(n pgtype.Numeric) error {
	if !n.Valid || n.NaN || n.InfinityModifier != pgtype.Finite || n.Exp < 0 {
		return fmt.Errorf("not a whole number: %v", n)
	}
	b.Exp(big.NewInt(10), big.NewInt(int64(n.Exp)), nil)
	b.Mul(&b.Int, n.Int)
	return nil
}

// Average returns how many octets were stored for all of a time, to make that many.
func (b *ByteSeconds) Average(over time.Duration) float64 {
	f, _ := new(big.Float).SetInt(&b.Int).Float64()
	return f / over.Seconds()
}

// Scope is of whom usage is summed up.
type Scope string

// Scopes.
const (
	OfAccounts Scope = "account"
	OfDomains  Scope = "domain"
	OfTenant   Scope = "tenant"
)

// Unit is by which periods usage is summed up, those of UTC.
type Unit string

// Units.
const (
	ByHour  Unit = "hour"
	ByDay   Unit = "day"
	ByMonth Unit = "month"
)

var unitLayouts = map[Unit]string{ByHour: "2006-01-02T15", ByDay: "2006-01-02", ByMonth: "2006-01"}

// Start returns the beginning of the period that t is in.
func (u Unit) Start(t time.Time) time.Time {
	t = t.UTC()
	switch u {
	case ByMonth:
		return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	case ByDay:
		return t.Truncate(24 * time.Hour)
	}
	return t.Truncate(time.Hour)
}

// Next returns the beginning of the period after the one that begins at t.
func (u Unit) Next(t time.Time) time.Time {
	switch u {
	case ByMonth:
		return t.AddDate(0, 1, 0)
	case ByDay:
		return t.Add(24 * time.Hour)
	}
	return t.Add(time.Hour)
}

// UsageQuery asks for what was used of a time, which is one of whole hours.
type UsageQuery struct {
	From, To time.Time
	Scope    Scope
	Unit     Unit
	Login    string // only of this account; "": of all
	Domain   string // only of this domain; "": of all
}

// ErrNotKept says that hours of the ledger are so old that they may have been removed.
var ErrNotKept = errors.New("hours are not kept any more")

// Usage goes through what a tenant used, period by period, in each by name. Of
// hours that are closed (see UsageClosed) it is the same each time, or ErrNotKept. It reads a day at a time, or a unit where that is longer.
func (s *Store) Usage(ctx context.Context, t id.Tenant, q UsageQuery) iter.Seq2[Usage, error] {
	return func(yield func(Usage, error) bool) {
		page := ByDay
		if q.Unit == ByMonth {
			page = ByMonth
		}
		for from := q.From; from.Before(q.To); from = page.Next(page.Start(from)) {
			to := page.Next(page.Start(from))
			if q.To.Before(to) {
				to = q.To
			}
			if !s.usage(ctx, t, q, from, to, yield) {
				return
			}
		}
	}
}

// usage yields what was used of a part of the time, and reports whether to go on.
func (s *Store) usage(ctx context.Context, t id.Tenant, q UsageQuery, from, to time.Time, yield func(Usage, error) bool) bool {
	// The hours of one account are looked up one by one, by the key; those of many are a range of it.
	const query = `
		WITH those AS (
			SELECT a.account_id, a.domain,
			       CASE $4 WHEN 'account' THEN a.account_id ELSE 0 END AS key,
			       CASE $4 WHEN 'account' THEN a.login WHEN 'domain' THEN a.domain ELSE '' END AS name
			FROM usage_account a
			WHERE a.tenant_id = $1 AND ($6 = '' OR a.login = $6) AND ($7 = '' OR a.domain = $7)
		), hourly AS (
			SELECT w.key, w.name, CASE $4 WHEN 'tenant' THEN '' ELSE min(w.domain) END AS domain, u.hour,
			       sum(u.bytes) AS bytes, sum(u.messages) AS messages, sum(u.byte_seconds) AS byte_seconds, sum(u.peak_bytes) AS peak_bytes,
			       sum(u.appended_messages) AS appended_messages, sum(u.appended_bytes) AS appended_bytes,
			       sum(u.delivered_messages) AS delivered_messages, sum(u.delivered_bytes) AS delivered_bytes,
			       sum(u.fetched_bytes) AS fetched_bytes, sum(u.searches) AS searches
			FROM generate_series($2::timestamptz, $3::timestamptz - interval '1 hour', interval '1 hour') h (hour)
			JOIN usage_hour u ON u.tenant_id = $1 AND u.hour = h.hour
			JOIN those w ON w.account_id = u.account_id
			GROUP BY w.key, w.name, u.hour
		)
		SELECT key, name, domain, date_trunc($5, hour, 'UTC') AS began,
		       (array_agg(bytes ORDER BY hour DESC))[1]::bigint, (array_agg(messages ORDER BY hour DESC))[1]::bigint,
		       sum(byte_seconds), max(peak_bytes)::bigint, sum(appended_messages)::bigint, sum(appended_bytes)::bigint,
		       sum(delivered_messages)::bigint, sum(delivered_bytes)::bigint, sum(fetched_bytes)::bigint, sum(searches)::bigint
		FROM hourly
		GROUP BY key, name, domain, began
		ORDER BY began, name COLLATE "C", key`

	const forgotten = `SELECT FROM usage_tenant WHERE tenant_id = $1 AND kept_from > $2`

	more := true
	err := s.snapshot(ctx, t, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, unhurried); err != nil {
			return err
		}
		if tag, err := tx.Exec(ctx, forgotten, t, from); err != nil || tag.RowsAffected() > 0 {
			return cmp.Or(err, ErrNotKept)
		}
		rows, _ := tx.Query(ctx, query, t, from, to, string(q.Scope), string(q.Unit), q.Login, q.Domain) // Err reports the error
		defer rows.Close()
		for more && rows.Next() {
			var u Usage
			if err := rows.Scan(&u.Account, &u.Name, &u.Domain, &u.From, &u.Bytes, &u.Messages, &u.ByteSeconds, &u.PeakBytes,
				&u.AppendedMessages, &u.AppendedBytes, &u.DeliveredMessages, &u.DeliveredBytes, &u.FetchedBytes, &u.Searches); err != nil {
				return err
			}
			u.From = u.From.UTC()
			u.To = q.Unit.Next(u.From)
			if q.To.Before(u.To) {
				u.To = q.To
			}
			u.ID = q.record(t, &u)
			more = yield(u, nil)
		}
		return rows.Err()
	})
	if err != nil && more {
		more = yield(Usage{}, fmt.Errorf("read the ledger: %w", err))
	}
	return more && err == nil
}

// record returns what identifies a usage for good: an account by its number, which no other will have, a domain by its name.
func (q *UsageQuery) record(t id.Tenant, u *Usage) string {
	part := u.From.Before(q.From) || u.To != q.Unit.Next(u.From)
	some := q.Login != "" && q.Scope != OfAccounts || q.Domain != "" && q.Scope == OfTenant
	if part || some {
		return ""
	}
	whose := ""
	switch q.Scope {
	case OfAccounts:
		whose = fmt.Sprintf("/%d", u.Account)
	case OfDomains:
		whose = "/" + u.Name
	}
	return fmt.Sprintf("%s/%d%s/%s/%s", q.Scope, t, whose, q.Unit, u.From.Format(unitLayouts[q.Unit]))
}

// UsageClosed returns which hours of a tenant's ledger are closed and there, from
// one time to another: both zero where there are none. They never change, and none is missing.
func (s *Store) UsageClosed(ctx context.Context, t id.Tenant) (from, to time.Time, err error) {
	const query = `SELECT greatest(kept_from, 'epoch'), closed_to FROM usage_tenant WHERE tenant_id = $1`

	err = s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t).QueryRow(func(row pgx.Row) error { return row.Scan(&from, &to) })
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, time.Time{}, nil
	}
	return from.UTC(), to.UTC(), err
}

// meterAccount begins the ledger of an account that is made, from when its account_state says. A tenant's own account is of no domain.
func meterAccount(ctx context.Context, tx pgx.Tx, t id.Tenant, account id.Account) error {
	const query = `
		INSERT INTO usage_account (tenant_id, account_id, login, domain, since)
		SELECT a.tenant_id, a.account_id, a.login, coalesce(d.name, ''), s.metered_to
		FROM account a
		JOIN account_state s ON s.tenant_id = a.tenant_id AND s.account_id = a.account_id
		LEFT JOIN domain d ON d.tenant_id = a.tenant_id AND d.domain_id = a.domain_id
		WHERE a.tenant_id = $1 AND a.account_id = $2`

	_, err := tx.Exec(ctx, query, t, account)
	return err
}
