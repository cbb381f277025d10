package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Webhook takes events to elsewhere.
type Webhook interface {
	// Post returns nil once the event has been taken. It may be called again with the same, and returns in bounded time.
	Post(ctx context.Context, id string, body []byte) error
}

const (
	postsAtOnce = 100                // events of a tenant that are posted before the next has its turn
	firstPause  = 10 * time.Second   // before a post is tried again; each pause is twice the one before
	lastPause   = time.Hour          // up to this
	postFor     = 3 * 24 * time.Hour // how long an event is tried before it is given up
)

// postWarnings is the chore that posts events, the oldest of a tenant first. One that fails ends it for this time: others would fail as well.
func (s *Store) postWarnings(ctx context.Context) error {
	_, err := s.underLease(ctx, "webhook", func(ctx context.Context, _ *lease) error {
		tenants, err := s.tenantsOf(ctx, `SELECT tenant_id FROM tenants_to_tell(false)`)
		if err != nil {
			return err
		}
		for _, t := range tenants {
			if taken, err := s.postTenant(ctx, t); err != nil || !taken {
				return err
			}
		}
		return nil
	})
	return err
}

// postTenant posts what is due of a tenant, and reports whether all of it was taken.
func (s *Store) postTenant(ctx context.Context, t id.Tenant) (taken bool, err error) {
	const (
		due    = selectWarnings + ` AND e.post_at <= now() ORDER BY e.event_id LIMIT $2`
		posted = `UPDATE quota_event SET post_at = NULL WHERE tenant_id = $1 AND event_id = $2`
		later  = `UPDATE quota_event SET post_at = now() + $3::interval, posts = posts + 1 WHERE tenant_id = $1 AND event_id = $2`
	)
	var found []pendingWarning
	err = s.read(ctx, t, func(b *pgx.Batch) { queueWarnings(b, due, t, postsAtOnce, &found) })
	if err != nil {
		return false, err
	}
	for _, p := range found {
		body, err := p.body()
		if err != nil {
			return false, err
		}
		failed := s.options.Webhook.Post(ctx, p.ID, body)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		pause := min(firstPause<<min(p.posts, 10), lastPause)
		query, args := posted, []any{t, p.event}
		switch {
		case failed == nil:
			s.maintained.posts.Add(1)
		case time.Since(p.At) > postFor:
			s.maintained.postsDropped.Add(1)
			s.log.ErrorContext(ctx, "a warning was not taken, and is given up", "tenant", t, "event", p.ID, "tries", p.posts+1, "error", failed)
		default:
			s.maintained.postFailures.Add(1)
			s.log.WarnContext(ctx, "a warning was not taken, and will be posted again", "tenant", t, "event", p.ID, "pause", pause, "error", failed)
			query, args = later, append(args, pause)
		}
		err = s.transact(ctx, t, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, query, args...)
			return err
		})
		if err != nil || failed != nil {
			return false, err
		}
	}
	return true, nil
}
