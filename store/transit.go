package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
)

// transit bounds the memory of content on its way through this process, into
// the store and out of it, of all sessions together. Half of it is for what each must have,
// and is waited for; the other half for reading ahead, which is done without where none is left.
//
// One tenant can have three quarters of what is waited for: its clients, however slow or many,
// do not keep the mail of others from moving.
type transit struct {
	must, ahead *semaphore.Weighted
	wait        time.Duration
	share       int64

	mu      sync.Mutex // guards what follows
	tenants map[id.Tenant]*tenantShare
}

// tenantShare is what a tenant has of transit.must, or waits for.
type tenantShare struct {
	room   *semaphore.Weighted
	octets int64 // guarded by transit.mu
}

const (
	// transitIn is what receiving a message takes: the frame that comes, as it is and compressed, and what waits to be spooled.
	transitIn = 4 * blob.FrameSize
	// transitOut is what reading one content after the other takes: of each no more than aheadSize.
	transitOut = aheadSize
	// transitAhead is what reading ahead takes besides: the batch that is used, and the one behind it.
	transitAhead = 2 * (aheadBytes + aheadSize)
)

func newTransit(octets int64, wait time.Duration) *transit {
	half := max(octets/2, transitAhead)
	return &transit{
		must: semaphore.NewWeighted(half), ahead: semaphore.NewWeighted(half),
		wait: wait, share: half / 4 * 3, tenants: make(map[id.Tenant]*tenantShare),
	}
}

// take waits for room for some octets of a tenant's, which give gives back. ErrUnavailable where none becomes free in time.
func (t *transit) take(ctx context.Context, tenant id.Tenant, octets int64) error {
	room := t.enter(tenant, octets)
	err := t.acquire(ctx, room, octets)
	if err != nil {
		t.leave(tenant, octets)
	}
	return err
}

func (t *transit) acquire(ctx context.Context, room *semaphore.Weighted, octets int64) error {
	if room.TryAcquire(octets) {
		if t.must.TryAcquire(octets) {
			return nil
		}
		room.Release(octets)
	}
	waiting, cancel := context.WithTimeout(ctx, t.wait)
	defer cancel()
	err := room.Acquire(waiting, octets)
	if err == nil {
		if err = t.must.Acquire(waiting, octets); err != nil {
			room.Release(octets)
		}
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: too many messages on their way at once", ErrUnavailable)
	}
	return err
}

// give takes back take, or a part of it.
func (t *transit) give(tenant id.Tenant, octets int64) {
	t.must.Release(octets)
	t.leave(tenant, octets).Release(octets)
}

// enter notes that a tenant has octets or waits for them, and leave that it does no longer.
func (t *transit) enter(tenant id.Tenant, octets int64) *semaphore.Weighted {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.tenants[tenant]
	if s == nil {
		s = &tenantShare{room: semaphore.NewWeighted(t.share)}
		t.tenants[tenant] = s
	}
	s.octets += octets
	return s.room
}

func (t *transit) leave(tenant id.Tenant, octets int64) *semaphore.Weighted {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.tenants[tenant]
	if s.octets -= octets; s.octets == 0 {
		delete(t.tenants, tenant)
	}
	return s.room
}
