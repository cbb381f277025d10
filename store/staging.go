package store

import (
	"context"
	"errors"
	"time"

	"mailstead.dev/store/id"
)

// Staged is content that waits in the database to be moved to object storage.
type Staged struct {
	Messages int64
	Bytes    int64     // stored, that is compressed
	Oldest   time.Time // zero: there is none
}

// stagedTenant is what is staged of one tenant.
type stagedTenant struct {
	TenantID id.Tenant
	Messages int64
	Bytes    int64
	Oldest   time.Time
}

// Staging returns what is staged, of all tenants together.
func (s *Store) Staging(ctx context.Context) (Staged, error) {
	tenants, err := s.stagedByTenant(ctx)
	return sumStaged(tenants), err
}

func sumStaged(tenants []stagedTenant) Staged {
	var sum Staged
	for _, t := range tenants {
		sum.Messages += t.Messages
		sum.Bytes += t.Bytes
		if sum.Oldest.IsZero() || t.Oldest.Before(sum.Oldest) {
			sum.Oldest = t.Oldest
		}
	}
	return sum
}

// stagedByTenant returns what is staged of each tenant that has something staged.
func (s *Store) stagedByTenant(ctx context.Context) ([]stagedTenant, error) {
	return lookup[stagedTenant](ctx, s, `SELECT tenant_id, messages, bytes, oldest FROM staged_by_tenant()`)
}

// slotSize is how large a table of the staging ring gets, in octets, before
// new content goes to the next one, so that this one can run empty.
const slotSize = 64 << 20

// turnRing truncates slots of staging that have run empty, and lets new
// content go to the next one where the current one is larger than size.
func (s *Store) turnRing(ctx context.Context, size int64) error {
	type slot struct {
		Slot    int16
		Current bool
		Held    bool
		Heap    int64
		Total   int64
	}
	type done struct{ Done bool }
	slots, err := lookup[slot](ctx, s, `SELECT slot, current, held, heap, total FROM staging_slots()`)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range slots {
		if t.Current || t.Held || t.Heap == 0 {
			continue
		}
		if _, err := lookupOnce[done](ctx, s, `SELECT truncate_staging($1) AS done`, []any{t.Slot}); err != nil {
			errs = append(errs, err)
		}
	}
	for _, t := range slots {
		if t.Current && t.Total > size {
			if _, err := lookupOnce[done](ctx, s, `SELECT rotate_staging($1) AS done`, []any{t.Slot}); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
