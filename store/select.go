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

// Selected is a mailbox as SELECT finds it.
type Selected struct {
	*Mailbox
	View   *view.View
	Recent id.UID // the first UID that no session has been told as \Recent
}

// Select is Open and View in one round trip, where the mailbox was selected
// here before and its view is still in the cache.
func (s *Store) Select(ctx context.Context, u User, name string, want acl.Rights) (Selected, error) {
	const query = `
		SELECT m.mailbox_id, m.uidvalidity, m.objectid, m.recent_uid,
			m.uidnext, m.highestmodseq, l.modseq, l.uid_base, l.email_base, l.record
		FROM mailbox m
		LEFT JOIN mailbox_log l ON l.tenant_id = m.tenant_id AND l.mailbox_id = m.mailbox_id AND l.mailbox_id = $4 AND l.modseq > $5
		WHERE m.tenant_id = $1 AND m.account_id = $2 AND m.name = $3 AND m.deleted_at IS NULL
		ORDER BY l.modseq`

	name = canonicalName(name)
	if checkName(name) != nil {
		return Selected{}, ErrNotExist // and no question for the database, which takes no NUL
	}
	named := nameKey{u.Tenant, u.Account, name}
	guess, v := s.views.named(named)
	var since id.ModSeq
	if v != nil {
		since = v.ModSeq()
	}
	var found bool
	var end logEnd
	sel := Selected{Mailbox: &Mailbox{Tenant: u.Tenant, Owner: u.Account, Name: name, Rights: u.permitted(acl.All), store: s}}
	err := s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		found, end = false, logEnd{}
		b.Queue(query, u.Tenant, u.Account, name, guess, since).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				found = true
				if err := end.scan(rows, &sel.ID, &sel.UIDValidity, &sel.ObjectID, &sel.Recent); err != nil {
					return err
				}
			}
			return rows.Err()
		})
	})
	if err != nil {
		return Selected{}, fmt.Errorf("select: %w", err)
	}
	if !found {
		return Selected{}, s.noMailbox(ctx, u, name)
	}
	if !sel.Rights.Has(want) {
		return Selected{}, &acl.DeniedError{Missing: want &^ sel.Rights}
	}
	if v != nil && sel.ID == guess {
		sel.View, err = s.advanceBy(sel.key(), v, end)
	}
	if v == nil || sel.ID != guess || errors.Is(err, errGap) {
		sel.View, err = s.currentView(ctx, sel.key())
	}
	if err != nil {
		return Selected{}, err
	}
	s.views.name(sel.key(), named)
	return sel, nil
}
