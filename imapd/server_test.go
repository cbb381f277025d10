package imapd

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailstead.dev/store"
)

func TestStartTLS(t *testing.T) {
	o := testOptions(t)
	serverTLS, clientTLS := testTLS(t)
	o.TLS, o.PlaintextLogin = serverTLS, false
	_, connect := start(t, o)

	c := connect()
	c.expect("* OK [CAPABILITY IMAP4 IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR STARTTLS LOGINDISABLED ID ...")
	c.send("a LOGIN user pass")
	c.expect("a NO [PRIVACYREQUIRED] Passwords are only taken over TLS")
	c.send("b AUTHENTICATE PLAIN")
	c.expect("b NO [PRIVACYREQUIRED] ...")
	// What follows in plain text is not from a client that has seen our certificate.
	c.send("c STARTTLS\r\nd LOGOUT")
	c.expect("c OK ...")
	c = c.startTLS(clientTLS)
	c.send("e CAPABILITY")
	c.expect("* CAPABILITY IMAP4 IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR AUTH=PLAIN AUTH=LOGIN ID ...")
	c.expect("e OK ...")
	c.send("f STARTTLS")
	c.expect("f BAD ...")
	c.send("g LOGIN user pass")
	c.expect("g OK [CAPABILITY IMAP4 IMAP4rev1 IMAP4rev2 LITERAL+ ID ...")
	c.send("h LOGOUT")
	c.expect("* BYE ...")
	c.expect("h OK ...")
	if _, err := c.r.ReadByte(); err != io.EOF {
		t.Errorf("TLS ended with %v instead of its own end", err)
	}
}

func TestImplicitTLS(t *testing.T) {
	o := testOptions(t)
	serverTLS, clientTLS := testTLS(t)
	o.TLS, o.PlaintextLogin = serverTLS, false
	s := New(o)
	addr := listen(t, s, s.ServeTLS)
	c := dial(t, addr).startTLS(clientTLS)
	c.expect("* OK [CAPABILITY IMAP4 IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR AUTH=PLAIN ...")
	c.send("a LOGIN user pass")
	c.expect("a OK ...")
}

func TestAuthenticate(t *testing.T) {
	_, connect := start(t, testOptions(t))
	plain := func(identity, login, password string) string {
		return base64.StdEncoding.EncodeToString([]byte(identity + "\x00" + login + "\x00" + password))
	}
	tests := []struct{ name, command, response, want string }{
		{"challenge", "AUTHENTICATE plain", plain("", "user", "pass"), "OK [CAPABILITY ..."},
		{"initial response", "AUTHENTICATE PLAIN " + plain("user", "user", "pass"), "", "OK [CAPABILITY ..."},
		{"empty initial response", "AUTHENTICATE PLAIN =", "", "BAD ..."},
		{"wrong password", "AUTHENTICATE PLAIN " + plain("", "user", "word"), "", "NO [AUTHENTICATIONFAILED] ..."},
		{"other identity", "AUTHENTICATE PLAIN " + plain("second", "user", "pass"), "", "NO [AUTHORIZATIONFAILED] ..."},
		{"no initial response, as mutt has it", "AUTHENTICATE PLAIN ", plain("", "user", "pass"), "OK [CAPABILITY ..."},
		{"cancelled", "AUTHENTICATE PLAIN", "*", "BAD [CLIENTBUG] Authentication cancelled"},
		{"no base64", "AUTHENTICATE PLAIN", "a b", "BAD ..."},
		{"no base64 at once", "AUTHENTICATE PLAIN a", "", "BAD ..."},
		{"two fields", "AUTHENTICATE PLAIN", "AGFi", "BAD ..."},
		{"LOGIN", "AUTHENTICATE LOGIN " + base64.StdEncoding.EncodeToString([]byte("user")), base64.StdEncoding.EncodeToString([]byte("pass")), "OK [CAPABILITY ..."},
		{"what is off", "AUTHENTICATE CRAM-MD5", "", "NO [CANNOT] Unknown authentication mechanism"},
		{"what needs TLS", "AUTHENTICATE SCRAM-SHA-256-PLUS", "", "NO [CANNOT] Unknown authentication mechanism"},
		{"unknown mechanism", "AUTHENTICATE GSSAPI abc=", "", "NO [CANNOT] ..."},
		{"disabled", "LOGIN disabled pass", "", "NO [CONTACTADMIN] Account disabled"},
		{"database away", "LOGIN away pass", "", "NO [UNAVAILABLE] Temporarily unavailable, try again later"},
		{"a fault of ours", "LOGIN broken pass", "", "NO [SERVERBUG] Internal error"},
		{"wrong login", "LOGIN nobody pass", "", "NO [AUTHENTICATIONFAILED] ..."},
		{"quoted", `LOGIN "user" "pass"`, "", "OK ..."},
		{"no password", "LOGIN user", "", "BAD ..."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := connect()
			c.expect("* OK ...")
			c.send("a " + test.command)
			if test.response != "" {
				c.expect("+ ...")
				c.send(test.response)
			}
			c.expect("a " + test.want)
			c.send("b NOOP")
			c.expect("b OK NOOP completed")
		})
	}
}

