package store

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"time"
)

// chore is a job that Maintain does again and again.
type chore struct {
	name  string
	every time.Duration
	do    func(ctx context.Context) error // ErrBusy: some of it was left to another process that is at it
}

// Chore is how a job of Maintain went in this process so far.
type Chore struct {
	Failures int64     // times that it failed, and was tried again
	Done     time.Time // when all of it was done last, and nothing left to another process; zero: not yet
}

// chores keeps how they went.
type chores struct {
	mu sync.Mutex // guards of
	of map[string]Chore
}

func (c *chores) note(name string, change func(*Chore)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = make(map[string]Chore)
	}
	state := c.of[name]
	change(&state)
	c.of[name] = state
}

// Chores returns how the jobs of Maintain went in this process, by their names; none before it runs.
func (s *Store) Chores() map[string]Chore {
	s.maintained.chores.mu.Lock()
	defer s.maintained.chores.mu.Unlock()
	return maps.Clone(s.maintained.chores.of)
}

const (
	// slowest bounds how long a chore of a short interval that fails waits for its next turn,
	slowest = 30 * time.Second
	// and latest how long one of a long interval does: alerts count on it.
	latest = 10 * time.Minute
)

// wait is how long a chore waits that has failed so many times in a row. One that fails often comes
// later, since most likely something is away; but none waits for long.
func wait(every time.Duration, failed int) time.Duration {
	if failed == 0 {
		return every
	}
	return min(max(every, min(every<<min(failed, 10), slowest)), latest)
}

// repeat does a chore at its interval.
func (s *Store) repeat(ctx context.Context, c chore) {
	s.maintained.chores.note(c.name, func(*Chore) {}) // what has not failed is seen as such
	failed := 0
	timer := time.NewTimer(rand.N(c.every)) // processes that started together take turns
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		jobCtx, end := s.job(ctx, "maintenance "+c.name)
		err := c.do(jobCtx)
		busy := errors.Is(err, ErrBusy)
		if busy {
			err = nil
		}
		end(err)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil:
			failed++
			s.maintained.chores.note(c.name, func(c *Chore) { c.Failures++ })
			s.log.WarnContext(jobCtx, "maintenance will be tried again", "job", c.name, "error", err)
		case busy:
			failed = 0
		default:
			failed = 0
			s.maintained.chores.note(c.name, func(c *Chore) { c.Done = time.Now() })
		}
		timer.Reset(wait(c.every, failed))
	}
}

// inTurn is underLease for a job that is another's where ErrBusy says so.
func (s *Store) inTurn(ctx context.Context, name string, f func(ctx context.Context, l *lease) error) error {
	ran, err := s.underLease(ctx, name, f)
	if err == nil && !ran {
		err = ErrBusy
	}
	return err
}
