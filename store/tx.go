package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"mailstead.dev/store/id"
)

// setTenant binds a transaction to its tenant, for row-level security.
const setTenant = `SELECT set_config('mailstead.tenant', $1, true)`

// setTenantPooled is setTenant behind PgBouncer, where a connection has no
// settings of its own: each transaction brings those that bound it along (see newPool).
const setTenantPooled = setTenant + `, set_config('statement_timeout', '` + statementTimeout + `', true),
	set_config('lock_timeout', '` + lockTimeout + `', true),
	set_config('idle_in_transaction_session_timeout', '` + idleTimeout + `', true)`

// These bound what a transaction can keep from others, also where the process
// that it belongs to has stopped without a word.
const (
	statementTimeout = "60s"
	lockTimeout      = "30s"
	idleTimeout      = "60s"
)

// beginSnapshot begins a transaction that only reads, and sees one state of the database.
const beginSnapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

// commitBlock commits a transaction block.
const commitBlock = "COMMIT"

// attempts bounds how often a transaction is run that others keep in the way of.
const attempts = 8

// batch runs the queued statements in one implicit transaction of one round
// trip, which is committed as a whole or not at all. The callbacks of the
// queued statements run before the commit is confirmed: their results count
// only if batch returns nil. It is an error of theirs that undoes nothing.
// Where the connection is lost the outcome is unknown, so what only reads uses read.
func (s *Store) batch(ctx context.Context, t id.Tenant, queue func(b *pgx.Batch)) error {
	return s.batchOf(ctx, written{tenant: t}, queue)
}

// batchOf is batch for what is known to change some mailboxes only.
func (s *Store) batchOf(ctx context.Context, w written, queue func(b *pgx.Batch)) error {
	return s.send(ctx, w.tenant, "", queue, &w)
}

// call runs a function that writes as a transaction of its own, in one round trip; where others are in
// the way it is not run again. bound is query with a parameter more, to which it binds its transaction as setTenant
// does, in WHERE: that is settled before anything is selected, and so before the function runs. It spares a statement,
// a fifteenth of what a STORE costs the database.
func (s *Store) call(ctx context.Context, w written, query, bound string, args []any, answer func(row pgx.Row) error) error {
	if s.options.PgBouncer { // see setTenantPooled and sendPooled
		return s.batchOf(ctx, w, func(b *pgx.Batch) { b.Queue(query, args...).QueryRow(answer) })
	}
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	b := &pgx.Batch{}
	b.Queue(bound, append(args, tenantSetting(w.tenant))...).QueryRow(answer)
	return s.commit(ctx, conn, w, b)
}

// read is batch for statements that only read: a lost connection is tried once more, and then ErrUnavailable.
// The statements do not share a snapshot; queue may be called twice.
func (s *Store) read(ctx context.Context, t id.Tenant, queue func(b *pgx.Batch)) error {
	return s.readIn(ctx, t, "", queue)
}

// ask is read of one query that is asked often. bound is query with a parameter more, to which it binds its transaction as setTenant does, in
// what the rest of it is LATERAL to: so nothing is read before. It spares a statement, a twelfth of what a SELECT takes.
func (s *Store) ask(ctx context.Context, t id.Tenant, query, bound string, args []any, answer func(rows pgx.Rows) error) error {
	if s.options.PgBouncer { // see setTenantPooled
		return s.read(ctx, t, func(b *pgx.Batch) { b.Queue(query, args...).Query(answer) })
	}
	args = append(args, tenantSetting(t))
	err := s.askOnce(ctx, bound, args, answer)
	if errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
		err = s.askOnce(ctx, bound, args, answer)
	}
	return err
}

func (s *Store) askOnce(ctx context.Context, bound string, args []any, answer func(rows pgx.Rows) error) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	rows, err := conn.Query(ctx, bound, args...)
	if err == nil {
		err = answer(rows)
		rows.Close()
	}
	return s.lost(ctx, conn, err, unsent)
}

// readSnapshot is read with one snapshot for all statements.
func (s *Store) readSnapshot(ctx context.Context, t id.Tenant, queue func(b *pgx.Batch)) error {
	return s.readIn(ctx, t, beginSnapshot, queue)
}

