package imapd

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"mailstead.dev/auth"
	"mailstead.dev/auth/otp"
	"mailstead.dev/imapd/imapurl"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// cell is one that serves, with a database of its own.
type cell struct {
	name   string
	store  *store.Store
	server *Server
	plain  string // address
}

// twoCells serves two cells, west and east, with a user of each domain that is named like one; each knows where the other's lives.
func twoCells(t *testing.T, change func(*Options)) (west, east *cell) {
	serverTLS, clientTLS := testTLS(t)
	cells := []*cell{{name: "west"}, {name: "east"}}
	for i, c := range cells {
		other := cells[1-i].name
		c.store = storetest.New(t)
		storetest.Account(t, c.store, "user@"+c.name+".test")
		if err := c.store.SetRemoteDomain(t.Context(), other+".test", other); err != nil {
			t.Fatal(err)
		}
		o := testOptions(t)
		o.Store, o.TLS = c.store, serverTLS
		o.Authenticator = auth.New(c.store, auth.Options{
			Mechanisms: []string{"PLAIN", "LOGIN", "SCRAM-SHA-256", "CRAM-MD5", "OTP", "XOAUTH2"},
			Cells:      auth.Cells{Name: c.name, Secret: "what only cells know", Others: []string{other}},
		})
		o.Cells = map[string]Cell{other: {Host: "127.0.0.1", TLS: clientTLS}}
		if change != nil {
			change(&o)
		}
		c.server = New(o)
		c.plain = listen(t, c.server, c.server.Serve)
	}
	for i, c := range cells {
		other := cells[1-i]
		to := c.server.o.Cells[other.name]
		to.Address = listen(t, other.server, other.server.ServeTLS)
		_, port, _ := strings.Cut(other.plain, ":")
		fmt.Sscan(port, &to.Port)
		c.server.o.Cells[other.name] = to
	}
	return cells[0], cells[1]
}

func (c *cell) connect(t *testing.T) *client {
	t.Helper()
	conn := dial(t, c.plain)
	conn.expect("* OK [CAPABILITY IMAP4 ...")
	return conn
}

// scramAs logs in by SCRAM and returns the answer.
func scramAs(c *client, login, password, flag string) string {
	c.t.Helper()
	scramClient, err := scram.SHA256.NewClient(login, password, "")
	if err != nil {
		c.t.Fatal(err)
	}
	conversation := scramClient.NewConversation()
	first, err := conversation.Step("")
	if err != nil {
		c.t.Fatal(err)
	}
	if flag != "n" {
		first = flag + first[1:]
	}
	c.send("s AUTHENTICATE SCRAM-SHA-256 " + base64.StdEncoding.EncodeToString([]byte(first)))
	for {
		line := c.line()
		text, ok := strings.CutPrefix(line, "+ ")
		if !ok {
			return strings.TrimPrefix(line, "s ")
		}
		challenge, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			c.t.Fatal(err)
		}
		if conversation.Done() {
			c.send("")
			continue
		}
		response, err := conversation.Step(string(challenge))
		if err != nil {
			return err.Error()
		}
		c.send(base64.StdEncoding.EncodeToString([]byte(response)))
	}
}

