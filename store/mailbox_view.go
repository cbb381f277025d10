package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// position is where a mailbox row says that its log ends.
type position struct {
	uidNext id.UID
	modSeq  id.ModSeq
}

// logRow is a row of mailbox_log.
type logRow struct {
	modSeq    id.ModSeq
	uidBase   id.UID
	emailBase id.Email
	record    []byte
}

// errGap says that records are missing between a view and the end of the log:
// they have been folded, and the view is to be loaded anew.
var errGap = errors.New("log does not follow on the view")

// View returns the mailbox as it is now: the cached view, brought up to date
// by one keyed read. ErrNotExist when it is gone, ErrRightsChanged.
func (m *Mailbox) View(ctx context.Context) (*view.View, error) {
	v, epoch, err := m.store.currentView(ctx, m.viewer())
	if err == nil && m.epoch > 0 && epoch != m.epoch {
		err = ErrRightsChanged
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// RecentView returns the mailbox as it was when this process last asked, if
// that is not longer ago, else nil.
func (m *Mailbox) RecentView(ago time.Duration) *view.View {
	return m.store.views.since(m.viewer(), time.Now().Add(-ago))
}

// ViewAt returns the mailbox as this process knows it, without asking, if it
// knows it at modSeq or later, else nil.
func (m *Mailbox) ViewAt(modSeq id.ModSeq) *view.View {
	if v := m.store.views.get(m.viewer()); v != nil && v.ModSeq() >= modSeq {
		return v
	}
	return nil
}

// cached returns the cached view of who opened the mailbox, or else the owner's, of which it is made; nil if there is neither.
func (m *Mailbox) cached() (viewer viewerKey, v *view.View) {
	viewer = m.viewer()
	if v = m.store.views.get(viewer); v == nil && viewer.reader != 0 {
		viewer.reader = 0
		v = m.store.views.get(viewer)
	}
	return viewer, v
}

// currentView returns a mailbox as a viewer has it now, with the epoch of the rights on it.
func (s *Store) currentView(ctx context.Context, key viewerKey) (v *view.View, epoch int64, err error) {
	if v, epoch := s.delegations.view(key); v != nil {
		return v, epoch, nil
	}
	for {
		asked := time.Now()
		v, loaded, err := s.views.load(ctx, key)
		if err != nil {
			return nil, 0, err
		}
		if v == nil {
			defer loaded()
			v, epoch, err := s.loadView(ctx, key)
			if err == nil {
				s.views.confirm(key, v, asked)
			}
			return v, epoch, err
		}
		// A view that another has loaded for us may be older than our question.
		r := s.delegations.begin(key.viewKey)
		now, epoch, err := s.advance(ctx, key, v)
		if err == nil {
			s.views.confirm(key, now, asked)
			if key.reader == 0 {
				s.delegations.keep(key.viewKey, r, now.ModSeq(), epoch, nil, now != v)
			}
		}
		if !errors.Is(err, errGap) {
			return now, epoch, err
		}
	}
}

// advance brings a view up to date. The row and the end of the log are read in
// one statement, and so in one snapshot.
func (s *Store) advance(ctx context.Context, key viewerKey, v *view.View) (now *view.View, epoch int64, err error) {
	const query = `
		SELECT m.acl_epoch, m.uidnext, m.highestmodseq, l.modseq, l.uid_base, l.email_base, l.record
		FROM mailbox m
		LEFT JOIN mailbox_log l ON l.tenant_id = m.tenant_id AND l.mailbox_id = m.mailbox_id AND l.modseq > $3
		WHERE m.tenant_id = $1 AND m.mailbox_id = $2 AND m.deleted_at IS NULL
		ORDER BY l.modseq`

	var found bool
	var end logEnd
	err = s.read(ctx, key.tenant, func(b *pgx.Batch) {
		found, end = false, logEnd{}
		b.Queue(query, key.tenant, key.mailbox, v.ModSeq()).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				found = true
				if err := end.scan(rows, &epoch); err != nil {
					return err
				}
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read the log of mailbox %d: %w", key.mailbox, err)
	}
	if !found {
		s.views.drop(key)
		return nil, 0, ErrNotExist
	}
	now, err = s.advanceBy(key, v, end)
	return now, epoch, err
}

// logEnd is where a mailbox row says that its log ends, and the records up to there.
type logEnd struct {
	position
	tail []logRow
}

// scan reads a row: what more says, the position of the mailbox, and a record
// whose columns are NULL where the log has nothing newer.
func (e *logEnd) scan(row pgx.CollectableRow, more ...any) error {
	var modSeq *id.ModSeq
	var uidBase *id.UID
	var emailBase *id.Email
	var record []byte
	if err := row.Scan(append(more, &e.uidNext, &e.modSeq, &modSeq, &uidBase, &emailBase, &record)...); err != nil {
		return err
	}
	if modSeq != nil {
		e.tail = append(e.tail, logRow{*modSeq, *uidBase, *emailBase, record})
	}
	return nil
}

// advanceBy applies the end of a log to a view, and keeps it.
func (s *Store) advanceBy(key viewerKey, v *view.View, end logEnd) (*view.View, error) {
	now := s.followCached(key, v, end.position, end.tail)
	if now == nil {
		return nil, errGap
	}
	if now != v {
		s.views.put(key, now)
	}
	return now, nil
}

// followCached is follow for a cached view. Where the log does not follow on
// it, the view is forgotten, to be loaded anew, and nil returned: a cache proves nothing. What does not
// fit is another history than the one that was cached, as after a failover that lost commits.
func (s *Store) followCached(key viewerKey, v *view.View, end position, tail []logRow) *view.View {
	now, err := follow(v, s.ownersAt(key, end.modSeq), end, tail)
	if err == nil {
		return now
	}
	if !errors.Is(err, errGap) {
		s.log.Error("cached view does not fit the log, and is loaded anew", "tenant", key.tenant, "mailbox", key.mailbox, "error", err)
	}
	s.views.drop(key)
	return nil
}

// ownersAt returns the owner's view of a mailbox of which key is a reader's, if it is known at modSeq, else nil.
func (s *Store) ownersAt(key viewerKey, modSeq id.ModSeq) *view.View {
	if key.reader == 0 {
		return nil
	}
	if v := s.views.get(key.owners()); v != nil && v.ModSeq() == modSeq {
		return v
	}
	return nil
}

// follow applies the end of a log to a view. It returns errGap unless the
// records prove, one by one, that nothing is missing up to the row's position. owners is the owner's view there
// where v is a reader's and that is known, else nil.
func follow(v, owners *view.View, end position, tail []logRow) (*view.View, error) {
	if end.modSeq != v.ModSeq()+id.ModSeq(len(tail)) {
		return nil, errGap
	}
	records := make([]view.Record, len(tail))
	for i, l := range tail {
		if l.modSeq != v.ModSeq()+1+id.ModSeq(i) {
			return nil, errGap
		}
		r, err := view.DecodeRecord(l.record, l.uidBase, l.emailBase)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", l.modSeq, err)
		}
		records[i] = r
	}
	if owners != nil && len(tail) > 0 {
		return v.Over(owners, records...), nil
	}
	now, err := v.ApplyAll(v.ModSeq()+1, records...)
	if err != nil {
		return nil, err
	}
	if now.UIDNext() != end.uidNext {
		return nil, fmt.Errorf("the log leads to UID %d, the mailbox says %d", now.UIDNext(), end.uidNext)
	}
	return now, nil
}

// loadView reads a mailbox whole, in one snapshot, and keeps the view. For a reader it is not
// whole where the owner's view is known.
func (s *Store) loadView(ctx context.Context, key viewerKey) (v *view.View, epoch int64, err error) {
	if key.reader != 0 {
		v, epoch, err = s.loadReader(ctx, key)
		if !errors.Is(err, errGap) {
			return v, epoch, err
		}
	}
	var l viewLoad
	err = s.readSnapshot(ctx, key.tenant, func(b *pgx.Batch) {
		l = viewLoad{}
		l.queue(b, key)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, 0, ErrNotExist
	}
	if err == nil {
		v, err = l.view()
	}
	if err != nil {
		return nil, 0, fmt.Errorf("load mailbox %d: %w", key.mailbox, err)
	}
	s.views.put(key, v)
	return v, l.epoch, nil
}

// viewLoad is all that a view is made of. Its statements must see one state:
// in one snapshot, or under the mailbox's lock.
type viewLoad struct {
	epoch    int64 // of the rights
	end      position
	folded   position
	keywords []string
	segments [][]byte
	log      []logRow

	reader   id.Account // 0: the owner
	shared   bool       // all have the owner's \Seen
	overlays []overlayRow
}

func (l *viewLoad) queue(b *pgx.Batch, key viewerKey) {
	l.queueState(b, key)
	l.queueSegments(b, key)
}

// queueState asks for all but the segments.
func (l *viewLoad) queueState(b *pgx.Batch, key viewerKey) {
	const (
		mailbox = `
			SELECT acl_epoch, uidnext, highestmodseq, folded_uidnext, folded_modseq, keywords, shared_seen
			FROM mailbox
			WHERE tenant_id = $1 AND mailbox_id = $2 AND deleted_at IS NULL`

		log = `
			SELECT modseq, uid_base, email_base, record
			FROM mailbox_log
			WHERE tenant_id = $1 AND mailbox_id = $2
			ORDER BY modseq`
	)
	b.Queue(mailbox, key.tenant, key.mailbox).QueryRow(func(row pgx.Row) error {
		return row.Scan(&l.epoch, &l.end.uidNext, &l.end.modSeq, &l.folded.uidNext, &l.folded.modSeq, &l.keywords, &l.shared)
	})
	b.Queue(log, key.tenant, key.mailbox).Query(func(rows pgx.Rows) (err error) {
		l.log, err = pgx.CollectRows(rows, scanLogRow)
		return err
	})
	if l.reader = key.reader; l.reader != 0 {
		l.queueOverlays(b, key)
	}
}

func (l *viewLoad) queueSegments(b *pgx.Batch, key viewerKey) {
	const segments = `
		SELECT data
		FROM mailbox_segment
		WHERE tenant_id = $1 AND mailbox_id = $2
		ORDER BY first_uid`

	b.Queue(segments, key.tenant, key.mailbox).Query(func(rows pgx.Rows) (err error) {
		l.segments, err = pgx.CollectRows(rows, pgx.RowTo[[]byte])
		return err
	})
}

func scanLogRow(row pgx.CollectableRow) (l logRow, err error) {
	err = row.Scan(&l.modSeq, &l.uidBase, &l.emailBase, &l.record)
	return l, err
}

func (l *viewLoad) view() (*view.View, error) {
	v, err := view.Load(l.folded.modSeq, l.folded.uidNext, l.keywords, l.segments)
	if err != nil {
		return nil, err
	}
	if v, err = follow(v, nil, l.end, l.log); err != nil || l.reader == 0 {
		return v, err
	}
	return l.as(v)
}
