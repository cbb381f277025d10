package store_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// What fails comes again within ten minutes, whatever its interval, and what is another's is neither done nor failed.
func TestChores(t *testing.T) {
	away := errors.New("away")
	for _, of := range []struct {
		every        time.Duration
		err          error
		tries, fails int // within an hour after the first try, that included; at the least
	}{
		{24 * time.Hour, away, 7, 7},
		{10 * time.Minute, away, 7, 7},
		{5 * time.Second, away, 100, 100},
		{10 * time.Minute, store.ErrBusy, 7, 0},
		{10 * time.Minute, nil, 7, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex // guards tries
			var tries []time.Time
			tried := func() []time.Time {
				mu.Lock()
				defer mu.Unlock()
				return slices.Clone(tries)
			}
			chores := store.Repeat(t.Context(), "work", of.every, func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				tries = append(tries, time.Now())
				return of.err
			})
			synctest.Wait()
			if before, known := chores()["work"]; before != (store.Chore{}) || !known {
				t.Errorf("every %v: %v before anything was done", of.every, chores())
			}
			time.Sleep(of.every) // it was begun by then
			synctest.Wait()
			time.Sleep(time.Until(tried()[0].Add(time.Hour + time.Second)))
			synctest.Wait()
			got, n := chores()["work"], len(tried())
			if n < of.tries || got.Failures < int64(of.fails) || of.fails == 0 && got.Failures > 0 || got.Done.IsZero() == (of.err == nil) {
				t.Errorf("every %v, %v: %d tries, %+v", of.every, of.err, n, got)
			}
		})
	}
}

// The bucket is listed once a day, by whichever process: it is done where it was done.
func TestListingIsOfOneProcess(t *testing.T) {
	p := newPacked(t)
	p.do(func() error { return store.SweepOnce(p.Store, t.Context()) })
	if err := store.SweepOnce(p.Store, t.Context()); !errors.Is(err, store.ErrBusy) {
		t.Errorf("the second: %v, want that it is another's", err)
	}
}

// What waits is counted when a tenant is tidied: objects that do not count, and logs that nobody has folded.
func TestBacklog(t *testing.T) {
	p := newPacked(t) // which leaves what it changes to another process to fold
	p.deliver(5)
	died := errors.New("died")
	p.StopAt(store.Steps[0], died)
	if err := store.PackTenant(p.Store, t.Context(), p.user.Tenant, true); !errors.Is(err, died) {
		t.Fatal(err)
	}
	maintenance := storetest.Open(t, p.cluster, func(o *store.Options) { o.FoldMin = 1 })
	p.do(func() error { return store.TidyAll(maintenance, t.Context()) })
	got := maintenance.Backlog()
	if got.Intents != 1 || time.Since(got.Oldest) > time.Minute {
		t.Errorf("%+v, want the object of the pack that died", got)
	}
	if got.Unfolded == 0 {
		t.Errorf("%+v, want the log of what was delivered", got)
	}
	p.execute(`UPDATE object_intent SET created_at = now() - interval '2 days' WHERE tenant_id = $1`, p.user.Tenant)
	p.do(func() error { return store.TidyAll(maintenance, t.Context()) })
	if got := maintenance.Backlog(); got != (store.Backlog{}) {
		t.Errorf("%+v after all was done", got)
	}
}
