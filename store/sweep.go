package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

const (
	sweepStep = 2000 // emails that one transaction removes,
	buryStep  = 500  // contents, which their appends wait for,
	sweepPage = 5000 // and contents that are looked at together
)

// Swept is what a sweep has done, or would do.
type Swept struct {
	Accounts  int64 `json:"accounts"`
	Mailboxes int64 `json:"mailboxes"` // deleted ones whose window is over
	Records   int64 `json:"records"`   // of expunges whose window is over
	Emails    int64 `json:"emails"`    // that nothing named
	Contents  int64 `json:"contents"`  // that no email named
	Bytes     int64 `json:"bytes"`     // of them, compressed
	Packs     int64 `json:"packs"`     // written anew, without what is dead in them
	Objects   int64 `json:"objects"`   // in which nothing lies any more; they go after a grace time
	Drift     int64 `json:"drift"`     // counters that were not the recount, and emails that were missing

	Stored int64 `json:"stored"` // octets in objects and in staging, after it
	Live   int64 `json:"live"`   // of content, what can be brought back included
}

// Add returns the sum of both.
func (a Swept) Add(b Swept) Swept {
	return Swept{
		a.Accounts + b.Accounts, a.Mailboxes + b.Mailboxes, a.Records + b.Records, a.Emails + b.Emails, a.Contents + b.Contents,
		a.Bytes + b.Bytes, a.Packs + b.Packs, a.Objects + b.Objects, a.Drift + b.Drift, a.Stored + b.Stored, a.Live + b.Live,
	}
}

// ErrBusy says that another process is at the same work.
var ErrBusy = errors.New("another process is at it")

// Sweep removes what nothing of a tenant names any more, and rewrites packs in
// which much is dead. It goes in bounded steps, each of which may be the last: the next sweep goes
// on. ErrBusy while another process sweeps the tenant.
func (s *Store) Sweep(ctx context.Context, t id.Tenant) (Swept, error) {
	w := &sweeping{Store: s, tenant: t}
	err := s.inTurn(ctx, sweepLease(t), func(ctx context.Context, l *lease) error {
		w.lease = l
		return w.run(ctx, 0)
	})
	return w.sum, err
}

func sweepLease(t id.Tenant) string { return fmt.Sprintf("sweep/%d", t) }

// sweepAll sweeps those tenants that were not swept for SweepEvery.
func (s *Store) sweepAll(ctx context.Context) error { return s.eachTenant(ctx, "sweep", s.sweepIfDue) }

func (s *Store) sweepIfDue(ctx context.Context, t id.Tenant) error {
	// A time to come is that of a clock that was set back since: it says nothing.
	const query = `
		SELECT EXISTS (
			SELECT FROM swept
			WHERE tenant_id = $1 AND account_id = 0 AND at > now() - $2::interval AND at <= now())`

	var done bool
	err := s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t, s.options.SweepEvery).QueryRow(func(row pgx.Row) error { return row.Scan(&done) })
	})
	if err != nil || done {
		return err
	}
	return s.inTurn(ctx, sweepLease(t), func(ctx context.Context, l *lease) error {
		w := &sweeping{Store: s, tenant: t, lease: l}
		return w.run(ctx, s.options.SweepEvery)
	})
}

// sweeping is a sweep of a tenant under way. One process at a time is at it.
type sweeping struct {
	*Store
	tenant id.Tenant
	lease  *lease
	sum    Swept
}

// run sweeps the accounts that were not swept for a time, and then the content of the tenant.
func (s *sweeping) run(ctx context.Context, unless time.Duration) error {
	accounts, err := s.due(ctx, unless)
	if err != nil {
		return err
	}
	var errs []error
	for _, account := range accounts {
		if err := s.account(ctx, account); err != nil {
			errs = append(errs, fmt.Errorf("sweep account %d: %w", account, err))
			if ctx.Err() != nil || away(err) {
				return errors.Join(errs...)
			}
		}
	}
	for _, step := range []func(context.Context) error{s.contents, s.retire, s.rewrite} {
		if err := step(ctx); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...) // the tenant's time stays, so that the others are tried again
	}
	return s.noteTenant(ctx)
}

// due returns the accounts that were not swept for a time, the longest first.
func (s *sweeping) due(ctx context.Context, unless time.Duration) (accounts []id.Account, err error) {
	const query = `
		SELECT a.account_id
		FROM account a
		LEFT JOIN swept w ON w.tenant_id = a.tenant_id AND w.account_id = a.account_id
		WHERE a.tenant_id = $1 AND NOT a.deleting AND (w.at IS NULL OR w.at <= now() - $2::interval OR w.at > now())
		ORDER BY w.at NULLS FIRST, a.account_id`

	err = s.read(ctx, s.tenant, func(b *pgx.Batch) {
		b.Queue(query, s.tenant, unless).Query(func(rows pgx.Rows) (err error) {
			accounts, err = pgx.CollectRows(rows, pgx.RowTo[id.Account])
			return err
		})
	})
	return accounts, err
}

