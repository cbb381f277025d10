package store_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// event is what a worker notes: an operation and what it was told, or what a
// session has come to show.
type event struct {
	Kind             string
	FrontEnd, Worker int
	Start, End       int64 // on the machine's monotonic clock, nanoseconds
	Box              int   // the mailbox
	Err              string

	// ModSeq is that of the change, 0 where nothing changed; for "view" that of the view.
	ModSeq id.ModSeq

	Messages []newMessage // append
	UIDs     []view.Range // append: theirs; flags, expunge: those asked for

	Mode           view.Mode // flags
	Flags          view.Flags
	Keywords       []string
	UnchangedSince id.ModSeq
	Changed        []view.Range
	Modified       []view.Range

	Gone []view.Range // expunge
	All  bool         // expunge without UIDs

	To             int // copy, move, replace
	FromUID, ToUID []id.UID

	// Seen is the MODSEQ of the view that the operation's outcome was read
	// from: for copy, move and replace the source's.
	Seen id.ModSeq

	Digest   string // view: what the client shows, without what is withheld
	Withheld []view.Range
	Covered  id.ModSeq
	Counts   view.Counts
	UIDNext  id.UID
	Since    id.ModSeq // view: of the old state that it was brought up from

	First id.UID // recent: [First, UIDNext)

	Name        string // create, delete, look
	UIDValidity uint32 // of what was made; look: of what is shown, 0 where it is gone

	Delegations store.Delegations // delegations: of the front end at its end
}

type newMessage struct {
	Tag      int64
	Size     int64
	Flags    view.Flags
	Keywords []string
}

// TestFrontEndProcess is no test but a process of TestHistory's: a front end
// with its workers.
func TestFrontEndProcess(t *testing.T) {
	config := os.Getenv(historyVariable)
	if config == "" {
		return
	}
	var h history
	if err := json.Unmarshal([]byte(config), &h); err != nil {
		t.Fatal(err)
	}
	f := &frontEnd{history: &h, notes: json.NewEncoder(os.NewFile(3, "notes"))}
	f.store = storetest.Open(t, h.Cluster, func(o *store.Options) {
		o.FoldMin, o.FoldRatio = h.FoldMin, 0.01
		o.Retention, o.ExpungeHorizon, o.OrphanGrace = h.Retention, 5*h.Retention, 5*h.Retention
		o.PackSize, o.StoredRatio = 10_000, 1.01
		if h.FrontEnd == 2 {
			o.ViewCacheBytes = 30_000 // which holds few views, so that many are loaded
		}
	})
	f.store.DelegateEagerly()
	var workers []*worker
	for i := range h.Workers {
		w := &worker{frontEnd: f, number: i, rnd: rand.New(rand.NewPCG(h.Seed, uint64(h.FrontEnd*h.Workers+i))), scratch: map[string]*store.Mailbox{}, gone: map[int][]id.UID{}}
		if err := w.open(t.Context()); err != nil {
			t.Fatal(err)
		}
		workers = append(workers, w)
	}
	var group sync.WaitGroup
	for _, w := range workers {
		group.Go(func() {
			for range h.Operations / (h.FrontEnds * h.Workers) {
				if !w.step(t.Context()) {
					return
				}
			}
		})
	}
	settled := make(chan struct{})
	var cleaning sync.WaitGroup
	if h.FrontEnd == 0 {
		cleaning.Go(func() { f.clean(t.Context(), settled) })
	}
	group.Wait()
	close(settled)
	cleaning.Wait()
	f.note(event{Kind: "settled"})
	if _, err := io.Copy(io.Discard, bufio.NewReader(os.Stdin)); err != nil { // until all have settled
		t.Fatal(err)
	}
	for _, w := range workers {
		for i := range w.sessions {
			w.sync(t.Context(), w.sessions[i], true)
		}
	}
	f.note(event{Kind: "delegations", Delegations: f.store.Delegations()})
}

