package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/quota"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Selected is a mailbox as SELECT finds it.
type Selected struct {
	*Mailbox
	View   *view.View
	Recent id.UID // the first UID that no session has been told as \Recent
	Quota  quota.State
}

// Select is Open and View: in one round trip, where the mailbox is the user's, was selected
// here before and its view is still in the cache; in none where it is delegated to this process.
func (s *Store) Select(ctx context.Context, u User, name string, want acl.Rights) (Selected, error) {
	p, err := u.path(name)
	if err != nil {
		return Selected{}, ErrNotExist // and no question for the database, which takes no NUL
	}
	if p.space != personal {
		return s.selectForeign(ctx, u, p, want)
	}
	return s.selectOwn(ctx, u, p, want)
}

// selectOwn reads all that SELECT needs of a mailbox, and what its log has after a view; selectOwnBound binds the transaction too: see ask.
// Its order also keeps PostgreSQL from planning the rows together with what binds, and so from reading any before it is bound.
const (
	ownRows = `
		SELECT m.mailbox_id, m.uidvalidity, m.objectid, m.recent_uid, m.acl_epoch, m.owner_rights,
			(SELECT account_quota_state(a) FROM account_state a WHERE a.tenant_id = $1 AND a.account_id = $2), CASE WHEN $6 THEN roots_quota_state($1, $2) END,
			m.shared_seen, m.others, m.uidnext, m.highestmodseq, l.modseq, l.uid_base, l.email_base, l.record
		FROM mailbox m
		LEFT JOIN mailbox_log l ON l.tenant_id = m.tenant_id AND l.mailbox_id = m.mailbox_id AND l.mailbox_id = $4 AND l.modseq > $5
		WHERE m.tenant_id = $1 AND m.account_id = $2 AND m.name = $3 AND m.deleted_at IS NULL`
	inLogOrder     = ` ORDER BY l.modseq`
	selectOwn      = ownRows + inLogOrder
	selectOwnBound = `
		SELECT own.* FROM (SELECT set_config('mailstead.tenant', $7, true)) AS bound (tenant),
			LATERAL (` + ownRows + ` AND bound.tenant <> ''` + inLogOrder + `) AS own`
)

func (s *Store) selectOwn(ctx context.Context, u User, p path, want acl.Rights) (Selected, error) {
	named := nameKey{u.Tenant, u.Account, p.name}
	guess, v := s.views.named(named)
	var since id.ModSeq
	if v != nil {
		since = v.ModSeq()
	}
	ofRoots := rootsKey{u.Tenant, u.Account}
	roots, known := s.roots.get(ofRoots)
	key := viewKey{u.Tenant, guess}
	if v != nil && known {
		if row := s.delegations.own(key, u.Account, p.name, v); row != nil {
			return row.selected(u, p, v, roots, want)
		}
	}
	reading := s.delegations.begin(key)
	var asked *quota.State
	var found bool
	var end logEnd
	row := ownRow{Mailbox: Mailbox{Tenant: u.Tenant, Owner: u.Account, Name: p.name, store: s}}
	err := s.ask(ctx, u.Tenant, selectOwn, selectOwnBound, []any{u.Tenant, u.Account, p.name, guess, since, !known}, func(rows pgx.Rows) error {
		found, end = false, logEnd{}
		for rows.Next() {
			found = true
			err := end.scan(rows, &row.ID, &row.UIDValidity, &row.ObjectID, &row.recent, &row.epoch, &row.Rights, &row.quota, &asked,
				&row.SharedSeen, &row.others)
			if err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		return Selected{}, fmt.Errorf("select: %w", err)
	}
	if !found {
		return Selected{}, s.absent(ctx, u, p)
	}
	if asked != nil {
		roots = *asked
		s.roots.put(ofRoots, roots)
	}
	sel, err := row.selected(u, p, nil, roots, want)
	if err != nil {
		return Selected{}, err
	}
	if v != nil && row.ID == guess {
		sel.View, err = s.advanceBy(sel.viewer(), v, end)
		if err == nil {
			s.delegations.keep(key, reading, sel.View.ModSeq(), row.epoch, &row, sel.View != v)
		}
	}
	if v == nil || row.ID != guess || errors.Is(err, errGap) {
		sel.View, _, err = s.currentView(ctx, sel.viewer())
	}
	if err != nil {
		return Selected{}, err
	}
	s.views.name(sel.viewer(), named)
	return sel, nil
}

// selected is the mailbox of the row as the user has it, if they have the rights wanted.
func (r *ownRow) selected(u User, p path, v *view.View, roots quota.State, want acl.Rights) (Selected, error) {
	m := r.Mailbox
	m.user, m.path, m.Rights = u, p, u.permitted(m.Rights)
	if err := m.may(want); err != nil {
		return Selected{}, err
	}
	return Selected{Mailbox: &m, View: v, Recent: r.recent, Quota: r.quota.With(roots)}, nil
}

// selectForeign selects a mailbox of which the user is not the owner: the view, only once they are known to have the rights.
func (s *Store) selectForeign(ctx context.Context, u User, p path, want acl.Rights) (Selected, error) {
	for attempt := 1; ; attempt++ {
		m, err := s.openForeign(ctx, u, p)
		if err != nil {
			return Selected{}, err
		}
		if err := m.may(want); err != nil {
			return Selected{}, err
		}
		v, err := m.View(ctx)
		if errors.Is(err, ErrRightsChanged) && attempt < attempts {
			continue
		}
		if err != nil {
			return Selected{}, err
		}
		state, err := s.quotaState(ctx, u.Tenant, m.Owner)
		return Selected{Mailbox: m.Mailbox, View: v, Recent: m.status.recentUID, Quota: state}, err
	}
}
