// Package acmetest runs Pebble, Let's Encrypt's ACME server for tests, in the process of a test. It asks for real whether a name is the orderer's: by a
// resolver of its own, for which every name is on this machine.
package acmetest

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// Authority is a running server.
type Authority struct {
	Directory string // its URL
	CAFile    string // what its own certificate is signed by

	Orders atomic.Int64 // that it was given
	Away   atomic.Bool  // it hangs up on everybody
}

// Options say where it asks, and what it gives out.
type Options struct {
	HTTP, TLS net.Listener  // where http-01 and tls-alpn-01 are asked, of every name; nil: nowhere
	Lasts     time.Duration // each certificate
	Blocked   string        // a domain that it gives no certificates for
}

// Start starts an authority, which ends with the test.
func Start(t testing.TB, o Options) *Authority {
	t.Helper()
	for name, value := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": "0"} {
		t.Setenv(name, value)
	}
	logger, store := log.New(io.Discard, "", 0), db.NewMemoryStore()
	if o.Blocked != "" {
		if err := store.AddBlockedDomain(o.Blocked); err != nil {
			t.Fatal(err)
		}
	}
	profiles := map[string]ca.Profile{"default": {Description: "of the test", ValidityPeriod: uint64(o.Lasts / time.Second)}}
	signs := ca.New(logger, store, "", "ecdsa", 0, 1, profiles)
	asks := va.New(logger, port(o.HTTP), port(o.TLS), true, resolver(t), store)
	front := wfe.New(logger, store, asks, signs, []string{"acme.test"}, true, false, 1, 1)
	serves := front.Handler()
	a := new(Authority)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.Away.Load() {
			panic(http.ErrAbortHandler)
		}
		if strings.HasPrefix(r.URL.Path, "/order-plz") {
			a.Orders.Add(1)
		}
		serves.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	a.Directory, a.CAFile = server.URL+wfe.DirectoryPath, filepath.Join(t.TempDir(), "acme-ca.pem")
	if err := os.WriteFile(a.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// port is that of a listener; nobody is at the one that stands for none.
func port(l net.Listener) int {
	if l == nil {
		return 1
	}
	return l.Addr().(*net.TCPAddr).Port
}

// resolver returns the address of one, over TCP, for which every name is on this machine.
func resolver(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, asked *dns.Msg) {
		answer := new(dns.Msg).SetReply(asked)
		if q := asked.Question; len(q) == 1 && q[0].Qtype == dns.TypeA {
			answer.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)}}
		}
		w.WriteMsg(answer) // who asked and is gone does not miss it
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().String()
}