type frontEnd struct {
	*history
	store *store.Store

	mu    sync.Mutex // guards notes
	notes *json.Encoder
}

func (f *frontEnd) note(e event) {
	e.FrontEnd = f.FrontEnd
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.notes.Encode(e); err != nil {
		panic(err) // the test process has gone
	}
}

// clean does what maintenance does, again and again, until all have settled: mail that
// was expunged goes with its content, and packs are written anew.
func (f *frontEnd) clean(ctx context.Context, settled <-chan struct{}) {
	jobs := map[string]func() error{
		"pack":    func() error { return store.PackTenant(f.store, ctx, f.User.Tenant, true) },
		"collect": func() error { return store.CollectOrphans(f.store, ctx, f.User.Tenant) },
		"sweep": func() error {
			_, err := f.store.Sweep(ctx, f.User.Tenant)
			return err
		},
	}
	for {
		select {
		case <-settled:
			return
		case <-time.After(f.CleanEvery):
		}
		for _, kind := range []string{"sweep", "pack", "collect"} {
			if err := jobs[kind](); err != nil {
				f.note(event{Kind: kind, Err: err.Error()})
				return
			}
		}
	}
}

// worker is one client after another, with a session in several mailboxes.
type worker struct {
	*frontEnd
	number   int
	rnd      *rand.Rand
	boxes    []*store.Mailbox
	sessions []*historySession
	past     []snapshot
	scratch  map[string]*store.Mailbox // those that are deleted and made again, as they were opened
	gone     map[int][]id.UID          // the last that it has removed from each mailbox
	tags     int64
	failed   bool
}

// historySession is a client that knows nothing but the updates.
type historySession struct {
	box      int
	told     view.Told
	uids     []id.UID
	messages messageSet
}

// snapshot is what a client remembers of a mailbox when it goes, for QRESYNC.
type snapshot struct {
	box      int
	covered  id.ModSeq
	messages messageSet
}

func (w *worker) open(ctx context.Context) error {
	for _, name := range w.Mailboxes {
		m, err := w.frontEnd.store.Open(ctx, w.User, name, acl.Read)
		if err != nil {
			return err
		}
		w.boxes = append(w.boxes, m)
	}
	for range 4 {
		w.sessions = append(w.sessions, &historySession{box: w.randomBox(), messages: newMessageSet()})
	}
	return nil
}

// randomBox prefers a few mailboxes, where all meet.
func (w *worker) randomBox() int {
	if w.rnd.IntN(2) == 0 {
		return w.rnd.IntN(3)
	}
	return w.rnd.IntN(len(w.Mailboxes))
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // a clock that every Linux has
	}
	return ts.Nano()
}

// do runs an operation and notes it. An error of the operation is a find.
func (w *worker) do(e event, operation func(e *event) error) bool {
	e.Worker = w.number
	e.Start = monotonic()
	err := operation(&e)
	e.End = monotonic()
	if err != nil {
		e.Err = err.Error()
		w.failed = true
	}
	w.note(e)
	return err == nil
}

// step does one operation, and reports whether the worker goes on.
func (w *worker) step(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, w.Patience) // of those who wait for each other for good, too
	defer cancel()
	s := w.sessions[w.rnd.IntN(len(w.sessions))]
	switch n := w.rnd.IntN(100); {
	case n < 25 || len(s.uids) == 0:
		w.append(ctx, s.box)
	case n < 43:
		w.flags(ctx, s, false)
	case n < 55:
		w.flags(ctx, s, true)
	case n < 63:
		w.expunge(ctx, s)
	case n < 73:
		w.transfer(ctx, s, true)
	case n < 79:
		w.transfer(ctx, s, false)
	case n < 81:
		w.do(event{Kind: "fold", Box: s.box}, func(*event) error { return w.boxes[s.box].Fold(ctx) })
	case n < 84:
		w.recent(ctx, s.box)
	case n < 85:
		w.recreate(ctx)
	case n < 88:
		w.look(ctx)
	case n < 93 && len(w.past) > 0:
		w.resync(ctx, w.past[w.rnd.IntN(len(w.past))])
	case n < 95: // another client, in another mailbox
		*s = historySession{box: w.randomBox(), messages: newMessageSet()}
	case n < 98:
		w.replace(ctx, s)
	default:
		w.undelete(ctx, s.box)
	}
	for w.rnd.IntN(2) == 0 && !w.failed { // also again and again, so that mailboxes are read from memory
		w.sync(ctx, s, w.rnd.IntN(2) == 0)
	}
	return !w.failed
}

