package certificate

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailstead.dev/certificate/certtest"
)

// handshake returns the certificate that a client is shown that asks for a name, and takes ECDSA alone.
func handshake(t *testing.T, s *Shown, name string) (shown string, err error) {
	t.Helper()
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	failed := make(chan error, 1)
	go func() {
		server := tls.Server(there, s.Config(false))
		failed <- server.HandshakeContext(t.Context())
	}()
	client := tls.Client(here, &tls.Config{
		ServerName: name, InsecureSkipVerify: true, // which one it is, is what the test is about
		MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	})
	err = client.HandshakeContext(t.Context())
	if here.Close(); err != nil {
		return "", errors.Join(err, <-failed)
	}
	return string(client.ConnectionState().PeerCertificates[0].Raw), <-failed
}

func shownBy(t *testing.T, s *Shown, name string) string {
	t.Helper()
	shown, err := handshake(t, s, name)
	if err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	return shown
}

// Clients are shown the certificate of the name that they ask for.
func TestCertificateByName(t *testing.T) {
	dir := t.TempDir()
	rest := certtest.Write(t, certtest.Pair(t, 3*time.Hour, "mail.test"), dir, "cert.pem", "key.pem")
	folder := filepath.Join(dir, "live")
	one := certtest.Write(t, certtest.Pair(t, time.Hour, "imap.one.test", "Mail.One.test"), filepath.Join(folder, "one"), "fullchain.pem", "privkey.pem")
	wild := certtest.Write(t, certtest.Pair(t, 2*time.Hour, "*.two.test", "two.test"), filepath.Join(folder, "two"), "tls.crt", "tls.key")
	later := certtest.Write(t, certtest.Pair(t, 4*time.Hour, "imap.one.test"), filepath.Join(folder, "later"), "tls.crt", "tls.key")
	if err := os.WriteFile(filepath.Join(folder, "README"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var c Shown
	files := Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Folder: folder}
	if err := c.Read(files); err != nil {
		t.Fatal(err)
	}
	shown := func(name string) string {
		t.Helper()
		return shownBy(t, &c, name)
	}
	for name, want := range map[string]string{
		"": rest, "mail.test": rest, "other.test": rest, "imap.one.test": later, "IMAP.one.test": later, "mail.one.test": one, "one.test": rest,
		"two.test": wild, "a.two.test": wild, "a.b.two.test": rest,
	} {
		if shown(name) != want {
			t.Errorf("%q is shown another", name)
		}
	}
	if left := time.Until(c.Ends()); left > time.Hour || left < 59*time.Minute {
		t.Errorf("the first ends in %v", left)
	}
	for name, spoil := range map[string]func() error{
		"no key": func() error { return os.Remove(filepath.Join(folder, "two", "tls.key")) },
		"no name": func() error {
			certtest.Write(t, certtest.Pair(t, time.Hour), filepath.Join(folder, "two"), "tls.crt", "tls.key")
			return nil
		},
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if err := c.Read(files); err == nil || shown("two.test") != wild {
			t.Errorf("%s: %v, and another is shown: %t", name, err, shown("two.test") != wild)
		}
	}
}
