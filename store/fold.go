package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

const (
	// segmentSize is how many messages a segment holds at most.
	segmentSize = 16 << 10
	// segmentLow is below how many messages a segment is joined to a neighbour that is rewritten.
	segmentLow = segmentSize / 4
	// foldTimeout bounds one fold in the background.
	foldTimeout = time.Minute
	// foldQueue is how many mailboxes wait to be folded; others wait for their next change.
	foldQueue = 1000
)

// folder folds in the background, one mailbox at a time, those whose log has grown.
type folder struct {
	store *Store

	ctx    context.Context // ends with the store: of work that is no caller's
	cancel context.CancelFunc
	work   sync.WaitGroup
	queue  chan viewKey

	mu      sync.Mutex // guards what follows
	waiting map[viewKey]bool
	enough  map[viewKey]int64 // octets of log before which a mailbox is not worth another look
	started bool
	closed  bool
}

func newFolder(s *Store) *folder {
	f := &folder{
		store: s, queue: make(chan viewKey, foldQueue),
		waiting: make(map[viewKey]bool), enough: make(map[viewKey]int64),
	}
	f.ctx, f.cancel = context.WithCancel(context.Background()) // until close
	return f
}

func (f *folder) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.work.Wait()
}

// consider is told after each change how long the log of the mailbox is now.
func (f *folder) consider(key viewKey, logBytes int64) {
	if logBytes < f.store.options.FoldMin {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.waiting[key] || logBytes < f.enough[key] {
		return
	}
	select {
	case f.queue <- key:
		f.waiting[key] = true
	default:
		return
	}
	if !f.started {
		f.started = true
		f.work.Go(f.run)
	}
}

func (f *folder) run() {
	for {
		select {
		case <-f.ctx.Done():
			return
		case key := <-f.queue:
			f.mu.Lock()
			delete(f.waiting, key)
			f.mu.Unlock()
			if err := f.one(key); err != nil && f.ctx.Err() == nil {
				f.store.log.Warn("mailbox was not folded", "tenant", key.tenant, "mailbox", key.mailbox, "error", err)
			}
		}
	}
}

func (f *folder) one(key viewKey) error {
	ctx, cancel := context.WithTimeout(f.ctx, foldTimeout)
	defer cancel()
	ctx, end := f.store.job(ctx, "fold", ofTenant(key.tenant))
	enough, err := f.store.fold(ctx, key, false)
	end(err)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.enough, key)
	if enough > 0 && len(f.enough) < 100*foldQueue {
		f.enough[key] = enough
	}
	return err
}

// FoldTenant folds the mailboxes of a tenant whose logs outweigh what they
// touch: those that no front end has folded after their last change. One that fails keeps none of the others from it.
func (s *Store) FoldTenant(ctx context.Context, t id.Tenant) error {
	_, err := s.foldTenant(ctx, t)
	return err
}

// foldTenant returns how many octets of log there were to fold.
func (s *Store) foldTenant(ctx context.Context, t id.Tenant) (due int64, err error) {
	const query = `
		SELECT mailbox_id, log_bytes
		FROM mailbox
		WHERE tenant_id = $1 AND log_bytes >= $2 AND deleted_at IS NULL`

	type long struct {
		MailboxID id.Mailbox
		LogBytes  int64
	}
	var mailboxes []long
	err = s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t, s.options.FoldMin).Query(func(rows pgx.Rows) (err error) {
			mailboxes, err = pgx.CollectRows(rows, pgx.RowToStructByName[long])
			return err
		})
	})
	if err != nil {
		return 0, err
	}
	var failed failures
	ended := false
	for _, m := range mailboxes {
		var enough int64
		if !ended {
			if enough, err = s.fold(ctx, viewKey{t, m.MailboxID}, false); err != nil {
				failed.add(err)
				ended = away(err) || ctx.Err() != nil
			}
		}
		if enough == 0 { // or it is not worth it yet
			due += m.LogBytes
		}
	}
	return due, failed.err()
}

// Fold puts all of the mailbox's log into segments, whatever it weighs.
func (m *Mailbox) Fold(ctx context.Context) error {
	_, err := m.store.fold(ctx, m.key(), true)
	return err
}

