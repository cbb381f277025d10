package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
)

// maintained counts what this process has done in the background.
type maintained struct {
	packs, packed, merges, orphans, unknown     atomic.Int64
	emails, contents, freed, rewrites, drift    atomic.Int64
	audits, quotaDrift                          atomic.Int64
	warnings, warningMails, warningMailsDropped atomic.Int64
	posts, postFailures, postsDropped           atomic.Int64
	chores                                      chores
	backlogs                                    backlogs
}

// Maintained is what Maintain has done in this process since it started.
type Maintained struct {
	Packs    int64 // written from staging
	Packed   int64 // contents in them
	Merges   int64 // packs written from smaller ones
	Orphans  int64 // objects removed that did not count
	Unknown  int64 // objects seen in the bucket that the database does not know
	Emails   int64 // removed that nothing named
	Contents int64 // removed that no email named
	Freed    int64 // octets of them, compressed
	Rewrites int64 // packs written from those of which most was dead
	Drift    int64 // counters that were not the recount, and emails that were missing; always 0

	QuotaAudits int64 // audits of a tenant's quota counters
	QuotaDrift  int64 // counters that they found wrong; always 0

	Warnings            int64 // of quotas, raised or cleared
	WarningMails        int64 // that told of them
	WarningMailsDropped int64 // that did not fit, or could not be delivered
	Posts               int64 // events that the webhook has taken
	PostFailures        int64 // times that it did not
	PostsDropped        int64 // events that were given up
}

// Maintained returns what Maintain has done so far.
func (s *Store) Maintained() Maintained {
	m := &s.maintained
	return Maintained{
		Packs: m.packs.Load(), Packed: m.packed.Load(), Merges: m.merges.Load(), Orphans: m.orphans.Load(), Unknown: m.unknown.Load(),
		Emails: m.emails.Load(), Contents: m.contents.Load(), Freed: m.freed.Load(),
		Rewrites: m.rewrites.Load(), Drift: m.drift.Load(),
		QuotaAudits: m.audits.Load(), QuotaDrift: m.quotaDrift.Load(),
		Warnings: m.warnings.Load(), WarningMails: m.warningMails.Load(), WarningMailsDropped: m.warningMailsDropped.Load(),
		Posts: m.posts.Load(), PostFailures: m.postFailures.Load(), PostsDropped: m.postsDropped.Load(),
	}
}

// Maintain does the work of the maintenance role until ctx ends: content moves
// from staging to object storage, small packs are merged, mailboxes folded,
// orphans collected, what nothing names any more is swept, and hours of the ledger that are over are closed. It goes tenant by tenant; each piece runs under a lease, so that
// several processes share the work. Errors are logged, and the job comes again.
func (s *Store) Maintain(ctx context.Context) error {
	var working sync.WaitGroup
	chores := []chore{
		{"pack", s.options.PackInterval, s.packAll},
		{"tidy", s.options.TidyInterval, s.tidyAll},
		{"sweep", min(s.options.TidyInterval, s.options.SweepEvery), s.sweepAll},
		{"usage", closeEvery, s.closeAll},
		{"bucket", s.options.TidyInterval, s.sweepOnce},
		{"quota", min(s.options.TidyInterval, s.options.AuditEvery), s.auditQuotas},
		{"limits", s.options.LookEvery, s.LookAtQuotas},
		{"attempts", attemptsEvery, s.forgetAttempts},
		{"revocations", s.options.TidyInterval, s.forgetRevocations},
	}
	if s.options.Webhook != nil {
		chores = append(chores, chore{"webhook", min(s.options.LookEvery, firstPause), s.postEvents})
	}
	for _, c := range chores {
		working.Go(func() { s.repeat(ctx, c) })
	}
	working.Wait()
	return nil
}

