package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Expunge removes messages that are \Deleted, among uids if that is not nil,
// and returns the view after it and what went.
func (m *Mailbox) Expunge(ctx context.Context, uids *view.UIDSet) (*view.View, view.UIDSet, error) {
	var gone view.UIDSet
	done, err := m.store.change(ctx, m.Tenant, []target{m.target()}, func(views []*view.View) ([]view.Record, error) {
		v := views[0].Base() // as it is kept for undelete
		if v.Counts().Deleted == 0 {
			gone = view.UIDSet{}
			return []view.Record{nil}, nil
		}
		among := v.UIDs()
		if uids != nil {
			among = *uids
		}
		var messages []view.Message
		for msg := range v.In(among) {
			if msg.Flags&view.Deleted != 0 {
				messages = append(messages, msg)
			}
		}
		gone = uidsOf(messages)
		if len(messages) == 0 {
			return []view.Record{nil}, nil
		}
		return []view.Record{{view.Expunge{Messages: messages}}}, nil
	})
	if err != nil {
		return nil, view.UIDSet{}, err
	}
	return done.after[0], gone, nil
}

func uidsOf(messages []view.Message) view.UIDSet {
	uids := make([]id.UID, len(messages))
	for i, m := range messages {
		uids[i] = m.UID
	}
	return view.NewUIDSet(uids...)
}

// Vanished returns the UIDs that were expunged after since, among within (nil:
// all), as of now: who shows an older view leaves out what is still in that. It
// may name more (RFC 7162 section 3.2.5.2), never fewer.
func (m *Mailbox) Vanished(ctx context.Context, since id.ModSeq, within *view.UIDSet) (view.UIDSet, error) {
	const (
		mailbox = `
			SELECT expunged_modseq
			FROM mailbox
			WHERE tenant_id = $1 AND mailbox_id = $2 AND deleted_at IS NULL`

		records = `
			SELECT modseq, uid_base, email_base, record
			FROM mailbox_log
			WHERE tenant_id = $1 AND mailbox_id = $2 AND modseq > $3
			UNION ALL
			SELECT modseq, 0, 0, record
			FROM mailbox_expunged
			WHERE tenant_id = $1 AND mailbox_id = $2 AND modseq > $3`
	)
	var complete id.ModSeq
	var rows []logRow
	err := m.store.readSnapshot(ctx, m.Tenant, func(b *pgx.Batch) {
		b.Queue(mailbox, m.Tenant, m.ID).QueryRow(func(row pgx.Row) error { return row.Scan(&complete) })
		b.Queue(records, m.Tenant, m.ID, since).Query(func(r pgx.Rows) (err error) {
			rows, err = pgx.CollectRows(r, scanLogRow)
			return err
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return view.UIDSet{}, ErrNotExist
	}
	if err != nil {
		return view.UIDSet{}, fmt.Errorf("read what vanished: %w", err)
	}
	var gone view.UIDSet
	if since < complete {
		gone, err = m.gaps(ctx) // the records of that time are not kept any more
	} else {
		gone, err = expungedBy(rows)
	}
	if err != nil {
		return view.UIDSet{}, err
	}
	if within != nil {
		gone = gone.Intersect(*within)
	}
	return gone, nil
}

// gaps returns all UIDs that were given out and have no message.
func (m *Mailbox) gaps(ctx context.Context) (view.UIDSet, error) {
	v, _, err := m.store.currentView(ctx, m.viewer()) // whose rights those are has been looked at
	if err != nil || v.UIDNext() == 1 {
		return view.UIDSet{}, err
	}
	return view.UIDSetOf(view.Range{First: 1, Last: v.UIDNext() - 1}).Minus(v.UIDs()), nil
}

// expungedBy returns what the expunge operations of records removed.
func expungedBy(rows []logRow) (view.UIDSet, error) {
	var ranges []view.Range
	for _, l := range rows {
		messages, vanished, err := l.expunged()
		if err != nil {
			return view.UIDSet{}, err
		}
		ranges = append(ranges, uidsOf(messages).Ranges()...)
		ranges = append(ranges, vanished.Ranges()...)
	}
	return view.UIDSetOf(ranges...), nil
}

// expunged returns the messages that the expunge operations of a record
// removed, and the UIDs of those of which no more is left.
func (l *logRow) expunged() (messages []view.Message, vanished view.UIDSet, err error) {
	r, err := view.DecodeRecord(l.record, l.uidBase, l.emailBase)
	if err != nil {
		return nil, view.UIDSet{}, fmt.Errorf("record %d: %w", l.modSeq, err)
	}
	for _, op := range r {
		switch op := op.(type) {
		case view.Expunge:
			messages = append(messages, op.Messages...)
		case view.Vanished:
			vanished = vanished.Union(op.UIDs)
		}
	}
	return messages, vanished, nil
}

// maxExpungeRecords bounds how much of a mailbox's history Expunged reads.
const maxExpungeRecords = 10_000

// Expunged returns those of uids that were expunged after since, as they were
// then to whom as is the mailbox, ascending. What the records that are kept do not tell any more is left out.
func (m *Mailbox) Expunged(ctx context.Context, as *view.View, since id.ModSeq, uids view.UIDSet) ([]view.Message, error) {
	const query = `
		SELECT modseq, uid_base, email_base, record
		FROM mailbox_log
		WHERE tenant_id = $1 AND mailbox_id = $2 AND modseq > $3
		UNION ALL
		SELECT modseq, 0, 0, record
		FROM mailbox_expunged
		WHERE tenant_id = $1 AND mailbox_id = $2 AND modseq > $3
		ORDER BY modseq
		LIMIT $4`

	var found []view.Message
	err := m.store.read(ctx, m.Tenant, func(b *pgx.Batch) {
		found = nil
		b.Queue(query, m.Tenant, m.ID, since, maxExpungeRecords).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				l, err := scanLogRow(rows)
				if err != nil {
					return err
				}
				messages, _, err := l.expunged()
				if err != nil {
					return err
				}
				for _, msg := range messages {
					if uids.Contains(msg.UID) {
						found = append(found, as.Gone(msg))
					}
				}
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read what was expunged: %w", err)
	}
	slices.SortFunc(found, func(a, b view.Message) int { return cmp.Compare(a.UID, b.UID) })
	return found, nil
}

// afterUID returns the UIDs above uid.
func afterUID(uid id.UID) view.UIDSet {
	return view.UIDSetOf(view.Range{First: uid + 1, Last: math.MaxUint32})
}
