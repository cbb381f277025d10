package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Status is the mailbox row.
type Status struct {
	UIDValidity   uint32
	UIDNext       id.UID
	HighestModSeq id.ModSeq
	Counts        view.Counts
	Recent        int64 // messages that no session has been told as \Recent; from CountRecent
	MailboxID     id.Object
	AppendLimit   int64      // octets that a message can have
	Rights        acl.Rights // of the user; who has not Read is to be told no figure

	viewer    viewerKey
	recentUID id.UID // the first that no session has been told
	ownSeen   bool   // Counts.Unseen is left to CountUnseen
}

// Status returns the figures of several mailboxes, by the names asked for, with
// one query for the user's own and one for others; those that do not exist are missing, also
// those that the user may not look up. Recent is left to CountRecent.
func (s *Store) Status(ctx context.Context, u User, names []string) (map[string]Status, error) {
	const query = `
		SELECT name, mailbox_id, uidvalidity, uidnext, highestmodseq, objectid, recent_uid,
			messages, unseen, deleted, bytes, deleted_bytes, owner_rights
		FROM mailbox
		WHERE tenant_id = $1 AND account_id = $2 AND name = ANY ($3) AND deleted_at IS NULL`

	asked := make(map[string][]string, len(names)) // by the name as it is stored
	var valid, foreignNames []string
	var foreign []path
	for _, name := range names {
		switch p, err := u.path(name); {
		case err != nil:
		case p.space != personal:
			foreign, foreignNames = append(foreign, p), append(foreignNames, name)
		default:
			asked[p.name] = append(asked[p.name], name)
			valid = append(valid, p.name)
		}
	}
	result := make(map[string]Status, len(names))
	if len(foreign) > 0 {
		found, err := s.foreign(ctx, u, foreign)
		if err != nil {
			return nil, fmt.Errorf("status: %w", err)
		}
		for i, m := range found {
			result[foreignNames[i]] = m.status
		}
	}
	if len(valid) == 0 {
		return result, nil
	}
	err := s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		b.Queue(query, u.Tenant, u.Account, valid).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var name string
				st := Status{AppendLimit: s.options.MaxMessage}
				err := rows.Scan(&name, &st.viewer.mailbox, &st.UIDValidity, &st.UIDNext, &st.HighestModSeq, &st.MailboxID, &st.recentUID,
					&st.Counts.Messages, &st.Counts.Unseen, &st.Counts.Deleted, &st.Counts.Bytes, &st.Counts.DeletedBytes, &st.Rights)
				if err != nil {
					return err
				}
				st.Rights, st.viewer.tenant = u.permitted(st.Rights), u.Tenant
				for _, n := range asked[name] {
					result[n] = st
				}
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return result, nil
}

// CountRecent counts the messages that are \Recent to the next session, of each
// of the mailboxes: their rows only know the first UID of them, and some may have
// been expunged. So it takes the view of each that has any.
func (s *Store) CountRecent(ctx context.Context, u User, of map[string]Status) error {
	for name, st := range of {
		if st.recentUID >= st.UIDNext || st.Counts.Messages == 0 {
			continue
		}
		v, _, err := s.currentView(ctx, st.viewer)
		if errors.Is(err, ErrNotExist) {
			continue // deleted since: the row was the last of it
		}
		if err != nil {
			return fmt.Errorf("count recent messages: %w", err)
		}
		st.Recent = int64(v.Len() - v.UIDs().Rank(st.recentUID-1))
		of[name] = st
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
	if m.store.views.claimed(m.key().owners(), next) {
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
		m.store.views.claim(m.key().owners(), first)
	} else {
		m.store.views.claim(m.key().owners(), max(first, next))
	}
	return min(first, next), nil
}
