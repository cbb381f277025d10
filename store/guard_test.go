package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"mailstead.dev/store"
	"mailstead.dev/store/blob/blobtest"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// state returns the SQLSTATE of an error, "" if it has none.
func state(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Each guard of the functions that change mailboxes raises, and nothing of the transaction stays.
func TestGuardsRaise(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	other := storetest.Account(t, s, "b@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 3)
	fold(t, m)
	add(t, m, 4, 0)
	at := viewOf(t, m).ModSeq()

	const (
		change = `SELECT change_mailboxes($1, $2, true, ARRAY[$3::bigint], ARRAY[0::bigint], ARRAY[$4::bigint], ARRAY['\x00'::bytea], ARRAY[0::bigint],
			ARRAY[$5::bigint], ARRAY[$6::bigint], ARRAY[0::bigint], ARRAY[0::bigint], ARRAY[0::bigint], ARRAY[0::bigint])`
		fold   = `SELECT fold_mailbox($1, $2, $3, $4, 1, '{}', $5::bigint[], $5::bigint[], '{}', '{}', '{}', '{}', '{}', '{}')`
		keep   = `SELECT keep_content($1, sha256('new'), 3, 1::smallint, '', 3, NULL, $2)`
		pack   = `SELECT move_content($1, $2, 0, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')`
		remove = `SELECT remove_messages($1, $2, $3, $4, '\x00', 0, 0, 0, 0, 0, 0)`
		move   = `SELECT append_messages($1, $2, $3, NULL, NULL, $4, '\x00', 0, 0, 0, 0, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')`
	)
	for _, test := range []struct {
		name, query, want string
		args              []any
	}{
		{"mailbox has moved on", change, "MS002", []any{u.Tenant, u.Account, m.ID, at - 1, 0, 0}},
		{"mailbox is behind", change, "MS002", []any{u.Tenant, u.Account, m.ID, at + 1, 0, 0}},
		{"another account's mailbox", change, "MS001", []any{u.Tenant, other.Account, m.ID, at, 0, 0}},
		{"no such mailbox", change, "MS001", []any{u.Tenant, u.Account, 999, at, 0, 0}},
		{"UIDs used up", change, "MS004", []any{u.Tenant, u.Account, m.ID, at, int64(1) << 32, 0}},
		{"counter below zero", change, "23514", []any{u.Tenant, u.Account, m.ID, at, 0, -5}},
		{"append to what has moved on", move, "MS002", []any{u.Tenant, u.Account, m.ID, at - 1}},
		{"append to nothing", move, "MS001", []any{u.Tenant, u.Account, 999, nil}},
		{"remove from what has moved on", remove, "MS002", []any{u.Tenant, u.Account, m.ID, at - 1}},
		{"remove from nothing", remove, "MS001", []any{u.Tenant, u.Account, 999, at}},
		{"fold from elsewhere", fold, "MS002", []any{u.Tenant, m.ID, at, at, []int64{}}},
		{"fold beyond the end", fold, "MS002", []any{u.Tenant, m.ID, at - 1, at + 1, []int64{}}},
		{"fold of other segments", fold, "MS002", []any{u.Tenant, m.ID, at - 1, at, []int64{7}}},
		{"fold of nothing", fold, "MS001", []any{u.Tenant, 999, 1, 1, []int64{}}},
		{"content that is not there", keep, "MS007", []any{u.Tenant, nil}},
		{"object without its intent", keep, "MS005", []any{u.Tenant, "key"}},
		{"object whose intent is condemned", keep, "MS005", []any{u.Tenant, "condemned"}},
		{"pack whose intent is condemned", pack, "MS005", []any{u.Tenant, "condemned"}},
	} {
		err := s.Batch(t.Context(), u.Tenant, func(b *pgx.Batch) {
			b.Queue(`UPDATE mailbox SET unseen = 77 WHERE mailbox_id = $1`, m.ID)
			b.Queue(`INSERT INTO object_intent (tenant_id, object_key, condemned) VALUES ($1, 'condemned', 0)`, u.Tenant)
			b.Queue(test.query, test.args...)
		})
		if got := state(err); got != test.want {
			t.Errorf("%s: %s (%v), want %s", test.name, got, err, test.want)
		}
	}
	checkAccount(t, s, u)

	// A record that is missing in what is folded.
	err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `DELETE FROM mailbox_log`); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), fold, u.Tenant, m.ID, at-1, at, []int64{})
		return err
	})
	if state(err) != "MS002" {
		t.Errorf("fold of a log with a hole: %v", err)
	}
	checkAccount(t, s, u)
}

// A hole in the log is found, and not papered over.
func TestLogWithAHole(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	for n := range 3 {
		add(t, m, n, 0)
	}
	s.ForgetViews()
	err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `DELETE FROM mailbox_log WHERE modseq = 3`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := m.View(t.Context()); err == nil {
		t.Errorf("a view of %d messages", v.Len())
	}
}

