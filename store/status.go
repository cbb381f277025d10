package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Status is the mailbox row.
type Status struct {
	UIDValidity   uint32
	UIDNext       id.UID
	HighestModSeq id.ModSeq
	Counts        view.Counts
	Recent        int64 // messages that no session has been told as \Recent
	MailboxID     id.Object
}

// Status returns the figures of several mailboxes, by the names asked for, with
// one query; those that do not exist are missing.
func (s *Store) Status(ctx context.Context, u User, names []string) (map[string]Status, error) {
	const query = `
		SELECT name, mailbox_id, uidvalidity, uidnext, highestmodseq, objectid, recent_uid,
			messages, unseen, deleted, bytes, deleted_bytes
		FROM mailbox
		WHERE tenant_id = $1 AND account_id = $2 AND name = ANY ($3) AND deleted_at IS NULL`

	asked := make(map[string][]string, len(names)) // by the name as it is stored
	var valid []string
	for _, name := range names {
		if c := canonicalName(name); checkName(c) == nil {
			asked[c] = append(asked[c], name)
			valid = append(valid, c)
		}
	}
	result := make(map[string]Status, len(names))
	var recent []unclaimed
	err := s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		recent = nil
		b.Queue(query, u.Tenant, u.Account, valid).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var name string
				var r unclaimed
				var st Status
				err := rows.Scan(&name, &r.mailbox, &st.UIDValidity, &st.UIDNext, &st.HighestModSeq, &st.MailboxID, &r.first,
					&st.Counts.Messages, &st.Counts.Unseen, &st.Counts.Deleted, &st.Counts.Bytes, &st.Counts.DeletedBytes)
				if err != nil {
					return err
				}
				for _, n := range asked[name] {
					result[n] = st
				}
				if r.first < st.UIDNext && st.Counts.Messages > 0 {
					r.names = asked[name]
					recent = append(recent, r)
				}
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	for _, r := range recent {
		if err := s.countRecent(ctx, u, r, result); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// unclaimed is a mailbox with UIDs from first on that no session has been told of.
type unclaimed struct {
	mailbox id.Mailbox
	first   id.UID
	names   []string
}

// countRecent counts the messages that are \Recent to the next session: the
// row only knows the first of their UIDs, and some may have been expunged.
func (s *Store) countRecent(ctx context.Context, u User, r unclaimed, result map[string]Status) error {
	v, err := s.currentView(ctx, viewKey{u.Tenant, r.mailbox})
	if errors.Is(err, ErrNotExist) {
		return nil // deleted since: the row was the last of it
	}
	if err != nil {
		return err
	}
	for _, name := range slices.Compact(r.names) {
		st := result[name]
		st.Recent = int64(v.Len() - v.UIDs().Rank(r.first-1))
		result[name] = st
	}
	return nil
}

// ClaimRecent moves the mailbox's recent mark up to below next and returns from
// where on UIDs became this session's \Recent: [first, next). peek (EXAMINE) moves nothing.
func (m *Mailbox) ClaimRecent(ctx context.Context, next id.UID, peek bool) (first id.UID, err error) {
	const (
		look  = `SELECT recent_uid FROM mailbox WHERE tenant_id = $1 AND mailbox_id = $2 AND deleted_at IS NULL`
		claim = `SELECT claim_recent($1, $2, $3)`
	)
	if m.store.views.claimed(m.key(), next) {
		return next, nil // as all but one of those find it whom a new message wakes
	}
	scan := func(row pgx.Row) error { return row.Scan(&first) }
	if peek {
		err = m.store.read(ctx, m.Tenant, func(b *pgx.Batch) { b.Queue(look, m.Tenant, m.ID).QueryRow(scan) })
	} else {
		err = m.store.batch(ctx, m.Tenant, func(b *pgx.Batch) { b.Queue(claim, m.Tenant, m.ID, next).QueryRow(scan) })
	}
	if err != nil {
		return 0, changeError(err)
	}
	if peek {
		m.store.views.claim(m.key(), first)
	} else {
		m.store.views.claim(m.key(), max(first, next))
	}
	return min(first, next), nil
}
