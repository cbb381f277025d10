package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/quota"
	"mailstead.dev/store/id"
)

// QuotaDrift is a counter, or a sum of grants, that is not what it must be.
type QuotaDrift struct {
	Account  id.Account     `json:"account,omitempty"` // 0: of a domain or tenant
	Domain   id.Domain      `json:"domain,omitempty"`  // 0: of an account or the tenant
	Slot     int            `json:"slot"`              // -1: of the whole root
	Resource quota.Resource `json:"resource"`
	Counted  int64          `json:"counted"`
	Is       int64          `json:"is"`               // by the recount
	Grants   bool           `json:"grants,omitempty"` // of the limit that slots share
}

func (d QuotaDrift) String() string {
	switch of := d.of(); {
	case d.Grants:
		return fmt.Sprintf("the slots of the %s are granted %d of %s, the limit is %d", of, d.Counted, d.Resource, d.Is)
	case d.Account != 0:
		return fmt.Sprintf("it counts %d of %s, it has %d", d.Counted, d.Resource, d.Is)
	default:
		return fmt.Sprintf("slot %d of the %s counts %d of %s, its accounts %d", d.Slot, of, d.Counted, d.Resource, d.Is)
	}
}

func (d QuotaDrift) of() string {
	if d.Domain != 0 {
		return fmt.Sprintf("domain %d", d.Domain)
	}
	return "tenant"
}

// AuditQuota counts everything that a tenant's accounts, its domains and itself are charged for anew, from its
// mailboxes, in one snapshot, and returns what is not so. It returns how many accounts there were. That mailboxes count right themselves is Fsck's to prove.
func (s *Store) AuditQuota(ctx context.Context, t id.Tenant) (drift []QuotaDrift, accounts int64, err error) {
	const count = `SELECT count(*) FROM account WHERE tenant_id = $1 AND NOT deleting`

	err = s.snapshot(ctx, t, func(tx pgx.Tx) error {
		drift, accounts = nil, 0
		if _, err := tx.Exec(ctx, unhurried); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, count, t).Scan(&accounts); err != nil {
			return err
		}
		of, err := accountDrift(ctx, tx, t, 0)
		if err != nil {
			return err
		}
		slots, err := slotDrift(ctx, tx, t)
		drift = append(of, slots...)
		return err
	})
	return drift, accounts, err
}

// accountDrift compares what accounts, or one of them, count with what their mailboxes do.
func accountDrift(ctx context.Context, tx pgx.Tx, t id.Tenant, account id.Account) ([]QuotaDrift, error) {
	const query = `
		SELECT s.account_id, ARRAY[s.bytes, s.messages, s.mailboxes, s.annotations]::bigint[], ARRAY[m.bytes, m.messages, m.mailboxes, d.octets]
		FROM account_state s
		JOIN account a ON a.tenant_id = s.tenant_id AND a.account_id = s.account_id AND NOT a.deleting
		CROSS JOIN LATERAL (
			SELECT coalesce(sum(bytes), 0)::bigint AS bytes, coalesce(sum(messages), 0)::bigint AS messages, count(*) AS mailboxes
			FROM mailbox
			WHERE tenant_id = $1 AND account_id = s.account_id AND deleted_at IS NULL
		) m
		CROSS JOIN LATERAL (
			SELECT coalesce(sum(octet_length(entry) + octet_length(value)), 0)::bigint AS octets
			FROM (
				SELECT n.entry, n.value
				FROM mailbox b
				JOIN metadata n ON n.tenant_id = b.tenant_id AND n.mailbox = b.mailbox_id
				WHERE b.tenant_id = $1 AND b.account_id = s.account_id AND b.deleted_at IS NULL
				UNION ALL
				SELECT n.entry, n.value
				FROM metadata n
				WHERE n.tenant_id = $1 AND n.account_id = s.account_id AND n.account_id <> 0 AND n.mailbox_id = 0
			) n
		) d
		WHERE s.tenant_id = $1 AND (s.account_id = $2 OR $2 = 0)
		  AND (s.bytes, s.messages, s.mailboxes, s.annotations) IS DISTINCT FROM (m.bytes, m.messages, m.mailboxes, d.octets)
		ORDER BY s.account_id`

	var drift []QuotaDrift
	var found id.Account
	var counted, is []int64
	rows, _ := tx.Query(ctx, query, t, account) // ForEachRow reports the error
	_, err := pgx.ForEachRow(rows, []any{&found, &counted, &is}, func() error {
		drift = append(drift, differences(QuotaDrift{Account: found, Slot: -1}, counted, is)...)
		return nil
	})
	return drift, err
}

