package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/store/storetest"
)

// certificateFor writes a certificate for names into a folder, and returns it as clients see it.
func certificateFor(t *testing.T, dir, cert, key string, lasts time.Duration, names ...string) (shown string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts), DNSNames: names}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return string(der)
}

// Clients are shown the certificate of the name that they ask for.
func TestCertificateByName(t *testing.T) {
	dir := t.TempDir()
	rest := certificateFor(t, dir, "cert.pem", "key.pem", 3*time.Hour, "mail.test")
	folder := filepath.Join(dir, "live")
	one := certificateFor(t, filepath.Join(folder, "one"), "fullchain.pem", "privkey.pem", time.Hour, "imap.one.test", "Mail.One.test")
	wild := certificateFor(t, filepath.Join(folder, "two"), "tls.crt", "tls.key", 2*time.Hour, "*.two.test", "two.test")
	later := certificateFor(t, filepath.Join(folder, "later"), "tls.crt", "tls.key", 4*time.Hour, "imap.one.test")
	if err := os.WriteFile(filepath.Join(folder, "README"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var c certificates
	files := config.TLS{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), Folder: folder}
	if err := c.read(files); err != nil {
		t.Fatal(err)
	}
	shown := func(name string) string {
		t.Helper()
		return string(c.current.Load().choose(&tls.ClientHelloInfo{
			ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		}).Leaf.Raw)
	}
	for name, want := range map[string]string{
		"": rest, "mail.test": rest, "other.test": rest, "imap.one.test": later, "IMAP.one.test": later, "mail.one.test": one, "one.test": rest,
		"two.test": wild, "a.two.test": wild, "a.b.two.test": rest,
	} {
		if shown(name) != want {
			t.Errorf("%q is shown another", name)
		}
	}
	if left := time.Until(c.current.Load().ends); left > time.Hour || left < 59*time.Minute {
		t.Errorf("the first ends in %v", left)
	}
	for name, spoil := range map[string]func() error{
		"no key": func() error { return os.Remove(filepath.Join(folder, "two", "tls.key")) },
		"no name": func() error {
			certificateFor(t, filepath.Join(folder, "two"), "tls.crt", "tls.key", time.Hour)
			return nil
		},
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if err := c.read(files); err == nil || shown("two.test") != wild {
			t.Errorf("%s: %v, and another is shown: %t", name, err, shown("two.test") != wild)
		}
	}
}

// Certificates are put in the place of others while 200 connections are open, none of which is dropped.
func TestCertificatesRotate(t *testing.T) {
	cert, key, _ := certificateIn(t, t.TempDir())
	folder := t.TempDir()
	first := certificateFor(t, filepath.Join(folder, "one"), "fullchain.pem", "privkey.pem", time.Hour, "imap.one.test")
	s := newServing(t, map[string]string{"imap.listen_tls": "127.0.0.1:0", "tls.cert_file": cert, "tls.key_file": key, "tls.folder": folder})
	storetest.Account(t, s.store, "a@one.test")
	s.start(nil)
	s.hears("READY=1")
	connect := func(shown string) *peer {
		c, err := tls.Dial("tcp", s.address("imaps"), &tls.Config{ServerName: "imap.one.test", InsecureSkipVerify: true}) // which one it is, is what the test is about
		if err != nil {
			t.Error(err)
			return nil
		}
		t.Cleanup(func() { c.Close() })
		if got := string(c.ConnectionState().PeerCertificates[0].Raw); got != shown {
			t.Error("another certificate is shown")
		}
		return &peer{c, t, bufio.NewReader(c)}
	}
	open := make([]*peer, 200)
	var opening sync.WaitGroup
	for n := range open {
		opening.Go(func() {
			if open[n] = connect(first); open[n] != nil {
				fmt.Fprintf(open[n], "a LOGIN a@one.test %s\r\n", storetest.Password)
			}
		})
	}
	opening.Wait()
	for _, p := range open {
		p.await("a OK")
	}
	for range 3 {
		next := certificateFor(t, filepath.Join(folder, "one"), "fullchain.pem", "privkey.pem", time.Hour, "imap.one.test")
		s.reload(nil)
		connect(next)
		for _, p := range open {
			p.say("b NOOP\r\n")
		}
		for _, p := range open {
			p.await("b OK")
		}
	}
}
