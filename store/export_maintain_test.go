package store

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// The jobs of Maintain, one at a time.
var (
	PackTenant     = (*Store).packTenant
	MergeTenant    = (*Store).mergeTenant
	CollectOrphans = (*Store).collectOrphans
	SweepBucket    = (*Store).sweepBucket
	PackAll        = (*Store).packAll
	TidyAll        = (*Store).tidyAll
	TurnRing       = (*Store).turnRing
	SweepAll       = (*Store).sweepAll
	SweepOnce      = (*Store).sweepOnce

	ForgetAttempts       = (*Store).forgetAttempts
	ForgetKnownAddresses = (*Store).forgetKnownAddresses
	ForgetRevocations    = (*Store).forgetRevocations
)

// Repeat does a chore until ctx ends, as Maintain does, and returns what tells how it went.
func Repeat(ctx context.Context, name string, every time.Duration, do func(context.Context) error) func() map[string]Chore {
	s := &Store{log: slog.New(slog.DiscardHandler)}
	go s.repeat(ctx, chore{name, every, do})
	return s.Chores
}

// Steps of a pack that is under way.
var Steps = []step{stepPut, stepMoved}

// StopAt makes packs fail with err when they have reached a step, as if the process died.
func (s *Store) StopAt(at step, err error) {
	s.atStep = func(_ context.Context, reached step) error {
		if reached == at {
			return err
		}
		return nil
	}
}

// AtStep calls f when a pack has reached a step.
func (s *Store) AtStep(at step, f func()) {
	s.atStep = func(_ context.Context, reached step) error {
		if reached == at {
			f()
		}
		return nil
	}
}

// AtSteps makes jobs fail with what f returns at any step, as if the process died.
func (s *Store) AtSteps(f func() error) {
	s.atStep = func(context.Context, step) error { return f() }
}

// SweepSteps are those of a sweep.
var SweepSteps = []step{stepForgot, stepPurged, stepMarked, stepSwept, stepDying, stepBuried, stepRetired, stepPut, stepMoved}

// CollectSteps are those of the collector of objects.
var CollectSteps = []step{stepCondemned, stepRemoved}

// ForgetSteps ends StopAt and AtStep.
func (s *Store) ForgetSteps() { s.atStep = nil }

// SetLeaseTime changes how long leases last, until the function that it returns is called.
func SetLeaseTime(d time.Duration) (restore func()) {
	was := leaseTime
	leaseTime = d
	return func() { leaseTime = was }
}

// UnderLease is underLease, f being told what checks the lease.
func (s *Store) UnderLease(ctx context.Context, name string, f func(ctx context.Context, check func(id.Tenant) error) error) (bool, error) {
	return s.underLease(ctx, name, func(ctx context.Context, l *lease) error {
		return f(ctx, func(t id.Tenant) error { return s.transact(ctx, t, func(tx pgx.Tx) error { return l.check(ctx, tx) }) })
	})
}

// PostEvents posts what is due.
func (s *Store) PostEvents(ctx context.Context) error { return s.postEvents(ctx) }
