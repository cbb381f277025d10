package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
)

var here, there = netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8:1:2::7")

// What fails is counted for all names that it counts for, and they are blocked one after the other.
func TestAttempts(t *testing.T) {
	ctx := t.Context()
	s := storetest.New(t, func(o *store.Options) { o.Webhook = &blockHook{} })
	u := storetest.Account(t, s, "a@one.test")
	limits := store.AttemptLimits{Address: 3, Account: 5, Tenant: 7, Block: time.Minute}
	guess := uint16(0)
	fail := func(from netip.Addr, login string, known bool) string {
		t.Helper()
		guess++
		g := guess
		blocks, err := s.NoteFailedLogin(ctx, store.FailedLogin{From: from, Login: login, Tenant: u.Tenant, Known: known, Guess: &g, Limits: limits})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, b := range blocks {
			names = append(names, fmt.Sprintf("%s for %.0fs", b.Name, time.Until(b.Until).Seconds()))
		}
		return strings.Join(names, ", ")
	}
	want := func(from netip.Addr, login string, address, account, known, tenant int) {
		t.Helper()
		found, err := s.LookupLoginFrom(ctx, login, from)
		if err != nil && !errors.Is(err, store.ErrNoAccount) {
			t.Fatal(err)
		}
		a := found.Attempts
		if got := []int{a.Address.Failures, a.Account.Failures, a.Known.Failures, a.Tenant.Failures}; !slices.Equal(got, []int{address, account, known, tenant}) || found.User.Tenant != u.Tenant {
			t.Errorf("%s from %s: %v of tenant %d, want %v", login, from, got, found.User.Tenant, []int{address, account, known, tenant})
		}
	}
	want(here, u.Login, 0, 0, 0, 0)
	fail(here, u.Login, false)
	fail(here, "nobody@one.test", false)
	want(here, "A@one.test", 2, 1, 0, 2)
	want(here, "nobody@one.test", 2, 1, 0, 2)
	want(there, u.Login, 0, 1, 0, 2)
	if got := fail(here, u.Login, true); got != "address:192.0.2.7/32 for 60s" {
		t.Errorf("the third of the address blocks %q", got)
	}
	want(here, u.Login, 0, 2, 1, 3)
	found, err := s.LookupLoginFrom(ctx, u.Login, here)
	if err != nil || found.Attempts.Address.Blocked < 55 || found.Attempts.Account.Blocked != 0 {
		t.Errorf("then: %+v, %v", found.Attempts, err)
	}
	// Another of the same network, and the same guess again.
	fail(there, u.Login, false)
	want(netip.MustParseAddr("2001:db8:1:2:ffff::1"), u.Login, 1, 3, 0, 4)
	guess--
	fail(there, u.Login, false)
	want(there, u.Login, 1, 3, 0, 4)
	fail(there, u.Login, false)
	if got := fail(there, u.Login, false); got != "address:2001:db8:1:2::/64 for 60s, account:a@one.test for 60s" {
		t.Errorf("the fifth of the account blocks %q", got)
	}
	if got := fail(netip.MustParseAddr("192.0.2.8"), "", false); got != "tenant:one.test for 60s" {
		t.Errorf("the seventh of the tenant blocks %q", got)
	}
	names, err := s.FailedNames(ctx)
	if err != nil || len(names) != 7 || names[0].Name != "account:a@one.test" || names[0].Blocked == nil || names[6].Blocked != nil {
		t.Errorf("names: %+v, %v", names, err)
	}
	if n, err := s.ForgetFailures(ctx, there, u.Login, ""); err != nil || n != 3 {
		t.Errorf("forgotten: %d, %v; want the address, the account, and what is known of it", n, err)
	}
	want(there, u.Login, 0, 0, 0, 0)
	if n, err := s.ForgetAllFailures(ctx); err != nil || n != 4 {
		t.Errorf("forgotten: %d, %v", n, err)
	}
	want(here, u.Login, 0, 0, 0, 0)
}

