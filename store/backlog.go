package store

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Backlog is what waits for maintenance beside staging, as of when this process tidied each tenant last.
type Backlog struct {
	Intents  int64     // objects that do not count, or not yet, and go after a grace time
	Oldest   time.Time // of them; zero: there are none
	Unfolded int64     // octets of log that front ends had left for that time to fold
}

// backlogs keeps that of each tenant.
type backlogs struct {
	mu sync.Mutex // guards of
	of map[id.Tenant]Backlog
}

func (b *backlogs) note(t id.Tenant, found Backlog) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of == nil {
		b.of = make(map[id.Tenant]Backlog)
	}
	b.of[t] = found
}

// keep forgets those of tenants that are not there any more.
func (b *backlogs) keep(there map[id.Tenant]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.of, func(t id.Tenant, _ Backlog) bool { return !there[t] })
}

// Backlog returns that of all tenants together.
func (s *Store) Backlog() Backlog {
	b := &s.maintained.backlogs
	b.mu.Lock()
	defer b.mu.Unlock()
	var sum Backlog
	for _, of := range b.of {
		sum.Intents += of.Intents
		sum.Unfolded += of.Unfolded
		if sum.Oldest.IsZero() || !of.Oldest.IsZero() && of.Oldest.Before(sum.Oldest) {
			sum.Oldest = of.Oldest
		}
	}
	return sum
}

// noteBacklog counts what waits once a tenant has been tidied.
func (s *Store) noteBacklog(ctx context.Context, t id.Tenant, unfolded int64) error {
	const query = `SELECT count(*), min(created_at) FROM object_intent WHERE tenant_id = $1`

	found := Backlog{Unfolded: unfolded}
	var oldest *time.Time
	err := s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t).QueryRow(func(row pgx.Row) error { return row.Scan(&found.Intents, &oldest) })
	})
	if err != nil {
		return err
	}
	if oldest != nil {
		found.Oldest = *oldest
	}
	s.maintained.backlogs.note(t, found)
	return nil
}
