package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

const (
	// retainPage is how many expunge records are read at a time,
	retainPage = 200
	// and forgetStep how many one transaction removes.
	forgetStep = 2000
)

// forget makes the mailboxes of an account forget what cannot be brought back
// any more: deleted mailboxes, what expunged messages were, and beyond the horizon that they were.
// From then on nothing names their emails. Each step is a transaction under the
// mailbox's lock, which undelete takes too: of the two one comes first.
func (s *sweeping) forget(ctx context.Context, account id.Account) error {
	for _, step := range []func(context.Context, id.Account) error{s.foldOld, s.purgeMailboxes, s.bareExpunged, s.forgetExpunged, s.forgetReaders} {
		if err := step(ctx, account); err != nil {
			return err
		}
		if err := s.reached(ctx, stepForgot); err != nil {
			return err
		}
	}
	return nil
}

// foldOld folds mailboxes whose log is older than the window, however short it
// is: what was expunged is forgotten in the records that folding keeps, never in a log.
func (s *sweeping) foldOld(ctx context.Context, account id.Account) error {
	const query = `
		SELECT m.mailbox_id
		FROM mailbox m
		CROSS JOIN LATERAL (
			SELECT at FROM mailbox_log
			WHERE tenant_id = m.tenant_id AND mailbox_id = m.mailbox_id
			ORDER BY modseq
			LIMIT 1
		) l
		WHERE m.tenant_id = $1 AND m.account_id = $2 AND m.deleted_at IS NULL AND l.at < now() - $3::interval`

	var mailboxes []id.Mailbox
	err := s.read(ctx, s.tenant, func(b *pgx.Batch) {
		b.Queue(query, s.tenant, account, s.options.Retention).Query(func(rows pgx.Rows) (err error) {
			mailboxes, err = pgx.CollectRows(rows, pgx.RowTo[id.Mailbox])
			return err
		})
	})
	if err != nil {
		return err
	}
	for _, m := range mailboxes {
		if _, err := s.fold(ctx, viewKey{s.tenant, m}, true); err != nil {
			return err
		}
	}
	return nil
}

// purgeMailboxes removes deleted mailboxes whose window is over. First they are
// marked, so that none is brought back of which a part is gone already.
func (s *sweeping) purgeMailboxes(ctx context.Context, account id.Account) error {
	const mark = `
		UPDATE mailbox SET purging = true
		WHERE tenant_id = $1 AND account_id = $2 AND deleted_at < now() - $3::interval AND NOT purging`

	n, err := s.exec(ctx, mark, s.tenant, account, s.options.Retention)
	if err != nil {
		return err
	}
	s.sum.Mailboxes += n
	for _, table := range []string{"mailbox_log", "mailbox_segment", "mailbox_expunged", "mailbox_overlay"} {
		if err := s.deleteInSteps(ctx, s.tenant, deleteOfPurged(table), s.tenant, account); err != nil {
			return err
		}
		if err := s.reached(ctx, stepPurged); err != nil {
			return err
		}
	}
	// The row says what is left to do, and goes last.
	const rows = `
		DELETE FROM mailbox WHERE tenant_id = $1 AND ctid = ANY (ARRAY(
			SELECT ctid FROM mailbox WHERE tenant_id = $1 AND account_id = $2 AND purging LIMIT $3))`

	return s.deleteInSteps(ctx, s.tenant, rows, s.tenant, account)
}

// forgetReaders removes what readers had of their own whose accounts are gone, or about to go: a fold may have been
// writing it just then.
func (s *sweeping) forgetReaders(ctx context.Context, account id.Account) error {
	const query = `
		DELETE FROM mailbox_overlay WHERE tenant_id = $1 AND ctid = ANY (ARRAY(
			SELECT o.ctid FROM mailbox m
			JOIN mailbox_overlay o ON o.tenant_id = m.tenant_id AND o.mailbox_id = m.mailbox_id
			WHERE m.tenant_id = $1 AND m.account_id = $2 AND o.account_id <> 0
			  AND NOT EXISTS (SELECT FROM account a WHERE a.tenant_id = $1 AND a.account_id = o.account_id AND NOT a.deleting)
			LIMIT $3))`

	return s.deleteInSteps(ctx, s.tenant, query, s.tenant, account)
}

