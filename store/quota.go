package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/quota"
	"mailstead.dev/store/id"
)

// chargeNames charges an account, its domain and its tenant for mailboxes and octets of annotations: what
// charge_account does for messages. It comes last in a transaction, for its locks are the last in their order. *quota.OverError, by changeError.
func chargeNames(ctx context.Context, tx pgx.Tx, u User, mailboxes int, annotations int64) error {
	const query = `SELECT charge_names($1, $2, $3, $4)`

	if mailboxes == 0 && annotations == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, query, u.Tenant, u.Account, mailboxes, annotations)
	return err
}

// quotaLevel is a level as the database has it.
type quotaLevel int

const (
	levelAccount quotaLevel = iota
	levelDomain
	levelTenant
)

// QuotaRoot is a quota root, with what is used of it and what it is held to.
type QuotaRoot struct {
	quota.Root
	quota.Terms
	Used quota.Amounts
	Over [len(quota.Resources)]*time.Time // since when more is used than the soft limit; nil: it is not

	tenant id.Tenant
	level  quotaLevel
	id     int64 // of the account or domain; 0 of the tenant
}

// ErrNoQuotaRoot says that a tenant has no quota root of a name.
var ErrNoQuotaRoot = errors.New("no such quota root")

// QuotaRoots returns the quota roots of an account's mailboxes: its own, its domain's, its tenant's. A tenant's Shared mailboxes are of no domain.
func (s *Store) QuotaRoots(ctx context.Context, t id.Tenant, account id.Account) ([]QuotaRoot, error) {
	var roots []QuotaRoot
	err := s.readSnapshot(ctx, t, func(b *pgx.Batch) {
		roots = roots[:0]
		queueAccountRoot(b, t, account, &roots)
		queueDomainRoot(b, t, account, 0, &roots)
		queueTenantRoot(b, t, &roots)
	})
	if err == nil && (len(roots) == 0 || roots[0].level != levelAccount) {
		err = ErrNoAccount
	}
	return roots, err
}

// QuotaRoot finds a quota root of a tenant by its name; ErrNoQuotaRoot.
func (s *Store) QuotaRoot(ctx context.Context, t id.Tenant, name quota.Root) (QuotaRoot, error) {
	const (
		account = `SELECT account_id FROM account WHERE tenant_id = $1 AND login = $2 AND NOT deleting`
		domain  = `SELECT domain_id FROM domain WHERE tenant_id = $1 AND name = $2`
	)
	query := account
	if name.Level == quota.Domain {
		query = domain
	}
	var found int64
	if name.Level != quota.Tenant {
		err := s.read(ctx, t, func(b *pgx.Batch) {
			b.Queue(query, t, name.Name).QueryRow(func(row pgx.Row) error { return row.Scan(&found) })
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return QuotaRoot{}, ErrNoQuotaRoot
		}
		if err != nil {
			return QuotaRoot{}, err
		}
	}
	var roots []QuotaRoot
	err := s.readSnapshot(ctx, t, func(b *pgx.Batch) {
		roots = roots[:0]
		switch name.Level {
		case quota.Account:
			queueAccountRoot(b, t, id.Account(found), &roots)
		case quota.Domain:
			queueDomainRoot(b, t, 0, id.Domain(found), &roots)
		default:
			queueTenantRoot(b, t, &roots)
		}
	})
	if err == nil && (len(roots) == 0 || roots[0].Root != name) {
		err = ErrNoQuotaRoot
	}
	if err != nil {
		return QuotaRoot{}, err
	}
	return roots[0], nil
}

func queueAccountRoot(b *pgx.Batch, t id.Tenant, account id.Account, roots *[]QuotaRoot) {
	const query = `
		SELECT a.login, s.account_id, ARRAY[s.bytes, s.messages, s.mailboxes, s.annotations]::bigint[], q.hard, q.soft, q.grace, s.over_since
		FROM account_state s
		JOIN account a ON a.tenant_id = s.tenant_id AND a.account_id = s.account_id
		LEFT JOIN quota_root q ON q.tenant_id = s.tenant_id AND q.level = 0 AND q.root = s.account_id
		WHERE s.tenant_id = $1 AND s.account_id = $2 AND NOT a.deleting`

	queueRoot(b.Queue(query, t, account), t, levelAccount, roots)
}

// queueDomainRoot queues that of an account's domain, or of a domain.
func queueDomainRoot(b *pgx.Batch, t id.Tenant, account id.Account, domain id.Domain, roots *[]QuotaRoot) {
	const query = `
		SELECT d.name, d.domain_id, slots_sum($1, d.domain_id), q.hard, q.soft, q.grace, q.over_since
		FROM domain d
		LEFT JOIN quota_root q ON q.tenant_id = d.tenant_id AND q.level = 1 AND q.root = d.domain_id
		WHERE d.tenant_id = $1
		  AND d.domain_id = coalesce(nullif($3::bigint, 0), (SELECT domain_id FROM account_state WHERE tenant_id = $1 AND account_id = $2))`

	queueRoot(b.Queue(query, t, account, domain), t, levelDomain, roots)
}

func queueTenantRoot(b *pgx.Batch, t id.Tenant, roots *[]QuotaRoot) {
	const query = `
		SELECT t.name, 0::bigint, slots_sum($1, 0), q.hard, q.soft, q.grace, q.over_since
		FROM tenant t
		LEFT JOIN quota_root q ON q.tenant_id = t.tenant_id AND q.level = 2
		WHERE t.tenant_id = $1`

	queueRoot(b.Queue(query, t), t, levelTenant, roots)
}

func queueRoot(q *pgx.QueuedQuery, t id.Tenant, level quotaLevel, roots *[]QuotaRoot) {
	q.Query(func(rows pgx.Rows) error {
		for rows.Next() {
			r := QuotaRoot{tenant: t, level: level, Root: quota.Root{Level: quota.Levels[level]}}
			var used []int64
			var hard, soft []*int64
			var grace *int64
			var over []*time.Time
			if err := rows.Scan(&r.Name, &r.id, &used, &hard, &soft, &grace, &over); err != nil {
				return err
			}
			copy(r.Used[:], used)
			copy(r.Limits[:], hard)
			copy(r.Soft[:], soft)
			copy(r.Over[:], over)
			if grace != nil {
				r.Grace = seconds(*grace)
			}
			*roots = append(*roots, r)
		}
		return rows.Err()
	})
}

// applyLimits holds a root to the limits that are set by now.
func applyLimits(ctx context.Context, tx pgx.Tx, t id.Tenant, level quotaLevel, root int64) error {
	_, err := tx.Exec(ctx, `SELECT apply_limits($1, $2, $3)`, t, int(level), root)
	return err
}
