package store

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/quota"
)

// QuotaSettings are what is set of a quota root.
type QuotaSettings struct {
	Hard quota.Limits // never exceeded
	Soft quota.Limits // can be exceeded for Grace, and then hold as if they were hard until what is used is below them again
	// Grace is for how long, in whole seconds.
	Grace time.Duration
	// WarnAt are the percentages of a limit (the soft one, where there is one) at whose crossing an event comes about.
	WarnAt []int
	// MailTo is the account of the tenant that is told by mail; "": none.
	MailTo string
	// Webhook is the URL that events are posted to; "": none.
	Webhook string
}

// QuotaSettings returns what is set of a root.
func (s *Store) QuotaSettings(ctx context.Context, r QuotaRoot) (QuotaSettings, error) {
	var set QuotaSettings
	err := s.snapshot(ctx, r.tenant, func(tx pgx.Tx) (err error) {
		set, err = readSettings(ctx, tx, r)
		return err
	})
	return set, err
}

func readSettings(ctx context.Context, tx pgx.Tx, r QuotaRoot) (set QuotaSettings, err error) {
	const query = `
		SELECT hard, soft, grace, warn_at, mail_to, webhook
		FROM quota_root
		WHERE tenant_id = $1 AND level = $2 AND root = $3`

	var hard, soft []*int64
	var grace int64
	rows, _ := tx.Query(ctx, query, r.tenant, int(r.level), r.id) // ForEachRow reports the error
	_, err = pgx.ForEachRow(rows, []any{&hard, &soft, &grace, &set.WarnAt, &set.MailTo, &set.Webhook}, func() error { return nil })
	copy(set.Hard[:], hard)
	copy(set.Soft[:], soft)
	set.Grace = time.Duration(grace) * time.Second
	return set, err
}

// ChangeQuota changes what is set of a root, and returns it as it is then. A limit below what is
// used stops what would add to it. *InvalidError, ErrNoQuotaRoot.
func (s *Store) ChangeQuota(ctx context.Context, r QuotaRoot, change func(*QuotaSettings) error) (QuotaRoot, error) {
	err := s.transactAllSlots(ctx, r.tenant, func(tx pgx.Tx) error {
		if err := r.lock(ctx, tx); err != nil {
			return err
		}
		set, err := readSettings(ctx, tx, r)
		if err != nil {
			return err
		}
		if err := change(&set); err != nil {
			return err
		}
		if err := set.check(); err != nil {
			return err
		}
		return set.write(ctx, tx, r)
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

func (set QuotaSettings) write(ctx context.Context, tx pgx.Tx, r QuotaRoot) error {
	const query = `
		INSERT INTO quota_root (tenant_id, level, root, hard, soft, grace, warn_at, mail_to, webhook)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (tenant_id, level, root) DO UPDATE
		SET hard = excluded.hard, soft = excluded.soft, grace = excluded.grace, warn_at = excluded.warn_at,
			mail_to = excluded.mail_to, webhook = excluded.webhook`

	_, err := tx.Exec(ctx, query, r.tenant, int(r.level), r.id, set.Hard[:], set.Soft[:], int64(set.Grace/time.Second),
		append([]int{}, set.WarnAt...), set.MailTo, set.Webhook)
	if err != nil {
		return err
	}
	return applyLimits(ctx, tx, r.tenant, r.level, r.id)
}

// check refuses what cannot be set, and puts WarnAt in order.
func (set *QuotaSettings) check() error {
	for _, limits := range []quota.Limits{set.Hard, set.Soft} {
		for i, limit := range limits {
			if limit != nil && *limit < 0 {
				return &InvalidError{"limit", fmt.Sprint(quota.Resources[i], " ", *limit), "it cannot be below zero"}
			}
		}
	}
	slices.Sort(set.WarnAt)
	set.WarnAt = slices.Compact(set.WarnAt)
	for _, percent := range set.WarnAt {
		if percent < 1 || percent > 100 {
			return &InvalidError{"warning threshold", fmt.Sprint(percent), "want 1 to 100 percent"}
		}
	}
	switch u, err := url.Parse(set.Webhook); {
	case len(set.WarnAt) > 10:
		return &InvalidError{"warning thresholds", fmt.Sprint(len(set.WarnAt)), "want at most 10"}
	case set.Grace < 0 || set.Grace%time.Second != 0:
		return &InvalidError{"grace", set.Grace.String(), "want whole seconds"}
	case set.Webhook != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || len(set.Webhook) > 2000):
		return &InvalidError{"webhook", set.Webhook, "want a URL of http or https"}
	}
	if set.MailTo != "" {
		login, err := newLogin(set.MailTo)
		if err != nil {
			return err
		}
		set.MailTo = login
	}
	return nil
}
