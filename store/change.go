package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"mailstead.dev/quota"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// target is a mailbox that a change is about.
type target struct {
	mailbox id.Mailbox
	owner   id.Account
	reader  id.Account // who has a \Seen of their own, 0: the owner
	epoch   int64      // that the rights on it must be of, 0: any
	hold    bool       // it is only read, and held still meanwhile
}

// target is the mailbox as one that is changed for the user who opened it.
func (m *Mailbox) target() target {
	return target{mailbox: m.ID, owner: m.Owner, reader: m.reader(), epoch: m.epoch}
}

// held is the mailbox as one that is only read.
func (m *Mailbox) held() target {
	t := m.target()
	t.hold = true
	return t
}

// computation says what a change does to mailboxes that are in the state of
// views, as who makes it has them: a record for each, empty where nothing changes. It may be called
// several times, and only the last call counts.
type computation func(views []*view.View) ([]view.Record, error)

// change is the one way in to mailboxes whose state matters for the change
// (APPEND's does not). All of targets belong to one account, unless written does the writing.
// It returns the change as it was made, with the views before and after it.
//
// Where the views are cached, the records are computed from them and written
// in one round trip, if the mailboxes are still in that state under their
// locks. Otherwise the locks come first, then, as statements of their own, the
// ends of the logs: one statement under READ COMMITTED would see the rows as
// they are once the lock is had, but the logs as they were before.
func (s *Store) change(ctx context.Context, t id.Tenant, targets []target, compute computation) (*changing, error) {
	return (&changing{store: s, tenant: t, targets: targets, compute: compute}).run(ctx)
}

func (c *changing) run(ctx context.Context) (*changing, error) {
	done, err := c.takeTurns(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	for {
		err = c.guess(ctx)
		if errors.Is(err, errMovedOn) {
			err = c.locked(ctx)
		}
		if !c.try.again(ctx, err) {
			break
		}
	}
	if err != nil {
		return nil, changeError(err)
	}
	c.publish()
	return c, nil
}

// errMovedOn says that a change that was computed from what is cached cannot
// be made: the mailboxes are in another state, or would have to be looked at to know.
var errMovedOn = errors.New("mailbox has moved on")

// changing is a change under way.
type changing struct {
	store   *Store
	tenant  id.Tenant
	targets []target
	compute computation
	try     trial
	across  *across // nil: all of targets are one account's

	before  []*view.View
	records []view.Record
	after   []*view.View
	logs    []int64 // octets of log of each mailbox after it
	written bool

	overSoft quota.Level // whose soft limit is exceeded by it; "": nobody's
}

func (c *changing) key(i int) viewKey { return viewKey{c.tenant, c.targets[i].mailbox} }

// writes are the mailboxes that it may change.
func (c *changing) writes() written {
	w := written{c.tenant, make([]id.Mailbox, len(c.targets))}
	for i, t := range c.targets {
		w.mailboxes[i] = t.mailbox
	}
	return w
}

func (c *changing) viewer(i int) viewerKey { return viewerKey{c.key(i), c.targets[i].reader} }

// order returns the indices of targets by ascending mailbox, the order of all locks.
func (c *changing) order() []int {
	order := make([]int, len(c.targets))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return int(c.targets[a].mailbox - c.targets[b].mailbox) })
	return order
}

func (c *changing) takeTurns(ctx context.Context) (func(), error) {
	var done []func()
	end := func() {
		for _, f := range done {
			f()
		}
	}
	for _, i := range c.order() {
		f, err := c.store.changers.take(ctx, c.key(i))
		if err != nil {
			end()
			return nil, err
		}
		done = append(done, f)
	}
	return end, nil
}

// guess tries the change from cached views, in one round trip.
func (c *changing) guess(ctx context.Context) error {
	c.before = make([]*view.View, len(c.targets))
	if c.across != nil {
		return errMovedOn
	}
	for i := range c.targets {
		if c.before[i] = c.store.views.get(c.viewer(i)); c.before[i] == nil {
			return errMovedOn
		}
	}
	if err := c.plan(); err != nil || !c.changes() {
		return errMovedOn // perhaps only as things were
	}
	var done bool
	var err error
	if c.alone() {
		done, err = c.writeAlone(ctx)
	} else {
		err = c.store.batchOf(ctx, c.writes(), func(b *pgx.Batch) { c.queue(b, false, &done) })
	}
	if err == nil && !done {
		return errMovedOn
	}
	c.written = err == nil
	return err
}

// plan computes the change from the views before.
func (c *changing) plan() (err error) {
	if c.records, err = c.compute(c.before); err != nil {
		return err
	}
	c.after = slices.Clone(c.before)
	for i, r := range c.records {
		if len(r) == 0 {
			continue
		}
		if c.after[i], err = c.before[i].Apply(c.before[i].ModSeq()+1, r); err != nil {
			return err
		}
	}
	return nil
}

