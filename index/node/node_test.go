package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"mailstead.dev/acl"
	"mailstead.dev/index"
	"mailstead.dev/index/remote"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// running is a node at work on an account.
type running struct {
	*testing.T
	store *store.Store
	user  store.User
	inbox *store.Mailbox
	dir   string
	at    string // the node's address
	node  *Node
	stop  func()
	n     int // messages
}

func run(t *testing.T) *running {
	s := storetest.New(t)
	r := &running{T: t, store: s, user: storetest.Account(t, s, "ann@one.test"), dir: t.TempDir()}
	inbox, err := s.Open(t.Context(), r.user, "INBOX", acl.All)
	if err != nil {
		t.Fatal(err)
	}
	r.inbox = inbox
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *running) start() { r.startWith(Options{}) }

func (r *running) startWith(o Options) {
	r.Helper()
	o.Dir, o.Address, o.Messages, o.Every = r.dir, r.at, 5, 20*time.Millisecond
	if o.Source == nil {
		o.Source = r.store
	}
	n, err := New(o)
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() {
		if err := n.Run(ctx); err != nil {
			r.Error(err)
		}
	})
	r.node = n
	r.stop = sync.OnceFunc(func() { cancel(); working.Wait() })
}

// deliver appends messages; the texts of each have its number.
func (r *running) deliver(n int) {
	r.Helper()
	for range n {
		r.append(fmt.Sprintf("Subject: number%d\r\n\r\nThe body of message%d, and of all.\r\n", r.n+1, r.n+1))
	}
}

func (r *running) append(text string) {
	r.Helper()
	r.n++
	c, err := r.store.Receive(r.Context(), r.user.Tenant, strings.NewReader(text))
	if err == nil {
		_, err = r.inbox.Append(r.Context(), store.Incoming{Content: c})
		c.Close()
	}
	if err != nil {
		r.Fatal(err)
	}
}

// await waits for what comes soon.
func (r *running) await(what string, is func() bool) {
	r.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("waited in vain: %s", what)
		}
	}
}

func (r *running) status() store.IndexStatus {
	r.Helper()
	st, err := r.store.IndexStatus(r.Context(), r.user.Tenant, r.user.Account)
	if err != nil {
		r.Fatal(err)
	}
	return st
}

// whole waits until the index has all that was delivered, and so many emails.
func (r *running) whole(emails int) {
	r.Helper()
	r.await("the index has all", func() bool {
		st := r.status()
		return int(st.UpTo) == r.n && int(st.Emails) == emails && st.Node == r.node.Name() && st.Alive
	})
}

// madeAnew waits until searches have an index with so many emails, for which the node has indexed so many since it was started.
func (r *running) madeAnew(emails, indexed int) {
	r.Helper()
	r.await("the index is made anew", func() bool {
		found, err := r.find(r.node, "message7")
		return err == nil && found.Contains(7) && r.node.Counted().Emails == int64(indexed)
	})
	r.whole(emails)
}

// loseFolder takes away all that the node has of the tenant, at once: it may be writing there.
func (r *running) loseFolder() {
	r.Helper()
	if err := os.Rename(filepath.Join(r.dir, fmt.Sprint(r.user.Tenant)), filepath.Join(r.TempDir(), "lost")); err != nil {
		r.Fatal(err)
	}
}

type searcher interface {
	Search(ctx context.Context, t id.Tenant, account id.Account, queries []index.Query) (index.Result, error)
	Verify(ctx context.Context, t id.Tenant, account id.Account, queries []index.Query, emails *roaring.Bitmap, yield func(email id.Email, found, settled []bool) bool) error
}

// find returns which emails have a text in their body.
func (r *running) find(in searcher, text string) (*roaring.Bitmap, error) {
	queries := []index.Query{{In: index.Body, Text: text}}
	result, err := in.Search(r.Context(), r.user.Tenant, r.user.Account, queries)
	if err != nil {
		return nil, err
	}
	found := result.Answers[0].Matches
	err = in.Verify(r.Context(), r.user.Tenant, r.user.Account, queries, result.Answers[0].Maybe, func(email id.Email, matches, settled []bool) bool {
		if matches[0] && settled[0] {
			found.Add(uint32(email))
		}
		return true
	})
	return found, err
}

