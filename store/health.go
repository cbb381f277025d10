package store

import "time"

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
