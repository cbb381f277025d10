package testdb

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// SetAway takes the database away from all but its superuser, or gives it
// back: who is connected is cut off, and nobody else is let in.
func (c *Cluster) SetAway(t testing.TB, away bool) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.SuperDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	limit := "-1"
	if away {
		limit = "0"
	}
	if _, err := conn.Exec(t.Context(), `ALTER DATABASE `+c.Database+` CONNECTION LIMIT `+limit); err != nil {
		t.Fatal(err)
	}
	if !away {
		return
	}
	if _, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
}

// Relay leads to the S3 server, unless it is away.
type Relay struct {
	Endpoint string // host:port

	to string

	mu    sync.Mutex // guards what follows
	away  bool
	conns map[net.Conn]struct{}
}

// Relay starts a relay to the cluster's S3 server, which ends with the test.
func (c *Cluster) Relay(t testing.TB) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Endpoint: l.Addr().String(), to: c.Endpoint, conns: make(map[net.Conn]struct{})}
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the end of the test
			}
			connections.Go(func() { r.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.SetAway(true)
		connections.Wait()
	})
	return r
}

// SetAway breaks all connections and takes no more, or takes them again.
func (r *Relay) SetAway(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
	if away {
		for conn := range r.conns {
			conn.Close()
		}
	}
}

// serve relays one connection until one side ends it.
func (r *Relay) serve(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer to.Close()
	if !r.add(from, to) {
		return
	}
	defer r.remove(from, to)
	var back sync.WaitGroup
	back.Go(func() { relay(from, to) })
	relay(to, from)
	back.Wait()
}

// relay copies until the end, and ends both: HTTP keeps no connection open in one direction.
func relay(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	// A connection that breaks is what a relay is for.
	_, _ = io.Copy(to, from)
}

func (r *Relay) add(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return false
	}
	for _, conn := range conns {
		r.conns[conn] = struct{}{}
	}
	return true
}

func (r *Relay) remove(conns ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range conns {
		delete(r.conns, conn)
	}
}
