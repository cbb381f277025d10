package store

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// pruneReaders is how many readers' overlays a fold rids of messages that were expunged, besides
// those that are written anew: the ones in which such have been for the longest time.
const pruneReaders = 100

// overlays are those that a fold writes.
type overlays struct {
	anew    bool // all that were there are void
	readers []int64
	data    [][]byte
}

// foldOverlays brings the overlays of readers to where the fold goes. They are read when it is known whose,
// in the state that the mailbox is folded at: in another the fold is given up.
func (f *folding) foldOverlays(ctx context.Context, s *Store) error {
	const query = `
		SELECT account_id, data
		FROM mailbox_overlay
		WHERE tenant_id = $1 AND mailbox_id = $2 AND (account_id = ANY ($3) OR account_id IN (
			SELECT account_id FROM mailbox_overlay
			WHERE tenant_id = $1 AND mailbox_id = $2
			ORDER BY modseq
			LIMIT $4))`

	changed := f.readers()
	prune := 0
	if f.others && len(f.expunged) > 0 {
		prune = pruneReaders
	}
	if len(f.own) == 0 && prune == 0 {
		return nil
	}
	var rows []overlayRow
	err := s.read(ctx, f.key.tenant, func(b *pgx.Batch) {
		b.Queue(query, f.key.tenant, f.key.mailbox, append(changed, 0), prune).Query(func(r pgx.Rows) (err error) {
			rows, err = pgx.CollectRows(r, pgx.RowToStructByPos[overlayRow])
			return err
		})
	})
	if err != nil {
		return err
	}
	before := make(map[id.Account]view.Overlay)
	for _, row := range rows {
		if before[row.Reader], err = view.DecodeOverlay(row.Data); err != nil {
			return err
		}
		f.touched += int64(len(row.Data))
	}
	f.overlays.build(f, changed, before)
	return nil
}

// readers returns those who have changed their own.
func (f *folding) readers() (readers []id.Account) {
	for _, r := range f.own {
		for _, op := range r {
			if op, ok := op.(view.SetSeen); ok && !slices.Contains(readers, op.Reader) {
				readers = append(readers, op.Reader)
			}
		}
	}
	return readers
}

// build makes the overlays anew of all those who have one, or have changed theirs. Reader 0 is what others begin with.
func (o *overlays) build(f *folding, changed []id.Account, before map[id.Account]view.Overlay) {
	now := make(map[id.Account]view.Overlay)
	first := before[0]
	for reader, overlay := range before {
		now[reader] = overlay
	}
	for _, reader := range changed {
		if _, ok := now[reader]; !ok {
			now[reader] = first
		}
	}
	for i, r := range f.own {
		for _, op := range r {
			switch op := op.(type) {
			case view.SeenMode: // then all have the same
				o.anew = true
				clear(now)
				first = view.Overlay{}.Apply(0, f.ownAt[i], view.Record{op})
				if !op.Shared {
					now[0] = first
				}
			case view.SetSeen:
				overlay, ok := now[op.Reader]
				if !ok {
					overlay = first
				}
				now[op.Reader] = overlay.Apply(op.Reader, f.ownAt[i], view.Record{op})
			}
		}
	}
	for _, reader := range slices.Sorted(maps.Keys(now)) {
		o.readers = append(o.readers, int64(reader))
		o.data = append(o.data, now[reader].Fold(f.view).Encode())
	}
}

// queue queues the writing of what there is to write, behind the fold.
func (o *overlays) queue(b *pgx.Batch, f *folding) {
	const query = `SELECT fold_overlays($1, $2, $3, $4, $5, $6)`

	if o.anew || len(o.readers) > 0 {
		b.Queue(query, f.key.tenant, f.key.mailbox, f.view.ModSeq(), o.anew, values(o.readers), values(o.data))
	}
}
