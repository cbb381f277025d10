package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// loadAtOnce is up to how many messages mailboxes have together that are loaded at once.
const loadAtOnce = 200_000

// unseenOf are mailboxes of which a user is to be told what they have not seen.
type unseenOf struct {
	viewer   viewerKey
	modSeq   id.ModSeq // at which the mailbox is no less
	messages int64
}

// viewsOf returns mailboxes as a user has them, no older than they are known to be; those that are gone are missing. What has
// changed of those that are cached is read by as many statements as of one, and so are the others.
func (s *Store) viewsOf(ctx context.Context, u User, asked []unseenOf) (map[viewerKey]*view.View, error) {
	views := make(map[viewerKey]*view.View, len(asked))
	var changed, cold []unseenOf
	for _, a := range asked {
		switch v := s.views.get(a.viewer); {
		case v != nil && v.ModSeq() >= a.modSeq:
			views[a.viewer] = v
		case s.views.get(a.viewer.owners()) != nil:
			changed = append(changed, a)
		default:
			cold = append(cold, a)
		}
	}
	gone, err := s.loadSome(ctx, u, changed, false, views)
	if err != nil {
		return nil, err
	}
	cold = append(cold, gone...)
	for len(cold) > 0 {
		n, messages := 0, int64(0)
		for n < len(cold) && (n == 0 || messages+cold[n].messages <= loadAtOnce) {
			messages += cold[n].messages
			n++
		}
		if _, err := s.loadSome(ctx, u, cold[:n], true, views); err != nil {
			return nil, err
		}
		cold = cold[n:]
	}
	return views, nil
}

// loadSome loads mailboxes in one snapshot, with their segments or from what is cached of their owners' views, and
// returns those of which that is not enough.
func (s *Store) loadSome(ctx context.Context, u User, some []unseenOf, segments bool, views map[viewerKey]*view.View) (left []unseenOf, err error) {
	if len(some) == 0 {
		return nil, nil
	}
	owners := make(map[viewerKey]*view.View, len(some)) // before the snapshot, which is then no older
	mailboxes := make([]id.Mailbox, len(some))
	for i, a := range some {
		mailboxes[i], owners[a.viewer] = a.viewer.mailbox, s.views.get(a.viewer.owners())
	}
	var loads manyLoads
	err = s.readSnapshot(ctx, u.Tenant, func(b *pgx.Batch) {
		loads = manyLoads{}
		loads.queue(b, u, mailboxes, segments)
	})
	if err != nil {
		return nil, fmt.Errorf("load mailboxes: %w", err)
	}
	for _, a := range some {
		l := loads[a.viewer.mailbox]
		if l == nil {
			continue // gone
		}
		v, err := l.view()
		if !segments {
			v, err = s.readersView(a.viewer, owners[a.viewer], l)
		}
		if errors.Is(err, errGap) && !segments {
			left = append(left, a)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("load mailbox %d: %w", a.viewer.mailbox, err)
		}
		s.views.put(a.viewer, v)
		views[a.viewer] = v
	}
	return left, nil
}

// manyLoads are what the views of several mailboxes are made of.
type manyLoads map[id.Mailbox]*viewLoad

func (all manyLoads) queue(b *pgx.Batch, u User, mailboxes []id.Mailbox, segments bool) {
	const (
		states = `
			SELECT mailbox_id, uidnext, highestmodseq, folded_uidnext, folded_modseq, keywords, shared_seen
			FROM mailbox
			WHERE tenant_id = $1 AND mailbox_id = ANY ($2) AND deleted_at IS NULL`

		logs = `
			SELECT mailbox_id, modseq, uid_base, email_base, record
			FROM mailbox_log
			WHERE tenant_id = $1 AND mailbox_id = ANY ($2)
			ORDER BY mailbox_id, modseq`

		overlays = `
			SELECT mailbox_id, account_id, data
			FROM mailbox_overlay
			WHERE tenant_id = $1 AND mailbox_id = ANY ($2) AND account_id IN (0, $3)
			ORDER BY mailbox_id, account_id`

		data = `
			SELECT mailbox_id, data
			FROM mailbox_segment
			WHERE tenant_id = $1 AND mailbox_id = ANY ($2)
			ORDER BY mailbox_id, first_uid`
	)
	var of id.Mailbox
	b.Queue(states, u.Tenant, mailboxes).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			l := &viewLoad{reader: u.Account}
			if err := rows.Scan(&of, &l.end.uidNext, &l.end.modSeq, &l.folded.uidNext, &l.folded.modSeq, &l.keywords, &l.shared); err != nil {
				return err
			}
			all[of] = l
		}
		return rows.Err()
	})
	var row logRow
	b.Queue(logs, u.Tenant, mailboxes).Query(all.each(&of, []any{&row.modSeq, &row.uidBase, &row.emailBase, &row.record}, func(l *viewLoad) {
		l.log = append(l.log, row)
	}))
	var overlay overlayRow
	b.Queue(overlays, u.Tenant, mailboxes, u.Account).Query(all.each(&of, []any{&overlay.Reader, &overlay.Data}, func(l *viewLoad) {
		l.overlays = append(l.overlays, overlay)
	}))
	if !segments {
		return
	}
	var segment []byte
	b.Queue(data, u.Tenant, mailboxes).Query(all.each(&of, []any{&segment}, func(l *viewLoad) {
		l.segments = append(l.segments, segment)
	}))
}

// each returns what reads rows that belong to mailboxes, which their first column names.
func (all manyLoads) each(of *id.Mailbox, columns []any, add func(*viewLoad)) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, append([]any{of}, columns...), func() error {
			if l := all[*of]; l != nil {
				add(l)
			}
			return nil
		})
		return err
	}
}