func (c *changing) changes() bool {
	return slices.ContainsFunc(c.records, func(r view.Record) bool { return len(r) > 0 })
}

// locked makes the change from the newest views, under the mailboxes' locks.
func (c *changing) locked(ctx context.Context) error {
	conn, err := c.store.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // closes a connection whose transaction was not ended
	if err := c.lock(ctx, conn); err != nil {
		return c.store.failed(ctx, conn, err)
	}
	if err := c.plan(); err != nil || !c.changes() {
		return errors.Join(err, c.store.giveUp(ctx, conn))
	}
	b := &pgx.Batch{}
	if c.across != nil {
		c.across.queue(b, c)
	} else {
		var done bool
		c.queue(b, true, &done)
	}
	b.Queue(commitBlock)
	if err := c.store.commit(ctx, conn, c.writes(), b); err != nil {
		return err
	}
	c.written = true
	if c.across != nil {
		return c.across.numbered(c)
	}
	return nil
}

// lock begins a transaction, locks the mailboxes and brings the views up to date.
func (c *changing) lock(ctx context.Context, conn *pgxpool.Conn) error {
	b := &pgx.Batch{}
	b.Queue("BEGIN")
	c.store.queueTenant(b, c.tenant)
	c.try.queue(b, c.tenant)
	h := c.queueLock(b)
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	return c.bringUp(ctx, conn, h)
}

// held is what the locked rows and the ends of the logs say.
type held struct {
	ends  []position
	tails [][]logRow
}

func (c *changing) queueLock(b *pgx.Batch) *held {
	const (
		lock = `
			SELECT uidnext, highestmodseq, acl_epoch
			FROM mailbox
			WHERE tenant_id = $1 AND mailbox_id = $2 AND account_id = $3 AND deleted_at IS NULL
			FOR NO KEY UPDATE`

		hold = `
			SELECT uidnext, highestmodseq, acl_epoch
			FROM mailbox
			WHERE tenant_id = $1 AND mailbox_id = $2 AND account_id = $3 AND deleted_at IS NULL
			FOR SHARE`

		tail = `
			SELECT modseq, uid_base, email_base, record
			FROM mailbox_log
			WHERE tenant_id = $1 AND mailbox_id = $2 AND modseq > $3
			ORDER BY modseq`
	)
	h := &held{ends: make([]position, len(c.targets)), tails: make([][]logRow, len(c.targets))}
	order := c.order()
	for _, i := range order {
		query := lock
		if c.targets[i].hold {
			query = hold
		}
		to := c.targets[i]
		b.Queue(query, c.tenant, to.mailbox, to.owner).QueryRow(func(row pgx.Row) error {
			var epoch int64
			if err := row.Scan(&h.ends[i].uidNext, &h.ends[i].modSeq, &epoch); err != nil {
				return err
			}
			if to.epoch > 0 && epoch != to.epoch {
				return ErrRightsChanged
			}
			return nil
		})
	}
	for _, i := range order {
		c.before[i] = c.store.views.get(c.viewer(i))
		if c.before[i] == nil {
			continue
		}
		b.Queue(tail, c.tenant, c.targets[i].mailbox, c.before[i].ModSeq()).Query(func(rows pgx.Rows) (err error) {
			h.tails[i], err = pgx.CollectRows(rows, scanLogRow)
			return err
		})
	}
	return h
}

// sender is a connection or a transaction.
type sender interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// bringUp makes the views those of the locked mailboxes: from what was cached
// and the end of the log, or else from all there is.
func (c *changing) bringUp(ctx context.Context, tx sender, h *held) error {
	for i, v := range c.before {
		if v != nil {
			if now := c.store.followCached(c.viewer(i), v, h.ends[i], h.tails[i]); now != nil {
				c.before[i] = now
				continue
			}
		}
		b := &pgx.Batch{}
		var l viewLoad
		l.queue(b, c.viewer(i))
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		var err error
		if c.before[i], err = l.view(); err != nil {
			return fmt.Errorf("load mailbox %d: %w", c.targets[i].mailbox, err)
		}
	}
	return nil
}

// delta is what a planned record does to the row of its mailbox, which counts what the owner has.
type delta struct {
	expected int64  // MODSEQ before it
	record   []byte // nil: nothing changes
	base     int64
	uids     int64 // given out
	counts   view.Counts
}

func (c *changing) delta(i int) delta {
	before, after := c.before[i].Base(), c.after[i].Base()
	d := delta{expected: int64(before.ModSeq())}
	if len(c.records[i]) == 0 {
		return d
	}
	base := before.UIDNext() - 1
	d.record, d.base = c.records[i].Encode(base, 0), int64(base)
	d.uids = int64(after.UIDNext() - before.UIDNext())
	was, is := before.Counts(), after.Counts()
	d.counts = view.Counts{
		Messages: is.Messages - was.Messages, Unseen: is.Unseen - was.Unseen, Deleted: is.Deleted - was.Deleted,
		Bytes: is.Bytes - was.Bytes, DeletedBytes: is.DeletedBytes - was.DeletedBytes,
	}
	return d
}

