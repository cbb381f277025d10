package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Overlays: what readers of a mailbox have of their own there. What is folded of them lies in
// mailbox_overlay, what is newer in the mailbox's log.

// overlayRow is a row of mailbox_overlay.
type overlayRow struct {
	Reader id.Account // 0: what those begin with who have no row
	Data   []byte
}

func (l *viewLoad) queueOverlays(b *pgx.Batch, key viewerKey) {
	const query = `
		SELECT account_id, data
		FROM mailbox_overlay
		WHERE tenant_id = $1 AND mailbox_id = $2 AND account_id IN (0, $3)
		ORDER BY account_id`

	b.Queue(query, key.tenant, key.mailbox, key.reader).Query(func(rows pgx.Rows) (err error) {
		l.overlays, err = pgx.CollectRows(rows, pgx.RowToStructByPos[overlayRow])
		return err
	})
}

// as returns the owner's view, which is where the log ends, as the reader has it.
func (l *viewLoad) as(owners *view.View) (*view.View, error) {
	o := view.NewOverlay(l.shared)
	if n := len(l.overlays); n > 0 {
		var err error
		if o, err = view.DecodeOverlay(l.overlays[n-1].Data); err != nil {
			return nil, fmt.Errorf("overlay of reader %d: %w", l.overlays[n-1].Reader, err)
		}
	}
	for _, row := range l.log {
		r, err := view.DecodeRecord(row.record, row.uidBase, row.emailBase)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", row.modSeq, err)
		}
		o = o.Apply(l.reader, row.modSeq, r)
	}
	return owners.As(l.reader, o), nil
}

// loadReader reads what makes a reader's view of the owner's, which is cached, and keeps it. errGap where
// the owner's view is not cached, or cannot be brought up to date.
func (s *Store) loadReader(ctx context.Context, key viewerKey) (v *view.View, epoch int64, err error) {
	owners := s.views.get(key.owners())
	if owners == nil {
		return nil, 0, errGap
	}
	var l viewLoad
	err = s.readSnapshot(ctx, key.tenant, func(b *pgx.Batch) {
		l = viewLoad{}
		l.queueState(b, key)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, 0, ErrNotExist
	}
	if err != nil {
		return nil, 0, fmt.Errorf("load mailbox %d: %w", key.mailbox, err)
	}
	if v, err = s.readersView(key, owners, &l); err != nil {
		return nil, 0, fmt.Errorf("load mailbox %d: %w", key.mailbox, err)
	}
	s.views.put(key, v)
	return v, l.epoch, nil
}

// readersView makes a reader's view of the owner's, which was cached before what is loaded was read. errGap.
func (s *Store) readersView(key viewerKey, owners *view.View, l *viewLoad) (*view.View, error) {
	tail := l.log
	for len(tail) > 0 && tail[0].modSeq <= owners.ModSeq() {
		tail = tail[1:]
	}
	if owners = s.followCached(key.owners(), owners, l.end, tail); owners == nil {
		return nil, errGap
	}
	return l.as(owners)
}
