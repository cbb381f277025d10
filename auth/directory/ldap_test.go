package directory

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailstead.dev/auth/directory/slapd"
)

func settings(s *slapd.Server) Settings {
	return Settings{
		URL: s.URL, CA: s.CA, Base: slapd.Base, Filter: "(|(mail={login})(uid={login}))", // by either
		Account: slapd.Account, Secret: "acme",
	}
}

// secrets is a folder with one secret.
func secrets(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, s Settings, o Options) *Directory {
	t.Helper()
	if s2, err := Parse(s.String()); err != nil || s2 != s {
		t.Errorf("%s is read as %+v, %v", s, s2, err)
	}
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	d, err := Open(s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func asYouLike() error { return nil }

func TestLDAP(t *testing.T) {
	s := slapd.New(t)
	o := Options{Secrets: secrets(t, "acme", slapd.Secret+"\n")}
	overTLS := settings(s)
	overTLS.URL = s.URLS
	plain := settings(s)
	plain.CA, plain.Plaintext = "", true
	for name, ask := range map[string]Settings{"StartTLS": settings(s), "ldaps": overTLS, "neither": plain} {
		t.Run(name, func(t *testing.T) {
			d := open(t, ask, o)
			for _, test := range []struct {
				login, password string
				want            bool
			}{
				{"jane@acme.test", "right", true},
				{"jane@acme.test", "wrong", false},
				{"jane@acme.test", "right", true}, // on the connection that was nobody's
				{"jane@acme.test", "", false},     // which LDAP takes from everybody
				{"jane.doe@acme.test", "right", true},
				{"joe@acme.test", "right", true},
				{"j*@acme.test", "right", false},
				{"*", "right", false},
				{"joe*", "right", true},
				{"ｊoe*", "right", false}, // and others that the directory takes for the same
				{" joe@acme.test", "right", false},
				{"nobody@acme.test", "right", false},
				{"none@acme.test", "right", false}, // has no password
				{"search@acme.test)(cn=search", "finder", false},
			} {
				got, err := answerOf(t, d, test.login, test.password)
				if err != nil || got != (Answer{Right: test.want}) {
					t.Errorf("%s with %q: %+v, %v; want %t", test.login, test.password, got, err, test.want)
				}
			}
		})
	}

	t.Run("the address of an account", func(t *testing.T) {
		ask := settings(s)
		ask.Filter, ask.Attribute = "(|(uid={user})(mail={login}))", "mail"
		d := open(t, ask, o)
		for login, want := range map[string]Answer{
			"joe*@acme.test":     {Right: true, Login: "joe@acme.test"},
			"jane.doe@acme.test": {Right: true},
			"jane@other.test":    {}, // it has two, and neither is the login
			" joe@acme.test":     {}, // the directory would say that it is the same, and it is another login
			"ｊoe*@acme.test":     {},
		} {
			if got, err := answerOf(t, d, login, "right"); err != nil || got != want {
				t.Errorf("%s: %+v, %v; want %+v", login, got, err, want)
			}
		}
	})

	t.Run("of which domain", func(t *testing.T) {
		ask := settings(s)
		ask.Filter = "(|(uid={user})(mail={login}))"
		d := open(t, ask, o)
		for login, want := range map[string]bool{"jane@acme.test": true, "jane@other.test": false, "joe*@acme.test": false} {
			if got, err := answerOf(t, d, login, "right"); err != nil || got != (Answer{Right: want}) {
				t.Errorf("%s: %+v, %v; want %t", login, got, err, want)
			}
		}
	})

	t.Run("connections that rest", func(t *testing.T) {
		d := open(t, settings(s), o)
		ask := func() {
			if got, err := d.Ask(t.Context(), "jane@acme.test", "right", asYouLike); err != nil || !got.Right {
				t.Errorf("%+v, %v", got, err)
			}
		}
		ask()
		l := d.backend.(*ldapDirectory)
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		one, _, err := l.take(ctx)
		if err != nil {
			t.Fatal(err)
		}
		ask()
		other := l.idle[0]
		other.rests = time.Now().Add(-2 * idleTime)
		l.give(one)
		if len(l.idle) != 1 || l.idle[0] != one || !other.IsClosing() {
			t.Errorf("%d connections rest", len(l.idle))
		}
	})

	t.Run("who is found twice", func(t *testing.T) {
		ask := settings(s)
		ask.Filter = "(|(sn=Doe)(mail={login}))"
		d := open(t, ask, o)
		for range failuresInRow + 1 { // which is nothing against the directory
			if got, err := d.Ask(t.Context(), "jane@acme.test", "right", asYouLike); err != nil || got.Right {
				t.Errorf("%+v, %v", got, err)
			}
		}
	})

	t.Run("what is wrong on our side", func(t *testing.T) {
		stranger := settings(s)
		stranger.CA = slapd.SelfSigned(t, filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key"))
		base := settings(s)
		base.Base = "dc=other,dc=test"
		for name, d := range map[string]*Directory{
			"certificate": open(t, stranger, o), "base": open(t, base, o),
			"password of the searcher": open(t, settings(s), Options{Secrets: secrets(t, "acme", "lost")}),
			"secret":                   open(t, settings(s), Options{Secrets: t.TempDir()}),
			"folder":                   open(t, settings(s), Options{}),
		} {
			if got, err := d.Ask(t.Context(), "jane@acme.test", "right", asYouLike); !errors.Is(err, ErrAway) || got.Right {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	})

	t.Run("killed and started again", func(t *testing.T) {
		ask := settings(s)
		ask.Timeout = Duration(2 * time.Second)
		d := open(t, ask, Options{Secrets: o.Secrets, Rest: time.Second})
		right := func() error {
			got, err := d.Ask(t.Context(), "jane@acme.test", "right", asYouLike)
			if err == nil && !got.Right {
				err = errors.New("refused")
			}
			return err
		}
		var all sync.WaitGroup
		for range 2 * defaultConnections { // as many as there can be connections, and some that wait
			all.Go(func() {
				if err := right(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if resting := len(d.backend.(*ldapDirectory).idle); resting > defaultConnections {
			t.Errorf("%d connections", resting)
		}
		s.Stop()
		s.Start()
		if err := right(); err != nil {
			t.Errorf("on connections that were closed: %v", err)
		}
		s.Stop()
		for range 2 * failuresInRow {
			if err := right(); !errors.Is(err, ErrAway) {
				t.Errorf("without a server: %v", err)
			}
		}
		s.Start()
		if err := right(); !errors.Is(err, ErrAway) {
			t.Errorf("it was not left alone: %v", err)
		}
		for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			err := right()
			if err == nil {
				break
			}
			if time.Since(began) > 5*time.Second {
				t.Fatal(err)
			}
		}
	})
}

// A server that takes connections and says nothing holds nobody up for longer than the time for an answer.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, url := range []string{"ldap://" + l.Addr().String(), "ldaps://" + l.Addr().String()} {
		d := open(t, Settings{URL: url, Filter: "(mail={login})", Timeout: Duration(50 * time.Millisecond), Connections: 1}, Options{})
		began := time.Now()
		if _, err := d.Ask(t.Context(), "a@acme.test", "right", asYouLike); !errors.Is(err, ErrAway) {
			t.Errorf("%s: %v", url, err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: it took %v", url, took)
		}
	}
}

// A server that goes on and on is not listened to.
func TestEndlessAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return // the test has failed
		}
		defer c.Close()
		c.Write([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x04, 0x84, 0x7f, 0xff, 0xff, 0xf0}) // a message of 2 GiB
		n, _ := io.Copy(c, zeros{})
		sent <- n
	}()
	d := open(t, Settings{URL: "ldap://" + l.Addr().String(), Filter: "(mail={login})", Plaintext: true}, Options{})
	began := time.Now()
	if _, err := d.Ask(t.Context(), "a@acme.test", "right", asYouLike); !errors.Is(err, ErrAway) {
		t.Error(err)
	}
	if took := time.Since(began); took > defaultTimeout/2 {
		t.Errorf("it took %v", took)
	}
	if n := <-sent; n > 64<<20 { // what the system has taken along
		t.Errorf("it could send %d octets", n)
	}
}

// zeros are read without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// relay stands between clients and a server. What breaks it ends each connection at the next that its client sends.
type relay struct {
	net.Listener
	to     string
	broken atomic.Bool
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: l, to: to}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return r
}

func (r *relay) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer server.Close()
	go io.Copy(client, server)
	breaks := r.broken.Load() // those that come later are of a server that has started again
	b := make([]byte, 4096)
	for {
		n, err := client.Read(b)
		if err != nil || !breaks && r.broken.Load() {
			return
		}
		if _, err := server.Write(b[:n]); err != nil {
			return
		}
	}
}

// A server that goes away as it is asked, on a connection that has rested, is asked again on another.
func TestServerGoesAsItIsAsked(t *testing.T) {
	s := slapd.New(t)
	r := newRelay(t, strings.TrimPrefix(s.URL, "ldap://"))
	ask := settings(s)
	ask.URL, ask.CA, ask.Plaintext = "ldap://"+r.Addr().String(), "", true
	d := open(t, ask, Options{Secrets: secrets(t, "acme", slapd.Secret)})
	right := func() {
		t.Helper()
		if got, err := d.Ask(t.Context(), "jane@acme.test", "right", asYouLike); err != nil || !got.Right {
			t.Errorf("%+v, %v", got, err)
		}
	}
	right()
	r.broken.Store(true)
	right()
}

// answerOf is Ask, of whose answer what is odd is looked at apart: it is logged, and so names nobody.
func answerOf(t *testing.T, d *Directory, login, password string) (Answer, error) {
	t.Helper()
	got, err := d.Ask(t.Context(), login, password, asYouLike)
	if got.Odd != nil && (strings.Contains(got.Odd.Error(), login) || strings.Contains(got.Odd.Error(), slapd.Base)) {
		t.Errorf("of %s the log would say: %v", login, got.Odd)
	}
	got.Odd = nil
	return got, err
}

// Where a directory is away the log says so, and not as often as somebody asks.
func TestAwayIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	d, err := Open(Settings{URL: "ldap://127.0.0.1:1", Filter: "(mail={login})"}, Options{Rest: time.Hour, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	for range 100 {
		if _, err := d.Ask(t.Context(), "a@acme.test", "right", asYouLike); !errors.Is(err, ErrAway) {
			t.Error(err)
		}
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := d.Ask(gone, "a@acme.test", "right", asYouLike); !errors.Is(err, ErrAway) {
		t.Error(err)
	}
	for text, want := range map[string]int{"a directory does not answer": failuresInRow, "a directory is left alone for now": 1, "level=WARN": failuresInRow + 1} {
		if n := strings.Count(log.String(), text); n != want {
			t.Errorf("%q is logged %d times, want %d:\n%s", text, n, want, &log)
		}
	}
}

// A guess is not made any more that was allowed when it came, and is not when it is its turn.
func TestAskedWhenAllowed(t *testing.T) {
	over := errors.New("too many")
	d := open(t, Settings{URL: "ldap://127.0.0.1:1", Filter: "(mail={login})"}, Options{})
	if _, err := d.Ask(t.Context(), "a@acme.test", "right", func() error { return over }); !errors.Is(err, over) {
		t.Error(err)
	}
}

func TestSettings(t *testing.T) {
	ldap := Settings{URL: "ldaps://ldap.acme.test", Filter: "(mail={login})"}
	sql := Settings{URL: "postgres://reader@db.acme.test/people?sslmode=verify-full", Query: "SELECT password FROM person WHERE address = $1"}
	with := func(s Settings, change func(s *Settings)) Settings { change(&s); return s }
	for _, s := range []Settings{
		ldap, sql,
		with(ldap, func(s *Settings) { s.URL = "ldap://[::1]:3389"; s.Plaintext = true }),
		with(ldap, func(s *Settings) { s.Account, s.Secret = "cn=a,dc=b", "acme" }),
		with(ldap, func(s *Settings) { s.Filter = "(&(objectClass=person)(|(proxyAddresses=smtp:{login})(!(uid=x))))" }),
		with(ldap, func(s *Settings) { s.Filter = "(&(uid={user})(associatedDomain={domain}))" }),
		with(ldap, func(s *Settings) { s.Filter, s.Attribute = "(uid={user})", "mail" }),
		with(sql, func(s *Settings) { s.URL = "postgresql://reader@localhost/people"; s.Secret = "acme" }),
	} {
		if _, err := s.Check(); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for want, s := range map[string]Settings{
		"want a URL of":         with(ldap, func(s *Settings) { s.URL = "https://ldap.acme.test" }),
		"names no host":         with(ldap, func(s *Settings) { s.URL = "ldap:///" }),
		"has a password":        with(sql, func(s *Settings) { s.URL = "postgres://reader:word@localhost/people" }),
		"without folders":       with(ldap, func(s *Settings) { s.Account, s.Secret = "cn=a", "../key.pem" }),
		"timeout 1h":            with(ldap, func(s *Settings) { s.Timeout = Duration(time.Hour) }),
		"1000 connections":      with(ldap, func(s *Settings) { s.Connections = 1000 }),
		"want PEM":              with(ldap, func(s *Settings) { s.CA = "word" }),
		"more than scheme":      with(ldap, func(s *Settings) { s.URL = "ldaps://ldap.acme.test/dc=acme" }),
		"a query is for SQL":    with(ldap, func(s *Settings) { s.Query = sql.Query }),
		"want a filter":         with(ldap, func(s *Settings) { s.Filter = "" }),
		"in it":                 with(ldap, func(s *Settings) { s.Filter = "(mail=*)" }),
		"filter (mail={login}:": with(ldap, func(s *Settings) { s.Filter = "(mail={login}" }),
		"base acme":             with(ldap, func(s *Settings) { s.Base = "acme" }),
		"account acme":          with(ldap, func(s *Settings) { s.Account, s.Secret = "acme", "acme" }),
		"has no secret":         with(ldap, func(s *Settings) { s.Account = "cn=a" }),
		"for an account":        with(ldap, func(s *Settings) { s.Secret = "acme" }),
		"without TLS":           with(ldap, func(s *Settings) { s.URL, s.Plaintext = "ldap://ldap.acme.test", true }),
		"are of LDAP":           with(sql, func(s *Settings) { s.Base = "dc=acme" }),
		"want a query":          with(sql, func(s *Settings) { s.Query = "SELECT 1" }),
		"a user and a database": with(sql, func(s *Settings) { s.URL = "postgres://db.acme.test?sslmode=verify-full" }),
		"sslmode=verify-full":   with(sql, func(s *Settings) { s.URL = "postgres://reader@db.acme.test/people?sslmode=require" }),
	} {
		if _, err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", s, err, want)
		}
	}
	for _, filter := range []string{ // which do not tell one login from another
		"(uid={user})", "(associatedDomain={domain})", "(mail={login}*)", "(mail~={login})", "(mail:caseIgnoreMatch:={login})", "(!(mail={login}))", "({login}=mail)",
	} {
		if _, err := with(ldap, func(s *Settings) { s.Filter = filter }).Check(); err == nil || !strings.Contains(err.Error(), "want {login} in it") {
			t.Errorf("%s: %v", filter, err)
		}
	}
	domain := with(ldap, func(s *Settings) { s.Filter, s.Attribute = "(associatedDomain={domain})", "mail" })
	if _, err := domain.Check(); err == nil {
		t.Error("everybody of a domain is the user of an entry's account")
	}
	if _, err := Parse(`{"url":"ldaps://ldap.acme.test","new":true}`); err == nil {
		t.Error("settings of a newer release were read as if they were known")
	}
	if strings.Contains(sql.String(), `\u`) || !bytes.Contains([]byte(sql.String()), []byte("$1")) {
		t.Error(sql.String())
	}
}

// Whatever a login is, the filter with it in is the same one of as many parts.
func FuzzFilter(f *testing.F) {
	for _, login := range []string{"a@acme.test", "*", "a)(b=*", `\2a`, "\x00", "a@b@c", "é"} {
		f.Add(login)
	}
	s := Settings{Filter: "(&(uid={user})(|(mail={login})(o={domain})))"}
	f.Fuzz(func(t *testing.T, login string) {
		got := s.filter(login)
		if strings.Count(got, "(") != strings.Count(s.Filter, "(") || strings.Count(got, ")") != strings.Count(s.Filter, ")") || strings.Contains(got, "*") {
			t.Errorf("%q: %s", login, got)
		}
	})
}
