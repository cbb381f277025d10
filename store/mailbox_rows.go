package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// mailboxRows is all that the database holds of a mailbox, as it lies there:
// for fsck and dump, which trust nothing of it.
type mailboxRows struct {
	row      mailboxRow
	segments []segmentRow
	log      []timedRow
	expunged []timedRow
	overlays []overlayRow
}

// mailboxRow is a row of mailbox.
type mailboxRow struct {
	AccountID      id.Account
	MailboxID      id.Mailbox
	Name           string
	UIDValidity    int64 `db:"uidvalidity"`
	UIDNext        int64 `db:"uidnext"`
	HighestModSeq  int64 `db:"highestmodseq"`
	FoldedModSeq   int64 `db:"folded_modseq"`
	FoldedUIDNext  int64 `db:"folded_uidnext"`
	ExpungedModSeq int64 `db:"expunged_modseq"`
	Keywords       []string
	LogBytes       int64
	RecentUID      int64 `db:"recent_uid"`
	Messages       int64
	Unseen         int64
	Deleted        int64
	Bytes          int64
	DeletedBytes   int64
	SpecialUse     []string
	ObjectID       string `db:"objectid"`
	CreatedAt      time.Time
	DeletedAt      *time.Time // nil: it is there
	ACLEpoch       int64      `db:"acl_epoch"`
	OwnerRights    acl.Rights
	SharedSeen     bool
	Others         bool // its list names others than the owner
}

func (r *mailboxRow) counts() view.Counts {
	return view.Counts{Messages: r.Messages, Unseen: r.Unseen, Deleted: r.Deleted, Bytes: r.Bytes, DeletedBytes: r.DeletedBytes}
}

const selectMailboxRow = `
	SELECT account_id, mailbox_id, name, uidvalidity, uidnext, highestmodseq, folded_modseq, folded_uidnext, expunged_modseq,
	       keywords, log_bytes, recent_uid, messages, unseen, deleted, bytes, deleted_bytes, special_use, objectid,
	       created_at, deleted_at, acl_epoch, owner_rights, shared_seen, others
	FROM mailbox`

// segmentRow is a row of mailbox_segment.
type segmentRow struct {
	first, last, modSeq int64
	data                []byte
}

// read reads what belongs to the row, in the transaction that has read it.
func (m *mailboxRows) read(ctx context.Context, tx pgx.Tx, t id.Tenant) error {
	const (
		segments = `
			SELECT first_uid, last_uid, modseq, data
			FROM mailbox_segment
			WHERE tenant_id = $1 AND mailbox_id = $2
			ORDER BY first_uid`

		log = `
			SELECT modseq, uid_base, email_base, record, at
			FROM mailbox_log
			WHERE tenant_id = $1 AND mailbox_id = $2
			ORDER BY modseq`

		expunged = `
			SELECT modseq, 0::bigint, 0::bigint, record, at
			FROM mailbox_expunged
			WHERE tenant_id = $1 AND mailbox_id = $2
			ORDER BY modseq`

		overlays = `
			SELECT account_id, data
			FROM mailbox_overlay
			WHERE tenant_id = $1 AND mailbox_id = $2
			ORDER BY account_id`
	)
	rows, _ := tx.Query(ctx, segments, t, m.row.MailboxID) // CollectRows reports the error
	var err error
	m.segments, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (g segmentRow, err error) {
		err = row.Scan(&g.first, &g.last, &g.modSeq, &g.data)
		return g, err
	})
	if err != nil {
		return err
	}
	rows, _ = tx.Query(ctx, overlays, t, m.row.MailboxID) // CollectRows reports the error
	if m.overlays, err = pgx.CollectRows(rows, pgx.RowToStructByPos[overlayRow]); err != nil {
		return err
	}
	for query, to := range map[string]*[]timedRow{log: &m.log, expunged: &m.expunged} {
		rows, _ := tx.Query(ctx, query, t, m.row.MailboxID) // CollectRows reports the error
		*to, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l timedRow, err error) {
			err = row.Scan(&l.modSeq, &l.uidBase, &l.emailBase, &l.record, &l.at)
			return l, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// view returns what the owner's sessions see of the rows.
func (m *mailboxRows) view() (*view.View, error) { return m.load().view() }

// viewOf returns what a reader's sessions see of the rows.
func (m *mailboxRows) viewOf(reader id.Account) (*view.View, error) {
	l := m.load()
	l.reader, l.shared = reader, m.row.SharedSeen
	for _, o := range m.overlays {
		if o.Reader == 0 || o.Reader == reader {
			l.overlays = append(l.overlays, o)
		}
	}
	return l.view()
}

func (m *mailboxRows) load() *viewLoad {
	l := &viewLoad{
		end:      position{id.UID(m.row.UIDNext), id.ModSeq(m.row.HighestModSeq)},
		folded:   position{id.UID(m.row.FoldedUIDNext), id.ModSeq(m.row.FoldedModSeq)},
		keywords: m.row.Keywords,
	}
	for _, g := range m.segments {
		l.segments = append(l.segments, g.data)
	}
	for _, r := range m.log {
		l.log = append(l.log, r.logRow)
	}
	return l
}
