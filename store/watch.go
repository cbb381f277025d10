package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

const (
	// channel is what front ends NOTIFY each other on.
	channel = "mailstead_changed"
	// pollInterval is after how long a change is found whose hint was lost.
	pollInterval = 30 * time.Second
	// reconnectInterval is how long the listener waits before it tries again.
	reconnectInterval = time.Second
	// notifyInterval is the least time between two NOTIFYs of a front end: under
	// load they are few, and the first after a rest is at once. At 2 ms they took
	// a fifth of the CPU time of a run of STOREs, at 10 ms still a twentieth.
	notifyInterval = 25 * time.Millisecond
	// maxPayload is how long a hint may be; PostgreSQL takes up to 8000 octets.
	maxPayload = 7900
)

// Watch returns a channel that gets a value soon after the mailbox, or the rights on it, changed on
// any front end (a hint; capacity 1), and a function that ends it. A hint that
// is lost is made up for within half a minute. The value is a MODSEQ that the mailbox has
// reached and that there is no hint beyond, for ViewAt, or 0: only View knows.
func (m *Mailbox) Watch() (<-chan id.ModSeq, func()) { return m.store.watch.add(m.key()) }

// watch passes hints of changes on: to those in this process who wait for
// them, at once, and to other front ends through the database, after the
// commit and many in one NOTIFY. One inside the transaction would take a lock
// that puts all commits in line.
type watch struct {
	store *Store
	self  string // begins our own hints, which we need not hear
	log   *slog.Logger

	ctx    context.Context // ends with the store: of work that is no caller's
	cancel context.CancelFunc
	work   sync.WaitGroup
	wake   chan struct{} // to the sender: there are hints

	mu        sync.Mutex // guards what follows
	watchers  map[viewKey]map[chan id.ModSeq]struct{}
	seen      map[viewKey]epochs // what the last poll found
	hints     map[viewKey]struct{}
	sending   bool // whether the sender has been started
	listening bool
	closed    bool
}

func newWatch(s *Store) *watch {
	w := &watch{
		store: s, self: rand.Text()[:8], log: s.log, wake: make(chan struct{}, 1),
		watchers: make(map[viewKey]map[chan id.ModSeq]struct{}),
		seen:     make(map[viewKey]epochs),
		hints:    make(map[viewKey]struct{}),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background()) // until close
	return w
}

func (w *watch) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.cancel()
	w.work.Wait()
}

// start runs f in the background once, unless the store is closed. w.mu is held.
func (w *watch) start(started *bool, f func()) {
	if *started || w.closed {
		return
	}
	*started = true
	w.work.Go(f)
}

func (w *watch) add(key viewKey) (<-chan id.ModSeq, func()) {
	c := make(chan id.ModSeq, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start(&w.listening, w.listen)
	if w.watchers[key] == nil {
		w.watchers[key] = make(map[chan id.ModSeq]struct{})
	}
	w.watchers[key][c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.watchers[key], c)
		if len(w.watchers[key]) == 0 {
			delete(w.watchers, key)
			delete(w.seen, key)
		}
	}
}

// changed is told of each change that this process has committed, with its
// MODSEQ; 0 where it has none.
func (w *watch) changed(key viewKey, modSeq id.ModSeq) {
	w.mu.Lock()
	w.hint(key, modSeq)
	w.hints[key] = struct{}{}
	w.start(&w.sending, w.send)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// hint wakes who watches the mailbox here. w.mu is held.
func (w *watch) hint(key viewKey, modSeq id.ModSeq) {
	for c := range w.watchers[key] {
		now := modSeq
		select {
		case last := <-c: // it has not been taken yet: one does for both
			now = max(last, now)
			if last == 0 || modSeq == 0 {
				now = 0
			}
		default:
		}
		c <- now // there is room, since all who send hold w.mu
	}
}

// send tells other front ends; what comes up while one NOTIFY is under way goes
// into the next. A hint need not survive a crash, and so waits for no disk.
func (w *watch) send() {
	const notify = `SELECT pg_notify($1, $2) WHERE set_config('synchronous_commit', 'off', true) = 'off'`

	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-rest.C:
		}
		select {
		case <-w.ctx.Done():
			return
		case <-w.wake:
		}
		b := &pgx.Batch{}
		for _, payload := range w.payloads() {
			b.Queue(notify, channel, payload)
		}
		if err := w.store.pool.SendBatch(w.ctx, b).Close(); err != nil && w.ctx.Err() == nil {
			w.log.Warn("other front ends were not told of changes, and will find them by themselves", "error", err)
		}
		rest.Reset(notifyInterval)
	}
}