// Who logs in to the wrong cell is passed through to their own, by every mechanism by which that can be; and what is wrong is refused
// as it is there, counted for where the client is.
func TestLoginElsewhere(t *testing.T) {
	west, east := twoCells(t, nil)
	const user = "user@east.test"
	giveOTP(t, east.store, user, otp.Params{Algorithm: otp.MD5, Sequence: 100, Seed: "ke1234"}, storetest.Password)
	b64 := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	for name, login := range map[string]func(c *client, password string) string{
		"LOGIN": func(c *client, p string) string { _, answer := c.do("LOGIN " + user + " " + p); return answer },
		"PLAIN": func(c *client, p string) string {
			_, answer := c.do("AUTHENTICATE PLAIN " + b64("\x00"+user+"\x00"+p))
			return answer
		},
		"with identity": func(c *client, p string) string {
			_, answer := c.do("AUTHENTICATE PLAIN " + b64(user+"\x00"+user+"\x00"+p))
			return answer
		},
		"mechanism LOGIN": func(c *client, p string) string {
			c.send("a AUTHENTICATE LOGIN " + b64(user))
			c.expect("+ ...")
			c.send(b64(p))
			return strings.TrimPrefix(c.line(), "a ")
		},
		"SCRAM": func(c *client, p string) string { return scramAs(c, user, p, "n") },
		"OTP":   func(c *client, p string) string { return otpAs(c, user, p) },
	} {
		t.Run(name, func(t *testing.T) {
			if got := login(west.connect(t), "wrong"); !strings.HasPrefix(got, "NO [AUTHENTICATIONFAILED] ") {
				t.Errorf("with a wrong password: %s", got)
			}
			c := west.connect(t)
			if got := login(c, storetest.Password); !strings.HasPrefix(got, "OK [CAPABILITY IMAP4 ") || strings.Contains(got, "UNAUTHENTICATE") {
				t.Fatalf("with the right password: %s", got)
			}
			c.want("UNAUTHENTICATE", "BAD [CLIENTBUG] UNAUTHENTICATE is not available")
			c.want("COMPRESS DEFLATE", "BAD ")
			c.want("STARTTLS", "BAD [CLIENTBUG] STARTTLS: you are logged in already")
			c.want("AUTHENTICATE PLAIN", "BAD [CLIENTBUG] AUTHENTICATE: you are logged in already")
			if told := c.want("CAPABILITY", "OK "); len(told) != 1 || strings.Contains(told[0], "COMPRESS") || strings.Contains(told[0], " AUTH=") {
				t.Errorf("capabilities of a session that is passed through: %q", told)
			}
			c.want("CREATE Passed", "")
			c.want(appendText("Passed", strings.Repeat("x", 100_000)), "OK [APPENDUID ")
			c.want("SELECT Passed", "OK [READ-WRITE] ")
			c.send("f FETCH 1 BODY.PEEK[TEXT]<0.3>\r\ni IDLE")
			for !strings.HasPrefix(c.line(), "+ ") {
			}
			other := dial(t, east.plain)
			enter(other, user)
			other.want(appendText("Passed", "x"), "OK ")
			for !strings.HasSuffix(c.line(), " EXISTS") {
			}
			c.send("DONE\r\nl LOGOUT")
			for !strings.HasPrefix(c.line(), "* BYE ") {
			}
			c.expect("l OK ...")
			c.expectClosed()
		})
	}
	c := west.connect(t)
	c.send("a LOGIN " + user + " " + storetest.Password + "\r\nb CREATE Ahead\r\nc DELETE Ahead") // in the same packet
	c.expect("a OK ...")
	c.expect("b OK ...")
	c.expect("c OK ...")

	const from = "127.0.0.77"
	for _, login := range []string{user, "nobody@east.test"} {
		c := dialFrom(t, from, west.plain)
		c.expect("* OK ...")
		c.want("LOGIN "+login+" guess", "NO [AUTHENTICATIONFAILED] ")
	}
	for _, at := range []*cell{west, east} {
		failed, err := at.store.FailedNames(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(failed, func(f store.FailedName) bool { return f.Name == "address:"+from+"/32" && f.Failures == 2 }) {
			t.Errorf("%s has counted %+v", at.name, failed)
		}
	}
	c = west.connect(t)
	c.want("LOGIN user@nowhere.test x", "NO [AUTHENTICATIONFAILED] ")
	c.want("LOGIN user@west.test "+storetest.Password, "OK ")
	await(t, func() bool { all, _ := east.server.Connections(); return all == 1 }) // of those that were passed through, the last one
}

// An address that others fail from, here, keeps nobody of another cell out who has logged in from there before: that is for the other cell to say.
// Whom that keeps out, or cannot look at, does not try on one connection without end.
func TestKnownElsewhere(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	const most = 4
	west, east := twoCells(t, func(o *Options) {
		o.Authenticator.Limit(auth.AttemptLimits{Address: most})
		o.MaxLoginFailures = 2
		running.Go(func() { o.Authenticator.Watch(ctx) })
	})
	from := func(address string) *client {
		c := dialFrom(t, address, west.plain)
		c.expect("* OK ...")
		return c
	}
	const right, wrong, kept = "OK [CAPABILITY ", "NO [AUTHENTICATIONFAILED] ", "NO [LIMIT] Too many failed logins"
	const office, stranger = "127.0.97.1", "127.0.97.2"
	from(office).want("LOGIN user@east.test "+storetest.Password, right)
	await(t, func() bool {
		found, err := east.store.LookupLoginFrom(t.Context(), "user@east.test", netip.MustParseAddr(office))
		return err == nil && !found.Known.IsZero()
	})
	for n := range most {
		from(office).want(fmt.Sprintf("LOGIN nobody@west.test guess%d", n), wrong)
	}
	from(office).want("LOGIN user@west.test "+storetest.Password, kept)
	from(office).want("LOGIN user@east.test "+storetest.Password, right)

	for n := range most {
		from(stranger).want(fmt.Sprintf("LOGIN nobody@east.test guess%d", n), wrong)
	}
	c := from(stranger)
	c.want("LOGIN user@east.test "+storetest.Password, kept)
	c.want("LOGIN user@east.test "+storetest.Password, kept)
	c.expect("* BYE Too many failed logins")

	east.server.Close()
	c = from(office)
	c.want("LOGIN user@east.test x", "NO [UNAVAILABLE] ")
	c.want("LOGIN user@east.test x", "NO [UNAVAILABLE] ")
	c.expect("* BYE Too many failed logins")
}

// A mechanism by which a login cannot be passed on refuses it; none passes it on twice; and a cell believes nobody who does not have its secret.
func TestNotPassedOn(t *testing.T) {
	west, east := twoCells(t, nil)
	c := west.connect(t)
	c.send("a AUTHENTICATE CRAM-MD5")
	c.expect("+ ...")
	c.send(base64.StdEncoding.EncodeToString([]byte("user@east.test " + strings.Repeat("0", 32))))
	c.expect("a NO [AUTHENTICATIONFAILED] ...")

	for _, at := range []struct {
		*cell
		other string
	}{{west, "east"}, {east, "west"}} {
		if err := at.store.SetRemoteDomain(t.Context(), "nowhere.test", at.other); err != nil {
			t.Fatal(err)
		}
	}
	c.want("LOGIN user@nowhere.test x", "NO [UNAVAILABLE] ")
	await(t, func() bool { all, _ := east.server.Connections(); return all == 0 })

	begin := func(o auth.Cells) string {
		a := auth.New(west.store, auth.Options{Cells: o})
		_, err := a.Login(t.Context(), auth.Channel{Private: true}, "user@east.test", storetest.Password)
		e, ok := err.(*auth.ElsewhereError)
		if !ok {
			t.Fatalf("a login that is elsewhere: %v", err)
		}
		return "AUTHENTICATE " + auth.CellMechanism + " " + base64.StdEncoding.EncodeToString(a.Introduce(e, remote(c.nc.LocalAddr())))
	}
	right := auth.Cells{Name: "west", Secret: "what only cells know", Others: []string{"east"}}
	const notBelieved = "NO [CANNOT] Introduced by no cell that is believed here"
	for name, test := range map[string]struct{ command, want string }{
		"as it is":            {begin(right), "OK "},
		"with another secret": {begin(auth.Cells{Name: "west", Secret: "what others know", Second: right.Secret, Others: []string{"east"}}), notBelieved},
		"of another cell":     {begin(auth.Cells{Name: "north", Secret: right.Secret, Others: []string{"east"}}), notBelieved},
		"nothing":             {"AUTHENTICATE " + auth.CellMechanism + " =", "BAD [CLIENTBUG] Wrong authentication data"},
	} {
		if _, got := east.connect(t).do(test.command); !strings.HasPrefix(got, test.want) {
			t.Errorf("an introduction %s: %s, want %s", name, got, test.want)
		}
	}
	if _, got := west.connect(t).do(begin(right)); !strings.HasPrefix(got, notBelieved) {
		t.Errorf("an introduction to another cell: %s", got)
	}
	_, connect := start(t, testOptions(t))
	alone := connect()
	alone.expect("* OK ...")
	alone.want("AUTHENTICATE "+auth.CellMechanism+" =", "NO [CANNOT] Unknown authentication mechanism")
}

// Who is passed through may be told where they could have gone: with what the other cell can do, and that is where they are.
func TestLoginHint(t *testing.T) {
	west, east := twoCells(t, func(o *Options) { o.HintLogins = true })
	c := dial(t, west.plain)
	if greeting := c.line(); !strings.Contains(greeting, " LOGIN-REFERRALS") {
		t.Errorf("greeting: %s", greeting)
	}
	c.want("LOGIN user@east.test wrong", "NO [AUTHENTICATIONFAILED] ")
	untagged, answer := c.do("LOGIN user@east.test " + storetest.Password)
	if want := "OK [REFERRAL imap://user%40east.test;AUTH=*@" + east.plain + "/] Logged in"; answer != want || len(untagged) != 1 || !strings.HasPrefix(untagged[0], "* CAPABILITY IMAP4 ") {
		t.Errorf("login: %q %s, want %s", untagged, answer, want)
	}
	c.want("SELECT INBOX", "OK ")
	c = east.connect(t)
	c.want("LOGIN user@east.test "+storetest.Password, "OK [CAPABILITY ")
}

// Where logins are referred, who has the right password is told where to go, and nobody else.
func TestLoginReferral(t *testing.T) {
	west, east := twoCells(t, func(o *Options) { o.ReferLogins = true })
	c := dial(t, west.plain)
	if greeting := c.line(); !strings.Contains(greeting, " LOGIN-REFERRALS") {
		t.Errorf("greeting: %s", greeting)
	}
	c.want("LOGIN user@east.test wrong", "NO [AUTHENTICATIONFAILED] ")
	for _, login := range []func() string{
		func() string { _, answer := c.do("LOGIN User@EAST.test " + storetest.Password); return answer },
		func() string { return scramAs(c, "user@east.test", storetest.Password, "n") },
	} {
		answer := login()
		text, ok := strings.CutPrefix(answer, "NO [REFERRAL ")
		text, rest, _ := strings.Cut(text, "]")
		if !ok || rest != " Your account is on another server" {
			t.Fatalf("login to the wrong cell: %s", answer)
		}
		u, err := imapurl.Parse(text)
		if err != nil || u.User != "user@east.test" || u.Auth != imapurl.AnyAuth || fmt.Sprintf("%s:%d", u.Host, u.Port) != east.plain {
			t.Fatalf("referral to %s, %v; want user@east.test at %s", text, err, east.plain)
		}
		there := dial(t, fmt.Sprintf("%s:%d", u.Host, u.Port))
		enter(there, u.User)
		there.want("SELECT INBOX", "OK ")
	}
	c.want("LOGIN user@west.test "+storetest.Password, "OK ")
}

// A cell that is away is no reason to say that a password is wrong, and who is passed through hears when it goes; where
// the front end goes itself, what is under way comes to its end.
func TestCellAway(t *testing.T) {
	west, east := twoCells(t, nil)
	c, idle, last := west.connect(t), west.connect(t), west.connect(t)
	for _, c := range []*client{c, idle, last} {
		c.want("LOGIN user@east.test "+storetest.Password, "OK ")
	}
	c.want("CREATE Large", "OK ")
	c.want(appendText("Large", noise(1<<20)), "OK ")
	c.want("SELECT Large", "OK ")
	idle.want("SELECT INBOX", "OK ")
	idle.send("i IDLE")
	idle.expect("+ ...")
	c.send("f FETCH 1 BODY.PEEK[]")
	if line := c.line(); !strings.HasPrefix(line, "* 1 FETCH ") {
		t.Fatal(line)
	}
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		ended <- west.server.Shutdown(ctx)
	}()
	idle.expect("* BYE [UNAVAILABLE] Server is shutting down")
	idle.expectClosed()
	for !strings.HasPrefix(c.line(), "f OK ") {
	}
	c.expect("* BYE [UNAVAILABLE] Server is shutting down")
	if err := <-ended; err != nil {
		t.Errorf("shutdown: %v", err)
	}

	c = east.connect(t) // which is the wrong cell for the other's user
	c.want("LOGIN user@west.test x", "NO [UNAVAILABLE] ")
	c.want("LOGIN user@west.test x", "NO [UNAVAILABLE] ") // and not counted
	if failed, err := east.store.FailedNames(t.Context()); err != nil || len(failed) > 0 {
		t.Errorf("failed are %+v, %v", failed, err)
	}
	c.want("LOGIN user@east.test "+storetest.Password, "OK ")
}

// The connection to another cell that breaks is told as what it is.
func TestCellBreaks(t *testing.T) {
	west, east := twoCells(t, nil)
	c := west.connect(t)
	c.want("LOGIN user@east.test "+storetest.Password, "OK ")
	for _, of := range connectionsOf(east.server) {
		of.close()
	}
	c.expect("* BYE [UNAVAILABLE] The connection to your server is lost")
	c.expectClosed()
	await(t, func() bool { all, _ := west.server.Connections(); return all == 0 })
}