// fold builds new segments from a prefix of the log, which nothing changes any
// more, and then puts them in the place of the old ones, under the lock. Who
// folds the same mailbox meanwhile comes first, and this fold does nothing.
// Where it is not worth it yet (always: it is), fold returns at how many octets of log it may be.
func (s *Store) fold(ctx context.Context, key viewKey, always bool) (enough int64, err error) {
	v, _, err := s.currentView(ctx, key.owners())
	if errors.Is(err, ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	f := &folding{key: key, view: v}
	if err := f.read(ctx, s); err != nil || f.folded >= v.ModSeq() {
		return 0, err
	}
	if err := f.plan(); err != nil {
		return 0, fmt.Errorf("fold mailbox %d: %w", key.mailbox, err)
	}
	if err := f.foldOverlays(ctx, s); err != nil {
		return 0, fmt.Errorf("fold overlays of mailbox %d: %w", key.mailbox, err)
	}
	if bound := int64(s.options.FoldRatio * float64(f.touched)); !always && f.logBytes < bound {
		return bound, nil
	}
	f.build()
	err = s.batch(ctx, key.tenant, f.queue)
	if isState(err, stateMoved) || isState(err, stateGone) {
		return 0, nil // another was faster
	}
	return 0, err
}

// folding is a fold under way: the state at view's MODSEQ becomes the folded one.
type folding struct {
	key  viewKey
	view *view.View

	folded   id.ModSeq // up to where the mailbox is folded now
	others   bool      // it may have readers besides its owner
	logBytes int64     // of the log from there to the view
	segments []segment // what there is, ascending
	log      []timedRow

	rewrite []run
	touched int64 // octets of the segments and overlays that are rewritten

	oldFirst, oldModSeq []int64
	newFirst, newLast   []int64
	newData             [][]byte
	expungedModSeq      []int64
	expungedAt          []time.Time
	expunged            [][]byte

	own      []view.Record // of the log, what is readers' own
	ownAt    []id.ModSeq
	overlays overlays
}

// segment is a row of mailbox_segment, without its data.
type segment struct {
	first, last id.UID
	modSeq      id.ModSeq
	bytes       int64
}

type timedRow struct {
	logRow
	at time.Time
}

// run is a row of neighbouring segments [from, to) that are rewritten, and all messages from first to last.
type run struct {
	from, to    int
	first, last id.UID
}

func (f *folding) read(ctx context.Context, s *Store) error {
	const (
		mailbox = `
			SELECT folded_modseq, others
			FROM mailbox
			WHERE tenant_id = $1 AND mailbox_id = $2`

		segments = `
			SELECT first_uid, last_uid, modseq, octet_length(data)
			FROM mailbox_segment
			WHERE tenant_id = $1 AND mailbox_id = $2
			ORDER BY first_uid`

		log = `
			SELECT modseq, uid_base, email_base, record, at
			FROM mailbox_log
			WHERE tenant_id = $1 AND mailbox_id = $2 AND modseq <= $3
			ORDER BY modseq`
	)
	err := s.readSnapshot(ctx, f.key.tenant, func(b *pgx.Batch) {
		b.Queue(mailbox, f.key.tenant, f.key.mailbox).QueryRow(func(row pgx.Row) error { return row.Scan(&f.folded, &f.others) })
		b.Queue(segments, f.key.tenant, f.key.mailbox).Query(func(rows pgx.Rows) (err error) {
			f.segments, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (g segment, err error) {
				err = row.Scan(&g.first, &g.last, &g.modSeq, &g.bytes)
				return g, err
			})
			return err
		})
		b.Queue(log, f.key.tenant, f.key.mailbox, f.view.ModSeq()).Query(func(rows pgx.Rows) (err error) {
			f.log, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l timedRow, err error) {
				err = row.Scan(&l.modSeq, &l.uidBase, &l.emailBase, &l.record, &l.at)
				return l, err
			})
			return err
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		f.folded = f.view.ModSeq() // gone: nothing to do
		return nil
	}
	return err
}

// plan decides which segments are rewritten, and keeps the expunge records. None
// of them is dated before what was in the log already: it would have expired at once when a clock that was set back is right again.
func (f *folding) plan() error {
	var uids []id.UID
	var at time.Time
	for m := range f.view.ChangedSince(f.folded) {
		uids = append(uids, m.UID)
	}
	for _, l := range f.log {
		f.logBytes += int64(len(l.record))
		if l.at.After(at) {
			at = l.at
		}
		r, err := view.DecodeRecord(l.record, l.uidBase, l.emailBase)
		if err != nil {
			return fmt.Errorf("record %d: %w", l.modSeq, err)
		}
		var gone, own view.Record
		for _, op := range r {
			switch op := op.(type) {
			case view.Expunge:
				gone = append(gone, op)
				for _, m := range op.Messages {
					uids = append(uids, m.UID)
				}
			case view.SetSeen, view.SeenMode:
				own = append(own, op)
			}
		}
		if len(own) > 0 {
			f.own, f.ownAt = append(f.own, own), append(f.ownAt, l.modSeq)
		}
		if len(gone) > 0 {
			f.expungedModSeq = append(f.expungedModSeq, int64(l.modSeq))
			f.expungedAt = append(f.expungedAt, at)
			f.expunged = append(f.expunged, gone.Encode(0, 0))
		}
	}
	f.choose(view.NewUIDSet(uids...))
	return nil
}

// choose makes runs of the segments that hold one of the UIDs, of their
// neighbours that are small, and of the messages behind the last segment.
func (f *folding) choose(touched view.UIDSet) {
	n := len(f.segments)
	marked := make([]bool, n+1) // the last stands for what is behind all segments
	low := make([]bool, n+1)
	for i, g := range f.segments {
		span := view.UIDSetOf(view.Range{First: g.first, Last: g.last})
		marked[i] = !touched.Intersect(span).Empty()
		low[i] = f.view.UIDs().Intersect(span).Len() < segmentLow
	}
	var end id.UID
	if n > 0 {
		end = f.segments[n-1].last
	}
	marked[n] = f.view.UIDs().Max() > end
	if n > 0 && marked[n] {
		last := view.UIDSetOf(view.Range{First: f.segments[n-1].first, Last: end})
		low[n-1] = f.view.UIDs().Intersect(last).Len() < segmentSize // new mail fills the last segment up
	}
	for i := 1; i <= n; i++ { // small ones join a neighbour behind them that is rewritten, or before them
		if marked[i-1] && !marked[i] && low[i] {
			marked[i] = true
		}
	}
	for i := n; i > 0; i-- {
		if marked[i] && !marked[i-1] && low[i-1] {
			marked[i-1] = true
		}
	}
	for i := 0; i <= n; {
		if !marked[i] {
			i++
			continue
		}
		r := run{from: i}
		for i <= n && marked[i] {
			if i < n {
				f.touched += f.segments[i].bytes
			}
			i++
		}
		r.to = min(i, n)
		r.first, r.last = 1, f.view.UIDNext()-1
		if r.from > 0 {
			r.first = f.segments[r.from-1].last + 1
		}
		if i < n {
			r.last = f.segments[i].first - 1
		}
		f.rewrite = append(f.rewrite, r)
	}
}

// build makes the new segments.
func (f *folding) build() {
	for _, r := range f.rewrite {
		for _, g := range f.segments[r.from:r.to] {
			f.oldFirst = append(f.oldFirst, int64(g.first))
			f.oldModSeq = append(f.oldModSeq, int64(g.modSeq))
		}
		messages := slices.Collect(f.view.In(view.UIDSetOf(view.Range{First: r.first, Last: r.last})))
		for piece := range slices.Chunk(messages, segmentSize) {
			f.newFirst = append(f.newFirst, int64(piece[0].UID))
			f.newLast = append(f.newLast, int64(piece[len(piece)-1].UID))
			f.newData = append(f.newData, view.EncodeSegment(piece))
		}
	}
}

func (f *folding) queue(b *pgx.Batch) {
	const query = `SELECT fold_mailbox($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`

	keywords := f.view.Keywords()
	if keywords == nil {
		keywords = []string{}
	}
	b.Queue(query, f.key.tenant, f.key.mailbox, f.folded, f.view.ModSeq(), f.view.UIDNext(), keywords,
		values(f.oldFirst), values(f.oldModSeq), values(f.newFirst), values(f.newLast), values(f.newData),
		values(f.expungedModSeq), values(f.expungedAt), values(f.expunged))
	f.overlays.queue(b, f)
}

// values returns v as an array that is not NULL.
func values[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}
