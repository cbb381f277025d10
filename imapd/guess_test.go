package imapd

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"mailstead.dev/auth"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/storetest/testdb"
)

// A program that tries many passwords, from one address and from fifty, on two front ends, is stopped, and does not get in with the right one then. Its
// user does, from another address, and from one that they have used before also where others fail.
func TestGuessing(t *testing.T) {
	cluster := storetest.Config(t)
	var addresses []string
	var users []store.User
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer running.Wait()
	defer stop()
	for n := range 2 {
		s := storetest.Open(t, cluster)
		if n == 0 {
			users = []store.User{storetest.Account(t, s, "one@guess.test"), storetest.Account(t, s, "fifty@guess.test")}
		}
		o := testOptions(t)
		o.Store, o.Logger, o.Authenticator = s, nil, auth.New(s, auth.Options{})
		running.Go(func() { o.Authenticator.Watch(ctx) }) // it ends with ctx, without an error
		server := New(o)
		addresses = append(addresses, listen(t, server, server.Serve))
	}
	login := func(from, to, login, password string) string {
		t.Helper()
		c := dialFrom(t, from, to)
		defer c.nc.Close()
		c.expect("* OK ...")
		c.send("a LOGIN " + login + " " + password)
		return strings.Join(strings.Fields(c.line())[1:3], " ")
	}
	const own = "127.0.98.1"
	const right, wrong, blocked = "OK [CAPABILITY", "NO [AUTHENTICATIONFAILED]", "NO [LIMIT]"
	for n, test := range []struct {
		from, most int // addresses, and guesses that are tried
	}{{1, 30}, {50, 50 + 50*3 + 20}} {
		user := users[n].Login
		from := func(n int) string { return fmt.Sprintf("127.0.%d.%d", test.from, n%test.from+1) }
		if got := login(own, addresses[0], user, storetest.Password); got != right {
			t.Fatalf("the user's own address: %s", got)
		}
		awaitKnown(t, cluster, user, own)
		var mu sync.Mutex
		answers := make(map[string]int)
		var guessing sync.WaitGroup
		for worker := range 20 {
			guessing.Go(func() {
				for guess := worker; guess < *guesses; guess += 20 {
					answer := login(from(guess), addresses[guess/50%2], user, fmt.Sprint("guess", guess))
					mu.Lock()
					answers[answer]++
					mu.Unlock()
				}
			})
		}
		guessing.Wait()
		t.Logf("from %d: %v", test.from, answers)
		if answers[wrong]+answers[blocked] != *guesses || answers[wrong] > test.most {
			t.Errorf("from %d addresses: %v", test.from, answers)
		}
		c := dialFrom(t, from(2), addresses[1]) // with the right password in the end
		c.expect("* OK ...")
		c.send("a LOGIN " + user + " " + storetest.Password)
		c.expect("a NO [LIMIT] Too many failed logins, try again later")
		if got := login("127.0.99.1", addresses[1], user, storetest.Password); got != right {
			t.Errorf("from %d addresses, the user from another: %s", test.from, got)
		}
	}
	for range 5 {
		login(own, addresses[1], "nobody@guess.test", "x")
	}
	if got := login(own, addresses[1], "else@guess.test", storetest.Password); got != wrong {
		t.Errorf("somebody else from there: %s", got)
	}
	if got := login(own, addresses[0], users[1].Login, storetest.Password); got != right {
		t.Errorf("the user from an address that is known: %s", got)
	}
}

// awaitKnown waits until an address is known.
func awaitKnown(t *testing.T, c *testdb.Cluster, login, from string) {
	t.Helper()
	s := storetest.Open(t, c)
	await(t, func() bool {
		found, err := s.LookupLoginFrom(t.Context(), login, netip.MustParseAddr(from))
		return err == nil && !found.Known.IsZero()
	})
}

// dialFrom connects from an address of this machine.
func dialFrom(t testing.TB, from, to string) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(3 * time.Minute))
	return newClient(t, nc)
}