// account removes the dead emails of an account.
func (s *sweeping) account(ctx context.Context, account id.Account) error {
	const sweep = `DELETE FROM email WHERE tenant_id = $1 AND account_id = $2 AND email_id = ANY ($3)`

	if err := s.forget(ctx, account); err != nil {
		return err
	}
	m, err := s.mark(ctx, s.tenant, account, nil)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // it is being deleted
	}
	if err != nil {
		return err
	}
	if err := s.reached(ctx, stepMarked); err != nil {
		return err
	}
	s.sum.Drift += int64(len(m.drift))
	s.maintained.drift.Add(int64(len(m.drift)))
	if len(m.drift) > 0 { // where rows are missing, nothing proves that an email is dead
		return fmt.Errorf("it is not swept, see mailstead fsck: %s", strings.Join(m.drift, "; "))
	}
	dead := m.dead()
	for some := range slices.Chunk(slices.Collect(dead.all), sweepStep) {
		n, err := s.exec(ctx, sweep, s.tenant, account, some)
		if err != nil {
			return err
		}
		s.sum.Emails += n
		s.maintained.emails.Add(n)
		if err := s.reached(ctx, stepSwept); err != nil {
			return err
		}
	}
	s.sum.Accounts++
	return s.noteAccount(ctx, account)
}

// noteAccount writes that an account is swept, unless it is being deleted: what does so removes the note but once.
func (s *sweeping) noteAccount(ctx context.Context, account id.Account) error {
	const query = `
		INSERT INTO swept (tenant_id, account_id)
		SELECT tenant_id, account_id FROM account WHERE tenant_id = $1 AND account_id = $2 AND NOT deleting FOR SHARE
		ON CONFLICT (tenant_id, account_id) DO UPDATE SET at = excluded.at`

	_, err := s.exec(ctx, query, s.tenant, account)
	return err
}

// noteTenant does so for the tenant.
func (s *sweeping) noteTenant(ctx context.Context) error {
	const query = `
		INSERT INTO swept (tenant_id, account_id, stored, live)
		SELECT tenant_id, 0, $2, $3 FROM tenant WHERE tenant_id = $1 AND NOT deleting FOR SHARE
		ON CONFLICT (tenant_id, account_id) DO UPDATE SET at = excluded.at, stored = excluded.stored, live = excluded.live`

	_, err := s.exec(ctx, query, s.tenant, s.sum.Stored, s.sum.Live)
	return err
}

// step runs f in a transaction of the tenant's, under the lease.
func (s *sweeping) step(ctx context.Context, f func(tx pgx.Tx) error) error {
	return s.transact(ctx, s.tenant, func(tx pgx.Tx) error {
		if err := s.lease.check(ctx, tx); err != nil {
			return err
		}
		return f(tx)
	})
}

// exec runs a statement as a step, and returns how many rows it changed.
func (s *sweeping) exec(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = s.step(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, query, args...)
		n = tag.RowsAffected()
		return err
	})
	return n, err
}

// contents buries the contents of the tenant that no email names: it marks them
// as dying, and then, in a transaction that looks again, removes them. It looks at all of them,
// so that none is forgotten, whatever ended before.
func (s *sweeping) contents(ctx context.Context) error {
	const query = `
		SELECT b.digest, b.dying, EXISTS (SELECT FROM email e WHERE e.tenant_id = b.tenant_id AND e.digest = b.digest)
		FROM blob b
		WHERE b.tenant_id = $1 AND b.digest > $2
		ORDER BY b.digest
		LIMIT $3`

	after := []byte{}
	for {
		var seen int
		var last []byte
		var dead [][]byte
		err := s.read(ctx, s.tenant, func(b *pgx.Batch) {
			seen, dead = 0, nil
			b.Queue(query, s.tenant, after, sweepPage).Query(func(rows pgx.Rows) error {
				var digest []byte
				var dying, named bool
				_, err := pgx.ForEachRow(rows, []any{&digest, &dying, &named}, func() error {
					seen++
					if dying || !named {
						dead = append(dead, bytes.Clone(digest))
					}
					return nil
				})
				last = digest
				return err
			})
		})
		if err != nil {
			return err
		}
		after = last
		for some := range slices.Chunk(dead, buryStep) {
			if err := s.bury(ctx, some); err != nil {
				return err
			}
		}
		if seen < sweepPage {
			return nil
		}
	}
}

func (s *sweeping) bury(ctx context.Context, digests [][]byte) error {
	const (
		mark = `SELECT mark_dying($1, $2)`
		bury = `SELECT n, octets FROM bury($1, $2)`
	)
	if _, err := s.exec(ctx, mark, s.tenant, digests); err != nil {
		return err
	}
	if err := s.reached(ctx, stepDying); err != nil {
		return err
	}
	var n, octets int64
	err := s.step(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, bury, s.tenant, digests).Scan(&n, &octets) })
	if err != nil {
		return err
	}
	s.sum.Contents += n
	s.sum.Bytes += octets
	s.maintained.contents.Add(n)
	s.maintained.freed.Add(octets)
	return s.reached(ctx, stepBuried)
}