func TestLiterals(t *testing.T) {
	_, connect := start(t, testOptions(t))
	c := connect()
	c.expect("* OK ...")
	c.send("a LOGIN {4}")
	c.expect("+ ...")
	c.send("user {4}")
	c.expect("+ ...")
	c.send("pass")
	c.expect("a OK ...")
	c.send("b NOOP {4+}\r\nx y\n")
	c.expect("b BAD ...")
	c.send("c CREATE {100000}") // refused before it is sent
	c.expect("c BAD [TOOBIG] ...")
	c.send("d CREATE {100000+}\r\n" + strings.Repeat("e LOGOUT\r\n", 10000) + "\r\nf NOOP")
	c.expect("d BAD [TOOBIG] ...")
	c.expect("f OK ...")
	c.send("g CREATE {99999999999+}")
	c.expect("g BAD [TOOBIG] ...")
	c.expect("* BYE Command too long")
	c.expectClosed()
}

func TestWrongCommands(t *testing.T) {
	o := testOptions(t)
	_, connect := start(t, o)
	c := connect()
	c.expect("* OK ...")
	for _, test := range [][2]string{
		{"", "* BAD [CLIENTBUG] Expected a tag instead of the end of the line"},
		{"+ NOOP", `* BAD [CLIENTBUG] Expected a tag instead of "+"`},
		{"a", "a BAD [CLIENTBUG] Expected a space instead of the end of the line"},
		{"a ", "a BAD [CLIENTBUG] Expected an atom instead of the end of the line"},
		{"a FROB", "a BAD [CLIENTBUG] Unknown command FROB"},
		{"a UID FROB", "a BAD [CLIENTBUG] Unknown command UID FROB"},
		{"a UID", "a BAD ..."},
		{"a NOOP x", `a BAD [CLIENTBUG] Expected the end of the line instead of " "`},
		{"a SELECT INBOX", "a BAD [CLIENTBUG] SELECT: log in first"},
		{"a NO\x00OP", "a BAD [CLIENTBUG] NUL is not allowed in a command"},
		{"a LOGIN user \"pa\x00ss\"", "a BAD ..."},
		{"a " + strings.Repeat("x", 70000), "a BAD [LIMIT] Command line too long..."},
	} {
		c.send(test[0])
		c.expect(test[1])
	}
	c.send("a LOGIN user pass")
	c.expect("a OK ...")
	c.send("a LOGIN user pass")
	c.expect("a BAD [CLIENTBUG] LOGIN: you are logged in already")
	c.send("a CLOSE")
	c.expect("a BAD [CLIENTBUG] CLOSE: select a mailbox first")
	for range 50 - 2 { // in a row
		c.send("a FROB")
		c.expect("a BAD ...")
	}
	c.expect("* BYE Too many wrong commands")
	c.expectClosed()
}

func TestLoginFailures(t *testing.T) {
	_, connect := start(t, testOptions(t))
	c := connect()
	c.expect("* OK ...")
	for range 5 {
		c.send("a LOGIN user wrong")
		c.expect("a NO [AUTHENTICATIONFAILED] ...")
	}
	c.expect("* BYE Too many failed logins")
	c.expectClosed()
}

func TestPipelining(t *testing.T) {
	_, connect := start(t, testOptions(t))
	c := connect()
	c.expect("* OK ...")
	var commands strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&commands, "a%d NOOP\r\n", i)
	}
	c.send(commands.String() + "b LOGOUT")
	for i := range 1000 {
		c.expect(fmt.Sprintf("a%d OK ...", i))
	}
	c.expect("* BYE ...")
	c.expect("b OK ...")
	c.expectClosed()
}