func (s *Store) readIn(ctx context.Context, t id.Tenant, begin string, queue func(b *pgx.Batch)) error {
	err := s.send(ctx, t, begin, queue, nil)
	if errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
		err = s.send(ctx, t, begin, queue, nil)
	}
	return err
}

func (s *Store) send(ctx context.Context, t id.Tenant, begin string, queue func(b *pgx.Batch), writes *written) error {
	var try trial
	for {
		err := s.sendOnce(ctx, t, begin, try, queue, writes)
		if !try.again(ctx, err) {
			return err
		}
	}
}

// trial is one run of a transaction that is run again where others were in its way.
type trial struct {
	failed   int
	allSlots bool // what is charged is charged under the locks of all slots of its quota roots
}

// again reports whether a transaction that failed with err is to be run once more, and waits before it.
func (try *trial) again(ctx context.Context, err error) bool {
	if isState(err, stateSlot) && !try.allSlots {
		try.allSlots = true
		return true
	}
	try.failed++
	return inTheWay(err) && try.failed < attempts && pause(ctx, try.failed)
}

// lockAllSlots is the first statement of a transaction that locks all slots of a quota root.
const lockAllSlots = `SELECT all_slots($1)`

// queue queues what comes before all else in the transaction.
func (try trial) queue(b *pgx.Batch, t id.Tenant) {
	if try.allSlots {
		b.Queue(lockAllSlots, t)
	}
}

// sendOnce pipelines what is queued; begin is the statement that begins a transaction block, "" for none.
func (s *Store) sendOnce(ctx context.Context, t id.Tenant, begin string, try trial, queue func(b *pgx.Batch), writes *written) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // which closes a connection that an error left inside a transaction block
	if writes != nil && s.options.PgBouncer {
		return s.sendPooled(ctx, conn, *writes, try, queue)
	}
	b := &pgx.Batch{}
	if begin != "" {
		b.Queue(begin)
	}
	s.queueTenant(b, t)
	try.queue(b, t)
	queue(b)
	if begin != "" {
		b.Queue(commitBlock)
	}
	if writes == nil {
		return s.lost(ctx, conn, conn.SendBatch(ctx, b).Close(), unsent)
	}
	return s.commit(ctx, conn, *writes, b)
}

// queueTenant queues what binds a transaction to its tenant.
func (s *Store) queueTenant(b *pgx.Batch, t id.Tenant) {
	if s.options.PgBouncer {
		b.Queue(setTenantPooled, tenantSetting(t))
	} else {
		b.Queue(setTenant, tenantSetting(t))
	}
}

// sendPooled sends statements that write through a pooler, in two round trips.
// After the first there is a server: what the pooler says in its own name before
// that is that there is none, and nothing was done. What it says after that
// is that it has lost the server, and nobody knows what that has done.
func (s *Store) sendPooled(ctx context.Context, conn *pgxpool.Conn, w written, try trial, queue func(b *pgx.Batch)) error {
	b := &pgx.Batch{}
	b.Queue("BEGIN")
	s.queueTenant(b, w.tenant)
	try.queue(b, w.tenant)
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		return s.lost(ctx, conn, err, unsent)
	}
	b = &pgx.Batch{}
	queue(b)
	b.Queue(commitBlock)
	return s.commit(ctx, conn, w, b)
}

// commit sends what ends a transaction: statements that their end, or COMMIT
// as the last of them, commits.
func (s *Store) commit(ctx context.Context, conn *pgxpool.Conn, w written, b *pgx.Batch) error {
	last := b.QueuedQueries[b.Len()-1]
	if last.SQL == commitBlock {
		last = b.QueuedQueries[b.Len()-2]
	}
	at, answer := sent, last.Fn
	if answer == nil {
		last.Exec(func(pgconn.CommandTag) error { return nil })
		answer = last.Fn
	}
	last.Fn = func(results pgx.BatchResults) error {
		err := answer(results)
		if err == nil {
			at = executed
		}
		return err
	}
	sending, end := inEarnest(ctx)
	defer end()
	err := conn.SendBatch(sending, b).Close()
	return s.settle(ctx, conn, w, err, at)
}

// afterAll is for how long the outcome of a commit is still waited for when nobody waits for it any more.
const afterAll = 2 * time.Second

