package store

import (
	"context"
	"time"
)

// Ping returns nil when the database answers, else an error that wraps ErrUnavailable.
func (s *Store) Ping(ctx context.Context) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = conn.Exec(ctx, `SELECT 1`)
	return s.lost(ctx, conn, err, unsent)
}

// PoolStats is the state of the connections to the database.
type PoolStats struct {
	Used, Idle, Max int
	Waits           int64         // how often a connection had to be waited for
	Waited          time.Duration // for how long in all
}

// PoolStats returns the state of the store's connections.
func (s *Store) PoolStats() PoolStats {
	p := s.pool.Stat()
	return PoolStats{
		Used: int(p.AcquiredConns()), Idle: int(p.IdleConns()), Max: int(p.MaxConns()),
		Waits: p.EmptyAcquireCount(), Waited: p.EmptyAcquireWaitTime(),
	}
}