// historyTexts returns what a message can be: text of its own, or text that others have sent, too.
func historyTexts(tag int64) []string {
	var texts []string
	for _, about := range []int64{tag, tag % 100} {
		texts = append(texts, fmt.Sprintf("Subject: message %d\r\n\r\nThis is message %d.\r\n", about, about))
	}
	return texts
}

var historyKeywords = []string{"$Work", "$Junk", "$NotJunk", "later", "Red", "blue", "$MDNSent", "$Forwarded"}

func (w *worker) randomFlags() view.Flags { return view.Flags(w.rnd.IntN(32)) }

func (w *worker) randomKeywords() []string {
	var names []string
	for range max(0, w.rnd.IntN(4)-1) {
		name := historyKeywords[w.rnd.IntN(len(historyKeywords))]
		if w.rnd.IntN(4) == 0 {
			name = strings.ToUpper(name) // the same keyword
		}
		names = append(names, name)
	}
	return names
}

// randomUIDs chooses among the messages that the client counts.
func (w *worker) randomUIDs(s *historySession) view.UIDSet {
	if w.rnd.IntN(15) == 0 {
		return view.UIDSetOf(view.Range{First: s.uids[0], Last: s.uids[len(s.uids)-1] + 5})
	}
	first := w.rnd.IntN(len(s.uids))
	uids := slices.Clone(s.uids[first:min(len(s.uids), first+1+w.rnd.IntN(4))])
	for range w.rnd.IntN(3) {
		uids = append(uids, s.uids[w.rnd.IntN(len(s.uids))])
	}
	return view.NewUIDSet(uids...)
}

func (w *worker) append(ctx context.Context, box int) {
	w.do(event{Kind: "append", Box: box}, func(e *event) error {
		var incoming []store.Incoming
		for range 1 + max(0, w.rnd.IntN(8)-5) {
			in, err := w.compose(ctx, e)
			if err != nil {
				return err
			}
			defer in.Content.Close()
			incoming = append(incoming, in)
		}
		a, err := w.boxes[box].Append(ctx, incoming...)
		e.ModSeq, e.UIDs = a.ModSeq, a.UIDs.Ranges()
		return err
	})
}

// compose makes a message.
func (w *worker) compose(ctx context.Context, e *event) (store.Incoming, error) {
	w.tags++
	tag := 1_000_000_000 + int64(w.FrontEnd*w.Workers+w.number)*10_000_000 + w.tags
	texts := historyTexts(tag)
	text := texts[0]
	if w.rnd.IntN(4) == 0 {
		text = texts[1]
	}
	content, err := w.frontEnd.store.Receive(ctx, w.User.Tenant, strings.NewReader(text))
	if err != nil {
		return store.Incoming{}, err
	}
	m := newMessage{Tag: tag, Size: int64(len(text)), Flags: w.randomFlags() &^ view.Deleted}
	if w.rnd.IntN(4) == 0 {
		m.Keywords = w.randomKeywords()
	}
	e.Messages = append(e.Messages, m)
	return store.Incoming{Content: content, Flags: m.Flags, Keywords: m.Keywords, InternalDate: time.Unix(tag, 0).UTC()}, nil
}