// payloads takes the hints that wait: our name, then tenant.mailbox for each.
func (w *watch) payloads() []string {
	w.mu.Lock()
	hints := w.hints
	w.hints = make(map[viewKey]struct{})
	w.mu.Unlock()

	var all []string
	b := []byte(w.self)
	for key := range hints {
		if len(b) > maxPayload-2*14 {
			all = append(all, string(b))
			b = []byte(w.self)
		}
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(key.tenant), 36)
		b = append(b, '.')
		b = strconv.AppendInt(b, int64(key.mailbox), 36)
	}
	if len(hints) > 0 {
		all = append(all, string(b))
	}
	return all
}

// receive passes a hint of another front end on.
func (w *watch) receive(payload string) {
	words := strings.Fields(payload)
	if len(words) == 0 || words[0] == w.self {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, word := range words[1:] {
		tenant, mailbox, _ := strings.Cut(word, ".")
		t, err := strconv.ParseInt(tenant, 36, 64)
		if err != nil {
			continue // of a release that writes hints in another way; the poll makes up for it
		}
		m, err := strconv.ParseInt(mailbox, 36, 64)
		if err != nil {
			continue
		}
		w.hint(viewKey{id.Tenant(t), id.Mailbox(m)}, 0)
	}
}

// listen hears what other front ends tell, and looks for itself from time to
// time and whenever it may have missed something.
func (w *watch) listen() {
	w.work.Go(w.pollRegularly)
	for w.ctx.Err() == nil {
		err := w.hear()
		if w.ctx.Err() != nil {
			return
		}
		w.log.Warn("no hints from other front ends for now", "error", err)
		select {
		case <-w.ctx.Done():
		case <-time.After(reconnectInterval):
		}
	}
}

// hear listens on a connection of its own until it breaks.
func (w *watch) hear() error {
	c, err := pgx.ParseConfig(w.store.options.ListenDSN)
	if err != nil {
		return fmt.Errorf("address to listen at: %w", err)
	}
	setDefault(&c.ConnectTimeout, 5*time.Second)
	conn, err := pgx.ConnectConfig(w.ctx, c)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // w.ctx may have ended
		defer cancel()
		_ = conn.Close(ctx) // it is of no use any more either way
	}()
	if _, err := conn.Exec(w.ctx, "LISTEN "+channel+"; LISTEN "+recallChannel); err != nil {
		return err
	}
	defer w.store.delegations.renew()
	w.poll()
	for {
		n, err := conn.WaitForNotification(w.ctx)
		if err != nil {
			return err
		}
		if n.Channel == recallChannel {
			w.store.delegations.receive(n.Payload)
		} else {
			w.receive(n.Payload)
		}
	}
}

func (w *watch) pollRegularly() {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-tick.C:
			w.poll()
		}
	}
}

// poll wakes who watches a mailbox that has changed, or on which the rights have, or that is gone, since the last poll.
func (w *watch) poll() {
	for t, mailboxes := range w.watched() {
		now, err := w.epochs(t, mailboxes)
		if err != nil {
			if w.ctx.Err() == nil {
				w.log.Warn("watched mailboxes were not looked at", "tenant", t, "error", err)
			}
			continue
		}
		w.mu.Lock()
		for _, m := range mailboxes {
			key := viewKey{t, m}
			if w.watchers[key] == nil {
				continue
			}
			if old, ok := w.seen[key]; !ok || old != now[m] {
				w.hint(key, 0)
			}
			w.seen[key] = now[m]
		}
		w.mu.Unlock()
	}
}

func (w *watch) watched() map[id.Tenant][]id.Mailbox {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[id.Tenant][]id.Mailbox)
	for key := range w.watchers {
		all[key.tenant] = append(all[key.tenant], key.mailbox)
	}
	return all
}

// epochs are what moves with a change of a mailbox, or of the rights on it.
type epochs struct {
	modSeq id.ModSeq
	rights int64
}

// epochs returns where mailboxes are now; those that are gone are missing.
func (w *watch) epochs(t id.Tenant, mailboxes []id.Mailbox) (map[id.Mailbox]epochs, error) {
	const query = `
		SELECT mailbox_id, highestmodseq, acl_epoch
		FROM mailbox
		WHERE tenant_id = $1 AND mailbox_id = ANY ($2) AND deleted_at IS NULL`

	now := make(map[id.Mailbox]epochs)
	err := w.store.read(w.ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t, mailboxes).Query(func(rows pgx.Rows) error {
			var m id.Mailbox
			var n epochs
			_, err := pgx.ForEachRow(rows, []any{&m, &n.modSeq, &n.rights}, func() error {
				now[m] = n
				return nil
			})
			return err
		})
	})
	return now, err
}
