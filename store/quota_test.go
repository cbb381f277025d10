package store_test

import (
	"errors"
	commandline "flag" // flag is a helper here
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/quota"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

var quotaOperations = commandline.Int("quota.operations", 12, "operations of each of 16 clients in TestQuotaRace, at each limit")

// Near each limit of each level, 16 clients on two front ends append, deliver, copy, move, replace and remove. No limit is ever
// exceeded, nothing is refused that would have fit, soft limits on the way there included, and what is refused leaves nothing behind.
func TestQuotaRace(t *testing.T) {
	for _, level := range quota.Levels {
		for _, resource := range []quota.Resource{quota.Storage, quota.Message} {
			t.Run(fmt.Sprintf("%s/%s", level, resource), func(t *testing.T) { quotaRace(t, level, resource) })
		}
	}
}

// quotaRacers is how many clients there are.
const quotaRacers = 16

func quotaRace(t *testing.T, level quota.Level, resource quota.Resource) {
	c := storetest.Config(t)
	stores := []*store.Store{storetest.Open(t, c), storetest.Open(t, c)}
	s := stores[0]
	var users []store.User
	for i := range 6 {
		if i == 4 { // another domain of the tenant, in which nobody changes anything where it is a domain's limit
			storetest.Domain(t, s, "one.test", "two.test")
		}
		domain := []string{"one.test", "two.test"}[i/4]
		users = append(users, storetest.Account(t, s, fmt.Sprintf("user%d@%s", i, domain)))
		fill(t, open(t, s, users[i], "INBOX"), 4)
	}
	racing := map[quota.Level][]store.User{quota.Account: users[:1], quota.Domain: users[:4], quota.Tenant: users}[level]
	roots, err := s.QuotaRoots(t.Context(), users[0].Tenant, users[0].Account)
	if err != nil {
		t.Fatal(err)
	}
	root := roots[map[quota.Level]int{quota.Account: 0, quota.Domain: 1, quota.Tenant: 2}[level]]
	const messages, octets = 60, 20_000
	room := map[quota.Resource]int64{quota.Message: messages, quota.Storage: octets}[resource]
	limit := root.Used.Of(resource) + room
	if _, err := s.ChangeQuota(t.Context(), root, func(l quota.Terms) (quota.Terms, error) {
		l.Soft = l.Soft.With(resource, ptr(limit-room/2))
		return l.With(resource, &limit), nil
	}); err != nil {
		t.Fatal(err)
	}

	var refused, taken atomic.Int64
	together(t, quotaRacers, func(i int) error {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		u := racing[i%len(racing)]
		for n := range *quotaOperations {
			err := quotaOperation(t, r, stores[i%2], u, i*1000+n)
			var over *quota.OverError
			switch {
			case errors.As(err, &over):
				refused.Add(1)
				if over.Level != level || over.Resource != resource || over.Limit != limit || over.Used > limit || over.Used+over.Wanted <= limit {
					return fmt.Errorf("refused by %v, the limit is %d", over, limit)
				}
			case err != nil:
				return err
			default:
				taken.Add(1)
			}
			now, err := stores[1].QuotaRoot(t.Context(), u.Tenant, root.Root)
			if err != nil || now.Used.Of(resource) > limit {
				return fmt.Errorf("%d used of %d, %w", now.Used.Of(resource), limit, err)
			}
		}
		return nil
	})
	t.Logf("%d changes, %d refused", taken.Load(), refused.Load())
	if refused.Load() == 0 || taken.Load() == 0 {
		t.Errorf("%d changes, %d refused: the limit is not where it is tried", taken.Load(), refused.Load())
	}

	// What is left is there for anyone, to the last octet and message, whatever slot it was in.
	together(t, len(racing), func(i int) error { return fillUp(t, stores[i%2], racing[i], resource) })
	now, err := s.QuotaRoot(t.Context(), users[0].Tenant, root.Root)
	if err != nil || now.Used.Of(resource) != limit {
		t.Errorf("%d used of %d in the end, %v", now.Used.Of(resource), limit, err)
	}
	for _, u := range racing {
		checkAccount(t, s, u)
	}
	var orphans int
	err = s.Transact(t.Context(), users[0].Tenant, func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `
			SELECT (SELECT count(*) FROM blob b WHERE NOT EXISTS (SELECT FROM email e WHERE e.tenant_id = b.tenant_id AND e.digest = b.digest))
				+ (SELECT count(*) FROM staged_0 s WHERE NOT EXISTS (SELECT FROM blob b WHERE b.tenant_id = s.tenant_id AND b.digest = s.digest))
				+ (SELECT count(*) FROM object_intent)`).Scan(&orphans)
	})
	if err != nil || orphans > 0 {
		t.Errorf("%d contents are left of what was refused, %v", orphans, err)
	}
}

