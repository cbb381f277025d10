package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"mailstead.dev/store/id"
)

// stagingGauge keeps staging within its bounds. What is staged is asked of the
// database from time to time, and what this process adds is counted in between;
// so several processes together may go over by what they take in that time.
type stagingGauge struct {
	store *Store

	mu      sync.Mutex // guards what follows
	asked   time.Time  // zero: never
	took    time.Duration
	asking  bool
	total   int64 // octets
	tenants map[id.Tenant]int64
}

const (
	// gaugeEvery is how often staging is asked for at least while mail comes in,
	gaugeEvery = 2 * time.Second
	// gaugeShare how many times longer than the asking takes that is at least,
	gaugeShare = 20
	// and gaugeFull how soon it is asked for again when mail is refused.
	gaugeFull = 100 * time.Millisecond
)

// tenantShare is how much of staging one tenant may fill, so that there is room for the others.
func (o *Options) tenantShare() int64 { return o.StagingBound / 4 * 3 }

// take counts n octets that are to be staged; ErrUnavailable where there is no room for them.
func (g *stagingGauge) take(ctx context.Context, t id.Tenant, n int64) error {
	if err := g.refresh(ctx, false); err != nil {
		return err
	}
	full := g.add(t, n)
	if full == nil {
		return nil
	}
	if err := g.refresh(ctx, true); err != nil {
		return err
	}
	return g.add(t, n)
}

func (g *stagingGauge) add(t id.Tenant, n int64) error {
	o := &g.store.options
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.total+n > o.StagingBound:
		return fmt.Errorf("%w: staging is full", ErrUnavailable)
	case g.tenants[t]+n > o.tenantShare():
		return fmt.Errorf("%w: the tenant's share of staging is full", ErrUnavailable)
	}
	g.total += n
	g.tenants[t] += n
	return nil
}

// refresh asks the database what is staged, if that is due and nobody else is at it.
// Where it does not answer the last figures stay, for the append will tell.
func (g *stagingGauge) refresh(ctx context.Context, full bool) error {
	g.mu.Lock()
	every := max(gaugeEvery, gaugeShare*g.took)
	if full {
		every = gaugeFull
	}
	first := g.asked.IsZero()
	if g.asking || time.Since(g.asked) < every {
		g.mu.Unlock()
		return nil
	}
	g.asking = true
	g.mu.Unlock()

	start := time.Now()
	staged, err := g.store.stagedByTenant(ctx)

	g.mu.Lock()
	defer g.mu.Unlock()
	g.asking = false
	if err != nil {
		if first {
			return fmt.Errorf("look at staging: %w", err)
		}
		g.asked = time.Now()
		g.store.log.Warn("staging could not be looked at", "error", err)
		return nil
	}
	g.asked = time.Now()
	g.took = g.asked.Sub(start)
	g.total, g.tenants = 0, make(map[id.Tenant]int64, len(staged))
	for _, s := range staged {
		g.tenants[s.TenantID] = s.Bytes
		g.total += s.Bytes
	}
	return nil
}