// A failed login is answered the later, the more have failed: of the connection, and of the address.
func TestFailedLoginsAreSlow(t *testing.T) {
	s := &session{conn: &conn{}}
	for _, test := range []struct {
		failed, before int
		want           time.Duration
	}{{0, 0, 1}, {1, 0, 2}, {2, 1, 4}, {0, 3, 4}, {0, 4, 8}, {0, 40, 8}, {30, 0, 8}} {
		s.failed = test.failed
		if got := s.loginDelay(&auth.RefusedError{Err: store.ErrAuth, Failures: test.before}); got != test.want {
			t.Errorf("after %d here and %d there: %d, want %d", test.failed, test.before, got, test.want)
		}
	}
}

// Where no mechanism is on that sends passwords, the command LOGIN is none either.
func TestLoginIsOff(t *testing.T) {
	o := testOptions(t)
	o.Authenticator = auth.New(logins{"user": {Tenant: 1, Account: 1, Login: "user"}}, auth.Options{CacheTTL: -1, Mechanisms: []string{"SCRAM-SHA-256", "OAUTHBEARER"}})
	_, connect := start(t, o)
	c := connect()
	c.expect("* OK [CAPABILITY IMAP4 IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR LOGINDISABLED AUTH=SCRAM-SHA-256 AUTH=OAUTHBEARER ID ...")
	c.send("a LOGIN user pass")
	c.expect("a NO [CANNOT] LOGIN is switched off: use AUTHENTICATE")
	c.send("a AUTHENTICATE PLAIN")
	c.expect("a NO [CANNOT] Unknown authentication mechanism")
}

// Who has come in without a name sees what the account has, and what is shared with it by name, but not what is shared with everyone of its tenant.
func TestAnonymous(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "public@one.test")
	storetest.Account(t, s, "ann@one.test")
	connect := serveStore(t, s, func(o *Options) {
		o.Authenticator = auth.New(s, auth.Options{Mechanisms: auth.MechanismNames(), Anonymous: "public@one.test"})
	})
	ann := connect(t)
	enter(ann, "ann@one.test")
	for box, who := range map[string]string{"Internal": "anyone", "Open": "public@one.test", "Closed": "public@one.test"} {
		ann.want("CREATE "+box, "OK ")
		ann.want("SETACL "+box+" "+who+" lrswite", "OK ")
	}
	ann.want("SETACL Closed -anyone lr", "OK ")
	stranger, named := connect(t), connect(t)
	enter(named, "public@one.test")
	stranger.expect("* OK ...")
	stranger.want("AUTHENTICATE ANONYMOUS "+base64.StdEncoding.EncodeToString([]byte("somebody")), "OK ")
	for box, want := range map[string][2]string{
		"Internal": {"NO [NONEXISTENT]", "OK "}, "Open": {"OK [READ-ONLY]", "OK [READ-WRITE]"}, "Closed": {"NO [NONEXISTENT]", "NO [NONEXISTENT]"},
	} {
		stranger.want(`SELECT "Other Users/ann@one.test/`+box+`"`, want[0])
		named.want(`SELECT "Other Users/ann@one.test/`+box+`"`, want[1])
		if listed := len(stranger.want(`LIST "" "Other Users/ann@one.test/`+box+`"`, "OK ")) > 0; listed != strings.HasPrefix(want[0], "OK") {
			t.Errorf("%s is listed to a stranger: %t", box, listed)
		}
	}
	stranger.want("CREATE Box", "NO [NOPERM]")
}

// What a connection has been shown as our certificate is what an exchange is bound to, also where another has taken its place since.
func TestShownCertificate(t *testing.T) {
	o := testOptions(t)
	first, clientTLS := testTLS(t)
	second, _ := testTLS(t)
	current := first
	o.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &current.Certificates[0], nil }}
	s, connect := start(t, o)
	c := connect()
	c.expect("* OK ...")
	c.send("a STARTTLS")
	c.expect("a OK ...")
	c = c.startTLS(clientTLS)
	c.want("NOOP", "OK ")
	current = second
	for _, of := range connectionsOf(s) {
		if of.shown != first.Certificates[0].Leaf {
			t.Error("it is another than was shown")
		}
	}
}
