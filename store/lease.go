package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// leaseTime is how long a lease lasts that is not renewed: how long the work of
// a process that died waits for another one.
var leaseTime = 30 * time.Second // shorter in tests

// errLeaseLost says that a job went on for longer than its lease, and another
// process may be at it.
var errLeaseLost = errors.New("lease lost")

// lease lets one process at a time do a job. Its epoch grows with every
// holder, so that a transaction of one who was late can be told.
type lease struct {
	store *Store
	name  string
	epoch int64
}

// holder is what operators see in the lease table; epochs tell leases apart.
var holder = sync.OnceValue(func() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%d", host, os.Getpid())
})

// underLease runs f if nobody else holds the lease, and reports whether it did.
// The lease is renewed until f returns; if that fails, the context of f ends.
func (s *Store) underLease(ctx context.Context, name string, f func(ctx context.Context, l *lease) error) (ran bool, err error) {
	l, err := s.takeLease(ctx, name, leaseTime)
	if err != nil || l == nil {
		return false, err
	}
	held, lose := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() { l.keep(held, lose) })
	err = f(held, l)
	if cause := context.Cause(held); err != nil && errors.Is(cause, errLeaseLost) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	lose(nil)
	renewing.Wait()
	return true, errors.Join(err, l.release(ctx))
}

// takeLease returns nil where another holds the lease. The database's clock
// decides; a lease that ends later than any does was taken before that was set back, and whoever had it is told so by its epoch.
func (s *Store) takeLease(ctx context.Context, name string, lasts time.Duration) (*lease, error) {
	const query = `
		INSERT INTO lease AS l (name, holder, epoch, expires_at)
		VALUES ($1, $2, 1, clock_timestamp() + $3::interval)
		ON CONFLICT (name) DO UPDATE
		SET holder = excluded.holder, epoch = l.epoch + 1, expires_at = excluded.expires_at
		WHERE l.expires_at <= clock_timestamp() OR l.expires_at > clock_timestamp() + 2 * $3::interval
		RETURNING epoch`

	epoch, taken, err := s.changeLease(ctx, query, name, holder(), lasts)
	if err != nil || !taken {
		return nil, err
	}
	return &lease{s, name, epoch}, nil
}

// keep renews the lease until ctx ends, and ends it where that fails for so
// long that the lease may be another's.
func (l *lease) keep(ctx context.Context, lose context.CancelCauseFunc) {
	const query = `
		UPDATE lease SET expires_at = clock_timestamp() + $3
		WHERE name = $1 AND epoch = $2 AND expires_at > clock_timestamp()
		RETURNING epoch`

	ticker := time.NewTicker(leaseTime / 4)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		asked := time.Now()
		_, held, err := l.store.changeLease(ctx, query, l.name, l.epoch, leaseTime)
		switch {
		case err == nil && held:
			last = asked
		case err == nil || time.Since(last) >= leaseTime*3/4:
			lose(fmt.Errorf("%w: %s", errLeaseLost, l.name))
			return
		}
	}
}

// release lets others take the lease at once. The row stays, for its epoch.
func (l *lease) release(ctx context.Context) error {
	const query = `
		UPDATE lease SET expires_at = '-infinity'
		WHERE name = $1 AND epoch = $2
		RETURNING epoch`

	// Also where the work was interrupted: or others would wait for the lease to expire.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, _, err := l.store.changeLease(ctx, query, l.name, l.epoch); err != nil {
		return fmt.Errorf("release lease %s: %w", l.name, err)
	}
	return nil
}

// check makes a transaction fail whose lease another may have. From here to its
// end nobody can take the lease.
func (l *lease) check(ctx context.Context, tx pgx.Tx) error {
	const query = `SELECT FROM lease WHERE name = $1 AND epoch = $2 AND expires_at > clock_timestamp() FOR SHARE`

	tag, err := tx.Exec(ctx, query, l.name, l.epoch)
	return affected(tag, err, errLeaseLost)
}

// changeLease runs a statement that returns the epoch of the row it changed.
func (s *Store) changeLease(ctx context.Context, query string, args ...any) (epoch int64, changed bool, err error) {
	type row struct{ Epoch int64 }
	rows, err := lookupOnce[row](ctx, s, query, args)
	if err != nil || len(rows) == 0 {
		return 0, false, err
	}
	return rows[0].Epoch, true, nil
}