func TestIDAndEnable(t *testing.T) {
	o := testOptions(t)
	o.Version = "1.0"
	_, connect := start(t, o)
	c := connect()
	c.expect("* OK ...")
	for _, id := range []string{"NIL", "()", `("name" "x" "version" NIL)`} {
		c.send("a ID " + id)
		c.expect(`* ID ("name" "Mailstead" "version" "1.0")`)
		c.expect("a OK ...")
	}
	for _, id := range []string{"", "x", `("name")`, `("name" "` + strings.Repeat("x", 1025) + `")`, "(" + strings.Repeat(`"a" "b" `, 31) + ")"} {
		c.send("a ID " + id)
		c.expect("a BAD ...")
	}
	c.send("a ENABLE CONDSTORE")
	c.expect("a BAD ...")
	c.send("a LOGIN user pass")
	c.expect("a OK ...")
	// All that this command has enabled is named, and nothing else (RFC 5161 section 3.2).
	for enable, enabled := range map[string]string{
		"X-Y qresync CONDSTORE": "QRESYNC CONDSTORE", "CONDSTORE QRESYNC": "CONDSTORE QRESYNC", "QRESYNC QRESYNC": "QRESYNC", "CONDSTORE": "CONDSTORE", "X-Y": "",
	} {
		c := connect()
		c.expect("* OK ...")
		c.send("a LOGIN user pass")
		c.expect("a OK ...")
		c.send("b ENABLE " + enable)
		c.expect(strings.TrimSpace("* ENABLED " + enabled))
		c.expect("b OK ...")
		c.send("c ENABLE " + enable)
		c.expect("* ENABLED")
		c.expect("c OK ...")
	}
	c.send("a ENABLE")
	c.expect("a BAD ...")
}

func TestConnectionLimits(t *testing.T) {
	o := testOptions(t)
	o.MaxConnections, o.Account.Connections = 2, 1
	_, connect := start(t, o)
	a, b := connect(), connect()
	a.expect("* OK ...")
	b.expect("* OK ...")
	c := connect()
	c.expect("* BYE [UNAVAILABLE] Too many connections, try again later")
	c.expectClosed()
	a.send("a LOGIN user pass")
	a.expect("a OK ...")
	b.send("b LOGIN user pass")
	b.expect("b NO [LIMIT] Too many connections of this account")
	a.send("a LOGOUT")
	a.expect("* BYE ...")
	a.expect("a OK ...")
	a.expectClosed()
	b.send("b LOGIN user pass")
	b.expect("b OK ...")
}

func TestPanicEndsOneConnection(t *testing.T) {
	_, connect := start(t, testOptions(t))
	a, b := connect(), connect()
	a.expect("* OK ...")
	b.expect("* OK ...")
	a.send("a LOGIN bug pass")
	a.expectClosed()
	b.send("b NOOP")
	b.expect("b OK ...")
}

// Where nobody knows what has become of a command, neither OK nor NO would be true.
func TestOutcomeUnknown(t *testing.T) {
	_, connect := start(t, testOptions(t))
	c := connect()
	c.expect("* OK ...")
	c.send("a LOGIN unknown pass")
	c.expect("* BYE [UNAVAILABLE] The outcome of the command is unknown")
	c.expectClosed()
}

// A panic in a goroutine beside the session's is an error of the command.
func TestPanicBesideSession(t *testing.T) {
	err := func() (err error) {
		defer recovered(&err)
		panic("a bug")
	}()
	if r, known := answer(err); known || r.code != "SERVERBUG" || !strings.Contains(err.Error(), "a bug") {
		t.Errorf("%v is answered %+v", err, r)
	}
}

// A client that goes away during IDLE is no failure of ours, and no reason to log one.
func TestDisconnectDuringIdle(t *testing.T) {
	o := testOptions(t)
	var logged bytes.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	s, connect := start(t, o)
	c := connect()
	c.expect("* OK ...")
	c.send("a LOGIN user pass")
	c.expect("a OK ...")
	c.send("b IDLE")
	c.expect("+ ...")
	c.nc.Close()
	s.wg.Wait()
	if strings.Contains(logged.String(), "level=ERROR") {
		t.Errorf("logged:\n%s", logged.String())
	}
}