// packAll packs the staged content of tenants that have enough of it, or old
// content. Where staging is half full, all is packed, those tenants first that
// have most: well before mail is refused.
func (s *Store) packAll(ctx context.Context) error {
	staged, err := s.stagedByTenant(ctx)
	if err != nil {
		return err
	}
	left := sumStaged(staged).Bytes
	slices.SortFunc(staged, func(a, b stagedTenant) int { return cmp.Compare(b.Bytes, a.Bytes) })
	var errs []error
	busy := false
	for _, t := range staged {
		all := time.Since(t.Oldest) > s.options.PackAge || left > s.options.StagingBound/2
		if !all && t.Bytes < s.options.PackSize && t.Messages < packMessages {
			continue
		}
		if err := s.packTenant(ctx, t.TenantID, all); errors.Is(err, ErrBusy) {
			busy = true
			continue
		} else if err != nil {
			errs = append(errs, fmt.Errorf("pack tenant %d: %w", t.TenantID, err))
			if away(err) {
				break // for the others too
			}
			continue
		}
		left -= t.Bytes
	}
	_, err = s.underLease(ctx, "ring", func(ctx context.Context, _ *lease) error { return s.turnRing(ctx, slotSize) })
	if err = errors.Join(append(errs, err)...); err == nil && busy {
		return ErrBusy
	}
	return err
}

// eachTenant does a job for one tenant after the other, but for those that are
// being deleted: what removes them needs their rows. One that fails keeps nobody
// from the others, unless what it needs is away for them too. ErrBusy where some were another process's, and none has failed.
func (s *Store) eachTenant(ctx context.Context, job string, do func(ctx context.Context, t id.Tenant) error) error {
	all, err := s.Tenants(ctx)
	if err != nil {
		return err
	}
	var tenants []id.Tenant
	for _, t := range all {
		if !t.Deleting {
			tenants = append(tenants, t.ID)
		}
	}
	return each(ctx, tenants, job, do)
}

// each does a job for one tenant after the other, as eachTenant does.
func each(ctx context.Context, tenants []id.Tenant, job string, do func(ctx context.Context, t id.Tenant) error) error {
	var failed failures
	busy := false
	for _, t := range tenants {
		if err := do(ctx, t); errors.Is(err, ErrBusy) {
			busy = true
		} else if err != nil {
			failed.add(fmt.Errorf("%s tenant %d: %w", job, t, err))
			if away(err) || ctx.Err() != nil {
				break
			}
		}
	}
	if err := failed.err(); err != nil || !busy {
		return err
	}
	return ErrBusy
}

// failures are what has failed while all else went on. They end in one line of the log, however many they are.
type failures struct {
	told []error
	more int
	last error
}

// failuresTold is how many of them are told, besides the last: that may be why there are no more.
const failuresTold = 4

func (f *failures) add(err error) {
	if len(f.told) < failuresTold {
		f.told = append(f.told, err)
		return
	}
	f.more++
	f.last = err
}

// err returns nil where nothing has failed.
func (f *failures) err() error {
	switch f.more {
	case 0:
		return errors.Join(f.told...)
	case 1:
		return errors.Join(append(f.told, f.last)...)
	}
	return errors.Join(append(f.told, fmt.Errorf("and %d more, the last of them: %w", f.more, f.last))...)
}

// tidyAll folds, merges, collects and forgets, tenant by tenant.
func (s *Store) tidyAll(ctx context.Context) error {
	there := map[id.Tenant]bool{}
	err := s.eachTenant(ctx, "tidy", func(ctx context.Context, t id.Tenant) error {
		there[t] = true
		return s.inTurn(ctx, fmt.Sprintf("tidy/%d", t), func(ctx context.Context, _ *lease) error { return s.tidyTenant(ctx, t) })
	})
	if ctx.Err() == nil && !away(err) { // all have been gone through
		s.maintained.backlogs.keep(there)
	}
	return err
}

func (s *Store) tidyTenant(ctx context.Context, t id.Tenant) error {
	due, err := s.foldTenant(ctx, t)
	return errors.Join(err, s.mergeTenant(ctx, t), s.collectOrphans(ctx, t), s.forgetKnownAddresses(ctx, t), s.noteBacklog(ctx, t, due))
}

// sweepOnce lists the bucket if nobody has done so within the interval: the
// lease is not given back but runs out, unless the sweep fails. Until then it is ErrBusy.
func (s *Store) sweepOnce(ctx context.Context) error {
	l, err := s.takeLease(ctx, "sweep", s.options.SweepInterval)
	if err != nil {
		return err
	}
	if l == nil {
		return ErrBusy
	}
	if err := s.sweepBucket(ctx); err != nil {
		return errors.Join(fmt.Errorf("sweep the bucket: %w", err), l.release(ctx))
	}
	return nil
}

// away reports whether an error says that the database or object storage cannot be reached.
func away(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, blob.ErrUnavailable)
}
