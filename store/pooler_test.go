package store_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/deploy/local"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// pooler passes everything on between stores and the database, until it is
// told to lose a server: then the server does what it was asked to, its answer is
// lost, and the client hears of it in the pooler's own words, as PgBouncer does.
type pooler struct {
	listener net.Listener
	socket   string
	lose     atomic.Pointer[string] // text of the statement whose answer is lost; nil: none
	work     sync.WaitGroup
}

func newPooler(t *testing.T, folder string) *pooler {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := filepath.Glob(filepath.Join(folder, ".s.PGSQL.*[0-9]"))
	if err != nil || len(sockets) != 1 {
		t.Fatalf("sockets in %s: %v, %v", folder, sockets, err)
	}
	p := &pooler{listener: l, socket: sockets[0]}
	p.work.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			p.work.Go(func() { p.pass(client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.work.Wait()
	})
	return p
}

func (p *pooler) dsn(t *testing.T, database string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(p.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	q := url.Values{"host": {host}, "port": {port}, "user": {local.ServingRole}, "sslmode": {"disable"}}
	return "postgres:///" + database + "?" + q.Encode()
}

func (p *pooler) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.socket)
	if err != nil {
		return // the client sees its connection close
	}
	defer server.Close()
	var losing atomic.Bool
	var there sync.WaitGroup
	there.Go(func() {
		defer server.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := client.Read(buffer)
			if err != nil {
				return
			}
			if text := p.lose.Load(); text != nil && bytes.Contains(buffer[:n], []byte(*text)) {
				losing.Store(true)
			}
			if _, err := server.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			break
		}
		if !losing.Load() {
			if _, err := client.Write(buffer[:n]); err != nil {
				break
			}
			continue
		}
		// ReadyForQuery, outside a transaction: the server has committed.
		if bytes.HasSuffix(buffer[:n], []byte("Z\x00\x00\x00\x05I")) {
			const fields = "SFATAL\x00VFATAL\x00C08P01\x00Mserver conn crashed?\x00\x00"
			_, _ = io.WriteString(client, "E\x00\x00\x00"+string(rune(len(fields)+4))+fields)
			break
		}
	}
	client.Close()
	there.Wait()
}

// A pooler that has lost the server does not know what the server has done,
// and so nobody is told that it was nothing.
func TestPoolerLosesTheServer(t *testing.T) {
	c := storetest.Config(t)
	p := newPooler(t, c.Socket)
	s := storetest.Open(t, c, func(o *store.Options) {
		o.ListenDSN, o.DSN, o.PgBouncer = o.DSN, p.dsn(t, c.Database), true
		o.MaxConns = 1
	})
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 3)
	flag(t, m, set(1), view.Add, view.Seen) // the statements are known from here on
	viewOf(t, m)
	flags := view.Seen
	for statement, do := range map[string]func() error{
		"append_messages": func() error { _, err := m.Append(t.Context(), incoming(m, 4)); return err },
		"write_record": func() error {
			flags ^= view.Flagged // another one each time
			_, err := m.SetFlags(t.Context(), store.FlagChange{UIDs: set(2), Mode: view.Replace, Flags: flags, UnchangedSince: -1})
			return err
		},
	} {
		before := retried(t, m).ModSeq()
		if err := do(); err != nil { // over a connection that knows the statement
			t.Fatal(err)
		}
		p.lose.Store(&statement)
		err := do()
		p.lose.Store(nil)
		after := retried(t, m).ModSeq()
		if after != before+2 {
			t.Errorf("%s: at MODSEQ %d after %d, so that no answer was lost", statement, after, before)
		}
		if !errors.Is(err, store.ErrOutcomeUnknown) {
			t.Errorf("%s: %v, want %v", statement, err, store.ErrOutcomeUnknown)
		}
	}
	checkAccount(t, s, u)
}

// Behind a pooler a transaction is bounded as it is without one.
func TestPoolerBounds(t *testing.T) {
	c := storetest.Config(t)
	p := newPooler(t, c.Socket)
	s := storetest.Open(t, c, func(o *store.Options) {
		o.ListenDSN, o.DSN, o.PgBouncer = o.DSN, p.dsn(t, c.Database), true
	})
	u := storetest.Account(t, s, "a@one.test")
	const query = `SELECT current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')`
	var statement, lock, idle string
	check := func(how string, err error) {
		t.Helper()
		if err != nil || statement != "1min" || lock != "30s" || idle != "1min" {
			t.Errorf("%s: statement_timeout %s, lock_timeout %s, idle_in_transaction_session_timeout %s, %v", how, statement, lock, idle, err)
		}
		statement, lock, idle = "", "", ""
	}
	check("batch", s.Batch(t.Context(), u.Tenant, func(b *pgx.Batch) {
		b.Queue(query).QueryRow(func(row pgx.Row) error { return row.Scan(&statement, &lock, &idle) })
	}))
	check("transaction", s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), query).Scan(&statement, &lock, &idle)
	}))
}