// The database itself keeps tenants apart: without a tenant there is nothing to see or do, with one only its own.
func TestTenantsInTheDatabase(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	one, two := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@two.test")
	add(t, open(t, s, one, "INBOX"), 1, 0)
	add(t, open(t, s, two, "INBOX"), 1, 0)
	fold(t, open(t, s, one, "INBOX"))

	conn, err := pgx.Connect(t.Context(), c.ServingDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, _ := conn.Query(t.Context(), `
		SELECT c.relname::text
		FROM pg_class c
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
		WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 15 {
		t.Fatalf("tables %v, %v", tables, err)
	}
	for _, table := range tables {
		var n int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err == nil {
			t.Errorf("%s without a tenant: %d rows", table, n)
		}
		err := s.Transact(t.Context(), two.Tenant, func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), `SELECT count(*) FROM `+table+` WHERE tenant_id <> $1`, two.Tenant).Scan(&n)
		})
		if err != nil || n != 0 {
			t.Errorf("%s: %d rows of others, %v", table, n, err)
		}
	}
	for _, statement := range []string{
		`UPDATE mailbox SET tenant_id = 2 WHERE mailbox_id = 1`,
		`INSERT INTO mailbox_log (tenant_id, mailbox_id, modseq, record) VALUES (1, 1, 99, '')`,
	} {
		err := s.Transact(t.Context(), two.Tenant, func(tx pgx.Tx) error {
			tag, err := tx.Exec(t.Context(), statement)
			if err == nil && tag.RowsAffected() != 0 {
				t.Errorf("%s: %d rows", statement, tag.RowsAffected())
			}
			return err
		})
		if strings.HasPrefix(statement, "INSERT") && state(err) != "42501" {
			t.Errorf("%s: %v", statement, err)
		}
	}
	stolen := *open(t, s, one, "INBOX")
	stolen.Tenant, stolen.Owner = two.Tenant, two.Account
	if _, err := stolen.View(t.Context()); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("view of another tenant's mailbox: %v", err)
	}
	if _, err := stolen.Append(t.Context(), incoming(&stolen, 1)); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("append to another tenant's mailbox: %v", err)
	}
}

// A statement that binds its transaction to a tenant reads and writes what is that tenant's alone, and its connection is nobody's after it.
func TestTenantsOfBoundStatements(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c, func(o *store.Options) { o.NoDelegations = true }) // of what is written here nobody waits for others
	one, two := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@two.test")
	m := open(t, s, one, "INBOX")
	add(t, m, 1, 0)
	conn, err := pgx.Connect(t.Context(), c.ServingDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	write := func(tenant string) (log *int64, err error) {
		v := viewOf(t, m)
		base := v.UIDNext() - 1
		err = conn.QueryRow(t.Context(), store.WriteRecordBound, one.Tenant, one.Account, m.ID, 0, int64(v.ModSeq()),
			view.Record{}.Encode(base, 0), int64(base), 0, 0, 0, 0, 0, 0, tenant).Scan(&log)
		return log, err
	}
	rows := func(tenant string) (n int, err error) {
		rows, err := conn.Query(t.Context(), store.SelectOwnBound, one.Tenant, one.Account, "INBOX", m.ID, 0, true, tenant)
		if err != nil {
			return 0, err
		}
		for rows.Next() {
			n++
		}
		return n, rows.Err()
	}
	for range 8 { // the later ones by a plan for any parameters
		if n, err := rows(fmt.Sprint(two.Tenant)); n != 0 || err != nil {
			t.Errorf("another tenant's mailbox: %d rows, %v", n, err)
		}
		if n, err := rows(""); n != 0 || err != nil {
			t.Errorf("a mailbox of no tenant: %d rows, %v", n, err)
		}
		if n, err := rows(fmt.Sprint(one.Tenant)); n == 0 || err != nil {
			t.Errorf("one's own mailbox: %d rows, %v", n, err)
		}
		before := viewOf(t, m).ModSeq()
		if log, err := write(fmt.Sprint(two.Tenant)); state(err) != "MS001" {
			t.Errorf("a record in another tenant's mailbox: %v, %v", log, err)
		}
		if log, err := write(""); !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("a record of no tenant: %v, %v", log, err)
		}
		if now := viewOf(t, m).ModSeq(); now != before {
			t.Errorf("at MODSEQ %d after %d, by others", now, before)
		}
		if log, err := write(fmt.Sprint(one.Tenant)); err != nil || log == nil {
			t.Errorf("a record in one's own mailbox: %v, %v", log, err)
		}
		if now := viewOf(t, m).ModSeq(); now != before+1 {
			t.Errorf("at MODSEQ %d after %d and a record", now, before)
		}
		var n int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM mailbox`).Scan(&n); err == nil {
			t.Errorf("%d mailboxes for a connection that was bound before", n)
		}
	}
	checkAccount(t, s, one)
}

// Who could get past row-level security is not served as.
func TestOpenChecksTheRole(t *testing.T) {
	c := storetest.Config(t)
	for _, dsn := range []string{c.OwnerDSN, c.SuperDSN} {
		s, err := store.Open(t.Context(), store.Options{DSN: dsn, Bucket: new(blobtest.Memory)})
		if err == nil {
			t.Errorf("served as %s", dsn)
			s.Close()
		} else if !strings.Contains(err.Error(), "serving role") {
			t.Errorf("refused because of %v", err)
		}
	}
}