// replace replaces a message, in its mailbox or by one in another.
func (w *worker) replace(ctx context.Context, s *historySession) {
	uid := s.uids[w.rnd.IntN(len(s.uids))]
	w.do(event{Kind: "replace", Box: s.box, To: w.randomBox(), FromUID: []id.UID{uid}}, func(e *event) error {
		in, err := w.compose(ctx, e)
		if err != nil {
			return err
		}
		defer in.Content.Close()
		a, err := w.boxes[s.box].Replace(ctx, uid, w.boxes[e.To], in)
		if errors.Is(err, store.ErrExpunged) {
			return w.expunged(ctx, s.box, uid)
		}
		e.ModSeq, e.Seen, e.ToUID = a.ModSeq, a.Replaced, slices.Collect(a.UIDs.All())
		w.removed(s.box, uid)
		return err
	})
}

// expunged checks that a message that is said to be gone is so.
func (w *worker) expunged(ctx context.Context, box int, uid id.UID) error {
	v, err := w.boxes[box].View(ctx)
	if err != nil {
		return err
	}
	if _, there := v.Find(uid); there {
		return fmt.Errorf("UID %d is said to be gone, and is there", uid)
	}
	return nil
}

// removed remembers what this worker has removed from a mailbox.
func (w *worker) removed(box int, uids ...id.UID) {
	all := append(w.gone[box], uids...)
	w.gone[box] = all[max(0, len(all)-20):]
}

// undelete brings messages back: some that were removed, or now and then all that are nowhere any more.
func (w *worker) undelete(ctx context.Context, box int) {
	var which store.Undelete
	e := event{Kind: "undelete", Box: box}
	if w.rnd.IntN(10) > 0 {
		uids := view.NewUIDSet()
		for _, uid := range w.gone[box] {
			if w.rnd.IntN(3) == 0 {
				uids = uids.Union(view.NewUIDSet(uid))
			}
		}
		if uids.Empty() {
			return
		}
		which.UIDs, e.UIDs = &uids, uids.Ranges()
	}
	for range 1 + w.rnd.IntN(2) { // once more, they are there already
		w.do(e, func(e *event) error {
			back, err := w.boxes[box].Undelete(ctx, which)
			e.ModSeq, e.FromUID, e.ToUID, e.All = back.ModSeq, back.From, back.To, which.UIDs == nil
			return err
		})
	}
}

func (w *worker) flags(ctx context.Context, s *historySession, conditional bool) {
	uids := w.randomUIDs(s)
	e := event{Kind: "flags", Box: s.box, UIDs: uids.Ranges(), UnchangedSince: -1}
	e.Mode = view.Mode(w.rnd.IntN(3))
	e.Flags = 1 << w.rnd.IntN(5)
	if w.rnd.IntN(3) == 0 {
		e.Keywords = w.randomKeywords()
	}
	if conditional {
		e.UnchangedSince = max(0, s.told.ModSeq-id.ModSeq(w.rnd.IntN(4)))
	}
	w.do(e, func(e *event) error {
		r, err := w.boxes[s.box].SetFlags(ctx, store.FlagChange{
			UIDs: uids, Mode: e.Mode, Flags: e.Flags, Keywords: e.Keywords, UnchangedSince: e.UnchangedSince,
		})
		if err != nil {
			return err
		}
		e.ModSeq, e.Seen = r.ModSeq, r.View.ModSeq()
		e.Changed, e.Modified = r.Changed.Ranges(), r.Modified.Ranges()
		return nil
	})
}

func (w *worker) expunge(ctx context.Context, s *historySession) {
	var within *view.UIDSet
	e := event{Kind: "expunge", Box: s.box, All: true}
	if w.rnd.IntN(2) == 0 {
		uids := w.randomUIDs(s)
		within = &uids
		e.All, e.UIDs = false, uids.Ranges()
	}
	w.do(e, func(e *event) error {
		v, gone, err := w.boxes[s.box].Expunge(ctx, within)
		if err != nil {
			return err
		}
		e.Seen, e.Gone = v.ModSeq(), gone.Ranges()
		if !gone.Empty() {
			e.ModSeq = v.ModSeq()
			w.removed(s.box, slices.Collect(gone.All())...)
		}
		return nil
	})
}

