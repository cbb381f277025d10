package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/deploy/local"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// Everything works behind PgBouncer in transaction mode, where each
// transaction may get another connection to the server; only LISTEN goes past it.
func TestPgBouncer(t *testing.T) {
	c := storetest.Config(t)
	p, err := local.StartPgBouncer(t.Context(), t.TempDir(), c.Socket, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop(context.Background()) // the test's context has ended by then
	behind := func(o *store.Options) {
		o.ListenDSN, o.DSN, o.PgBouncer = o.DSN, p.DSN(local.ServingRole, c.Database), true
		o.FoldMin, o.FoldRatio = 500, 0.01
	}
	if _, err := store.Open(t.Context(), store.Options{DSN: p.DSN(local.ServingRole, c.Database), PgBouncer: true}); err == nil || !strings.Contains(err.Error(), "LISTEN") {
		t.Errorf("opened with LISTEN behind PgBouncer: %v", err)
	}
	stores := []*store.Store{storetest.Open(t, c, behind), storetest.Open(t, c, behind)}
	u, other := storetest.Account(t, stores[0], "a@one.test"), storetest.Account(t, stores[0], "b@two.test")
	hints, end := open(t, stores[1], u, "INBOX").Watch()
	defer end()
	hinted(t, hints)
	settled(hints)
	together(t, 6, func(i int) error {
		s, as := stores[i%2], u
		if i == 5 {
			as = other // the tenant of one transaction is not that of the next on the same connection
		}
		m, to := open(t, s, as, "INBOX"), open(t, s, as, "Archive")
		for n := range 15 {
			in := incoming(m, n)
			in.Keywords = []string{fmt.Sprintf("k%d", n%4)}
			a, err := m.Append(t.Context(), in)
			if err != nil {
				return err
			}
			if _, err := m.SetFlags(t.Context(), store.FlagChange{UIDs: a.UIDs, Flags: view.Seen, UnchangedSince: -1}); err != nil {
				return err
			}
			if n%3 == 0 {
				if _, err := m.Move(t.Context(), a.UIDs, to); err != nil {
					return err
				}
			}
		}
		return nil
	})
	hinted(t, hints)
	if _, err := stores[0].Create(t.Context(), u, "x/y", nil); err != nil {
		t.Error(err)
	}
	if err := stores[1].Rename(t.Context(), u, "INBOX", "z"); err != nil {
		t.Error(err)
	}
	checkAccount(t, stores[0], u)
	checkAccount(t, stores[1], other)

	// Without a tenant there is nothing, whoever had the connection before.
	config, err := pgx.ParseConfig(p.DSN(local.ServingRole, c.Database))
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	for range 5 {
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM mailbox`).Scan(&n); err == nil {
			t.Errorf("%d mailboxes without a tenant", n)
		}
		conn.Close(t.Context())
	}
}