// slowLogins lets a login take as long as the test wants.
type slowLogins struct {
	logins
	entered, leave chan struct{}
}

func (l slowLogins) LookupLoginFrom(ctx context.Context, login string, from netip.Addr) (store.Login, error) {
	close(l.entered)
	select {
	case <-l.leave:
		return l.logins.LookupLoginFrom(ctx, login, from)
	case <-ctx.Done():
		return store.Login{}, ctx.Err()
	}
}

func TestShutdown(t *testing.T) {
	o := testOptions(t)
	slow := slowLogins{logins{"user": {Tenant: 1, Account: 1, Login: "user"}}, make(chan struct{}), make(chan struct{})}
	o.Authenticator = authenticate(slow)
	s, connect := start(t, o)
	waiting, busy := connect(), connect()
	waiting.expect("* OK ...")
	busy.expect("* OK ...")
	busy.send("a LOGIN user pass")
	<-slow.entered
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(t.Context()) }()
	waiting.expect("* BYE [UNAVAILABLE] Server is shutting down")
	waiting.expectClosed()
	close(slow.leave)
	busy.expect("a OK ...") // what runs is ended
	busy.expect("* BYE ...")
	busy.expectClosed()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestShutdownThatTakesTooLong(t *testing.T) {
	o := testOptions(t)
	slow := slowLogins{logins{"user": {Tenant: 1, Account: 1, Login: "user"}}, make(chan struct{}), make(chan struct{})}
	o.Authenticator = authenticate(slow)
	s, connect := start(t, o)
	c := connect()
	c.expect("* OK ...")
	c.send("a LOGIN user pass")
	<-slow.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	c.expectClosed()
}

// A command that nobody waits for any more is cancelled.
func TestDisconnect(t *testing.T) {
	o := testOptions(t)
	slow := slowLogins{logins{"user": {Tenant: 1, Account: 1, Login: "user"}}, make(chan struct{}), make(chan struct{})}
	o.Authenticator = authenticate(slow)
	s, connect := start(t, o)
	c := connect()
	c.expect("* OK ...")
	c.send("a LOGIN user pass")
	<-slow.entered
	c.nc.Close()
	s.wg.Wait()
}

// loopback is a pipe that says it comes from this machine.
type loopback struct{ net.Conn }

func (loopback) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// pipe connects a client without a network, for tests with a clock of their own.
func pipe(t *testing.T, s *Server) *client {
	server, client := net.Pipe()
	s.start(loopback{server}, false)
	return newClient(t, client)
}

func TestTimeouts(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(c *client)
		after   time.Duration
	}{
		{"without a login", func(c *client) {}, time.Minute},
		{"commands without a login", func(c *client) {
			time.Sleep(50 * time.Second)
			c.send("a NOOP")
			c.expect("a OK ...")
		}, time.Minute},
		{"half a login", func(c *client) {
			time.Sleep(50 * time.Second)
			c.nc.Write([]byte("a LOG"))
		}, time.Minute},
		{"idle", func(c *client) {
			c.send("a LOGIN user pass")
			c.expect("a OK ...")
		}, 30 * time.Minute},
		{"IDLE", func(c *client) {
			c.send("a LOGIN user pass")
			c.expect("a OK ...")
			c.send("b IDLE")
			c.expect("+ ...")
		}, 30 * time.Minute},
		{"half a command", func(c *client) {
			c.send("a LOGIN user pass")
			c.expect("a OK ...")
			c.nc.Write([]byte("b NO"))
		}, 2 * time.Minute},
		{"half a literal", func(c *client) {
			c.send("a LOGIN user pass")
			c.expect("a OK ...")
			c.nc.Write([]byte("b CREATE {10+}\r\nab"))
		}, 2 * time.Minute},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(testOptions(t))
				begin := time.Now()
				c := pipe(t, s)
				c.expect("* OK ...")
				test.prepare(c)
				c.expect("* BYE Idle for too long")
				c.expectClosed()
				if took := time.Since(begin); took < test.after || took > test.after+time.Second {
					t.Errorf("ended after %v instead of %v", took, test.after)
				}
				s.Close()
			})
		})
	}
}