// retire gives objects in which nothing lies any more to the collector.
func (s *sweeping) retire(ctx context.Context) error {
	const (
		empty = `
			SELECT o.object_key
			FROM object o
			WHERE o.tenant_id = $1 AND NOT EXISTS (
				SELECT FROM blob b WHERE b.tenant_id = o.tenant_id AND b.object_key = o.object_key)
			LIMIT $2`

		retire = `SELECT retire_objects($1, $2)`
	)
	for {
		var keys []string
		err := s.read(ctx, s.tenant, func(b *pgx.Batch) {
			b.Queue(empty, s.tenant, sweepStep).Query(func(rows pgx.Rows) (err error) {
				keys, err = pgx.CollectRows(rows, pgx.RowTo[string])
				return err
			})
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		if _, err := s.exec(ctx, retire, s.tenant, keys); err != nil {
			return err
		}
		s.sum.Objects += int64(len(keys))
		if err := s.reached(ctx, stepRetired); err != nil || len(keys) < sweepStep {
			return err
		}
	}
}

// WouldSweep tells what Sweep would do now, but for the packs. It changes nothing.
func (s *Store) WouldSweep(ctx context.Context, t id.Tenant) (Swept, error) {
	const digests = `SELECT digest FROM email WHERE tenant_id = $1 AND account_id = $2 AND email_id = ANY ($3)`

	w := &sweeping{Store: s, tenant: t}
	accounts, err := w.due(ctx, 0)
	if err != nil {
		return Swept{}, err
	}
	dying := make(map[id.Digest]int64) // how many dead emails name it
	for _, account := range accounts {
		m, err := s.mark(ctx, t, account, &s.options.Retention)
		if errors.Is(err, pgx.ErrNoRows) {
			continue // it is being deleted
		}
		if err != nil {
			return w.sum, err
		}
		if len(m.drift) > 0 {
			w.sum.Drift += int64(len(m.drift))
			continue // it would not be swept
		}
		dead := m.dead()
		for some := range slices.Chunk(slices.Collect(dead.all), sweepStep) {
			var found [][]byte
			err := s.read(ctx, t, func(b *pgx.Batch) {
				b.Queue(digests, t, account, some).Query(func(rows pgx.Rows) (err error) {
					found, err = pgx.CollectRows(rows, pgx.RowTo[[]byte])
					return err
				})
			})
			if err != nil {
				return w.sum, err
			}
			for _, digest := range found {
				dying[id.Digest(digest)]++
			}
		}
		w.sum = w.sum.Add(Swept{Accounts: 1, Mailboxes: m.boxes, Records: m.records, Emails: int64(dead.n)})
	}
	if err := w.wouldBury(ctx, dying); err != nil {
		return w.sum, err
	}
	return w.sum, w.measure(ctx)
}

// wouldBury counts the contents that no email names but those that are dead.
func (s *sweeping) wouldBury(ctx context.Context, dying map[id.Digest]int64) error {
	const query = `
		SELECT b.digest, b.stored_len, (SELECT count(*) FROM email e WHERE e.tenant_id = b.tenant_id AND e.digest = b.digest)
		FROM blob b
		WHERE b.tenant_id = $1 AND b.digest > $2
		ORDER BY b.digest
		LIMIT $3`

	type named struct {
		Digest []byte
		Stored int64
		Emails int64
	}
	after := []byte{}
	for {
		var page []named
		err := s.read(ctx, s.tenant, func(b *pgx.Batch) {
			b.Queue(query, s.tenant, after, sweepPage).Query(func(rows pgx.Rows) (err error) {
				page, err = pgx.CollectRows(rows, pgx.RowToStructByPos[named])
				return err
			})
		})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, b := range page {
			if b.Emails == dying[id.Digest(b.Digest)] {
				s.sum.Contents++
				s.sum.Bytes += b.Stored
			}
		}
		after = page[len(page)-1].Digest
	}
}

// Progress is how far sweeping has come, and what it has found last.
type Progress struct {
	Oldest time.Time // when the tenant was swept, or made, for which that is longest ago; zero: there is none
	Stored int64     // octets in objects and in staging
	Live   int64     // of content, what can be brought back included
}

// SweepProgress returns that of all tenants together.
func (s *Store) SweepProgress(ctx context.Context) (Progress, error) {
	type row struct {
		Oldest *time.Time
		Stored int64
		Live   int64
	}
	found, err := lookup[row](ctx, s, `SELECT oldest, stored, live FROM sweep_progress()`)
	if err != nil || len(found) == 0 {
		return Progress{}, err
	}
	p := Progress{Stored: found[0].Stored, Live: found[0].Live}
	if found[0].Oldest != nil {
		p.Oldest = *found[0].Oldest
	}
	return p, nil
}