// A block that follows another within a day is twice as long, and no longer than four hours.
func TestBlocksGrow(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	conn := connectAs(t, c.OwnerDSN)
	var got []int
	for range 8 {
		blocks, err := s.NoteFailedLogin(t.Context(), store.FailedLogin{From: here, Limits: store.AttemptLimits{Address: 1, Account: 1, Tenant: 1, Block: 5 * time.Minute}})
		if err != nil || len(blocks) != 1 {
			t.Fatalf("%+v, %v", blocks, err)
		}
		got = append(got, int(time.Until(blocks[0].Until).Minutes()+0.5))
		if _, err := conn.Exec(t.Context(), `UPDATE login_attempt SET blocked_until = now() - interval '1 hour'`); err != nil {
			t.Fatal(err)
		}
	}
	if want := []int{5, 10, 20, 40, 80, 160, 240, 240}; !slices.Equal(got, want) {
		t.Errorf("minutes: %v, want %v", got, want)
	}
	if _, err := conn.Exec(t.Context(), `UPDATE login_attempt SET blocked_until = now() - interval '25 hours'`); err != nil {
		t.Fatal(err)
	}
	blocks, err := s.NoteFailedLogin(t.Context(), store.FailedLogin{From: here, Limits: store.AttemptLimits{Address: 1, Account: 1, Tenant: 1, Block: 5 * time.Minute}})
	if err != nil || len(blocks) != 1 || time.Until(blocks[0].Until) > 6*time.Minute {
		t.Errorf("a day later: %+v, %v", blocks, err)
	}
}