// quotaOperation changes an account in one way or another.
func quotaOperation(t *testing.T, r *rand.Rand, s *store.Store, u store.User, n int) error {
	inbox, archive := open(t, s, u, "INBOX"), open(t, s, u, "Archive")
	some := between(id.UID(1+r.IntN(40)), id.UID(10+r.IntN(40)))
	message := func(k int) store.Incoming {
		return store.Incoming{Content: inbox.Receive(text(n*10+k) + strings.Repeat("x", r.IntN(400)))}
	}
	var err error
	switch r.IntN(8) {
	case 0, 1:
		_, err = inbox.Append(t.Context(), message(0))
	case 2:
		_, err = archive.Append(t.Context(), message(0), message(1), message(2))
	case 3: // as LMTP does
		in := message(0)
		in.Prefix = []byte("Delivered-To: " + u.Login + "\r\n")
		_, err = inbox.Append(t.Context(), in)
	case 4:
		_, err = inbox.Copy(t.Context(), some, archive)
	case 5:
		_, err = inbox.Move(t.Context(), some, archive)
	case 6:
		_, err = inbox.Replace(t.Context(), id.UID(1+r.IntN(20)), archive, message(0))
		if errors.Is(err, store.ErrExpunged) {
			err = nil
		}
	case 7:
		deleted := store.FlagChange{UIDs: between(1, id.UID(1+r.IntN(10))), Mode: view.Add, Flags: view.Deleted, UnchangedSince: -1}
		if _, err = archive.SetFlags(t.Context(), deleted); err == nil {
			_, _, err = archive.Expunge(t.Context(), nil)
		}
	}
	return err
}

// fillUp appends until nothing fits any more, not the smallest.
func fillUp(t *testing.T, s *store.Store, u store.User, resource quota.Resource) error {
	m := open(t, s, u, "INBOX")
	for size := 4096; size > 0; {
		text := strings.Repeat("y", size)
		if resource == quota.Message {
			text = "y"
		}
		_, err := m.Append(t.Context(), store.Incoming{Content: m.Receive(text)})
		var over *quota.OverError
		switch {
		case errors.As(err, &over) && resource == quota.Message:
			return nil
		case errors.As(err, &over):
			size /= 2
		case err != nil:
			return err
		}
	}
	return nil
}