func (r *running) finds(in searcher, text string, want ...uint32) {
	r.Helper()
	found, err := r.find(in, text)
	if err != nil || !found.Equals(roaring.BitmapOf(want...)) {
		r.Errorf("%q is found in %v, %v; want %v", text, found, err, want)
	}
}

func TestFollows(t *testing.T) {
	r := run(t)
	r.deliver(4)
	if _, err := r.find(r.node, "body"); !errors.Is(err, index.ErrNone) {
		t.Errorf("an account with few messages is searched: %v", err)
	}
	r.deliver(6)
	r.whole(10)
	r.finds(r.node, "essage7", 7)
	r.finds(r.node, "message1", 1, 10)
	r.finds(r.node, "message3, and", 3)
	r.finds(r.node, "nothing")
	r.deliver(3)
	r.whole(13)
	r.finds(r.node, "message1", 1, 10, 11, 12, 13)

	r.stop()
	r.deliver(1)
	r.start()
	r.whole(14)
	r.finds(r.node, "message14", 14)
	if c := r.node.Counted(); c.Emails != 1 || c.Open != 1 || c.Failures != 0 {
		t.Errorf("after the restart %+v; want one email indexed", c)
	}
}

// What is expunged and gone is taken from the index as well.
func TestReconciles(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c, func(o *store.Options) { o.Retention, o.OrphanGrace = time.Nanosecond, time.Nanosecond })
	r := &running{T: t, store: s, user: storetest.Account(t, s, "ann@one.test"), dir: t.TempDir()}
	var err error
	if r.inbox, err = s.Open(t.Context(), r.user, "INBOX", acl.All); err != nil {
		t.Fatal(err)
	}
	r.start()
	defer func() { r.stop() }()
	r.deliver(10)
	r.whole(10)
	gone := view.NewUIDSet(2, 3)
	if _, err := r.inbox.SetFlags(t.Context(), store.FlagChange{UIDs: gone, Mode: view.Add, Flags: view.Deleted, UnchangedSince: -1}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.inbox.Expunge(t.Context(), &gone); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sweep(t.Context(), r.user.Tenant); err != nil {
		t.Fatal(err)
	}
	k := key{r.user.Tenant, r.user.Account}
	mark := filepath.Join(r.node.path(k), reconciledFile)
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
	r.await("it is reconciled", func() bool {
		if _, err := r.node.follow(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(mark)
		return err == nil
	})
	r.whole(8)
	r.finds(r.node, "message2")
	for _, text := range []string{"message2", "message3"} {
		// Nor is its text kept, however few there are.
		queries := []index.Query{{In: index.Body, Text: text}}
		err := r.node.Verify(t.Context(), r.user.Tenant, r.user.Account, queries, roaring.BitmapOf(2, 3), func(email id.Email, found, settled []bool) bool {
			if found[0] || settled[0] {
				t.Errorf("the text of email %d is there still", email)
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// An index that is damaged, or not there any more, is made anew.
func TestDamaged(t *testing.T) {
	r := run(t)
	r.deliver(10)
	r.whole(10)
	r.stop()
	segments, err := filepath.Glob(filepath.Join(r.dir, "*", "*", "*", "store", "*.zap"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments: %v, %v", segments, err)
	}
	for _, path := range segments {
		if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	r.madeAnew(10, 10)
	// Also where bleve has not yet dropped what it kept of the empty index, and opens that, which has no files to be damaged.
	if c := r.node.Counted(); c.Rebuilt != 1 {
		t.Errorf("made anew %d times, want once", c.Rebuilt)
	}

	r.loseFolder()
	r.stop()
	r.start()
	r.madeAnew(10, 10)

	r.loseFolder() // while it runs
	r.deliver(1)
	r.madeAnew(11, 10+11)
	r.finds(r.node, "message11", 11)
}

// An index is compared with what the database knows of it while both change, and never taken for one that lacks something.
func TestKnownWhileItChanges(t *testing.T) {
	r := run(t)
	r.deliver(10)
	r.whole(10)
	x, err := r.node.use(t.Context(), key{r.user.Tenant, r.user.Account}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.node.unuse(x, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if err := r.node.known(t.Context(), x); err != nil {
				t.Errorf("an index that grows: %v", err)
			}
			if st := r.status(); t.Failed() || st.UpTo == 60 {
				return
			}
		}
	}()
	r.deliver(50)
	<-done
	r.whole(60)
}

// What turns out to be damaged while it is used is made anew as well, and so is what was interrupted at its beginning.
func TestDamagedInUse(t *testing.T) {
	r := run(t)
	r.deliver(10)
	r.whole(10)
	k := key{r.user.Tenant, r.user.Account}
	x, err := r.node.use(t.Context(), k, false)
	if err != nil {
		t.Fatal(err)
	}
	r.node.unuse(x, index.ErrDamaged)
	r.madeAnew(10, 10+10)
	r.stop()
	if err := os.RemoveAll(r.node.path(k)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(r.node.path(k), "1", "store"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.madeAnew(10, 10)
}

func TestAsked(t *testing.T) {
	r := run(t)
	if err := r.store.AskIndex(t.Context(), r.user.Tenant, r.user.Account, store.AskVerify); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("asked where there is no index: %v", err)
	}
	r.deliver(10)
	r.whole(10)
	for asked, want := range map[string]string{store.AskVerify: "well: 10 emails", store.AskRebuild: "made anew: 10 emails"} {
		if err := r.store.AskIndex(t.Context(), r.user.Tenant, r.user.Account, asked); err != nil {
			t.Fatal(err)
		}
		r.await("an answer", func() bool { return r.status().Asked == "" })
		if got := r.status().Answer; got != want {
			t.Errorf("asked to %s: %q, want %q", asked, got, want)
		}
		r.finds(r.node, "message7", 7)
	}
	if all, err := os.ReadDir(r.node.path(key{r.user.Tenant, r.user.Account})); err != nil || len(all) != 3 {
		t.Errorf("left: %v, %v; want one index, the file that names it and when it was reconciled", all, err)
	}
}

// The index of an account that is gone goes as well.
func TestForgets(t *testing.T) {
	r := run(t)
	r.deliver(10)
	r.whole(10)
	if err := r.store.DeleteAccount(t.Context(), r.user); err != nil {
		t.Fatal(err)
	}
	r.await("it is gone", func() bool {
		if err := r.node.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		there, err := r.node.onDisk()
		if err != nil {
			t.Fatal(err)
		}
		return len(there) == 0
	})
	if _, err := r.find(r.node, "message7"); !errors.Is(err, index.ErrNone) {
		t.Errorf("it is searched still: %v", err)
	}
}

// Only so many indexes stay open, and are opened again.
func TestBounded(t *testing.T) {
	r := run(t)
	r.node.o.MaxOpen = 2
	users := []store.User{r.user}
	for i := range 4 {
		users = append(users, storetest.Account(t, r.store, fmt.Sprintf("user%d@one.test", i)))
	}
	for _, u := range users {
		inbox, err := r.store.Open(t.Context(), u, "INBOX", acl.All)
		if err != nil {
			t.Fatal(err)
		}
		r.user, r.inbox, r.n = u, inbox, 0
		r.deliver(6)
		r.whole(6)
	}
	for range 3 {
		var searching sync.WaitGroup
		for _, u := range users {
			searching.Go(func() {
				result, err := r.node.Search(t.Context(), u.Tenant, u.Account, []index.Query{{In: index.Body, Text: "message4"}})
				if err != nil || !result.Answers[0].Matches.Contains(4) {
					t.Errorf("%+v, %v", result, err)
				}
			})
		}
		searching.Wait()
	}
	r.node.trim()
	if open := r.node.Counted().Open; open > 2 {
		t.Errorf("%d indexes are open", open)
	}
}

// Front ends of other processes find the node through the database, and search there.
func TestRemote(t *testing.T) {
	r := run(t)
	r.stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.at = l.Addr().String()
	r.start()
	server := remote.NewServer(r.node, nil)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(l); err != nil {
			t.Error(err)
		}
	})
	connect := func() *remote.Client {
		client, err := remote.NewClient(remote.Options{Directory: r.store})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := client.Close(); err != nil {
				t.Error(err)
			}
		})
		return client
	}
	if _, err := r.find(connect(), "body"); !errors.Is(err, index.ErrNone) {
		t.Errorf("without an index: %v", err)
	}
	r.deliver(10)
	r.whole(10)
	client := connect()
	r.finds(client, "essage7", 7)
	r.finds(client, "message3, and", 3)
	r.finds(client, "message1", 1, 10)
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	serving.Wait()
	if _, err := r.find(client, "message1"); err == nil || errors.Is(err, index.ErrNone) {
		t.Errorf("where the node is away: %v", err)
	}
}

// The accounts of a node that is started again are left to it, and found as they were; those of one that is gone are taken.
func TestTakeover(t *testing.T) {
	r := run(t)
	r.deliver(10)
	r.whole(10)
	first, dir := r.node.Name(), r.dir
	r.stop()

	r.dir = t.TempDir()
	r.startWith(Options{Takeover: time.Hour})
	for range 3 {
		if err := r.node.round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if st := r.status(); st.Node != first || st.UpTo != 10 {
		t.Errorf("another node has the account at once: %+v", st)
	}
	r.stop()

	other := r.dir
	r.dir = dir
	r.start()
	r.deliver(1)
	r.whole(11)
	if c := r.node.Counted(); c.Emails != 1 || c.Rebuilt != 0 {
		t.Errorf("after a restart %+v, want one email indexed", c)
	}
	r.stop()

	r.dir = other
	r.startWith(Options{Takeover: time.Millisecond})
	r.whole(11)
	r.finds(r.node, "message7", 7)
	if c := r.node.Counted(); c.Emails != 11 {
		t.Errorf("taken from one that is gone: %+v, want 11 emails indexed", c)
	}
}

// unreadable is a source that cannot read the mail of some accounts.
type unreadable struct {
	Source
	mu    sync.Mutex
	of    map[id.Account]bool
	asked int
}

func (u *unreadable) EmailsAfter(ctx context.Context, t id.Tenant, account id.Account, after id.Email, most int, yield func(id.Email, *message.Meta, message.Reader) error) (id.Email, error) {
	u.mu.Lock()
	refused := u.of[account]
	if refused {
		u.asked++
	}
	u.mu.Unlock()
	if refused {
		return 0, fmt.Errorf("this test cannot read it: %w", store.ErrUnavailable)
	}
	return u.Source.EmailsAfter(ctx, t, account, after, most, yield)
}

// An account whose work fails is left alone for a while, and tried again.
func TestFailing(t *testing.T) {
	s := storetest.New(t)
	u := &unreadable{Source: s, of: make(map[id.Account]bool)}
	r := &running{T: t, store: s, user: storetest.Account(t, s, "ann@one.test"), dir: t.TempDir()}
	r.openInbox()
	u.of[r.user.Account] = true
	r.startWith(Options{Source: u})
	defer func() { r.stop() }()
	r.deliver(10)
	ann := *r
	r.user, r.n = storetest.Account(t, s, "bob@one.test"), 0
	r.openInbox()
	r.deliver(10)
	r.whole(10) // whatever becomes of the other
	for range 10 {
		if err := r.node.round(t.Context()); err != nil {
			t.Error(err)
		}
	}
	u.mu.Lock()
	asked := u.asked
	u.of = nil
	u.mu.Unlock()
	if asked > 2 { // else it would be tens
		t.Errorf("the account that fails was tried %d times in a moment", asked)
	}
	ann.node, ann.stop = r.node, r.stop
	ann.whole(10)
}
