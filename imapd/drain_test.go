package imapd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailstead.dev/auth"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// shutdown drains a server in a time that is far less than any timeout of a client.
func shutdown(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// Who has not finished a handshake is not waited for, and hears nothing that TLS would not be.
func TestDrainDuringHandshake(t *testing.T) {
	for name, begun := range map[string]string{"silent": "", "half a ClientHello": "\x16\x03\x01\x02\x00\x01\x00\x01"} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(t)
			o.TLS, _ = testTLS(t)
			o.Balancers = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
			s := New(o)
			plain, overTLS := listen(t, s, s.Serve), listen(t, s, s.ServeTLS)
			implicit, asked, proxied := dial(t, overTLS), dial(t, plain), dialFrom(t, "127.0.0.2", overTLS)
			asked.expect("* OK ...")
			asked.send("a STARTTLS")
			asked.expect("a OK ...")
			proxied.send("PROXY TCP4 192.0.2.1 192.0.2.2 4711 993")
			all := []*client{implicit, asked, proxied}
			for _, c := range all {
				if _, err := c.nc.Write([]byte(begun)); err != nil {
					t.Fatal(err)
				}
			}
			await(t, func() bool {
				shaking := 0
				for _, c := range connectionsOf(s) {
					c.mu.Lock()
					if c.handshake != nil {
						shaking++
					}
					c.mu.Unlock()
				}
				return shaking == len(all)
			})
			shutdown(t, s)
			for _, c := range all {
				c.expectClosed()
			}
		})
	}
}

// Who has not logged in loses nothing by half a command.
func TestDrainBeforeLogin(t *testing.T) {
	s, connect := start(t, testOptions(t))
	var all []*client
	for _, test := range []struct{ sent, hears string }{
		{"z NOOP\r\na LOG", "z OK ..."},
		{"a AUTHENTICATE PLAIN\r\n", "+ ..."},
		{"a AUTHENTICATE PLAIN\r\nAHVz", "+ ..."},
		{"a LOGIN {4}\r\n", "+ ..."},
		{"a LOGIN {4}\r\nus", "+ ..."},
	} {
		c := connect()
		c.expect("* OK ...")
		if _, err := c.nc.Write([]byte(test.sent)); err != nil {
			t.Fatal(err)
		}
		c.expect(test.hears)
		all = append(all, c)
	}
	shutdown(t, s)
	for _, c := range all {
		c.expect(goodbye)
		c.expectClosed()
	}
}

// narrow is a listener whose connections have small buffers, so that what a client does not read is soon waited for.
type narrow struct{ net.Listener }

const narrowBuffer = 16 << 10

func (l narrow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(narrowBuffer)
	}
	return c, err
}

// endless sends a command again and again until it cannot, and never waits for an answer. The beginning of the next one is there whenever one has been
// read. ended waits for the end.
func endless(c *client, command string) (ended func()) {
	var sending sync.WaitGroup
	sending.Go(func() {
		text := "first NOOP\r\nn" // of a length that has the others never end where a buffer does
		for n := 0; ; n++ {
			if _, err := c.nc.Write([]byte(text)); err != nil {
				return
			}
			text = fmt.Sprintf("%08d %s\r\nn", n, command)
		}
	})
	return func() { c.nc.Close(); sending.Wait() }
}

// untilGoodbye reads up to the BYE, which must stand behind a whole answer, and returns how many of the endless commands were answered: all up to one, and with OK.
func (c *client) untilGoodbye() (answered int) {
	c.t.Helper()
	c.expect("first OK ...")
	for {
		switch line := c.line(); {
		case line == goodbye:
			return answered
		case strings.HasPrefix(line, "* "):
		case strings.HasPrefix(line, fmt.Sprintf("n%08d OK ", answered)):
			answered++
		default:
			c.t.Fatalf("command %d is answered %q", answered, line)
		}
	}
}

// A client that goes on sending commands is told between two of them that the connection ends, and hears it, with all that was
// answered before, also where it has read nothing for a while.
func TestDrainWhileCommandsCome(t *testing.T) {
	o := testOptions(t)
	serverTLS, clientTLS := testTLS(t)
	o.TLS = serverTLS
	o.Balancers = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	o.Logger = slog.New(slog.DiscardHandler)
	connect := func(t *testing.T, from, address string) *client {
		c := dialFrom(t, from, address)
		if err := c.nc.(*net.TCPConn).SetReadBuffer(narrowBuffer); err != nil {
			t.Fatal(err)
		}
		if from == "127.0.0.2" {
			c.send("PROXY TCP4 127.0.0.1 127.0.0.1 4711 143")
		}
		return c
	}
	login := func(c *client) *client {
		c.send("a LOGIN user pass")
		c.expect("a OK ...")
		return c
	}
	for name, open := range map[string]func(t *testing.T, address string) *client{
		"before the login": func(t *testing.T, address string) *client {
			c := connect(t, "127.0.0.1", address)
			c.expect("* OK ...")
			return c
		},
		"over TLS": func(t *testing.T, address string) *client {
			return login(connect(t, "127.0.0.1", address).secure(clientTLS))
		},
		"compressed": func(t *testing.T, address string) *client {
			c := login(connect(t, "127.0.0.1", address).secure(clientTLS))
			c.send("z COMPRESS DEFLATE")
			c.expect("z OK ...")
			return c.deflate()
		},
		"by a balancer": func(t *testing.T, address string) *client {
			c := connect(t, "127.0.0.2", address)
			c.expect("* OK ...")
			return login(c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(o)
			c := open(t, listen(t, s, func(l net.Listener) error { return s.Serve(narrow{l}) }))
			ended := endless(c, "NOOP")
			defer ended()
			time.Sleep(200 * time.Millisecond) // until the server waits for it to read
			done := make(chan struct{})
			go func() { defer close(done); shutdown(t, s) }()
			await(t, s.isClosing)
			if c.untilGoodbye() == 0 {
				t.Error("it has not begun")
			}
			c.expectClosed()
			<-done
		})
	}
}

