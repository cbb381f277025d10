package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/quota"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// More than a soft limit is taken as long as grace lasts, counted from when it was exceeded first; then growth is refused
// until no more is used than that, and grace begins anew the next time. So it is at each level, also where accounts count in slots of their own.
func TestSoftLimit(t *testing.T) {
	s := storetest.New(t)
	for _, level := range quota.Levels {
		t.Run(string(level), func(t *testing.T) { softLimit(t, s, level) })
	}
}

func softLimit(t *testing.T, s *store.Store, level quota.Level) {
	domain := string(level) + ".test"
	one, two := storetest.Account(t, s, "a@"+domain), storetest.Account(t, s, "b@"+domain)
	name := map[quota.Level]string{quota.Account: "account:" + one.Login, quota.Domain: "domain:" + domain, quota.Tenant: "tenant:" + domain}[level]
	first, second := open(t, s, one, "INBOX"), open(t, s, two, "INBOX")
	if level == quota.Account {
		second = open(t, s, one, "Archive")
	}
	fill(t, first, 2)
	change := func(soft, hard *int64) {
		t.Helper()
		_, err := s.ChangeQuota(t.Context(), findQuota(t, s, one, name), func(q quota.Terms) (quota.Terms, error) {
			q.Soft, q.Grace = q.Soft.With(quota.Message, soft), time.Hour
			return q.With(quota.Message, hard), nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	since := func(over bool) time.Time {
		t.Helper()
		at := findQuota(t, s, one, name).Over[1]
		if (at != nil) != over {
			t.Fatalf("over the soft limit since %v, want %v", at, over)
		}
		if drift, _, err := s.AuditQuota(t.Context(), one.Tenant); err != nil || len(drift) > 0 {
			t.Fatalf("drift %v, %v", drift, err)
		}
		if !over {
			return time.Time{}
		}
		return *at
	}
	refused := func(m *store.Mailbox, used, limit int64) {
		t.Helper()
		_, err := m.Append(t.Context(), incoming(m, 9))
		var over *quota.OverError
		if want := (quota.OverError{Resource: quota.Message, Level: level, Used: used, Limit: limit, Wanted: 1}); !errors.As(err, &over) || *over != want {
			t.Errorf("append: %v, want %v", err, &want)
		}
	}

	change(ptr[int64](3), ptr[int64](6))
	add(t, first, 3, 0)
	since(false) // no more than the limit
	add(t, second, 4, 0)
	began := since(true)
	add(t, first, 5, 0)
	add(t, second, 6, 0)
	refused(first, 6, 6) // the limit is the limit also within grace
	if again := since(true); !again.Equal(began) {
		t.Errorf("over since %v, and then since %v", began, again)
	}

	expireGrace(t, s, one)
	if err := s.LookAtQuotas(t.Context()); err != nil {
		t.Fatal(err)
	}
	remove := func(m *store.Mailbox, uids view.UIDSet) {
		t.Helper()
		flag(t, m, uids, view.Add, view.Deleted)
		if _, _, err := m.Expunge(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	remove(first, between(1, 1))
	refused(first, 5, 3)
	refused(second, 5, 3)
	since(true)
	if _, err := first.Move(t.Context(), between(2, 2), open(t, s, one, "Sent")); err != nil {
		t.Error(err) // it does not grow by that
	}
	remove(first, between(3, 3))
	refused(first, 4, 3)
	remove(first, between(4, 4))
	add(t, second, 7, 0) // three were left, and grace begins anew
	if again := since(true); !again.After(began) {
		t.Errorf("over since %v again", again)
	}
	add(t, first, 8, 0)

	// Who clears away in time begins anew as well.
	remove(first, between(5, 9))
	remove(second, between(1, 1))
	if err := s.LookAtQuotas(t.Context()); err != nil {
		t.Fatal(err)
	}
	since(false)

	// One that is set below what is used counts from then on; one that is taken away does not.
	change(ptr[int64](1), nil)
	since(true)
	add(t, first, 10, 0)
	expireGrace(t, s, one)
	change(ptr[int64](1), nil)
	refused(second, 4, 1)
	change(nil, nil)
	since(false)
	add(t, first, 11, 0)
	checkAccount(t, s, one)
	checkAccount(t, s, two)
}

// expireGrace makes soft limits of a user's tenant ones that were exceeded first long ago.
func expireGrace(t *testing.T, s *store.Store, u store.User) {
	t.Helper()
	err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
		for _, table := range []string{"account_state", "quota_root"} {
			_, err := tx.Exec(t.Context(), `
				UPDATE `+table+` SET over_since = ARRAY(
					SELECT since - interval '1 year' FROM unnest(over_since) WITH ORDINALITY AS o (since, nth) ORDER BY nth)
				WHERE tenant_id = $1 AND over_since IS NOT NULL`, u.Tenant)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func findQuota(t *testing.T, s *store.Store, u store.User, name string) store.QuotaRoot {
	t.Helper()
	r, err := s.FindQuota(t.Context(), u, name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