// deleteOfPurged removes some rows of a table that belong to mailboxes whose window is over.
func deleteOfPurged(table string) string {
	return fmt.Sprintf(`
		DELETE FROM %[1]s WHERE tenant_id = $1 AND ctid = ANY (ARRAY(
			SELECT r.ctid FROM mailbox m
			JOIN %[1]s r ON r.tenant_id = m.tenant_id AND r.mailbox_id = m.mailbox_id
			WHERE m.tenant_id = $1 AND m.account_id = $2 AND m.purging
			LIMIT $3))`, table)
}

// expungeRecord is a row of mailbox_expunged.
type expungeRecord struct {
	MailboxID id.Mailbox
	ModSeq    int64
	Record    []byte
}

// bareExpunged leaves no more than the UIDs of expunges whose window is over.
func (s *sweeping) bareExpunged(ctx context.Context, account id.Account) error {
	const query = `
		SELECT x.mailbox_id, x.modseq, x.record
		FROM mailbox m
		JOIN mailbox_expunged x ON x.tenant_id = m.tenant_id AND x.mailbox_id = m.mailbox_id
		WHERE m.tenant_id = $1 AND m.account_id = $2 AND NOT x.bare AND x.at < now() - $3::interval
		  AND (x.mailbox_id, x.modseq) > ($4, $5)
		ORDER BY x.mailbox_id, x.modseq
		LIMIT $6`

	after := expungeRecord{}
	for {
		var page []expungeRecord
		err := s.read(ctx, s.tenant, func(b *pgx.Batch) {
			b.Queue(query, s.tenant, account, s.options.Retention, after.MailboxID, after.ModSeq, retainPage).Query(func(rows pgx.Rows) (err error) {
				page, err = pgx.CollectRows(rows, pgx.RowToStructByPos[expungeRecord])
				return err
			})
		})
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1]
		for n := 0; len(page) > 0; page = page[n:] {
			for n = 1; n < len(page) && page[n].MailboxID == page[0].MailboxID; {
				n++
			}
			if err := s.bareSome(ctx, page[:n]); err != nil {
				return err
			}
		}
	}
}

// bareSome makes records of one mailbox bare.
func (s *sweeping) bareSome(ctx context.Context, records []expungeRecord) error {
	const query = `SELECT bare_expunged($1, $2, $3, $4, $5)`

	var modSeqs []int64
	var was, bared [][]byte
	for _, r := range records {
		record, err := bare(r.Record)
		if err != nil {
			return fmt.Errorf("expunge record %d of mailbox %d: %w", r.ModSeq, r.MailboxID, err)
		}
		modSeqs, was, bared = append(modSeqs, r.ModSeq), append(was, r.Record), append(bared, record)
	}
	var n int64
	err := s.step(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, query, s.tenant, records[0].MailboxID, modSeqs, was, bared).Scan(&n)
	})
	s.sum.Records += n
	return err
}

// bare returns an expunge record without all that makes undelete possible.
func bare(record []byte) ([]byte, error) {
	l := logRow{record: record}
	messages, vanished, err := l.expunged()
	if err != nil {
		return nil, err
	}
	return view.Record{view.Vanished{UIDs: vanished.Union(uidsOf(messages))}}.Encode(0, 0), nil
}

// forgetExpunged removes expunge records from before the horizon.
func (s *sweeping) forgetExpunged(ctx context.Context, account id.Account) error {
	const (
		list = `
			SELECT DISTINCT x.mailbox_id
			FROM mailbox m
			JOIN mailbox_expunged x ON x.tenant_id = m.tenant_id AND x.mailbox_id = m.mailbox_id
			WHERE m.tenant_id = $1 AND m.account_id = $2 AND x.bare AND x.at < now() - $3::interval`

		forget = `SELECT forget_expunged($1, $2, now() - $3::interval, $4)`
	)
	var mailboxes []id.Mailbox
	err := s.read(ctx, s.tenant, func(b *pgx.Batch) {
		b.Queue(list, s.tenant, account, s.options.ExpungeHorizon).Query(func(rows pgx.Rows) (err error) {
			mailboxes, err = pgx.CollectRows(rows, pgx.RowTo[id.Mailbox])
			return err
		})
	})
	if err != nil {
		return err
	}
	for _, m := range mailboxes {
		for n := int64(forgetStep); n == forgetStep; {
			err := s.step(ctx, func(tx pgx.Tx) error {
				return tx.QueryRow(ctx, forget, s.tenant, m, s.options.ExpungeHorizon, forgetStep).Scan(&n)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
