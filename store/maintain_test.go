package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/blob/blobtest"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
)

// eventually waits for what another goroutine is to bring about.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 1000 {
		if f() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s: not within 20 s", what)
}

// Two processes do maintenance while the object store goes away and comes back.
func TestMaintain(t *testing.T) {
	c := storetest.Config(t)
	var bucket blobtest.Memory
	quick := func(o *store.Options) {
		o.Bucket, o.PackAge, o.OrphanGrace = &bucket, time.Nanosecond, time.Nanosecond
		o.PackInterval, o.TidyInterval, o.SweepInterval = 20*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
		o.FoldMin = 200
	}
	p := &packed{t: t, Store: storetest.Open(t, c, quick), cluster: c, bucket: &bucket}
	other := storetest.Open(t, c, quick)
	p.user = storetest.Account(t, p.Store, "a@one.test")
	p.mailbox = open(t, p.Store, p.user, "INBOX")

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for _, s := range []*store.Store{p.Store, other} {
		go func() { ended <- s.Maintain(ctx) }()
	}
	texts := p.deliver(20)
	eventually(t, "staging runs empty", func() bool { return p.staged().Messages == 0 })

	bucket.SetAway(true)
	texts = append(texts, p.deliver(20)...)
	eventually(t, "a job fails", func() bool { return p.Chores()["pack"].Failures+other.Chores()["pack"].Failures > 0 })
	bucket.SetAway(false)
	eventually(t, "staging runs empty again", func() bool { return p.staged().Messages == 0 })
	eventually(t, "intents are collected", func() bool { return p.rows("object_intent") == 0 && len(p.objects()) == p.rows("object") })
	stop()
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("Maintain: %v", err)
		}
	}
	p.readable(texts, true)
	if findings := p.fsck(); len(findings) > 0 {
		t.Errorf("found: %v", findings)
	}
}

// A lease that was taken by a clock that went ahead keeps nobody waiting; one that lasts does.
func TestLeaseOfAWrongClock(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	free := func() bool {
		t.Helper()
		ran, err := s.UnderLease(t.Context(), "job", func(context.Context, func(id.Tenant) error) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		return ran
	}
	free()
	for until, want := range map[string]bool{"20 seconds": false, "1 year": true} {
		err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `UPDATE lease SET expires_at = clock_timestamp() + $1::text::interval WHERE name = 'job'`, until)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := free(); got != want {
			t.Errorf("another's lease for %s is taken: %v, want %v", until, got, want)
		}
	}
}

// A job ends when its lease cannot be renewed: another may have it by then.
func TestLeaseLost(t *testing.T) {
	defer store.SetLeaseTime(200 * time.Millisecond)()
	c := storetest.Config(t)
	one, two := storetest.Open(t, c), storetest.Open(t, c)
	u := storetest.Account(t, one, "a@one.test")
	ran, err := one.UnderLease(t.Context(), "job", func(ctx context.Context, _ func(id.Tenant) error) error {
		steal := func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE lease SET epoch = epoch + 1 WHERE name = 'job'`)
			return err
		}
		if err := two.Transact(ctx, u.Tenant, steal); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if !ran || err == nil {
		t.Errorf("a job whose lease was taken: %v, %v", ran, err)
	}
}