// inEarnest lasts a little longer than ctx, if that has not ended: where a commit is given up its outcome is
// unknown, for which the whole process pays (see delegations.renew).
func inEarnest(ctx context.Context) (context.Context, func()) {
	if ctx.Done() == nil || ctx.Err() != nil {
		return ctx, func() {}
	}
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(afterAll, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}

// transact runs f in a READ COMMITTED transaction, and again where others were
// in the way (serialization failure, deadlock), or what f charges does not fit its slot: f touches nothing but the transaction.
func (s *Store) transact(ctx context.Context, t id.Tenant, f func(tx pgx.Tx) error) error {
	return s.retry(ctx, t, "BEGIN", true, trial{}, f)
}

// transactAllSlots is transact for what locks all slots of a quota root.
func (s *Store) transactAllSlots(ctx context.Context, t id.Tenant, f func(tx pgx.Tx) error) error {
	return s.retry(ctx, t, "BEGIN", true, trial{allSlots: true}, f)
}

// snapshot runs f in a read-only transaction that sees one state of the database.
func (s *Store) snapshot(ctx context.Context, t id.Tenant, f func(tx pgx.Tx) error) error {
	return s.retry(ctx, t, beginSnapshot, false, trial{}, f)
}

func (s *Store) retry(ctx context.Context, t id.Tenant, begin string, writes bool, try trial, f func(tx pgx.Tx) error) error {
	for {
		err := s.once(ctx, t, begin, writes, try, f)
		if !try.again(ctx, err) {
			return err
		}
	}
}

func (s *Store) once(ctx context.Context, t id.Tenant, begin string, writes bool, try trial, f func(tx pgx.Tx) error) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	set := setTenant
	if s.options.PgBouncer {
		set = setTenantPooled
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{
		BeginQuery: begin + "; " + strings.Replace(set, "$1", "'"+tenantSetting(t)+"'", 1),
	})
	if err != nil {
		return s.lost(ctx, conn, err, unsent)
	}
	defer rollback(ctx, tx)
	if try.allSlots {
		if _, err := tx.Exec(ctx, lockAllSlots, t); err != nil {
			return s.lost(ctx, conn, err, unsent)
		}
	}
	if err := f(tx); err != nil {
		return s.failed(ctx, conn, err)
	}
	if !writes {
		return s.lost(ctx, conn, tx.Commit(ctx), unsent)
	}
	sending, end := inEarnest(ctx)
	defer end()
	return s.settle(ctx, conn, written{tenant: t}, tx.Commit(sending), executed)
}

// rollback ends what was not committed, also where ctx has ended. An error of
// it needs no care: the connection is then closed, and the server rolls back.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// acquire takes a connection from the pool.
func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, lost(ctx, err, unsent)
	}
	if of := conn.Conn().PgConn().CustomData(); len(of) > 0 {
		delete(of, noticesOf) // of a transaction that was not committed
	}
	return conn, nil
}

// failed maps an error that a function run inside a transaction returned: its
// own errors stay, those of the connection become ErrUnavailable.
func (s *Store) failed(ctx context.Context, conn *pgxpool.Conn, err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) || conn.Conn().IsClosed() {
		return s.lost(ctx, conn, err, unsent)
	}
	return err
}

// lost is the function lost for a connection in use. Where one connection broke
// the idle ones most likely did too, and are closed before they surprise others.
func (s *Store) lost(ctx context.Context, conn *pgxpool.Conn, err error, at stage) error {
	if err == nil {
		return nil
	}
	var e *pgconn.PgError
	if answered := errors.As(err, &e); !conn.Conn().IsClosed() && !(answered && isFatal(e)) {
		at = unsent // the server has answered, also on the commit
		if !answered {
			return err // not the database's: a callback's, or a value that does not fit
		}
	} else if ctx.Err() == nil {
		s.pool.Reset()
	}
	if at == sent && s.options.PgBouncer {
		at = executed // a pooler that has lost the server has lost the server's answers too
	}
	return lost(ctx, err, at)
}

// inTheWay reports whether err says that another transaction was in the way, and nothing was done.
func inTheWay(err error) bool {
	return isState(err, "40001") || isState(err, "40P01")
}

// pause waits before the next attempt, for longer each time, and reports whether ctx lasts.
func pause(ctx context.Context, attempt int) bool {
	timer := time.NewTimer(rand.N(time.Millisecond << attempt))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func tenantSetting(t id.Tenant) string { return strconv.FormatInt(int64(t), 10) }
