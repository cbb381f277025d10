package store

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/quota"
	"mailstead.dev/store/id"
)

// Warnings of quotas: maintenance looks, every minute by default, which marks what is used has passed, and writes an event for
// each that was raised or cleared, in the transaction that notes so: each is told once. The event is logged, and waits
// in its row to be told by mail (warning_mail.go) and posted (warning_post.go).

// keptEvents is for how long events are kept after they were told.
const keptEvents = 90 * 24 * time.Hour

// Warning is an event: of a quota root a mark was raised, or cleared.
type Warning struct {
	ID         string         `json:"id"` // stable: who has seen it before has been told before
	At         time.Time      `json:"at"`
	Tenant     string         `json:"tenant"`
	Root       string         `json:"root"` // as clients are told it
	Resource   quota.Resource `json:"resource"`
	Mark       quota.Mark     `json:"warning"`
	State      string         `json:"state"` // raised or cleared
	Used       int64          `json:"used"`
	Limit      *int64         `json:"limit"`
	Soft       *int64         `json:"soft_limit"`
	GraceUntil *time.Time     `json:"grace_until"` // null: no soft limit is exceeded

	level quotaLevel
	root  int64
}

// raised is the state of a warning that is not cleared.
const raised = "raised"

// warnTenant writes the events that are due for a tenant.
func (s *Store) warnTenant(ctx context.Context, l *lease, t id.Tenant) error {
	const query = `
		WITH root AS (
			SELECT q.*, 'account:' || a.login AS name, ARRAY[s.bytes, s.messages, s.mailboxes, s.annotations]::bigint[] AS used, s.over_since AS since
			FROM quota_root q
			JOIN account a ON a.tenant_id = q.tenant_id AND a.account_id = q.root AND NOT a.deleting
			JOIN account_state s ON s.tenant_id = q.tenant_id AND s.account_id = q.root
			WHERE q.tenant_id = $1 AND q.level = 0
		  UNION ALL
			SELECT q.*, 'domain:' || d.name, slots_sum(q.tenant_id, q.root), q.over_since
			FROM quota_root q
			JOIN domain d ON d.tenant_id = q.tenant_id AND d.domain_id = q.root
			WHERE q.tenant_id = $1 AND q.level = 1
		  UNION ALL
			SELECT q.*, 'tenant:' || t.name, slots_sum(q.tenant_id, 0), q.over_since
			FROM quota_root q
			JOIN tenant t ON t.tenant_id = q.tenant_id
			WHERE q.tenant_id = $1 AND q.level = 2
		)
		SELECT r.level, r.root, r.name, n.resource, r.used[n.nth], r.hard[n.nth], r.soft[n.nth],
			r.since[n.nth] + make_interval(secs => r.grace), r.since[n.nth] + make_interval(secs => r.grace) <= now(), coalesce(m.marks, '{}')
		FROM root r
		CROSS JOIN unnest(quota_resources()) WITH ORDINALITY AS n (resource, nth)
		LEFT JOIN quota_mark m ON m.tenant_id = $1 AND m.level = r.level AND m.root = r.root AND m.resource = n.resource
		WHERE m.marks IS NOT NULL
		   OR r.used[n.nth] > 0 AND r.used[n.nth] >= least(r.hard[n.nth], r.soft[n.nth])::float8 * $2 / 100
		ORDER BY r.level, r.root, n.nth`

	lowest := 100
	if at := s.options.WarnAt; len(at) > 0 {
		lowest = min(lowest, slices.Min(at))
	}
	var changes []change
	err := s.read(ctx, t, func(b *pgx.Batch) {
		changes = nil
		b.Queue(query, t, float64(lowest)).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var c change
				var over *bool
				w := &c.Warning
				if err := rows.Scan(&w.level, &w.root, &w.Root, &w.Resource, &w.Used, &w.Limit, &w.Soft, &w.GraceUntil, &over, &c.was); err != nil {
					return err
				}
				c.now = quota.Use{Used: w.Used, Limit: w.Limit, Soft: w.Soft, GraceOver: over != nil && *over}.Marks(s.options.WarnAt, c.was)
				if !slices.Equal(c.was, c.now) {
					changes = append(changes, c)
				}
			}
			return rows.Err()
		})
	})
	if err != nil {
		return err
	}
	for part := range slices.Chunk(changes, 500) {
		if err := s.writeWarnings(ctx, l, t, part); err != nil {
			return err
		}
	}
	return nil
}

// change is a resource of a root of which other marks are raised than before.
type change struct {
	Warning
	was, now []quota.Mark
}

