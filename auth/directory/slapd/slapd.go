// Package slapd runs Debian's slapd for tests, with a few people in it.
package slapd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Server is a slapd for one test: below Base are people whose passwords are "right", found by who binds as Account, with Secret.
type Server struct {
	URL, URLS string // of ldap and ldaps
	CA        string // PEM: who has signed its certificate

	t   *testing.T
	dir string
	run *exec.Cmd
	log *os.File
}

// What is in it.
const (
	Base    = "dc=acme,dc=test"
	Account = "cn=search,dc=acme,dc=test"
	Secret  = "finder"
)

const people = `dn: dc=acme,dc=test
objectClass: dcObject
objectClass: organization
dc: acme
o: Acme

dn: cn=search,dc=acme,dc=test
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: search
userPassword: finder

dn: uid=jane,dc=acme,dc=test
objectClass: inetOrgPerson
uid: jane
cn: Jane
sn: Doe
mail: jane@acme.test
mail: jane.doe@acme.test
userPassword: right

dn: uid=joe*,dc=acme,dc=test
objectClass: inetOrgPerson
uid: joe*
cn: Joe
sn: Doe
mail: joe@acme.test
userPassword: right

dn: uid=none,dc=acme,dc=test
objectClass: inetOrgPerson
uid: none
cn: None
sn: Doe
mail: none@acme.test
`

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// SelfSigned writes a certificate for 127.0.0.1 with its key, and returns it.
func SelfSigned(t *testing.T, cert, key string) string {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(cert, text, 0o600), os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// New starts a server, which ends with the test.
func New(t *testing.T) *Server {
	t.Helper()
	for _, program := range []string{"/usr/sbin/slapd", "/usr/sbin/slapadd"} {
		if _, err := os.Stat(program); err != nil {
			t.Fatalf("%v: make test-deps installs it", err)
		}
	}
	s := &Server{t: t, dir: t.TempDir(), URL: "ldap://" + freePort(t), URLS: "ldaps://" + freePort(t)}
	in := func(name string) string { return filepath.Join(s.dir, name) }
	s.CA = SelfSigned(t, in("cert.pem"), in("key.pem"))
	config := fmt.Sprintf(`include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile %[1]s/pid
TLSCertificateFile %[1]s/cert.pem
TLSCertificateKeyFile %[1]s/key.pem
database mdb
directory %[1]s/db
suffix dc=acme,dc=test
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=search,dc=acme,dc=test" read by * none
`, s.dir)
	if err := errors.Join(os.Mkdir(in("db"), 0o700), os.WriteFile(in("slapd.conf"), []byte(config), 0o600)); err != nil {
		t.Fatal(err)
	}
	add := exec.CommandContext(t.Context(), "/usr/sbin/slapadd", "-q", "-f", in("slapd.conf"))
	add.Stdin = strings.NewReader(people)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	var err error
	if s.log, err = os.Create(in("log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		s.log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(in("log"))
			t.Logf("slapd: %s", text)
		}
	})
	s.Start()
	return s
}

// Start starts a server that was stopped.
func (s *Server) Start() {
	s.t.Helper()
	s.run = exec.Command("/usr/sbin/slapd", "-f", filepath.Join(s.dir, "slapd.conf"), "-h", s.URL+"/ "+s.URLS+"/", "-d", "0")
	s.run.Stdout, s.run.Stderr = s.log, s.log
	if err := s.run.Start(); err != nil {
		s.t.Fatal(err)
	}
	for range 500 {
		if c, err := net.Dial("tcp", strings.TrimPrefix(s.URLS, "ldaps://")); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatal("slapd does not listen")
}

// Stop kills the server, as a machine does that is gone.
func (s *Server) Stop() {
	if s.run != nil {
		s.run.Process.Kill()
		s.run.Wait()
		s.run = nil
	}
}
