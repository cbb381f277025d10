package store

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"mailstead.dev/store/id"
)

// A change of a mailbox that is delegated to another front end recalls it, of which the database informs it. The change is
// told to nobody before the mailbox was given back: so whoever asks that front end afterwards finds it.

// stateRecalled is the SQLSTATE of that (migration 0028).
const stateRecalled = "MS012"

// noticesOf is where a connection keeps the notices of its transaction.
const noticesOf = "recalled"

// written is what a transaction may have changed: mailboxes of a tenant, nil: all of them.
type written struct {
	tenant    id.Tenant
	mailboxes []id.Mailbox
}

// noticed keeps what was recalled until the end of the transaction.
func noticed(conn *pgconn.PgConn, n *pgconn.Notice) {
	if n.Code != stateRecalled {
		return
	}
	var numbers [3]int64
	fields := strings.Fields(n.Detail)
	for i := range min(len(fields), len(numbers)) {
		numbers[i], _ = strconv.ParseInt(fields[i], 10, 64) // ours; of no mailbox, if it is not
	}
	of := conn.CustomData()
	known, _ := of[noticesOf].([]delegated)
	if one := (delegated{viewKey{id.Tenant(numbers[0]), id.Mailbox(numbers[1])}, numbers[2]}); !slices.Contains(known, one) {
		of[noticesOf] = append(known, one)
	}
}

// settle comes at the end of a transaction that writes, with its error. The connection is released where others are waited for: they
// may need one.
func (s *Store) settle(ctx context.Context, conn *pgxpool.Conn, w written, err error, at stage) error {
	of := conn.Conn().PgConn().CustomData()
	recalled, _ := of[noticesOf].([]delegated)
	if recalled != nil {
		delete(of, noticesOf)
	}
	if err != nil && conn.Conn().IsClosed() && !pgconn.SafeToRetry(err) {
		s.delegations.renew()
	} else {
		s.delegations.changed(w)
	}
	if err = s.lost(ctx, conn, err, at); err != nil || len(recalled) == 0 {
		return err
	}
	// Of what was recalled from this process, by a connection with an older number, the change has been counted.
	recalled = slices.DeleteFunc(recalled, func(one delegated) bool { return s.delegations.isOurs(one.frontEnd) })
	if len(recalled) > 0 {
		conn.Release()
		s.awaitGivenBack(ctx, w.tenant, recalled)
	}
	return nil
}

// awaitGivenBack waits until mailboxes have been given back, or their front ends answer nothing from memory any more, whatever has become
// of them. The change is made, also where who asked for it has gone: so only time ends it.
func (s *Store) awaitGivenBack(ctx context.Context, t id.Tenant, all []delegated) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), trustTime+beatInterval)
	defer cancel()
	var boxes, frontEnds []int64
	for _, one := range all {
		boxes, frontEnds = append(boxes, int64(one.key.mailbox)), append(frontEnds, one.frontEnd)
	}
	for pause := time.Millisecond / 2; ctx.Err() == nil; pause = min(2*pause, 50*time.Millisecond) {
		time.Sleep(pause)
		kept, dead, err := s.kept(ctx, t, boxes, frontEnds)
		if err == nil && dead {
			s.giveBackForDead(ctx, t, boxes, frontEnds)
		}
		if err == nil && !kept {
			return
		}
	}
}

// kept reports whether some of the mailboxes have not been given back by front ends that live, or by such that do not.
func (s *Store) kept(ctx context.Context, t id.Tenant, boxes, frontEnds []int64) (alive, dead bool, err error) {
	const query = `
		SELECT coalesce(bool_or(lives), false), coalesce(bool_or(NOT lives), false)
		FROM (
			SELECT front_end_lives(x.front_end_id) AS lives
			FROM unnest($2::bigint[], $3::bigint[]) AS x (mailbox_id, front_end_id)
			JOIN mailbox m ON m.tenant_id = $1 AND m.mailbox_id = x.mailbox_id AND m.delegate = -x.front_end_id
		) AS kept`

	err = s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t, boxes, frontEnds).QueryRow(func(row pgx.Row) error { return row.Scan(&alive, &dead) })
	})
	return alive, dead, err
}

// giveBackForDead gives mailboxes back for front ends that are not heard from, so that nobody else asks for them; but not what
// somebody has a lock of. Where such a front end is heard from after all, it goes by another number.
func (s *Store) giveBackForDead(ctx context.Context, t id.Tenant, boxes, frontEnds []int64) {
	const query = `
		UPDATE mailbox SET delegate = NULL
		WHERE tenant_id = $1 AND mailbox_id IN (
			SELECT m.mailbox_id
			FROM unnest($2::bigint[], $3::bigint[]) AS x (mailbox_id, front_end_id)
			JOIN mailbox m ON m.tenant_id = $1 AND m.mailbox_id = x.mailbox_id AND m.delegate = -x.front_end_id
			WHERE NOT front_end_lives(x.front_end_id)
			FOR NO KEY UPDATE OF m SKIP LOCKED)`

	err := s.batchOf(ctx, written{t, []id.Mailbox{}}, func(b *pgx.Batch) { b.Queue(query, t, boxes, frontEnds) })
	if err != nil {
		s.log.Debug("mailboxes were not given back for front ends that have gone", "tenant", t, "error", err)
	}
}
