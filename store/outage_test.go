package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// Connections break at random moments: what was acknowledged is there once,
// what was refused is not there, and only of the rest is it unknown.
func TestBrokenConnections(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	ctx, cancel := context.WithCancel(t.Context())
	var breaker sync.WaitGroup
	breaker.Go(func() { breakConnections(ctx, t, c.SuperDSN) })

	const clients, each = 4, 25
	start := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	outcome := make(map[time.Time]error)
	refused, unknown := 0, 0
	together(t, clients, func(i int) error {
		for n := range each {
			in := incoming(m, n)
			in.InternalDate = start.Add(time.Duration(i*each+n) * time.Second)
			if n%10 == 0 {
				in.Keywords = []string{fmt.Sprint("k", rand.Uint32())}
			}
			_, err := m.Append(t.Context(), in)
			mu.Lock()
			outcome[in.InternalDate] = err
			mu.Unlock()
			switch {
			case err == nil:
			case errors.Is(err, store.ErrOutcomeUnknown):
				counted(&mu, &unknown)
			case errors.Is(err, store.ErrUnavailable):
				counted(&mu, &refused)
			default:
				return err
			}
			_, err = m.SetFlags(t.Context(), store.FlagChange{UIDs: between(1, 9), Mode: view.Replace, Flags: view.Flags(rand.IntN(32)), UnchangedSince: -1})
			if err != nil && !errors.Is(err, store.ErrOutcomeUnknown) && !errors.Is(err, store.ErrUnavailable) {
				return err
			}
		}
		return nil
	})
	cancel()
	breaker.Wait()
	t.Logf("%d refused, %d unknown of %d", refused, unknown, len(outcome))

	v := retried(t, m)
	there := make(map[time.Time]int)
	for msg := range v.All() {
		there[msg.InternalDate.UTC()]++
	}
	for date, err := range outcome {
		n := there[date]
		if err == nil && n != 1 || errors.Is(err, store.ErrUnavailable) && n != 0 || n > 1 {
			t.Errorf("there %d times: %v", n, err)
		}
	}
	checkAccount(t, s, u)
}

// breakConnections ends some of the serving role's connections every few milliseconds.
func breakConnections(ctx context.Context, t *testing.T, dsn string) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		_, err := conn.Exec(ctx, `
			SELECT pg_terminate_backend(pid)
			FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle' AND random() < 0.3`)
		if err != nil && ctx.Err() == nil {
			t.Error(err)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20*time.Millisecond + rand.N(100*time.Millisecond)):
		}
	}
}

// retried reads the view once the connections last again.
func retried(t *testing.T, m *store.Mailbox) *view.View {
	for {
		v, err := m.View(t.Context())
		if err == nil {
			return v
		}
		if !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

// While the database is away everything says so, and goes on by itself once it is back.
func TestDatabaseAway(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 2)
	c.SetAway(t, true)
	for name, do := range map[string]func() error{
		"view":   func() error { _, err := m.View(t.Context()); return err },
		"open":   func() error { _, err := s.Open(t.Context(), u, "Sent", 0); return err },
		"list":   func() error { _, err := s.List(t.Context(), u); return err },
		"create": func() error { _, err := s.Create(t.Context(), u, "x", nil); return err },
		"append": func() error { _, err := m.Append(t.Context(), incoming(m, 1)); return err },
		"flags": func() error {
			_, err := m.SetFlags(t.Context(), store.FlagChange{UIDs: set(1), Flags: view.Seen, UnchangedSince: -1})
			return err
		},
		"expunge": func() error { _, _, err := m.Expunge(t.Context(), nil); return err },
	} {
		var err error
		for range 20 { // connections that were open may break one by one
			if err = do(); !errors.Is(err, store.ErrOutcomeUnknown) {
				break
			}
		}
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.SetAway(t, false)
	add(t, m, 3, 0)
	checkAccount(t, s, u)
}

// Who gives up waiting does not keep the mailbox from others.
func TestCancelled(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 1)
	together(t, 8, func(i int) error {
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), rand.N(3*time.Millisecond))
			_, err := m.Append(ctx, incoming(m, i))
			if err == nil {
				_, err = m.SetFlags(ctx, store.FlagChange{UIDs: set(1), Mode: view.Replace, Flags: view.Flags(rand.IntN(32)), UnchangedSince: -1})
			}
			cancel()
			if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, store.ErrOutcomeUnknown) && !errors.Is(err, store.ErrUnavailable) {
				return err
			}
		}
		return nil
	})
	add(t, m, 3, 0)
	checkAccount(t, s, u)
}

func counted(mu *sync.Mutex, n *int) {
	mu.Lock()
	defer mu.Unlock()
	*n++
}
