package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailstead.dev/certificate/certtest"
	"mailstead.dev/store/storetest"
)

// Certificates in the place of others, in files.
func TestCertificatesRotate(t *testing.T) {
	cert, key, _ := certificateIn(t, t.TempDir())
	folder := t.TempDir()
	put := func() string {
		return certtest.Write(t, certtest.Pair(t, time.Hour, "imap.one.test"), filepath.Join(folder, "one"), "fullchain.pem", "privkey.pem")
	}
	first := put()
	s := newServing(t, map[string]string{"imap.listen_tls": "127.0.0.1:0", "tls.cert_file": cert, "tls.key_file": key, "tls.folder": folder})
	rotate(t, []*serving{s}, first, func() string {
		next := put()
		s.reload(nil)
		return next
	})
}

// Certificates in the place of others, in the database, on two front ends; at last the key that they are sealed by changes as well.
func TestKeptCertificatesRotate(t *testing.T) {
	dir := t.TempDir()
	cert, key, _ := certificateIn(t, dir)
	seal := filepath.Join(dir, "seal")
	old := certtest.SealKey()
	write := func(lines ...string) {
		if err := os.WriteFile(seal, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(old)
	settings := map[string]string{"imap.listen_tls": "127.0.0.1:0", "tls.cert_file": cert, "tls.key_file": key, "tls.seal_file": seal}
	one := newServing(t, settings)
	two := one.newServing(settings)
	one.environ = append(one.environ, "MAILSTEAD_TLS_CERT_FILE="+cert, "MAILSTEAD_TLS_KEY_FILE="+key, "MAILSTEAD_TLS_SEAL_FILE="+seal)
	put := func() string {
		shown := certtest.Write(t, certtest.Pair(t, time.Hour, "imap.one.test"), dir, "chain.pem", "private.pem")
		one.want(fmt.Sprintf("certificate add %s/chain.pem %s/private.pem --domain one.test", dir, dir), "is shown for imap.one.test")
		return shown
	}
	storetest.Domain(t, one.store, "one.test", "one.test")
	first := put()
	n := 0
	rotate(t, []*serving{one, two}, first, func() string {
		if n++; n < 3 {
			return put()
		}
		anew := certtest.SealKey()
		write(anew, old)
		one.reload(nil)
		two.reload(nil)
		one.want("certificate reseal", "Sealed anew: 1.")
		write(anew)
		for _, s := range []*serving{one, two} {
			s.reload(nil)
			if c, err := dialIMAPS(s); err != nil { // it knows what was sealed anew, however short a time ago
				t.Error(err)
			} else {
				c.Close()
			}
		}
		one.want("certificate reseal", "Sealed anew: 0.")
		return put()
	})
	for _, secret := range []string{old, "PRIVATE KEY"} {
		if strings.Contains(one.log.String()+two.log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// dialIMAPS connects to a front end as a client of imap.one.test.
func dialIMAPS(s *serving) (*tls.Conn, error) {
	return tls.Dial("tcp", s.address("imaps"), &tls.Config{ServerName: "imap.one.test", InsecureSkipVerify: true}) // which certificate it is, is what the test is about
}

// rotate starts front ends, which show a certificate for imap.one.test, and has others put in its place while 200 connections are open, none of which is dropped.
func rotate(t *testing.T, servings []*serving, first string, next func() string) {
	t.Helper()
	storetest.Account(t, servings[0].store, "a@one.test")
	for _, s := range servings {
		s.start(nil)
		s.hears("READY=1")
	}
	connect := func(s *serving) (*peer, string) {
		c, err := dialIMAPS(s)
		if err != nil {
			t.Error(err)
			return nil, ""
		}
		t.Cleanup(func() { c.Close() })
		return &peer{c, t, bufio.NewReader(c)}, string(c.ConnectionState().PeerCertificates[0].Raw)
	}
	open := make([]*peer, 200)
	var opening sync.WaitGroup
	for n := range open {
		opening.Go(func() {
			p, shown := connect(servings[n%len(servings)])
			if shown != first {
				t.Error("another certificate is shown")
			}
			if open[n] = p; p != nil {
				fmt.Fprintf(p, "a LOGIN a@one.test %s\r\n", storetest.Password)
			}
		})
	}
	opening.Wait()
	if slices.Contains(open, nil) {
		t.FailNow()
	}
	for _, p := range open {
		p.await("a OK")
	}
	for range 3 {
		want := next()
		for _, s := range servings {
			began := time.Now()
			for !t.Failed() {
				p, shown := connect(s)
				if p != nil {
					p.Close()
				}
				if shown == want {
					break
				}
				if time.Since(began) > patience {
					t.Error("another certificate is shown")
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
		for _, p := range open {
			p.say("b NOOP\r\n")
		}
		for _, p := range open {
			p.await("b OK")
		}
	}
}

func TestCertificateCommands(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	cert, key, _ := certificateIn(t, t.TempDir())
	seal := filepath.Join(dir, "seal")
	if err := os.WriteFile(seal, []byte(certtest.SealKey()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	write := func(name string, pair tls.Certificate) string {
		certtest.Write(t, pair, dir, name, name+".key")
		return fmt.Sprintf("certificate add %[1]s/%[2]s %[1]s/%[2]s.key", dir, name)
	}
	imap := write("imap", certtest.Pair(t, 48*time.Hour, "imap.One.test", "mail.one.test"))
	s.refuse(imap, "tls.seal_file is not set")
	s.environ = append(s.environ, "MAILSTEAD_TLS_CERT_FILE="+cert, "MAILSTEAD_TLS_KEY_FILE="+key, "MAILSTEAD_TLS_SEAL_FILE="+seal)
	s.want("certificate list --json", "[]")
	s.refuse(imap+" --domain one.test", "no such domain")
	storetest.Domain(t, s.store, "one", "one.test")
	storetest.Domain(t, s.store, "two", "two.test")
	s.want(imap+" --domain one.test", "is shown for imap.one.test, mail.one.test, until "+day(time.Now().Add(48*time.Hour)))
	s.refuse(write("other", certtest.Pair(t, time.Hour, "imap.two.test"))+" --domain one.test", `name "imap.two.test": want one of the domain`)
	s.refuse(write("like", certtest.Pair(t, time.Hour, "imapone.test"))+" --domain one.test", "want one of the domain")
	s.refuse(write("taken", certtest.Pair(t, time.Hour, "imap.one.test", "mail.one.test")), "another domain's")
	s.refuse(write("ended", certtest.Pair(t, -time.Minute, "imap.one.test")), "it has ended")
	s.refuse(write("later", certtest.Later(t, 48*time.Hour, "imap.one.test")), "it does not begin before")
	s.refuse(write("nameless", certtest.Pair(t, time.Hour)), "it has no name")
	s.refuse(fmt.Sprintf("certificate add %[1]s/imap %[1]s/other.key", dir), "private key does not match")
	s.want(write("wild", certtest.Pair(t, time.Hour, "*.two.test"))+" --domain two.test", "*.two.test")
	s.want(write("rest", certtest.RSA(t, time.Hour, "mail.test")), "mail.test")
	var views []certificateView
	if err := json.Unmarshal([]byte(s.want("certificate list --json", `"source": "added"`)), &views); err != nil || len(views) != 3 {
		t.Fatalf("%+v, %v", views, err)
	}
	s.want("certificate list", "imap.one.test, mail.one.test")
	s.refuse(fmt.Sprint("certificate delete ", views[2].ID), "repeat with --yes")
	s.want(fmt.Sprint("certificate delete --yes ", views[2].ID), "is gone")
	s.refuse(fmt.Sprint("certificate delete --yes ", views[2].ID), "no such certificate")
	s.refuse("certificate delete --yes imap.one.test", "want its id")
	s.want("domain delete two.test --yes", "")
	s.want("certificate list", "one.test")
	if out := s.want("certificate list --json", `"domain": "one.test"`); strings.Contains(out, "two.test") {
		t.Errorf("a certificate has outlived its domain: %s", out)
	}
	s.want("audit list one", "certificate.set")
	s.want("tenant delete one --yes", "")
	s.want("certificate list --json", "[]")
}
