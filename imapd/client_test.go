package imapd

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailstead.dev/auth"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
)

// client is the other end of a connection: lines out, lines in.
type client struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

func newClient(t testing.TB, nc net.Conn) *client {
	t.Cleanup(func() { nc.Close() })
	return &client{t, nc, bufio.NewReader(nc)}
}

// send sends a line, or several.
func (c *client) send(line string) {
	c.t.Helper()
	if _, err := c.nc.Write([]byte(line + "\r\n")); err != nil {
		c.t.Fatalf("sending %.80q: %v", line, err)
	}
}

// line receives a line.
func (c *client) line() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("waiting for a line: %q, %v", line, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// expect receives a line; want may end with "...".
func (c *client) expect(want string) {
	c.t.Helper()
	if got := c.line(); !matches(got, want) {
		c.t.Fatalf("got  %q\nwant %q", got, want)
	}
}

// expectClosed demands that the server has closed the connection.
func (c *client) expectClosed() {
	c.t.Helper()
	if line, err := c.r.ReadString('\n'); err == nil {
		c.t.Fatalf("got %q instead of the end of the connection", line)
	}
}

// matches compares a line with one that may be open at its end.
func matches(got, want string) bool {
	if open, ok := strings.CutSuffix(want, "..."); ok {
		return strings.HasPrefix(got, open)
	}
	return got == want
}

// logins is a directory without a store: its accounts, all with the password "pass".
type logins map[string]store.User

func (l logins) LookupLoginFrom(_ context.Context, login string, _ netip.Addr) (store.Login, error) {
	switch u, ok := l[login]; {
	case login == "bug":
		panic("a bug")
	case login == "away":
		return store.Login{}, store.ErrUnavailable
	case login == "disabled":
		return store.Login{Password: storetest.Secret, Disabled: true}, nil
	case login == "broken":
		return store.Login{}, errors.New("broken")
	case login == "unknown":
		return store.Login{}, store.ErrOutcomeUnknown
	case ok:
		return store.Login{User: u, Password: storetest.Secret, Standing: store.Standing{Tenant: u.Tenant, Account: u.Account}}, nil
	}
	return store.Login{}, store.ErrNoAccount
}

func (l logins) ActAs(_ context.Context, actor store.User, login string) (store.User, store.Standing, error) {
	if actor.Login != login {
		return store.User{}, store.Standing{}, store.ErrActAs
	}
	return actor, store.Standing{}, nil
}

func (logins) UpgradePassword(context.Context, store.User, string, string) error { return nil }
func (logins) UsedAppPassword(context.Context, store.User, id.AppPassword) error { return nil }
func (logins) Revocations(context.Context, string) ([]store.Revocation, string, error) {
	return nil, "", nil
}

func (logins) Issuers(context.Context, id.Tenant) ([]store.Issuer, error) { return nil, nil }
func (logins) LoginSecret(context.Context) ([]byte, error)                { return []byte("secret"), nil }
func (logins) BeginOTP(context.Context, string) (store.OTPExchange, error) {
	return store.OTPExchange{}, nil
}
func (logins) EndOTP(context.Context, store.OTPExchange) (bool, error) { return true, nil }
func (logins) UseOTP(context.Context, store.User, store.OneTimePassword, store.OneTimePassword) (bool, error) {
	return false, nil
}
func (logins) MeetGuest(context.Context, store.User, store.Home) error { return store.ErrNoGuest }
func (logins) NoteFailedLogin(context.Context, store.FailedLogin) ([]store.Block, error) {
	return nil, nil
}

func (logins) CreateAccount(context.Context, store.NewAccount) (store.Account, error) {
	return store.Account{}, store.ErrNoDomain
}

func (logins) NoteKnownAddresses(context.Context, id.Tenant, []store.KnownAddress) error { return nil }

// authenticate returns an authenticator for a directory that leaves no goroutine behind.
func authenticate(d auth.Directory) *auth.Authenticator {
	return auth.New(d, auth.Options{CacheTTL: -1})
}

// testOptions are for a server without a store that could be asked anything.
func testOptions(t testing.TB) Options {
	return Options{
		Store:          new(store.Store),
		Authenticator:  authenticate(logins{"user": {Tenant: 1, Account: 1, Login: "user"}, "second": {Tenant: 1, Account: 2, Login: "second"}}),
		Logger:         slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		PlaintextLogin: true,
		LoginDelay:     -1,
	}
}

// listen serves on a port of its own until the end of the test.
func listen(t testing.TB, s *Server, serve func(net.Listener) error) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != ErrServerClosed {
			t.Errorf("Serve returned %v", err)
		}
	})
	return l.Addr().String()
}

// start serves with the options and returns how to connect.
func start(t testing.TB, o Options) (s *Server, connect func() *client) {
	s = New(o)
	addr := listen(t, s, s.Serve)
	return s, func() *client { return dial(t, addr) }
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(3 * time.Minute))
	return newClient(t, nc)
}

// testTLS returns both sides of TLS with a certificate of its own.
func testTLS(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"mail.test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}}},
		&tls.Config{RootCAs: pool, ServerName: "mail.test"}
}

// startOverTLS is start where logins need TLS, which connect begins.
func startOverTLS(t testing.TB) (connect func() *client) {
	o := testOptions(t)
	serverTLS, clientTLS := testTLS(t)
	o.TLS, o.PlaintextLogin = serverTLS, false
	_, connectPlain := start(t, o)
	return func() *client { return connectPlain().secure(clientTLS) }
}

// secure reads the greeting and begins TLS.
func (c *client) secure(config *tls.Config) *client {
	c.t.Helper()
	c.expect("* OK ...")
	c.send("s STARTTLS")
	c.expect("s OK ...")
	return c.startTLS(config)
}

// startTLS begins TLS on the client's side.
func (c *client) startTLS(config *tls.Config) *client {
	c.t.Helper()
	tc := tls.Client(c.nc, config)
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	return newClient(c.t, tc)
}
