package store_test

import (
	"context"
	"errors"
	commandline "flag" // flag is a helper here
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// The property test of what readers have of their own: the owner and two readers, each on two front ends, change
// a mailbox at random and at once, while it is folded and the mode of \Seen changes. What they were told is
// held against a plain model that makes the changes in the order of their MODSEQs.

var (
	readersSteps = commandline.Int("readers.steps", 50, "operations of each worker of TestReadersOfAMailbox")
	readersSeed  = commandline.Uint64("readers.seed", 0, "seed of TestReadersOfAMailbox; 0: a random one")
)

// readersEvent is a change, or what was seen at a MODSEQ.
type readersEvent struct {
	who    int // 0: the owner
	modSeq id.ModSeq

	flags             *store.FlagChange
	changed, modified view.UIDSet
	added             view.UIDSet
	seen              bool // what was added
	gone              view.UIDSet
	shown             []shownTo // nil: it is a change
	unseen            int64
}

// shownTo is a message as somebody sees it.
type shownTo struct {
	uid    id.UID
	flags  view.Flags
	modSeq id.ModSeq
}

func showTo(v *view.View) []shownTo {
	shown := []shownTo{}
	for m := range v.All() {
		shown = append(shown, shownTo{m.UID, m.Flags, m.ModSeq})
	}
	return shown
}

// readersModel is the plain model.
type readersModel struct {
	t      *testing.T
	shared bool
	uids   []id.UID
	flags  map[id.UID]view.Flags // without \Seen
	seen   []map[id.UID]bool     // by who
	at     []map[id.UID]id.ModSeq
}

func (m *readersModel) as(who int) (shown []shownTo, unseen int64) {
	shown = []shownTo{}
	for _, uid := range m.uids {
		s := shownTo{uid, m.flags[uid], m.at[who][uid]}
		if m.seen[who][uid] {
			s.flags |= view.Seen
		} else {
			unseen++
		}
		shown = append(shown, s)
	}
	return shown, unseen
}

func (m *readersModel) touchAll(uid id.UID, at id.ModSeq) {
	for _, of := range m.at {
		of[uid] = at
	}
}

// see sets \Seen as who sets it.
func (m *readersModel) see(who int, uid id.UID, seen bool, at id.ModSeq) {
	if m.shared {
		for i := range m.seen {
			m.seen[i][uid] = seen
		}
		m.touchAll(uid, at)
		return
	}
	m.seen[who][uid] = seen
	m.at[who][uid] = at
}

// change makes a change; nil is one of the mode.
func (m *readersModel) change(at id.ModSeq, e *readersEvent) {
	switch {
	case e == nil:
		m.shared = !m.shared
		for _, uid := range m.uids {
			m.touchAll(uid, at)
			for i := range m.seen {
				m.seen[i][uid] = m.seen[0][uid]
			}
		}
	case e.flags != nil:
		m.store(at, e)
	case !e.added.Empty():
		for uid := range e.added.All() {
			m.uids = append(m.uids, uid)
			m.flags[uid] = 0
			for i := range m.seen {
				m.seen[i][uid] = e.seen && (i == e.who || m.shared)
			}
			m.touchAll(uid, at)
		}
	default:
		for uid := range e.gone.All() {
			if m.flags[uid]&view.Deleted == 0 {
				m.t.Errorf("UID %d was expunged, and not \\Deleted", uid)
			}
		}
		m.uids = slices.DeleteFunc(m.uids, e.gone.Contains)
	}
}

func (m *readersModel) store(at id.ModSeq, e *readersEvent) {
	var changed, modified []id.UID
	shown, _ := m.as(e.who)
	for _, s := range shown {
		if !e.flags.UIDs.Contains(s.uid) {
			continue
		}
		now := e.flags.Flags
		switch e.flags.Mode {
		case view.Add:
			now |= s.flags
		case view.Remove:
			now = s.flags &^ now
		}
		switch {
		case e.flags.UnchangedSince >= 0 && s.modSeq > e.flags.UnchangedSince:
			modified = append(modified, s.uid)
			continue
		case now == s.flags:
			continue
		}
		changed = append(changed, s.uid)
		if at == 0 {
			continue
		}
		if (now^s.flags)&^view.Seen != 0 {
			m.flags[s.uid] = now &^ view.Seen
			m.touchAll(s.uid, at)
		}
		if (now^s.flags)&view.Seen != 0 {
			m.see(e.who, s.uid, now&view.Seen != 0, at)
		}
	}
	if !e.changed.Equal(view.NewUIDSet(changed...)) || !e.modified.Equal(view.NewUIDSet(modified...)) {
		m.t.Errorf("MODSEQ %d by %d: %+v changed %s, modified %s; want %v, %v", e.modSeq, e.who, e.flags, e.changed, e.modified, changed, modified)
	}
}

// look compares what was seen.
func (m *readersModel) look(e *readersEvent) {
	if e.flags != nil {
		m.store(0, e)
		return
	}
	want, unseen := m.as(e.who)
	if !slices.Equal(e.shown, want) || e.unseen != unseen {
		m.t.Errorf("MODSEQ %d, to %d: %d unseen, %v; want %d, %v", e.modSeq, e.who, e.unseen, e.shown, unseen, want)
	}
}

// readersWorker is a user on one front end, with a client that knows but what it is told.
type readersWorker struct {
	who    int
	user   store.User
	store  *store.Store
	name   string
	rnd    *rand.Rand
	box    *store.Mailbox
	told   view.Told
	client map[id.UID]shownTo
	note   func(readersEvent)
	next   int
}

func (w *readersWorker) step(ctx context.Context) error {
	err := w.act(ctx)
	for errors.Is(err, store.ErrRightsChanged) {
		if w.box, err = w.box.Renew(ctx); err == nil {
			err = w.act(ctx)
		}
	}
	return err
}

func (w *readersWorker) act(ctx context.Context) error {
	e := readersEvent{who: w.who}
	switch n := w.rnd.IntN(20); {
	case n == 0 && w.who == 0:
		mode := []string{"user", "shared"}[w.rnd.IntN(2)]
		return w.store.SetMetadata(ctx, w.user, w.name, []store.Annotation{{Entry: store.SeenEntry, Value: []byte(mode)}})
	case n < 3:
		in := incoming(w.box, w.next)
		w.next++
		e.seen = w.rnd.IntN(2) == 0
		if e.seen {
			in.Flags = view.Seen
		}
		added, err := w.box.Append(ctx, in)
		if errors.Is(err, store.ErrNotExist) { // of another epoch
			return store.ErrRightsChanged
		}
		e.added, e.modSeq = added.UIDs, added.ModSeq
		return w.done(e, err)
	case n == 3:
		v, gone, err := w.box.Expunge(ctx, nil)
		if err == nil && !gone.Empty() {
			e.gone, e.modSeq = gone, v.ModSeq()
			w.note(e)
		}
		return err
	case n < 7:
		return w.sync(ctx)
	case n == 7:
		return w.box.Fold(ctx)
	}
	first := id.UID(1 + w.rnd.IntN(int(w.told.UIDs.Max())+2))
	e.flags = &store.FlagChange{
		UIDs: between(first, first+id.UID(w.rnd.IntN(6))), Mode: view.Mode(w.rnd.IntN(3)), UnchangedSince: -1,
		Flags: []view.Flags{view.Seen, view.Seen, view.Seen, view.Flagged, view.Seen | view.Flagged, view.Deleted, 0}[w.rnd.IntN(7)],
	}
	if w.rnd.IntN(3) == 0 {
		e.flags.UnchangedSince = w.told.ModSeq
	}
	given := *e.flags
	r, err := w.box.SetFlags(ctx, given)
	if err != nil {
		return err
	}
	e.changed, e.modified, e.modSeq = r.Changed, r.Modified, r.View.ModSeq()
	if r.ModSeq == 0 {
		e.shown = []shownTo{} // nothing was changed
	}
	w.note(e)
	return nil
}

func (w *readersWorker) done(e readersEvent, err error) error {
	if err == nil {
		w.note(e)
	}
	return err
}

// sync tells the client what is new, and notes what it shows then. It must be all, and nothing that it knows.
func (w *readersWorker) sync(ctx context.Context) error {
	v, err := w.box.View(ctx)
	if err != nil {
		return err
	}
	updates, told := view.Diff(w.told, v, true)
	w.told = told
	for _, u := range updates {
		switch u := u.(type) {
		case view.Expunged:
			for uid := range u.UIDs.All() {
				delete(w.client, uid)
			}
		case view.Exists:
			for m := range v.In(u.New) {
				w.client[m.UID] = shownTo{m.UID, m.Flags, m.ModSeq}
			}
		case view.Changed:
			m := u.Message
			if known := w.client[m.UID]; known.modSeq >= m.ModSeq {
				return fmt.Errorf("told of UID %d at %d, which was known at %d", m.UID, m.ModSeq, known.modSeq)
			}
			w.client[m.UID] = shownTo{m.UID, m.Flags, m.ModSeq}
		}
	}
	e := readersEvent{who: w.who, modSeq: v.ModSeq(), shown: []shownTo{}, unseen: v.Counts().Unseen}
	for uid := range told.UIDs.All() {
		e.shown = append(e.shown, w.client[uid])
	}
	w.note(e)
	return nil
}

func TestReadersOfAMailbox(t *testing.T) {
	cluster := storetest.Config(t)
	first := storetest.Open(t, cluster, func(o *store.Options) { o.FoldMin, o.FoldRatio = 200, 0.01 })
	second := storetest.Open(t, cluster, func(o *store.Options) {
		o.FoldMin, o.FoldRatio, o.ViewCacheBytes = 300, 0.01, 4000 // which holds few views, so that many are loaded
	})
	users := []store.User{storetest.Account(t, first, "ann@one.test"), storetest.Account(t, first, "bob@one.test"), storetest.Account(t, first, "cat@one.test")}
	grant(t, first, users[0], "INBOX", acl.Anyone, "lrswite")
	fill(t, open(t, first, users[0], "INBOX"), 20)

	var mu sync.Mutex // guards what follows
	changes := map[id.ModSeq]*readersEvent{}
	looks := map[id.ModSeq][]*readersEvent{}
	note := func(e readersEvent) {
		mu.Lock()
		defer mu.Unlock()
		if e.shown != nil {
			looks[e.modSeq] = append(looks[e.modSeq], &e)
		} else if changes[e.modSeq] != nil {
			t.Errorf("two changes with MODSEQ %d", e.modSeq)
		} else {
			changes[e.modSeq] = &e
		}
	}
	seed := *readersSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: run again with -args -readers.seed=%d", seed, seed)
	var work sync.WaitGroup
	for i := range 2 * len(users) {
		w := &readersWorker{who: i % len(users), store: first, name: "INBOX", client: map[id.UID]shownTo{}, note: note, next: 1000 * (i + 1)}
		if w.rnd = rand.New(rand.NewPCG(seed, uint64(i))); i >= len(users) {
			w.store = second
		}
		if w.user = users[w.who]; w.who > 0 {
			w.name = others(users[0], "INBOX")
		}
		box, err := w.store.Open(t.Context(), w.user, w.name, acl.Read)
		if err != nil {
			t.Fatal(err)
		}
		w.box = box
		work.Go(func() {
			for range *readersSteps {
				if err := w.step(t.Context()); err != nil {
					t.Errorf("worker %d: %v", i, err)
					return
				}
			}
			for {
				err := w.sync(t.Context())
				if !errors.Is(err, store.ErrRightsChanged) {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if w.box, err = w.box.Renew(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	if t.Failed() {
		return
	}

	m := &readersModel{t: t, flags: map[id.UID]view.Flags{}}
	for range users {
		m.seen, m.at = append(m.seen, map[id.UID]bool{}), append(m.at, map[id.UID]id.ModSeq{})
	}
	m.change(2, &readersEvent{added: between(1, 20)})
	last := viewOf(t, open(t, storetest.Open(t, cluster), users[0], "INBOX")).ModSeq()
	switches := 0
	for at := id.ModSeq(2); at <= last; at++ {
		if at > 2 {
			if changes[at] == nil {
				switches++ // by which nothing is returned
			}
			m.change(at, changes[at])
		}
		for _, e := range looks[at] {
			m.look(e)
		}
		if t.Failed() {
			t.Fatalf("after MODSEQ %d of %d: %+v", at, last, changes[at])
		}
	}
	t.Logf("%d changes, %d of the mode", last, switches)
	checkReaders(t, storetest.Open(t, cluster), users, m)
	for _, s := range []*store.Store{first, second} {
		checkReaders(t, s, users, m)
	}
	fold(t, open(t, first, users[0], "INBOX"))
	checkReaders(t, storetest.Open(t, cluster), users, m)
}

// checkReaders compares what a front end has at the end: views, STATUS, and what fsck finds.
func checkReaders(t *testing.T, s *store.Store, users []store.User, m *readersModel) {
	t.Helper()
	for who, u := range users {
		name := "INBOX"
		if who > 0 {
			name = others(users[0], name)
		}
		want, unseen := m.as(who)
		status, err := s.Status(t.Context(), u, []string{name})
		if err == nil {
			err = s.CountUnseen(t.Context(), u, status)
		}
		if err != nil || status[name].Counts.Unseen != unseen || status[name].Counts.Messages != int64(len(want)) {
			t.Errorf("STATUS of %d: %+v, %v; want %d unseen of %d", who, status[name], err, unseen, len(want))
		}
		box, err := s.Open(t.Context(), u, name, acl.Read)
		if err != nil {
			t.Fatal(err)
		}
		if v := viewOf(t, box); !slices.Equal(showTo(v), want) || v.Counts().Unseen != unseen {
			t.Errorf("%d sees %v, want %v", who, showTo(v), want)
		}
	}
	if _, err := s.Fsck(t.Context(), users[0].Tenant, func(f store.Finding) { t.Error(f) }); err != nil {
		t.Error(err)
	}
}

// What a reader has of their own stays while it can be of use, and goes with the messages, the mailbox and the reader.
func TestReadersGo(t *testing.T) {
	s := storetest.New(t)
	ann, bob, cat := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "bob@one.test"), storetest.Account(t, s, "cat@one.test")
	if _, err := s.Create(t.Context(), ann, "Plans", nil); err != nil {
		t.Fatal(err)
	}
	grant(t, s, ann, "Plans", acl.Anyone, "lrs")
	box := open(t, s, ann, "Plans")
	fill(t, box, 5)
	as := func(u store.User) *store.Mailbox {
		t.Helper()
		m, err := s.Open(t.Context(), u, others(ann, "Plans"), acl.Seen)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	rows := func(want int) {
		t.Helper()
		if got := count(t, s, ann.Tenant, "mailbox_overlay"); got != want {
			t.Errorf("%d overlays, want %d", got, want)
		}
		if _, err := s.Fsck(t.Context(), ann.Tenant, func(f store.Finding) { t.Error(f) }); err != nil {
			t.Error(err)
		}
	}
	unseen := func(u store.User, want int64) {
		t.Helper()
		s.ForgetViews()
		if got := viewOf(t, as(u)).Counts(); got.Unseen != want {
			t.Errorf("%s: %d unseen, want %d", u.Login, got.Unseen, want)
		}
	}
	flag(t, as(bob), between(1, 3), view.Add, view.Seen)
	rows(0) // it is in the log
	fold(t, box)
	rows(1)
	unseen(bob, 2)
	unseen(cat, 5)

	flag(t, box, between(2, 2), view.Add, view.Deleted)
	if _, _, err := box.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	fold(t, box)
	var text strings.Builder
	if err := box.Dump(t.Context(), &text); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("overlay of reader %d in 10 octets\n  UIDs 1:3 MODSEQ 3 seen true\n", bob.Account)
	if !strings.Contains(text.String(), want) {
		t.Errorf("dumped\n%s\nwant %s", text.String(), want)
	}

	// A mailbox that is brought back is to its readers as it was.
	if err := s.Delete(t.Context(), ann, "Plans"); err != nil {
		t.Fatal(err)
	}
	rows(1)
	if _, _, err := s.UndeleteMailbox(t.Context(), ann, "Plans", ""); err != nil {
		t.Fatal(err)
	}
	unseen(bob, 2)

	// Of a reader who is gone nothing is folded any more.
	flag(t, as(cat), between(4, 5), view.Add, view.Seen)
	for _, u := range []store.User{bob, cat} {
		if err := s.DeleteAccount(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	rows(0)
	fold(t, open(t, s, ann, "Plans"))
	rows(0)

	dan := storetest.Account(t, s, "dan@one.test")
	flag(t, as(dan), between(1, 9), view.Add, view.Seen)
	fold(t, open(t, s, ann, "Plans"))
	rows(1)
	if err := s.DeleteAccount(t.Context(), ann); err != nil {
		t.Fatal(err)
	}
	rows(0)
}

// Fsck finds overlays that do not fit.
func TestFsckOverlays(t *testing.T) {
	s := storetest.New(t)
	ann, bob := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "bob@one.test")
	grant(t, s, ann, "INBOX", acl.Anyone, "lrs")
	box := open(t, s, ann, "INBOX")
	fill(t, box, 5)
	reader, err := s.Open(t.Context(), bob, others(ann, "INBOX"), acl.Seen)
	if err != nil {
		t.Fatal(err)
	}
	flag(t, reader, between(1, 3), view.Add, view.Seen)
	fold(t, box)
	for _, test := range []struct {
		what, change, undo string
		kind               store.FindingKind
	}{
		{"damaged", `SET data = data || '\x00'`, `SET data = substring(data FOR octet_length(data) - 1)`, store.FoundOverlay},
		{"of the owner", fmt.Sprint(`SET account_id = `, ann.Account), fmt.Sprint(`SET account_id = `, bob.Account), store.FoundOverlay},
		{"of a mailbox that is not there", `SET mailbox_id = mailbox_id + 1000`, `SET mailbox_id = mailbox_id - 1000`, store.FoundMissing},
	} {
		changeRow(t, s, ann.Tenant, "UPDATE mailbox_overlay "+test.change)
		finds(t, s, ann.Tenant, "an overlay "+test.what, test.kind)
		changeRow(t, s, ann.Tenant, "UPDATE mailbox_overlay "+test.undo)
	}
	for of, kind := range map[string]store.FindingKind{"shared_seen": store.FoundOverlay, "others": store.FoundRights} {
		negate := fmt.Sprintf("UPDATE mailbox SET %[1]s = NOT %[1]s WHERE mailbox_id = %[2]d", of, box.ID)
		changeRow(t, s, ann.Tenant, negate)
		finds(t, s, ann.Tenant, of, kind)
		changeRow(t, s, ann.Tenant, negate)
	}
	if _, err := s.Fsck(t.Context(), ann.Tenant, func(f store.Finding) { t.Error(f) }); err != nil {
		t.Error(err)
	}
}

func changeRow(t *testing.T, s *store.Store, tenant id.Tenant, query string) {
	t.Helper()
	err := s.Transact(t.Context(), tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(t.Context(), query)
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("changed %d rows", tag.RowsAffected())
		}
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func finds(t *testing.T, s *store.Store, tenant id.Tenant, what string, kind store.FindingKind) {
	t.Helper()
	var kinds []store.FindingKind
	if _, err := s.Fsck(t.Context(), tenant, func(f store.Finding) { kinds = append(kinds, f.Kind) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(kinds, kind) {
		t.Errorf("%s: fsck finds %v, want %s", what, kinds, kind)
	}
}
