package imapd

import (
	"context"
	"encoding/base64"
	"testing"
	"time"

	"mailstead.dev/auth"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// Whoever is let in no more is sent away from every front end within two seconds, whatever they do, and nobody else is.
func TestRevoked(t *testing.T) {
	cluster := storetest.Config(t)
	const bye = "* BYE You are logged out: your password or what you may do has changed"
	var connects []func(testing.TB) *client
	var stores []*store.Store
	for range 2 {
		s := storetest.Open(t, cluster)
		a := auth.New(s, auth.Options{})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Watch(ctx) }()
		t.Cleanup(func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		stores = append(stores, s)
		connects = append(connects, serveStore(t, s, func(o *Options) { o.Authenticator = a }))
	}
	s := stores[0]
	user, admin := storetest.Account(t, s, "user@revoke.test"), storetest.Account(t, s, "admin@revoke.test")
	if err := s.SetRole(t.Context(), admin, store.RoleTenantAdmin); err != nil {
		t.Fatal(err)
	}
	app, kept, err := auth.NewAppSecret(store.Login{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddAppPassword(t.Context(), user, store.AppPassword{Name: "phone", Secret: kept, Protocols: auth.Protocols}); err != nil {
		t.Fatal(err)
	}
	login := func(frontEnd int, login, password string) *client {
		t.Helper()
		c := connects[frontEnd](t)
		c.expect("* OK ...")
		c.send("a LOGIN " + login + " " + password)
		c.expect("a OK ...")
		return c
	}
	idle := func(c *client) *client {
		t.Helper()
		c.want("SELECT INBOX", "OK ")
		c.send("i IDLE")
		c.expect("+ ...")
		return c
	}
	for _, test := range []struct {
		name string
		act  func() error
		ends func() []*client
	}{
		{
			"a role", func() error { return s.SetRole(t.Context(), admin, store.RoleNone) },
			func() []*client {
				acting := connects[1](t)
				acting.expect("* OK ...")
				acting.send("a AUTHENTICATE PLAIN " + base64.StdEncoding.EncodeToString([]byte(user.Login+"\x00"+admin.Login+"\x00"+storetest.Password)))
				acting.expect("a OK ...")
				return []*client{login(0, admin.Login, storetest.Password), idle(acting)}
			},
		},
		{
			"an app password", func() error { return s.RevokeAppPassword(t.Context(), user, "phone") },
			func() []*client { return []*client{login(0, user.Login, app), idle(login(1, user.Login, app))} },
		},
		{
			"a password", func() error { return s.SetPassword(t.Context(), user, storetest.Secret) },
			func() []*client {
				return []*client{login(0, user.Login, storetest.Password), idle(login(1, user.Login, storetest.Password))}
			},
		},
		{
			"an account", func() error { return s.DisableAccount(t.Context(), user, true) },
			func() []*client { return []*client{idle(login(1, user.Login, storetest.Password))} },
		},
	} {
		ends, stays := test.ends(), login(1, admin.Login, storetest.Password)
		if test.name == "a role" {
			stays = login(1, user.Login, storetest.Password)
		}
		begin := time.Now()
		if err := test.act(); err != nil {
			t.Fatal(err)
		}
		for _, c := range ends {
			c.expect(bye)
			c.expectClosed()
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("%s: sessions ended after %v", test.name, took)
		}
		stays.want("NOOP", "OK ")
	}
	c := connects[1](t)
	c.expect("* OK ...")
	c.send("a LOGIN " + user.Login + " " + storetest.Password)
	c.expect("a NO [CONTACTADMIN] Account disabled")
}

// Who keeps a command running is sent away as well.
func TestRevokedWhileBusy(t *testing.T) {
	o := testOptions(t)
	s, connect := start(t, o)
	c := connect()
	c.expect("* OK ...")
	c.send("a LOGIN user pass")
	c.expect("a OK ...")
	c.send(`b ID ("name" {10}`) // and nothing more
	c.expect("+ ...")
	begin := time.Now()
	for _, conn := range connectionsOf(s) {
		conn.revoke()
	}
	for {
		if _, err := c.r.ReadString('\n'); err != nil {
			break
		}
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("ended after %v", took)
	}
}

func connectionsOf(s *Server) (all []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// An app password that is only for reading changes nothing, and its session ends when it does.
func TestReadOnlyAppPassword(t *testing.T) {
	s := storetest.New(t)
	user := storetest.Account(t, s, "user@app.test")
	app, kept, err := auth.NewAppSecret(store.Login{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ends := time.Now().Add(3 * time.Second)
	if err := s.AddAppPassword(t.Context(), user, store.AppPassword{Name: "printer", Secret: kept, Protocols: auth.Protocols, ReadOnly: true, Expires: &ends}); err != nil {
		t.Fatal(err)
	}
	c := serveStore(t, s, func(*Options) {})(t)
	c.expect("* OK ...")
	c.want("LOGIN user@app.test "+app, "OK ")
	c.want("CREATE Box", "NO [NOPERM]")
	c.want("APPEND INBOX {1+}\r\nx", "NO [NOPERM]")
	c.want("SELECT INBOX", "OK [READ-ONLY]")
	c.expect("* BYE You are logged out: your password or what you may do has changed")
	c.expectClosed()
	if early := time.Until(ends); early > 0 {
		t.Errorf("it ended %v too early", early)
	}
}
