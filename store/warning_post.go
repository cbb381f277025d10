package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Webhook takes events to elsewhere: warnings of quotas, and blocks of logins.
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

// postEvents is the chore that posts events, the oldest of a tenant first. One that fails ends it for this time: others would fail as well.
func (s *Store) postEvents(ctx context.Context) error {
	return s.inTurn(ctx, "webhook", func(ctx context.Context, _ *lease) error {
		tenants, err := s.tenantsOf(ctx, `SELECT tenant_id FROM tenants_to_tell(false)`)
		if err != nil {
			return err
		}
		for _, t := range tenants {
			if taken, err := s.postTenant(ctx, t); err != nil || !taken {
				return err
			}
		}
		return s.postBlocks(ctx)
	})
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
		pause, failed := s.post(ctx, p.ID, body, p.At, p.posts)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		query, args := posted, []any{t, p.event}
		if pause > 0 {
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

// post posts an event that has failed before as often as tries says. Where it is not taken, it returns why, and after what pause to try again; 0: never.
func (s *Store) post(ctx context.Context, event string, body []byte, at time.Time, tries int) (pause time.Duration, failed error) {
	failed = s.options.Webhook.Post(ctx, event, body)
	pause = min(firstPause<<min(tries, 10), lastPause)
	switch {
	case ctx.Err() != nil:
	case failed == nil:
		s.maintained.posts.Add(1)
		return 0, nil
	case time.Since(at) > postFor:
		s.maintained.postsDropped.Add(1)
		s.log.ErrorContext(ctx, "an event was not taken, and is given up", "event", event, "tries", tries+1, "error", failed)
		return 0, failed
	default:
		s.maintained.postFailures.Add(1)
		s.log.WarnContext(ctx, "an event was not taken, and will be posted again", "event", event, "pause", pause, "error", failed)
	}
	return pause, failed
}