func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(testOptions(t))
		begin := time.Now()
		server, client := net.Pipe()
		defer client.Close()
		s.start(server, false)
		s.wg.Wait()
		if took := time.Since(begin); took != 2*time.Minute {
			t.Errorf("ended after %v", took)
		}
		s.Close()
	})
}

// A client that sends a command little by little has as long for 16 KiB as one that sends nothing,
// and one that we let wait has all of its time.
func TestSlowSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(testOptions(t))
		c := pipe(t, s)
		c.expect("* OK ...")
		c.send("a LOGIN user pass")
		c.expect("a OK ...")
		c.nc.Write([]byte("b CREATE {70000+}\r\n"))
		for left := 70_000; left > 0; left -= paceOctets {
			time.Sleep(110 * time.Second)
			c.nc.Write(bytes.Repeat([]byte("x"), min(left, paceOctets)))
		}
		c.send("")
		c.expect("b BAD [TOOBIG] ...")

		begin := time.Now()
		c.nc.Write([]byte("c CREATE {70000+}\r\n"))
		var dripping sync.WaitGroup
		dripping.Go(func() {
			for err := error(nil); err == nil; _, err = c.nc.Write([]byte("x")) {
				time.Sleep(10 * time.Second)
			}
		})
		c.expect("* BYE Idle for too long")
		c.expectClosed()
		if took := time.Since(begin); took < 2*time.Minute || took > 2*time.Minute+time.Second {
			t.Errorf("ended after %v", took)
		}
		dripping.Wait()
		s.Close()
	})
}

// Those who have not logged in are bounded by address, also when they come again by UNAUTHENTICATE.
func TestConnectionsOfAnAddress(t *testing.T) {
	o := testOptions(t)
	o.MaxPerAddress = 2
	s, connect := start(t, o)
	login := func(c *client) {
		c.send("a LOGIN user pass")
		c.expect("a OK ...")
	}
	refused := func() {
		t.Helper()
		c := connect()
		c.expect("* BYE [LIMIT] Too many connections of your address ...")
		c.expectClosed()
	}
	a, b := connect(), connect()
	a.expect("* OK ...")
	b.expect("* OK ...")
	refused()
	login(a)
	c := connect()
	c.expect("* OK ...")
	refused()
	login(b)
	login(c)
	b.send("a UNAUTHENTICATE")
	b.expect("a OK ...")
	c.send("a UNAUTHENTICATE")
	c.expect("a OK ...")
	refused()
	b.nc.Close()
	await(t, func() bool { all, _ := s.Connections(); return all == 2 })
	d := connect()
	d.expect("* OK ...")
	refused()
}

func TestOrigin(t *testing.T) {
	for _, test := range []struct{ address, want string }{
		{"192.0.2.1", "192.0.2.1/32"}, {"::ffff:192.0.2.1", "192.0.2.1/32"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"}, {"fe80::1%eth0", "fe80::/64"},
	} {
		addr := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(test.address), 1))
		if got := store.Origin(remote(addr)); got.String() != test.want {
			t.Errorf("%s is of %s, want %s", test.address, got, test.want)
		}
	}
}

// However connections come and go, no more are served than may be, and in the end none is counted.
func TestConnectionCounts(t *testing.T) {
	o := testOptions(t)
	o.MaxConnections, o.MaxPerAddress, o.Account.Connections = 12, 8, 4
	s, connect := start(t, o)
	var mu sync.Mutex
	there, most := 0, 0
	count := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		there += n
		most = max(most, there)
	}
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			for range 20 {
				c := connect()
				if !strings.HasPrefix(c.line(), "* OK ") {
					continue
				}
				for range rand.IntN(3) {
					c.send("a LOGIN user pass")
					if !strings.HasPrefix(c.line(), "a OK ") {
						break
					}
					count(1)
					count(-1) // before it says so, since others may be let in at once
					c.send("a UNAUTHENTICATE")
					c.expect("a OK ...")
				}
				c.nc.Close()
			}
		})
	}
	clients.Wait()
	await(t, func() bool { all, _ := s.Connections(); return all == 0 })
	s.mu.Lock()
	defer s.mu.Unlock()
	if most > o.Account.Connections || s.shares.connections() > 0 || len(s.strangers) > 0 {
		t.Errorf("%d of an account at once; left are %v and %v", most, s.shares.accounts, s.strangers)
	}
}