// A limit below what is used stops growth and nothing else, and what is freed is not given to anyone before the total is below it.
func TestQuotaLowered(t *testing.T) {
	s := storetest.New(t)
	one, two := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@one.test")
	first, second := open(t, s, one, "INBOX"), open(t, s, two, "INBOX")
	fill(t, first, 6)
	fill(t, second, 6)
	limit := func(n *int64) {
		t.Helper()
		root, err := s.FindQuota(t.Context(), one, "tenant:one.test")
		if err == nil {
			_, err = s.ChangeQuota(t.Context(), root, func(l quota.Terms) (quota.Terms, error) {
				return l.With(quota.Message, n), nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	limit(ptr[int64](8))
	full := func(m *store.Mailbox, used int64) {
		t.Helper()
		_, err := m.Append(t.Context(), incoming(m, 9))
		var over *quota.OverError
		if want := (quota.OverError{Resource: quota.Message, Level: quota.Tenant, Used: used, Limit: 8, Wanted: 1}); !errors.As(err, &over) || *over != want {
			t.Errorf("append: %v, want %v", err, &want)
		}
	}
	full(first, 12)
	flag(t, first, between(1, 3), view.Add, view.Deleted)
	if _, _, err := first.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	full(first, 9) // three were freed here, and it is still too much
	full(second, 9)
	flag(t, first, between(4, 5), view.Add, view.Deleted)
	if _, _, err := first.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	add(t, second, 9, 0) // what one has freed the other has
	full(first, 8)
	limit(nil)
	add(t, first, 10, 0)
	checkAccount(t, s, one)
	checkAccount(t, s, two)
}

// What accounts are charged goes with them, and comes with them.
func TestQuotaOfAccounts(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	fill(t, open(t, s, u, "INBOX"), 3)
	annotate := []store.Annotation{{Entry: "/private/comment", Value: []byte("value")}}
	for _, mailbox := range []string{"", "Sent"} {
		if err := s.SetMetadata(t.Context(), u, mailbox, annotate); err != nil {
			t.Fatal(err)
		}
	}
	used := func(want quota.Amounts) {
		t.Helper()
		root, err := s.FindQuota(t.Context(), u, "tenant:one.test")
		if err != nil || root.Used != want {
			t.Errorf("used %v, want %v; %v", root.Used, want, err)
		}
		if drift, _, err := s.AuditQuota(t.Context(), u.Tenant); err != nil || len(drift) > 0 {
			t.Errorf("drift %v, %v", drift, err)
		}
	}
	const each = int64(len("/private/comment") + len("value"))
	octets := int64(len(text(0)) + len(text(1)) + len(text(2)))
	used(quota.Amounts{octets, 3, 6, 2 * each})
	if err := s.Delete(t.Context(), u, "Sent"); err != nil {
		t.Fatal(err)
	}
	used(quota.Amounts{octets, 3, 5, each})
	if _, _, err := s.UndeleteMailbox(t.Context(), u, "Sent", "a/b"); err != nil {
		t.Fatal(err)
	}
	used(quota.Amounts{octets, 3, 7, 2 * each})
	other := storetest.Account(t, s, "b@one.test")
	used(quota.Amounts{octets, 3, 13, 2 * each})
	if err := s.Rename(t.Context(), u, "INBOX", "old/INBOX"); err != nil {
		t.Fatal(err)
	}
	used(quota.Amounts{octets, 3, 15, 2 * each})
	if err := s.DeleteAccount(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	u = other
	used(quota.Amounts{0, 0, 6, 0})

	// An account that does not fit is not made.
	root, err := s.FindQuota(t.Context(), u, "domain:one.test")
	if err == nil {
		_, err = s.ChangeQuota(t.Context(), root, func(l quota.Terms) (quota.Terms, error) {
			return l.With(quota.Mailbox, ptr[int64](11)), nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	var over *quota.OverError
	if _, err := s.CreateAccount(t.Context(), store.NewAccount{Login: "c@one.test"}); !errors.As(err, &over) || over.Level != quota.Domain {
		t.Errorf("create account: %v", err)
	}
	if err := s.DeleteAccount(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteDomain(t.Context(), "one.test"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.FindQuota(t.Context(), u, "domain:one.test"); err == nil {
		t.Error("the domain's root is there")
	}
}

// Messages that go from one account to another fit where nothing is left of what both are under.
func TestQuotaTransfer(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	fill(t, open(t, s, u, "INBOX"), 3)
	storetest.Domain(t, s, "one.test", "two.test")
	for _, login := range []string{"b@one.test", "c@two.test"} {
		to := storetest.Account(t, s, login)
		for _, root := range []string{"tenant:one.test", "domain:one.test"} {
			r, err := s.FindQuota(t.Context(), u, root)
			if err == nil {
				_, err = s.ChangeQuota(t.Context(), r, func(l quota.Terms) (quota.Terms, error) {
					return l.With(quota.Message, ptr(r.Used.Of(quota.Message))), nil
				})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var base int64
		err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), `SELECT charge_exchange($1, $2, 2, 50, $3, 2, 50, 2)`, u.Tenant, u.Account, to.Account).Scan(&base)
		})
		if err != nil || base != 0 {
			t.Fatalf("transfer to %s: emails above %d, %v", login, base, err)
		}
		drift, _, err := s.AuditQuota(t.Context(), u.Tenant)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range drift {
			if d.Account == 0 { // only mailboxes do not have what is charged
				t.Error(d)
			}
		}
		err = s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `SELECT charge_exchange($1, $2, 2, 50, $3, 2, 50, 0)`, u.Tenant, to.Account, u.Account)
			return err
		})
		if err != nil {
			t.Fatalf("transfer back from %s: %v", login, err)
		}
		checkAccount(t, s, u)
	}
}

// An account that comes to a slot of its own gets what the others have: a part of what is left, or nothing where more is used than the limit.
func TestQuotaOfNewSlot(t *testing.T) {
	s := storetest.New(t)
	storetest.Domain(t, s, "one.test", "one.test")
	root, err := s.AnyQuota(t.Context(), quota.Root{Level: quota.Tenant, Name: "one.test"})
	if err != nil {
		t.Fatal(err)
	}
	for i, limit := range []int64{100, 2, 1} {
		if _, err := s.ChangeQuota(t.Context(), root, func(q quota.Terms) (quota.Terms, error) {
			return q.With(quota.Message, &limit), nil
		}); err != nil {
			t.Fatal(err)
		}
		u := storetest.Account(t, s, fmt.Sprintf("a%d@one.test", i))
		if drift, _, err := s.AuditQuota(t.Context(), u.Tenant); err != nil || len(drift) > 0 {
			t.Errorf("with a limit of %d: drift %v, %v", limit, drift, err)
		}
		if i == 0 {
			fill(t, open(t, s, u, "INBOX"), 2)
		}
	}
}
