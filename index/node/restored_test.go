package node

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/storetest/testdb"
)

// A database that was restored as it was before gives the numbers of emails again. What an index has of those that are
// no more must not be found, and what was removed from it meanwhile must be found again.
func TestDatabaseRestored(t *testing.T) {
	for _, c := range []struct {
		name  string
		later func(r *running) // what the index has that the database loses
	}{
		{"mail that came", func(r *running) { r.deliver(3) }},
		{"mail that was removed", func(r *running) {
			k := key{r.user.Tenant, r.user.Account}
			x, err := r.node.use(r.Context(), k, false)
			if err != nil {
				r.Fatal(err)
			}
			defer r.node.unuse(x, nil)
			x.account.working.Lock()
			defer x.account.working.Unlock()
			if err := r.node.stamp(r.Context(), x); err != nil {
				r.Fatal(err)
			}
			if err := x.index.Remove(r.Context(), []id.Email{2}); err != nil {
				r.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := storetest.Config(t)
			s := storetest.Open(t, cluster)
			r := &running{T: t, store: s, user: storetest.Account(t, s, "ann@one.test"), dir: t.TempDir()}
			r.openInbox()
			r.start()
			defer func() { r.stop() }()
			r.deliver(10)
			r.whole(10)
			r.stop()
			saved := save(t, cluster)
			r.store = storetest.Open(t, cluster) // the connections of the other have ended
			r.openInbox()
			r.start()
			c.later(r)
			if r.n > 10 {
				r.whole(r.n)
			}
			r.stop()
			saved.restore()
			// Others come under the numbers that were lost.
			r.store = storetest.Open(t, cluster)
			r.n = 100
			r.openInbox()
			r.deliver(5)
			r.start()
			r.await("the index is made anew", func() bool { st := r.status(); return st.UpTo == 15 && st.Emails == 15 })
			if r.node.Counted().Rebuilt != 1 {
				t.Errorf("made anew %d times, want once", r.node.Counted().Rebuilt)
			}
			r.finds(r.node, "message2", 2)
			r.finds(r.node, "message11")
			r.finds(r.node, "message101", 11)
		})
	}
}

func (r *running) openInbox() {
	r.Helper()
	var err error
	if r.inbox, err = r.store.Open(r.Context(), r.user, "INBOX", acl.All); err != nil {
		r.Fatal(err)
	}
}

// saved is a database as it was.
type saved struct {
	*testing.T
	admin *pgx.Conn
	name  string
}

// save copies a database. Nobody is connected to it meanwhile.
func save(t *testing.T, c *testdb.Cluster) *saved {
	t.Helper()
	config, err := pgx.ParseConfig(c.SuperDSN)
	if err != nil {
		t.Fatal(err)
	}
	config.Database = "postgres"
	admin, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	s := &saved{t, admin, c.Database}
	s.do("ALTER DATABASE " + s.name + " ALLOW_CONNECTIONS false")
	s.do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + s.name + "'")
	s.do("CREATE DATABASE " + s.name + "_saved TEMPLATE " + s.name)
	s.do("ALTER DATABASE " + s.name + " ALLOW_CONNECTIONS true")
	return s
}

func (s *saved) do(statement string) {
	s.Helper()
	if _, err := s.admin.Exec(s.Context(), statement); err != nil {
		s.Fatalf("%s: %v", statement, err)
	}
}

// restore puts the copy in the place of the database.
func (s *saved) restore() {
	s.Helper()
	s.do("DROP DATABASE " + s.name + " WITH (FORCE)")
	s.do("ALTER DATABASE " + s.name + "_saved RENAME TO " + s.name)
}

// Where the database goes back while the node runs, it notices that, too.
func TestDatabaseRestoredBeneath(t *testing.T) {
	cluster := storetest.Config(t)
	s := storetest.Open(t, cluster)
	r := &running{T: t, store: s, user: storetest.Account(t, s, "ann@one.test"), dir: t.TempDir()}
	r.openInbox()
	r.start()
	defer func() { r.stop() }()
	r.deliver(10)
	r.whole(10)
	// As a replica that did not have the last commits yet.
	owner, err := pgx.Connect(t.Context(), cluster.SuperDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(t.Context())
	for _, statement := range []string{
		"UPDATE search_index SET stamp = stamp_old - 1, stamp_old = stamp_old - 2, up_to = 5",
		"UPDATE account_state SET next_email = 9",
		"DELETE FROM email WHERE email_id > 8",
	} {
		if _, err := owner.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	r.await("the index is made anew", func() bool { return r.node.Counted().Rebuilt == 1 && r.status().UpTo == 8 })
	r.finds(r.node, "message9")
	r.finds(r.node, "message7", 7)
}