func differences(of QuotaDrift, counted, is []int64) (drift []QuotaDrift) {
	for i, r := range quota.Resources {
		if counted[i] != is[i] {
			of.Resource, of.Counted, of.Is = r, counted[i], is[i]
			drift = append(drift, of)
		}
	}
	return drift
}

// slotDrift compares what slots count with what the accounts in them do, and what they are granted with the limits.
func slotDrift(ctx context.Context, tx pgx.Tx, t id.Tenant) ([]QuotaDrift, error) {
	const (
		counters = `
			SELECT root, slot, ARRAY[coalesce(q.bytes, 0), coalesce(q.messages, 0), coalesce(q.mailboxes, 0), coalesce(q.annotations, 0)],
				ARRAY[coalesce(c.bytes, 0), coalesce(c.messages, 0), coalesce(c.mailboxes, 0), coalesce(c.annotations, 0)]::bigint[]
			FROM (SELECT * FROM quota_slot WHERE tenant_id = $1) q
			FULL JOIN (
				SELECT f.root, (s.account_id & 31)::smallint AS slot, sum(s.bytes) AS bytes, sum(s.messages) AS messages,
					sum(s.mailboxes) AS mailboxes, sum(s.annotations) AS annotations
				FROM account_state s, LATERAL (VALUES (s.domain_id), (0)) AS f (root)
				WHERE s.tenant_id = $1
				GROUP BY 1, 2
			) c USING (root, slot)
			WHERE (coalesce(q.bytes, 0), coalesce(q.messages, 0), coalesce(q.mailboxes, 0), coalesce(q.annotations, 0))
				IS DISTINCT FROM (coalesce(c.bytes, 0), coalesce(c.messages, 0), coalesce(c.mailboxes, 0), coalesce(c.annotations, 0))
			ORDER BY root, slot`

		// Grants of which each is a number sum to what the root is held to; all are NULL where that is nothing, or -1 where more was used.
		grants = `
			SELECT s.root, r.nth, coalesce(sum(r.granted), -1)::bigint, coalesce(min(r.most), -1)
			FROM quota_slot s
			LEFT JOIN quota_root q ON q.tenant_id = $1 AND q.level = CASE WHEN s.root = 0 THEN 2 ELSE 1 END AND q.root = s.root
			CROSS JOIN LATERAL (VALUES
				(1, storage_grant, q.held[1]), (2, message_grant, q.held[2]), (3, mailbox_grant, q.held[3]), (4, annotation_grant, q.held[4])
			) AS r (nth, granted, most)
			WHERE s.tenant_id = $1
			GROUP BY s.root, r.nth
			HAVING NOT (CASE
				WHEN min(r.most) IS NULL THEN count(r.granted) = 0
				WHEN bool_or(r.granted < 0) THEN bool_and(r.granted < 0)
				ELSE count(r.granted) = count(*) AND sum(r.granted) = min(r.most)
			END)
			ORDER BY s.root, r.nth`
	)
	var drift []QuotaDrift
	var root id.Domain
	var slot int
	var counted, is []int64
	rows, _ := tx.Query(ctx, counters, t) // ForEachRow reports the error
	_, err := pgx.ForEachRow(rows, []any{&root, &slot, &counted, &is}, func() error {
		drift = append(drift, differences(QuotaDrift{Domain: root, Slot: slot}, counted, is)...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	d := QuotaDrift{Slot: -1, Grants: true}
	var nth int
	rows, _ = tx.Query(ctx, grants, t) // ForEachRow reports the error
	_, err = pgx.ForEachRow(rows, []any{&d.Domain, &nth, &d.Counted, &d.Is}, func() error {
		d.Resource = quota.Resources[nth-1]
		drift = append(drift, d)
		return nil
	})
	return drift, err
}

// RecountQuota counts all that is charged to the domains and the tenant anew, from what the accounts count, and
// splits their limits. Those who change mail meanwhile wait. What accounts themselves count is Repair's.
func (s *Store) RecountQuota(ctx context.Context, t id.Tenant) error {
	return s.transactAllSlots(ctx, t, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT recount_slots($1)`, t)
		return err
	})
}