// maxTransfer is how many messages one COPY or MOVE takes at most: without it
// mailboxes double again and again in a long history, up to a million messages.
const maxTransfer = 100

func (w *worker) transfer(ctx context.Context, s *historySession, move bool) {
	uids := w.randomUIDs(s)
	if uids.Len() > maxTransfer {
		first := w.rnd.IntN(len(s.uids))
		uids = view.NewUIDSet(s.uids[first:min(len(s.uids), first+maxTransfer)]...)
	}
	e := event{Kind: "copy", Box: s.box, To: w.randomBox(), UIDs: uids.Ranges()}
	transfer := w.boxes[e.Box].Copy
	if move {
		e.Kind, transfer = "move", w.boxes[e.Box].Move
	}
	w.do(e, func(e *event) error {
		c, err := transfer(ctx, uids, w.boxes[e.To])
		if err != nil {
			return err
		}
		e.ModSeq, e.FromUID, e.ToUID = c.ModSeq, c.From, c.To
		e.Seen = c.SourceView.ModSeq()
		if move {
			w.removed(s.box, c.From...)
		}
		return nil
	})
}

func (w *worker) recent(ctx context.Context, box int) {
	w.do(event{Kind: "recent", Box: box}, func(e *event) error {
		v, err := w.boxes[box].View(ctx)
		if err != nil {
			return err
		}
		e.UIDNext = v.UIDNext()
		if w.rnd.IntN(3) == 0 { // EXAMINE, of which nothing is seen later
			_, err = w.boxes[box].ClaimRecent(ctx, e.UIDNext, true)
			e.First = e.UIDNext
			return err
		}
		e.First, err = w.boxes[box].ClaimRecent(ctx, e.UIDNext, false)
		return err
	})
}

// recreate deletes a mailbox and makes it again.
func (w *worker) recreate(ctx context.Context) {
	name := w.randomScratch()
	w.do(event{Kind: "delete", Name: name}, func(*event) error {
		err := w.frontEnd.store.Delete(ctx, w.User, name)
		if errors.Is(err, store.ErrNotExist) {
			return nil
		}
		return err
	})
	w.do(event{Kind: "create", Name: name}, func(e *event) error {
		m, err := w.frontEnd.store.Create(ctx, w.User, name, nil)
		if errors.Is(err, store.ErrExists) {
			return nil // another worker was faster
		}
		if err != nil {
			return err
		}
		e.UIDValidity = m.UIDValidity
		return nil
	})
}

func (w *worker) randomScratch() string { return fmt.Sprintf("scratch%d", w.rnd.IntN(3)) }

// look looks into a mailbox that was opened before, and may be gone since.
func (w *worker) look(ctx context.Context) {
	name := w.randomScratch()
	w.do(event{Kind: "look", Name: name}, func(e *event) (err error) {
		m := w.scratch[name]
		if m == nil {
			if m, err = w.frontEnd.store.Open(ctx, w.User, name, acl.Read); errors.Is(err, store.ErrNotExist) {
				return nil
			} else if err != nil {
				return err
			}
			w.scratch[name] = m
		}
		if _, err = m.View(ctx); errors.Is(err, store.ErrNotExist) {
			delete(w.scratch, name)
			return nil
		}
		e.UIDValidity = m.UIDValidity
		return err
	})
}