// What is kept of attempts is bounded by time and by number.
func TestAttemptsAreForgotten(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	conn := connectAs(t, c.OwnerDSN)
	const fill = `
		INSERT INTO login_attempt (name, failures, since, last_at, blocked_until)
		SELECT 'address:' || n, 1, now() - n * interval '1 hour', now() - n * interval '1 hour', CASE WHEN n = 40 THEN now() END
		FROM generate_series(1, 60) AS n`

	if _, err := conn.Exec(t.Context(), fill); err != nil {
		t.Fatal(err)
	}
	left := func() (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM login_attempt`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := store.ForgetAttempts(s, t.Context()); err != nil || left() != 26 { // of 1 to 25 hours ago, and what was blocked until now
		t.Errorf("left: %d, %v", left(), err)
	}
	if _, err := conn.Exec(t.Context(), `SELECT forget_attempts('1 day', 10)`); err != nil || left() != 10 {
		t.Errorf("of at most 10 left: %d, %v", left(), err)
	}
}

// blockHook takes events of blocks.
type blockHook struct {
	refuse int
	taken  []store.BlockEvent
}

func (h *blockHook) Post(_ context.Context, id string, body []byte) error {
	if h.refuse > 0 {
		h.refuse--
		return errors.New("not now")
	}
	var e store.BlockEvent
	if err := json.Unmarshal(body, &e); err != nil || e.ID != id || e.Event != "login.blocked" {
		return fmt.Errorf("event %s: %s, %w", id, body, err)
	}
	h.taken = append(h.taken, e)
	return nil
}

// Each block is told once, and again until it is taken.
func TestBlocksAreTold(t *testing.T) {
	h := &blockHook{refuse: 1}
	c := storetest.Config(t)
	s := storetest.Open(t, c, func(o *store.Options) { o.Webhook = h })
	conn := connectAs(t, c.OwnerDSN)
	for range 3 {
		if _, err := s.NoteFailedLogin(t.Context(), store.FailedLogin{From: here, Login: "a@one.test", Limits: store.AttemptLimits{Address: 2, Account: 9, Tenant: 9, Block: time.Minute}}); err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range []int{0, 0, 1, 1} {
		if err := s.PostEvents(t.Context()); err != nil || len(h.taken) != want {
			t.Errorf("after try %d: %+v, %v", n+1, h.taken, err)
		}
		if n == 1 {
			if _, err := conn.Exec(t.Context(), `UPDATE login_attempt SET post_at = now() WHERE post_at IS NOT NULL`); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(h.taken) == 1 && (h.taken[0].Name != "address:192.0.2.7/32" || time.Until(h.taken[0].Until) > time.Minute) {
		t.Errorf("%+v", h.taken[0])
	}
}

// An account is known from where it was used, for a while, and its tenant's networks are known from now on.
func TestKnownAddresses(t *testing.T) {
	ctx := t.Context()
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	u, other := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@two.test")
	known := func(u store.User, from netip.Addr) (known, trusted bool) {
		t.Helper()
		l, err := s.LookupLoginFrom(ctx, u.Login, from)
		if err != nil {
			t.Fatal(err)
		}
		return time.Since(l.Known) < time.Minute, l.Trusted
	}
	all := []store.KnownAddress{{Account: u.Account, From: there}, {Account: u.Account, From: there.Next()}, {Account: other.Account, From: there}, {Account: 999, From: there}}
	for range 2 {
		if err := s.NoteKnownAddresses(ctx, u.Tenant, all); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		of   store.User
		from netip.Addr
		want bool
	}{{u, there, true}, {u, netip.MustParseAddr("2001:db8:1:2:3::"), true}, {u, here, false}, {other, there, false}} {
		if got, _ := known(test.of, test.from); got != test.want {
			t.Errorf("%s is known from %s: %t", test.of.Login, test.from, got)
		}
	}
	network := netip.MustParsePrefix("192.0.2.0/24")
	if err := s.AddTenantNetwork(ctx, u.Tenant, network); err != nil {
		t.Fatal(err)
	}
	if err := s.AddTenantNetwork(ctx, u.Tenant, network); !errors.Is(err, store.ErrNetworkTaken) {
		t.Errorf("again: %v", err)
	}
	for _, test := range []struct {
		of   store.User
		from netip.Addr
		want bool
	}{{u, here, true}, {u, there, false}, {other, here, false}} {
		if _, got := known(test.of, test.from); got != test.want {
			t.Errorf("%s is trusted from %s: %t", test.of.Login, test.from, got)
		}
	}
	if l, err := s.LookupLoginFrom(ctx, "nobody@one.test", here); !errors.Is(err, store.ErrNoAccount) || !l.Trusted {
		t.Errorf("nobody from there: %+v, %v", l, err)
	}
	if networks, err := s.TenantNetworks(ctx, u.Tenant); err != nil || !slices.Equal(networks, []netip.Prefix{network}) {
		t.Errorf("networks: %v, %v", networks, err)
	}
	for _, want := range []error{nil, store.ErrNoNetwork} {
		if err := s.RemoveTenantNetwork(ctx, u.Tenant, network); !errors.Is(err, want) {
			t.Errorf("remove: %v, want %v", err, want)
		}
	}
	// They go after a while, and where there are too many.
	const more = `
		INSERT INTO known_address (tenant_id, account_id, address, at)
		SELECT $1, $2, ('10.0.0.' || n)::cidr, now() - n * interval '1 day' FROM generate_series(1, 120) AS n`
	err := s.Transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, more, u.Tenant, u.Account)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.ForgetKnownAddresses(s, ctx, u.Tenant); err != nil {
		t.Fatal(err)
	}
	if n := countKnown(t, s, u.Tenant); n != 90 {
		t.Errorf("%d are left, want those of 90 days", n)
	}
	if err := s.DeleteAccount(ctx, u); err != nil {
		t.Fatal(err)
	}
	if n := countKnown(t, s, u.Tenant); n != 0 {
		t.Errorf("%d are left of an account that is gone", n)
	}
	if err := s.NoteKnownAddresses(ctx, u.Tenant, all); err != nil || countKnown(t, s, u.Tenant) != 0 {
		t.Errorf("noted of an account that is gone: %v", err)
	}
}

func countKnown(t *testing.T, s *store.Store, of id.Tenant) (n int) {
	t.Helper()
	err := s.Transact(t.Context(), of, func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `SELECT count(*) FROM known_address`).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// connectAs connects to the database as another than those who serve.
func connectAs(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) }) // the test's has ended
	return conn
}
