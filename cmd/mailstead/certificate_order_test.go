package main

import (
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailstead.dev/certificate"
	"mailstead.dev/certificate/acmetest"
	"mailstead.dev/certificate/certtest"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// balance passes connections on to what leads somewhere by then, in turns.
func balance(t *testing.T, to *atomic.Pointer[[]string]) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var passing sync.WaitGroup
	t.Cleanup(func() { l.Close(); passing.Wait() })
	passing.Go(func() {
		for turn := 0; ; turn++ {
			from, err := l.Accept()
			if err != nil {
				return // the end of the test
			}
			passing.Go(func() {
				defer from.Close()
				addresses := *to.Load()
				c, err := net.Dial("tcp", addresses[turn%len(addresses)])
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				passing.Go(func() { io.Copy(c, from); c.(*net.TCPConn).CloseWrite() })
				io.Copy(from, c)
			})
		}
	})
	return l
}

// proofsAreBounded sees that strangers who say nothing take neither all descriptors of the process, nor the place of who asks.
func proofsAreBounded(t *testing.T, address string) {
	t.Helper()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	silent := make([]net.Conn, 100)
	for n := range silent {
		silent[n] = dial()
	}
	var asking sync.WaitGroup
	for n := range 20 { // each has one of the silent ones closed, at the most: those before have their answer
		asking.Go(func() {
			asks := dial()
			if _, err := io.WriteString(asks, "GET / HTTP/1.1\r\nHost: one.test\r\n\r\n"); err != nil {
				t.Error(err)
			}
			asks.SetReadDeadline(time.Now().Add(5 * time.Second)) // silent ones are closed after 10
			if answer, err := io.ReadAll(asks); err != nil || !strings.Contains(string(answer), "Connection: close\r\n") {
				t.Errorf("number %d that asks: %q, %v", n, answer, err)
			}
		})
	}
	asking.Wait()
	ended := 0
	for n, c := range silent {
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			ended++
			if ended != n+1 {
				t.Errorf("%d has ended before one that came sooner", n)
			}
		}
	}
	if ended == 0 || ended > 20 {
		t.Errorf("%d that say nothing have ended, want some of the first 20", ended)
	}
}

// A certificate that an operator has ordered, of an ACME server that asks either of two front ends, is shown by both.
func TestCertificateOrdered(t *testing.T) {
	dir := t.TempDir()
	cert, key, _ := certificateIn(t, dir)
	seal := filepath.Join(dir, "seal")
	if err := os.WriteFile(seal, []byte(certtest.SealKey()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var fronts atomic.Pointer[[]string]
	authority := acmetest.Start(t, acmetest.Options{HTTP: balance(t, &fronts), Lasts: time.Hour})
	settings := map[string]string{
		"roles": "[imap, maintenance, admin]", "imap.listen_tls": "127.0.0.1:0", "tls.cert_file": cert, "tls.key_file": key, "tls.seal_file": seal,
		"acme.directory": authority.Directory, "acme.agree": "true", "acme.ca_file": authority.CAFile, "acme.listen": "127.0.0.1:0",
	}
	one := newServing(t, settings)
	two := one.newServing(settings)
	one.environ = append(one.environ, "MAILSTEAD_TLS_CERT_FILE="+cert, "MAILSTEAD_TLS_KEY_FILE="+key, "MAILSTEAD_TLS_SEAL_FILE="+seal)
	one.refuse("certificate order imap.one.test", "acme.directory is not set")
	without := one.environ
	one.environ = append(slices.Clip(without), "MAILSTEAD_ACME_DIRECTORY="+authority.Directory, "MAILSTEAD_ACME_AGREE=true")
	storetest.Domain(t, one.store, "one.test", "one.test")
	one.want("certificate orders --json", "[]")
	one.refuse("certificate order imap.two.test --domain one.test", "want one of the domain")
	one.refuse("certificate order *.one.test", "want a host name")
	one.want("certificate order imap.one.test --domain one.test", "Certificates are ordered for imap.one.test.")
	one.refuse("certificate order imap.one.test", "for another domain, or for none")
	one.want("certificate orders", "imap.one.test")
	var addresses []string
	for _, s := range []*serving{one, two} {
		s.start(nil)
		s.hears("READY=1")
		addresses = append(addresses, s.address("acme"))
	}
	fronts.Store(&addresses)
	for _, s := range []*serving{one, two} {
		shown := func() *x509.Certificate {
			c, err := dialIMAPS(s)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			return c.ConnectionState().PeerCertificates[0]
		}
		for began := time.Now(); shown().VerifyHostname("imap.one.test") != nil; time.Sleep(100 * time.Millisecond) {
			if time.Since(began) > 3*patience {
				t.Fatalf("none is shown: %s\n%s\n%s", one.want("certificate orders", ""), one.log, two.log)
			}
		}
	}
	if n := authority.Orders.Load(); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	one.want("certificate list", "acme")
	one.want("audit list one.test", "certificate.order")
	metrics := one.get("/metrics", 200) + two.get("/metrics", 200)
	if !strings.Contains(metrics, "mailstead_certificates_ordered_total 1") || strings.Contains(metrics, "mailstead_certificate_orders_failed_total 1") {
		t.Errorf("the metrics are\n%s", metrics)
	}
	proofsAreBounded(t, one.address("acme"))

	// What is sealed anew does not depend on which authority is asked now, nor on where the command is run.
	one.environ = without
	const elsewhere = "https://other.test/directory"
	seals, err := certificate.ReadSeals(seal)
	if err != nil {
		t.Fatal(err)
	}
	other, err := seals.NewAccount(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	if err := one.store.SetOrderAccount(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	anew := certtest.SealKey()
	old, err := os.ReadFile(seal)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(seal, []byte(anew+"\n"+string(old)), 0o600); err != nil {
		t.Fatal(err)
	}
	one.want("certificate reseal", "Sealed anew: 3.")
	one.want("certificate reseal", "Sealed anew: 0.")
	one.want("certificate cancel Imap.one.test", "No more")
	one.refuse("certificate cancel imap.one.test", "no such order")
	one.want("certificate list", "acme")

	// What seals is lost: the account is made anew where an operator says so.
	if err := os.WriteFile(seal, []byte(certtest.SealKey()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	account := func(at string) store.OrderAccount {
		t.Helper()
		a, err := one.store.OrderAccount(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	before := account(authority.Directory)
	if before.URI == "" {
		t.Error("there is no account")
	}
	for _, at := range []string{authority.Directory, elsewhere} {
		one.refuse("certificate reseal", "account at "+at+": it is sealed by a key that is not in tls.seal_file")
	}
	if now := account(authority.Directory); now.URI != before.URI || now.SealedBy != before.SealedBy {
		t.Error("the account is another")
	}
	one.refuse("certificate reseal --new-account", "certificate ") // which is lost as well
	for _, at := range []string{authority.Directory, elsewhere} {
		if now := account(at); now.URI != "" || now.SealedBy == before.SealedBy {
			t.Errorf("the account at %s is the same", at)
		}
	}
}