// alone tells whether the planned change is one record that charges nobody: a STORE, mostly.
func (c *changing) alone() bool {
	if len(c.targets) != 1 {
		return false
	}
	before, after := c.before[0].Base().Counts(), c.after[0].Base().Counts()
	return before.Messages == after.Messages && before.Bytes == after.Bytes
}

// writeRecord writes a record, and writeRecordBound binds the transaction too: see call.
const (
	writeRecord      = `SELECT write_record($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`
	writeRecordBound = writeRecord + ` WHERE set_config('mailstead.tenant', $14, true) <> ''`
)

// writeAlone writes the planned record of a change that is alone, and reports whether the mailbox was in that state.
func (c *changing) writeAlone(ctx context.Context) (done bool, err error) {
	to, d := c.targets[0], c.delta(0)
	c.logs = make([]int64, 1)
	err = c.store.call(ctx, c.writes(), writeRecord, writeRecordBound, []any{
		c.tenant, to.owner, to.mailbox, to.epoch, d.expected, d.record, d.base, d.uids,
		d.counts.Messages, d.counts.Unseen, d.counts.Deleted, d.counts.Bytes, d.counts.DeletedBytes,
	}, func(row pgx.Row) error {
		var log *int64
		if err := row.Scan(&log); err != nil {
			return err
		}
		if done = log != nil; done {
			c.logs[0] = *log
		}
		return nil
	})
	return done, err
}

// queue queues the writing of the planned records. strict says that the locks are had.
func (c *changing) queue(b *pgx.Batch, strict bool, done *bool) {
	const query = `SELECT done, logs, crossed_soft() FROM change_mailboxes($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`

	order := c.order()
	n := len(order)
	var (
		boxes, epochs, expected, bases, uids            = make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
		messages, unseen, deleted, octets, deletedBytes = make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
		records                                         = make([][]byte, n)
	)
	for k, i := range order {
		d := c.delta(i)
		boxes[k], epochs[k], expected[k] = int64(c.targets[i].mailbox), c.targets[i].epoch, d.expected
		records[k], bases[k], uids[k] = d.record, d.base, d.uids
		messages[k], unseen[k], deleted[k] = d.counts.Messages, d.counts.Unseen, d.counts.Deleted
		octets[k], deletedBytes[k] = d.counts.Bytes, d.counts.DeletedBytes
	}
	c.logs = make([]int64, n)
	b.Queue(query, c.tenant, c.targets[0].owner, strict, boxes, epochs, expected, records, bases, uids,
		messages, unseen, deleted, octets, deletedBytes).QueryRow(func(row pgx.Row) error {
		var logs []int64
		if err := row.Scan(done, &logs, &c.overSoft); err != nil {
			return err
		}
		for k, i := range order {
			c.logs[i] = logs[k]
		}
		return nil
	})
}

// publish tells everyone who waits for it, after the commit.
func (c *changing) publish() {
	for i := range c.targets {
		c.store.views.put(c.viewer(i), c.after[i])
		if c.written && len(c.records[i]) > 0 {
			c.store.changed(c.key(i), c.after[i].ModSeq(), c.logs[i])
		}
	}
}

// changed tells those who watch a mailbox and who fold it that it has changed.
func (s *Store) changed(key viewKey, modSeq id.ModSeq, logBytes int64) {
	s.watch.changed(key, modSeq)
	s.folder.consider(key, logBytes)
}

// giveUp ends a transaction in which nothing was changed.
func (s *Store) giveUp(ctx context.Context, conn *pgxpool.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, err := conn.Exec(ctx, "ROLLBACK")
	return s.lost(ctx, conn, err, unsent)
}

// ErrFull says that a mailbox has given out its last UID.
var ErrFull = errors.New("mailbox has no UID left")

// changeError makes errors of the store out of those that its functions in the database raise.
func changeError(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotExist // the row to lock
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case stateGone:
		return ErrNotExist
	case stateRights:
		return ErrRightsChanged
	case stateFull:
		return ErrFull
	case stateOver:
		return overError(e)
	case stateIntent, stateNotFresh:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// overError reads the detail that over_quota gives.
func overError(e *pgconn.PgError) error {
	fields := strings.Fields(e.Detail)
	if len(fields) != 5 {
		return e
	}
	over := &quota.OverError{Resource: quota.Resource(fields[0]), Level: quota.Level(fields[4])}
	for i, n := range []*int64{&over.Used, &over.Limit, &over.Wanted} {
		v, err := strconv.ParseInt(fields[i+1], 10, 64)
		if err != nil {
			return e
		}
		*n = v
	}
	return over
}
