// Package certtest makes certificates for tests.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Pair makes a certificate for names that lasts so long, with a key of ECDSA.
func Pair(t testing.TB, lasts time.Duration, names ...string) tls.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return of(t, private, private.Public(), time.Now().Add(-time.Hour), lasts, names)
}

// Later is Pair of one that begins in an hour.
func Later(t testing.TB, lasts time.Duration, names ...string) tls.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return of(t, private, private.Public(), time.Now().Add(time.Hour), lasts, names)
}

// RSA is Pair with a key of RSA.
func RSA(t testing.TB, lasts time.Duration, names ...string) tls.Certificate {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return of(t, private, private.Public(), time.Now().Add(-time.Hour), lasts, names)
}

func of(t testing.TB, private, public any, begins time.Time, lasts time.Duration, names []string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: begins, NotAfter: time.Now().Add(lasts), DNSNames: names}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}
}

// Write writes a certificate into files of a folder, and returns it as clients see it.
func Write(t testing.TB, pair tls.Certificate, dir, cert, key string) (shown string) {
	t.Helper()
	secret, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return string(pair.Certificate[0])
}

// SealKey is a line of tls.seal_file, drawn by chance.
func SealKey() string {
	key := make([]byte, 32)
	rand.Read(key)
	return base64.StdEncoding.EncodeToString(key)
}