// Compressed connections end as others do: in IDLE at once, in a literal with the end of the command; and of commands without
// end, those are done that were answered, and no others.
func TestDrainCompressed(t *testing.T) {
	mail := storetest.New(t)
	storetest.Account(t, mail, "a@drain.test")
	o := testOptions(t)
	o.Store, o.Authenticator = mail, auth.New(mail, auth.Options{})
	s, connect := start(t, o)
	sending, idle, within := compressed(connect(), "a@drain.test"), compressed(connect(), "a@drain.test"), compressed(connect(), "a@drain.test")
	within.want("CREATE Whole", "OK ")
	within.want("CREATE Many", "OK ")
	idle.want("SELECT INBOX", "OK ")
	idle.send("i IDLE")
	idle.expect("+ ...")
	within.send("w APPEND Whole {20}")
	within.expect("+ ...")
	if _, err := within.nc.Write([]byte("Subject: x")); err != nil {
		t.Fatal(err)
	}
	ended := endless(sending, "APPEND Many {14+}\r\nSubject: x\r\n\r\n")
	defer ended()
	time.Sleep(200 * time.Millisecond)
	done := make(chan struct{})
	go func() { defer close(done); shutdown(t, s) }()
	await(t, s.isClosing)
	idle.expect(goodbye)
	idle.expectClosed()
	answered := sending.untilGoodbye()
	if answered == 0 {
		t.Error("it has not begun")
	}
	sending.expectClosed()
	within.send("\r\n\r\nHello\r\nv NOOP")
	within.expect("w OK [APPENDUID ...")
	within.expect(goodbye)
	within.expectClosed()
	<-done
	c := serveStore(t, mail, nil)(t)
	enter(c, "a@drain.test")
	for mailbox, want := range map[string]int{"Whole": 1, "Many": answered} {
		told := c.want("STATUS "+mailbox+" (MESSAGES)", "OK ")
		if want := fmt.Sprintf("* STATUS %q (MESSAGES %d)", mailbox, want); !slices.Contains(told, want) {
			t.Errorf("%q, want %s", told, want)
		}
	}
}

// Of commands that run beside each other those that have begun end well, and the others are not begun.
func TestDrainPipeline(t *testing.T) {
	const login = "b@drain.test"
	cluster := filled(t, login, numbered(5, 5000))
	for _, lanes := range []int{1, 2} {
		var g *gate
		far := storetest.Open(t, cluster, func(o *store.Options) {
			g = newGate(o.Bucket)
			o.Bucket = g
		})
		o := testOptions(t)
		o.Store, o.Authenticator, o.MaxAtOnce = far, auth.New(far, auth.Options{}), lanes
		s, connect := start(t, o)
		c := connect()
		enter(c, login)
		c.want("SELECT INBOX", "OK ")
		g.shut.Store(true)
		c.send("a UID FETCH 1 BODY.PEEK[]\r\nb UID FETCH 2 BODY.PEEK[]\r\nc UID FETCH 3 BODY.PEEK[]\r\nd UID FETCH 4 BODY.PEEK[]\r\ne CREATE Never")
		g.waitFor(t, lanes)
		done := make(chan struct{})
		go func() { defer close(done); shutdown(t, s) }()
		await(t, func() bool { return connectionsOf(s)[0].ended() != nil })
		g.letGo()
		c.answers([]string{"a", "b"}[:lanes]...)
		c.expect(goodbye)
		c.expectClosed()
		<-done
	}
	c := serveStore(t, storetest.Open(t, cluster), nil)(t)
	enter(c, login)
	if told := c.want("LIST \"\" Never", "OK "); len(told) > 0 {
		t.Errorf("a command behind the last is run: %q", told)
	}
}

// A client that goes on sending commands to another cell hears the answers to those that were passed on, and then why it has to go.
func TestDrainPassedWhileCommandsCome(t *testing.T) {
	west, _ := twoCells(t, nil)
	c := passedThrough(t, west, "east")
	ended := endless(c, "NOOP")
	defer ended()
	time.Sleep(100 * time.Millisecond)
	drain := drained(west)
	await(t, west.server.isClosing)
	if c.untilGoodbye() == 0 {
		t.Error("it has not begun")
	}
	c.expectClosed()
	if err := <-drain; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}
