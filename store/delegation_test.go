package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/deploy/local"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/storetest/testdb"
)

// eager are a front end to which mailboxes are delegated at once, and others on the same database.
func eager(t testing.TB, n int) (*testdb.Cluster, []*store.Store, store.User) {
	t.Helper()
	c := storetest.Config(t)
	var all []*store.Store
	for range n {
		all = append(all, storetest.Open(t, c))
	}
	all[0].DelegateEagerly()
	return c, all, storetest.Account(t, all[0], "a@one.test")
}

// delegate reads a mailbox by its name until that asks the database no more.
func delegate(t testing.TB, s *store.Store, u store.User, name string) *store.Mailbox {
	t.Helper()
	m, err := s.Open(t.Context(), u, name, acl.Read)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		before := s.Delegations().Answered
		viewOf(t, m)
		if _, err := s.Select(t.Context(), u, name, acl.Read); err != nil {
			t.Fatal(err)
		}
		if s.Delegations().Answered == before+2 {
			return m
		}
	}
	t.Fatalf("%s is not read from memory", name)
	return nil
}

// delegates returns what the database says of the mailboxes of all tenants that are delegated.
func delegates(t testing.TB, c *testdb.Cluster) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.SuperDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM mailbox WHERE delegate IS NOT NULL`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// What another front end changes is seen as soon as it is acknowledged, and what is read meanwhile asks nobody.
func TestDelegationRecalled(t *testing.T) {
	_, s, u := eager(t, 2)
	here, there := delegate(t, s[0], u, "INBOX"), open(t, s[1], u, "INBOX")
	before := s[0].Delegations()
	var slowest time.Duration
	for n := range 50 {
		if n%10 == 0 {
			delegate(t, s[0], u, "INBOX")
		}
		start := time.Now()
		add(t, there, n, 0)
		slowest = max(slowest, time.Since(start))
		if v := viewOf(t, here); v.Len() != n+1 {
			t.Fatalf("%d messages after %d were appended", v.Len(), n+1)
		}
	}
	now := s[0].Delegations()
	t.Logf("%d recalled, %d reads from memory; the slowest append took %v", now.Recalled-before.Recalled, now.Answered-before.Answered, slowest)
	if now.Recalled-before.Recalled < 5 {
		t.Error("appends elsewhere recalled nothing")
	}
	if slowest > store.TrustTime {
		t.Errorf("an append took %v, though the front end answers", slowest)
	}
	checkAccount(t, s[1], u)
}

// Whatever is changed of a mailbox, here or elsewhere, is known at once.
func TestDelegationOfWhatChanges(t *testing.T) {
	_, s, u := eager(t, 2)
	ctx := t.Context()
	for i, by := range []string{"here", "elsewhere"} {
		create := func(name string) *store.Mailbox {
			t.Helper()
			if _, err := s[i].Create(ctx, u, name, nil); err != nil {
				t.Fatal(err)
			}
			return delegate(t, s[0], u, name)
		}
		selects := func(name string) (store.Selected, error) { return s[0].Select(ctx, u, name, acl.Read) }

		create("Renamed")
		if err := s[i].Rename(ctx, u, "Renamed", "Anew"); err != nil {
			t.Fatal(err)
		}
		if _, err := selects("Renamed"); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("renamed %s: select by the old name: %v", by, err)
		}
		if _, err := selects("Anew"); err != nil {
			t.Errorf("renamed %s: select by the new name: %v", by, err)
		}
		m := delegate(t, s[0], u, "Anew")
		if err := s[i].SetACL(ctx, u, "Anew", acl.User(u.Login), acl.Modification{Rights: acl.Lookup | acl.Read | acl.Administer | acl.DeleteMailbox}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.View(ctx); !errors.Is(err, store.ErrRightsChanged) {
			t.Errorf("rights changed %s: view: %v", by, err)
		}
		if sel, err := selects("Anew"); err != nil || sel.Rights.Has(acl.Insert) {
			t.Errorf("rights changed %s: select: %v, %v", by, sel.Rights, err)
		}
		delegate(t, s[0], u, "Anew")
		if _, err := s[i].Select(ctx, u, "Anew", acl.Read); err != nil {
			t.Fatal(err)
		}
		if err := s[i].Delete(ctx, u, "Anew"); err != nil {
			t.Fatal(err)
		}
		if _, err := selects("Anew"); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("deleted %s: select: %v", by, err)
		}

		first := create("Again")
		fill(t, first, 2)
		delegate(t, s[0], u, "Again")
		if first, err := open(t, s[i], u, "Again").ClaimRecent(ctx, 3, false); err != nil || first != 1 {
			t.Fatalf("claimed from %d, %v", first, err)
		}
		if sel, err := selects("Again"); err != nil || sel.Recent != 3 {
			t.Errorf("\\Recent claimed %s: select says %d, %v", by, sel.Recent, err)
		}
		delegate(t, s[0], u, "Again")
		if err := s[i].Delete(ctx, u, "Again"); err != nil {
			t.Fatal(err)
		}
		if _, err := first.View(ctx); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("deleted %s: view: %v", by, err)
		}
		if _, err := s[i].Create(ctx, u, "Again", nil); err != nil {
			t.Fatal(err)
		}
		if sel, err := selects("Again"); err != nil || sel.ID == first.ID || sel.View.Len() != 0 {
			t.Errorf("made anew %s: select: mailbox %d with %d messages, %v", by, sel.ID, sel.View.Len(), err)
		}
		if err := s[i].Delete(ctx, u, "Again"); err != nil {
			t.Fatal(err)
		}
	}
}

// A front end that stands still is waited for only until it knows itself that it may have missed something.
func TestDelegationOfFrozen(t *testing.T) {
	c, s, u := eager(t, 2)
	here, there := delegate(t, s[0], u, "INBOX"), open(t, s[1], u, "INBOX")
	fill(t, there, 2)
	delegate(t, s[0], u, "INBOX")
	thaw := s[0].Freeze()
	start := time.Now()
	add(t, there, 3, 0)
	took := time.Since(start)
	again := time.Now()
	add(t, there, 4, 0)
	t.Logf("the first append took %v, the second %v", took, time.Since(again))
	thaw()
	if v := viewOf(t, here); v.Len() != 4 {
		t.Errorf("%d messages for who stood still, want 4", v.Len())
	}
	if took < store.TrustTime/2 || took > 3*store.TrustTime {
		t.Errorf("waited for %v", took)
	}
	delegate(t, s[0], u, "INBOX")
	if n := delegates(t, c); n != 1 {
		t.Errorf("%d mailboxes are delegated", n)
	}
}

// Who has gone is not waited for, and what was delegated to them is delegated to another.
func TestDelegationOfGone(t *testing.T) {
	c, s, u := eager(t, 2)
	m := open(t, s[1], u, "INBOX")
	gone := func(number int) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), c.SuperDSN)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), `UPDATE mailbox SET delegate = $1`, number); err != nil {
			t.Fatal(err)
		}
	}
	for _, number := range []int{7, -7} { // not recalled, and recalled
		gone(number)
		start := time.Now()
		add(t, m, number, 0)
		if took := time.Since(start); took > store.TrustTime/2 {
			t.Errorf("%d was waited for: %v", number, took)
		}
	}
	gone(7)
	all := delegates(t, c)
	delegate(t, s[0], u, "INBOX")
	if err := s[0].Close(); err != nil {
		t.Fatal(err)
	}
	if n := delegates(t, c); n != all-1 {
		t.Errorf("%d of %d mailboxes are delegated after the front end has closed, want all but INBOX", n, all)
	}
}

// A front end that is taken for dead, and is not, hears that its mailbox was delegated to another.
func TestDelegationOfTakenForDead(t *testing.T) {
	c, s, u := eager(t, 2)
	s[1].DelegateEagerly()
	here := delegate(t, s[0], u, "INBOX")
	conn, err := pgx.Connect(t.Context(), c.SuperDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var first int64
	if err := conn.QueryRow(t.Context(), `SELECT delegate FROM mailbox WHERE delegate IS NOT NULL`).Scan(&first); err != nil {
		t.Fatal(err)
	}
	taken := make(chan struct{})
	var killing sync.WaitGroup
	killing.Go(func() {
		for {
			if _, err := conn.Exec(context.WithoutCancel(t.Context()), `DELETE FROM front_end WHERE front_end_id = $1`, first); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-taken:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	there := delegate(t, s[1], u, "INBOX")
	close(taken)
	killing.Wait()
	for n := range 5 {
		add(t, there, n, 0)
		if v := viewOf(t, here); v.Len() != n+1 {
			t.Fatalf("%d messages after %d were appended", v.Len(), n+1)
		}
	}
	if n := s[0].Delegations().Recalled; n != 1 {
		t.Errorf("%d mailboxes recalled from who is taken for dead, want 1", n)
	}
}

// Connections break: what was acknowledged is seen also by who reads from memory, as is what was not, but is done.
func TestDelegationsAndBrokenConnections(t *testing.T) {
	c, s, u := eager(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	var breaker sync.WaitGroup
	breaker.Go(func() { breakConnections(ctx, t, c.SuperDSN) })
	answers := s[0].Delegations().Answered
	var unknown int
	var mu sync.Mutex
	var acknowledged atomic.Int64
	together(t, 4, func(i int) error {
		here := open(t, s[0], u, "INBOX")
		by := here
		if i == 3 {
			by = open(t, s[1], u, "INBOX")
		}
		for n := range 2000 {
			if n%50 == i {
				a, err := by.Append(t.Context(), incoming(by, n))
				switch {
				case err == nil:
					for was := acknowledged.Load(); was < int64(a.ModSeq) && !acknowledged.CompareAndSwap(was, int64(a.ModSeq)); was = acknowledged.Load() {
					}
				case errors.Is(err, store.ErrOutcomeUnknown):
					counted(&mu, &unknown)
				case !errors.Is(err, store.ErrUnavailable):
					return err
				}
			}
			known := acknowledged.Load()
			if now := retried(t, here).ModSeq(); int64(now) < known {
				return fmt.Errorf("at MODSEQ %d, but %d had been acknowledged", now, known)
			}
		}
		return nil
	})
	// What was done but not acknowledged is seen as well.
	if now, truth := retried(t, open(t, s[0], u, "INBOX")), retried(t, open(t, s[1], u, "INBOX")); now.ModSeq() < truth.ModSeq() {
		t.Errorf("at MODSEQ %d in the end, want %d", now.ModSeq(), truth.ModSeq())
	}
	cancel()
	breaker.Wait()
	t.Logf("%d outcomes were unknown, %d reads from memory", unknown, s[0].Delegations().Answered-answers)
	checkAccount(t, s[1], u)
}

// Who writes through PgBouncer waits as all do, and has nothing delegated.
func TestDelegationBehindPgBouncer(t *testing.T) {
	c, s, u := eager(t, 1)
	p, err := local.StartPgBouncer(t.Context(), t.TempDir(), c.Socket, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop(context.Background()) // the test's context has ended by then
	behind := storetest.Open(t, c, func(o *store.Options) {
		o.ListenDSN, o.DSN, o.PgBouncer = o.DSN, p.DSN(local.ServingRole, c.Database), true
	})
	behind.DelegateEagerly()
	there := open(t, behind, u, "INBOX")
	for n := range 10 {
		here := delegate(t, s[0], u, "INBOX")
		add(t, there, n, 0)
		if v := viewOf(t, here); v.Len() != n+1 {
			t.Fatalf("%d messages after %d were appended", v.Len(), n+1)
		}
		viewOf(t, there)
	}
	if d := behind.Delegations(); d.Held != 0 || d.Answered != 0 {
		t.Errorf("%+v behind PgBouncer", d)
	}
}
