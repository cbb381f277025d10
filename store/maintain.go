package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
)

// maintained counts what this process has done in the background.
type maintained struct {
	packs, packed, merges, orphans, unknown, failures atomic.Int64
	emails, contents, freed, rewrites, drift          atomic.Int64
	audits, quotaDrift                                atomic.Int64
	warnings, warningMails, warningMailsDropped       atomic.Int64
	posts, postFailures, postsDropped                 atomic.Int64
}

// Maintained is what Maintain has done in this process since it started.
type Maintained struct {
	Packs    int64 // written from staging
	Packed   int64 // contents in them
	Merges   int64 // packs written from smaller ones
	Orphans  int64 // objects removed that did not count
	Unknown  int64 // objects seen in the bucket that the database does not know
	Failures int64 // jobs that failed, and were tried again
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
		Failures: m.failures.Load(), Emails: m.emails.Load(), Contents: m.contents.Load(), Freed: m.freed.Load(),
		Rewrites: m.rewrites.Load(), Drift: m.drift.Load(),
		QuotaAudits: m.audits.Load(), QuotaDrift: m.quotaDrift.Load(),
		Warnings: m.warnings.Load(), WarningMails: m.warningMails.Load(), WarningMailsDropped: m.warningMailsDropped.Load(),
		Posts: m.posts.Load(), PostFailures: m.postFailures.Load(), PostsDropped: m.postsDropped.Load(),
	}
}

// chore is a job that Maintain does again and again.
type chore struct {
	name  string
	every time.Duration
	do    func(ctx context.Context) error
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

// slowest bounds how long a chore that fails waits for its next turn.
const slowest = 30 * time.Second

// repeat does a chore at its interval. One that fails often comes later, since most likely something is away.
func (s *Store) repeat(ctx context.Context, c chore) {
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
		end(err)
		if ctx.Err() != nil {
			return
		}
		wait := c.every
		if err == nil {
			failed = 0
		} else {
			failed++
			s.maintained.failures.Add(1)
			s.log.WarnContext(jobCtx, "maintenance will be tried again", "job", c.name, "error", err)
			wait = max(wait, min(wait<<min(failed, 10), slowest))
		}
		timer.Reset(wait)
	}
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
	for _, t := range staged {
		all := time.Since(t.Oldest) > s.options.PackAge || left > s.options.StagingBound/2
		if !all && t.Bytes < s.options.PackSize && t.Messages < packMessages {
			continue
		}
		if err := s.packTenant(ctx, t.TenantID, all); err != nil {
			errs = append(errs, fmt.Errorf("pack tenant %d: %w", t.TenantID, err))
			if away(err) {
				break // for the others too
			}
			continue
		}
		left -= t.Bytes
	}
	_, err = s.underLease(ctx, "ring", func(ctx context.Context, _ *lease) error { return s.turnRing(ctx, slotSize) })
	return errors.Join(append(errs, err)...)
}

// eachTenant does a job for one tenant after the other, but for those that are
// being deleted: what removes them needs their rows. One that fails keeps nobody
// from the others, unless what it needs is away for them too.
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
	var errs []error
	for _, t := range tenants {
		if err := do(ctx, t); err != nil {
			errs = append(errs, fmt.Errorf("%s tenant %d: %w", job, t, err))
			if away(err) || ctx.Err() != nil {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// tidyAll folds, merges, collects and forgets, tenant by tenant.
func (s *Store) tidyAll(ctx context.Context) error {
	return s.eachTenant(ctx, "tidy", func(ctx context.Context, t id.Tenant) error {
		_, err := s.underLease(ctx, fmt.Sprintf("tidy/%d", t), func(ctx context.Context, _ *lease) error { return s.tidyTenant(ctx, t) })
		return err
	})
}

func (s *Store) tidyTenant(ctx context.Context, t id.Tenant) error {
	return errors.Join(s.FoldTenant(ctx, t), s.mergeTenant(ctx, t), s.collectOrphans(ctx, t), s.forgetKnownAddresses(ctx, t))
}

// sweepOnce lists the bucket if nobody has done so within the interval: the
// lease is not given back but runs out, unless the sweep fails.
func (s *Store) sweepOnce(ctx context.Context) error {
	l, err := s.takeLease(ctx, "sweep", s.options.SweepInterval)
	if err != nil || l == nil {
		return err
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