// writeWarnings writes the events of changes, with what is raised now, and logs them.
func (s *Store) writeWarnings(ctx context.Context, l *lease, t id.Tenant, changes []change) error {
	const (
		forget = `DELETE FROM quota_mark WHERE tenant_id = $1 AND level = $2 AND root = $3 AND resource = $4`

		note = `
			INSERT INTO quota_mark (tenant_id, level, root, resource, marks) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (tenant_id, level, root, resource) DO UPDATE SET marks = excluded.marks`

		event = `
			INSERT INTO quota_event (tenant_id, level, root, name, resource, mark, raised, used, hard, soft, grace_until, mail_at, post_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, CASE WHEN $12::boolean THEN now() END, CASE WHEN $13::boolean THEN now() END)`

		// Of what was deleted while it was looked at.
		orphans = `
			DELETE FROM quota_mark m
			WHERE tenant_id = $1 AND NOT EXISTS (SELECT FROM quota_root q WHERE q.tenant_id = $1 AND q.level = m.level AND q.root = m.root)`

		old = `DELETE FROM quota_event WHERE tenant_id = $1 AND at < now() - $2::interval AND mail_at IS NULL AND post_at IS NULL`
	)
	var told []Warning
	err := s.transact(ctx, t, func(tx pgx.Tx) error {
		told = told[:0]
		b := &pgx.Batch{}
		for _, c := range changes {
			if len(c.now) == 0 {
				b.Queue(forget, t, c.level, c.root, c.Resource)
			} else {
				b.Queue(note, t, c.level, c.root, c.Resource, c.now)
			}
			events := c.events()
			for i, w := range events {
				mail := s.options.MailWarnings && w.State == raised && i == len(events)-1 // of several at once the highest
				b.Queue(event, t, w.level, w.root, w.Root, w.Resource, w.Mark, w.State == raised, w.Used, w.Limit, w.Soft, w.GraceUntil, mail, s.options.Webhook != nil)
			}
			told = append(told, events...)
		}
		b.Queue(orphans, t)
		b.Queue(old, t, keptEvents)
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		return l.check(ctx, tx)
	})
	if err != nil {
		return err
	}
	for _, w := range told {
		s.maintained.warnings.Add(1)
		s.log.WarnContext(ctx, "quota warning", "tenant", t, "level", quota.Levels[w.level], "root", w.root,
			"resource", w.Resource, "warning", w.Mark, "state", w.State, "used", w.Used, "limit", amount(w.Limit), "soft_limit", amount(w.Soft))
	}
	return nil
}

// amount is a limit as the log has it.
func amount(limit *int64) any {
	if limit == nil {
		return "none"
	}
	return *limit
}

// events are the marks that were cleared, and then those that were raised, from the lowest up.
func (c change) events() (all []Warning) {
	add := func(from, without []quota.Mark, state string) {
		for _, m := range from {
			if !slices.Contains(without, m) {
				w := c.Warning
				w.Mark, w.State = m, state
				all = append(all, w)
			}
		}
	}
	add(c.was, c.now, "cleared")
	add(c.now, c.was, raised)
	return all
}

// queueWarnings asks for some of a tenant's events that are due at the time that a column holds.
func queueWarnings(b *pgx.Batch, query string, t id.Tenant, most int, found *[]pendingWarning) {
	b.Queue(query, t, most).Query(func(rows pgx.Rows) (err error) {
		*found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p pendingWarning, err error) {
			var up bool
			w := &p.Warning
			err = row.Scan(&p.event, &w.ID, &w.At, &w.Tenant, &w.level, &w.root, &w.Root, &w.Resource, &w.Mark, &up,
				&w.Used, &w.Limit, &w.Soft, &w.GraceUntil, &p.posts)
			if w.State = "cleared"; up {
				w.State = raised
			}
			return p, err
		})
		return err
	})
}

// pendingWarning is a warning that waits to be told.
type pendingWarning struct {
	Warning
	event int64
	posts int // that failed
}

// body is the event as it is posted.
func (w Warning) body() ([]byte, error) { return json.Marshal(w) }

// selectWarnings is followed by which of them are due.
const selectWarnings = `
	SELECT e.event_id, e.told_as::text, e.at, t.name, e.level, e.root, e.name, e.resource, e.mark, e.raised, e.used, e.hard, e.soft, e.grace_until, e.posts
	FROM quota_event e
	JOIN tenant t ON t.tenant_id = e.tenant_id
	WHERE e.tenant_id = $1`
