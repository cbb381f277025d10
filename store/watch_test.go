package store_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// hinted waits for a hint of a change that has been made.
func hinted(t testing.TB, c <-chan id.ModSeq) id.ModSeq {
	t.Helper()
	select {
	case at := <-c:
		return at
	case <-time.After(10 * time.Second):
		t.Fatal("no hint of a change")
	}
	return 0
}

// settled takes hints until the watcher has been woken for what was before it.
func settled(c <-chan id.ModSeq) {
	for {
		select {
		case <-c:
		case <-time.After(300 * time.Millisecond):
			return
		}
	}
}

func TestWatch(t *testing.T) {
	stores, u := frontEnds(t, 2)
	here, there := open(t, stores[0], u, "INBOX"), open(t, stores[1], u, "INBOX")
	a, endA := here.Watch()
	b, endB := there.Watch()
	defer endA()
	hinted(t, b) // the first look after LISTEN
	settled(b)
	settled(a)

	start := time.Now()
	viewOf(t, here)
	add(t, here, 1, 0)
	if at := hinted(t, a); at == 0 || here.ViewAt(at) == nil || here.ViewAt(at).Len() != 1 {
		t.Errorf("hint of MODSEQ %d, which is not known where it was made", at)
	}
	if at := hinted(t, b); at != 0 {
		t.Errorf("hint of MODSEQ %d, of which nothing is known here", at)
	}
	t.Logf("hint after %v", time.Since(start))
	if viewOf(t, there).Len() != 1 {
		t.Error("hinted, but nothing there")
	}
	settled(a)
	flag(t, there, set(1), view.Add, view.Seen)
	if at := hinted(t, a); at != 0 {
		t.Errorf("hint of MODSEQ %d for what was done elsewhere", at)
	}
	flag(t, there, set(1), view.Add, view.Seen) // changes nothing
	settled(b)
	select {
	case <-b:
		t.Error("a hint of nothing")
	default:
	}
	endB()
	add(t, here, 2, 0)
	settled(a)
	select {
	case <-b:
		t.Error("a hint after the end")
	default:
	}
	if err := stores[0].Delete(t.Context(), u, "Trash"); err != nil {
		t.Error(err)
	}
}

// A listener that was cut off hears again, and looks for what it has missed.
func TestWatchReconnects(t *testing.T) {
	c := storetest.Config(t)
	s, other := storetest.Open(t, c), storetest.Open(t, c)
	u := storetest.Account(t, s, "a@one.test")
	hints, end := open(t, s, u, "INBOX").Watch()
	defer end()
	hinted(t, hints)
	settled(hints)

	super, err := pgx.Connect(t.Context(), c.SuperDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(t.Context())
	var n int
	err = super.QueryRow(t.Context(), `
		SELECT count(pg_terminate_backend(pid))
		FROM pg_stat_activity
		WHERE datname = current_database() AND query LIKE 'LISTEN %'`).Scan(&n)
	if err != nil || n != 1 {
		t.Fatalf("%d listeners ended, %v", n, err)
	}
	add(t, open(t, other, u, "INBOX"), 1, 0)
	hinted(t, hints)
	settled(hints)
	add(t, open(t, other, u, "INBOX"), 2, 0)
	hinted(t, hints)
}

// Many watchers cost nothing but themselves, and end with the store.
func TestWatchEndsWithTheStore(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	for range 100 {
		_, end := m.Watch()
		defer end()
	}
	add(t, m, 1, 0) // and the store is closed under them when the test ends
}