// sync tells a session what it is owed, and notes what it shows then.
func (w *worker) sync(ctx context.Context, s *historySession, expunges bool) {
	w.do(event{Kind: "view", Box: s.box}, func(e *event) error {
		v, err := w.view(ctx, s.box)
		if err != nil {
			return err
		}
		var updates []view.Update
		updates, s.told = view.Diff(s.told, v, expunges)
		show := shower(v)
		for _, u := range updates {
			if err := s.update(u, v, show, expunges); err != nil {
				return err
			}
		}
		withheld := view.NewUIDSet(s.uids...).Minus(v.UIDs())
		if expunges && !withheld.Empty() {
			return fmt.Errorf("messages %s are gone, but not for the client", withheld)
		}
		e.ModSeq, e.Covered, e.Withheld = v.ModSeq(), s.told.Covered, withheld.Ranges()
		e.Counts, e.UIDNext = v.Counts(), v.UIDNext()
		e.Digest = s.messages.digest(withheld)
		if w.rnd.IntN(8) == 0 {
			w.remember(snapshot{s.box, s.told.Covered, s.messages.clone()})
		}
		return nil
	})
}

// view reads a mailbox as one that is selected is read, or as SELECT does.
func (w *worker) view(ctx context.Context, box int) (*view.View, error) {
	if w.rnd.IntN(2) == 0 {
		return w.boxes[box].View(ctx)
	}
	selected, err := w.frontEnd.store.Select(ctx, w.User, w.Mailboxes[box], acl.Read)
	return selected.View, err
}

// update does what a client does.
func (s *historySession) update(u view.Update, v *view.View, show func(view.Message) shown, expunges bool) error {
	switch u := u.(type) {
	case view.Expunged:
		if !expunges {
			return errors.New("EXPUNGE where none may be sent")
		}
		for _, n := range u.Numbers {
			if n < 1 || int(n) > len(s.uids) || !u.UIDs.Contains(s.uids[n-1]) {
				return fmt.Errorf("EXPUNGE %d, of %d messages", n, len(s.uids))
			}
			s.messages.remove(s.uids[n-1])
			s.uids = slices.Delete(s.uids, int(n-1), int(n))
		}
	case view.Exists:
		for uid := range u.New.All() {
			s.uids = append(s.uids, uid)
		}
		for m := range v.In(u.New) {
			s.messages.put(m.UID, show(m))
		}
		if int(u.Messages) != len(s.uids) {
			return fmt.Errorf("EXISTS %d, but the client counts %d", u.Messages, len(s.uids))
		}
	case view.Changed:
		if n := int(u.Number); n < 1 || n > len(s.uids) || s.uids[n-1] != u.Message.UID {
			return fmt.Errorf("FETCH %d for UID %d is of another message", n, u.Message.UID)
		}
		s.messages.put(u.Message.UID, show(u.Message))
	}
	return nil
}

// remember keeps some old states.
func (w *worker) remember(s snapshot) {
	if len(w.past) < 12 {
		w.past = append(w.past, s)
	} else {
		w.past[w.rnd.IntN(len(w.past))] = s
	}
}

// resync brings an old state up to date as QRESYNC does (RFC 7162 section
// 3.2.5), and notes what it has become.
func (w *worker) resync(ctx context.Context, old snapshot) {
	w.do(event{Kind: "view", Box: old.box, Since: old.covered}, func(e *event) error {
		v, err := w.boxes[old.box].View(ctx)
		if err != nil {
			return err
		}
		vanished, err := w.boxes[old.box].Vanished(ctx, old.covered, nil)
		if err != nil {
			return err
		}
		messages, show := old.messages.clone(), shower(v)
		for uid := range vanished.Minus(v.UIDs()).All() {
			messages.remove(uid)
		}
		for m := range v.ChangedSince(old.covered) {
			messages.put(m.UID, show(m))
		}
		e.ModSeq, e.Covered = v.ModSeq(), v.ModSeq()
		e.Counts, e.UIDNext = v.Counts(), v.UIDNext()
		e.Digest = messages.digest(view.UIDSet{})
		return nil
	})
}

// foldKeywords returns a set of keywords as text.
func foldKeywords(names []string) string {
	folded := make([]string, 0, len(names))
	for _, name := range names {
		folded = append(folded, strings.ToLower(name))
	}
	slices.Sort(folded)
	return strings.Join(slices.Compact(folded), " ")
}
