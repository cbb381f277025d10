package imapd

import (
	"context"
	"encoding/base64"
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

const (
	guestLogin = "guest@east.test"
	guestHome  = "user@west.test"
	projects   = `"Other Users/user@east.test/Projects"`
)

// guestCells are two cells, and in the eastern one a guest who is the western one's user; the eastern one's user shares Projects with them, and Open with
// anyone of the tenant. Who is let in no more is sent away.
func guestCells(t *testing.T, change func(*Options)) (west, east *cell, guest store.User) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	west, east = twoCells(t, func(o *Options) {
		if change != nil {
			change(o)
		}
		running.Go(func() { o.Authenticator.Watch(ctx) })
	})
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	made, err := east.store.CreateGuest(t.Context(), guestLogin, guestHome)
	if err != nil {
		t.Fatal(err)
	}
	c := east.connect(t)
	c.want("LOGIN user@east.test "+storetest.Password, "OK ")
	for _, command := range []string{
		"CREATE Projects", "SETACL Projects " + guestLogin + " lrswi", appendText("Projects", "Subject: plan\r\n\r\nx"), "CREATE Open", "SETACL Open anyone lrswi", "LOGOUT",
	} {
		c.want(command, "OK ")
	}
	return west, east, made.User()
}

// seesGuest checks that a session has what the guest has, and nothing else.
func seesGuest(c *client) {
	c.t.Helper()
	c.want("SELECT "+projects, "OK [READ-WRITE] ")
	if lines := c.want("FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "OK "); !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "Subject: plan") }) {
		c.t.Errorf("fetched %q", lines)
	}
	for _, name := range []string{`"Other Users/user@east.test/INBOX"`, `"Other Users/user@east.test/Open"`, "Projects", "Open"} {
		c.want("STATUS "+name+" (MESSAGES)", "NO [NONEXISTENT] ")
	}
	c.want("SETACL "+projects+" "+guestLogin+" lrswipkxtea", "NO [NOPERM] ")
	c.want("STATUS INBOX (MESSAGES)", "OK ") // the guest's own
	if lines := c.want("GETQUOTAROOT "+projects, "OK "); len(lines) < 2 || slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "domain:") || strings.Contains(l, "tenant:") }) {
		c.t.Errorf("quota roots are %q", lines)
	}
	c.want("GETQUOTA domain:east.test", "NO ")
	c.want("GETQUOTA account:"+guestLogin, "OK ")
}

func plainOf(identity, login, password string) string {
	return "AUTHENTICATE PLAIN " + base64.StdEncoding.EncodeToString([]byte(identity+"\x00"+login+"\x00"+password))
}

// A guest is let in by what lets their user in at home, by whatever mechanism sends a password, at either cell, and is the guest alone.
func TestGuestLogin(t *testing.T) {
	west, east, guest := guestCells(t, nil)
	for _, s := range []struct {
		*store.Store
		login string
	}{{west.store, guestHome}, {east.store, guestLogin}} { // whatever they are elsewhere, or were made here
		a, err := s.Account(t.Context(), s.login)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetRole(t.Context(), a.User(), store.RolePlatformAdmin); err != nil {
			t.Fatal(err)
		}
	}
	const wrong = "NO [AUTHENTICATIONFAILED] "
	for name, login := range map[string]func(c *client, password string) string{
		"LOGIN":         func(c *client, p string) string { _, answer := c.do("LOGIN " + guestLogin + " " + p); return answer },
		"PLAIN":         func(c *client, p string) string { _, answer := c.do(plainOf("", guestLogin, p)); return answer },
		"with identity": func(c *client, p string) string { _, answer := c.do(plainOf(guestLogin, guestLogin, p)); return answer },
		"mechanism LOGIN": func(c *client, p string) string {
			c.send("a AUTHENTICATE LOGIN " + base64.StdEncoding.EncodeToString([]byte(guestLogin)))
			c.expect("+ ...")
			c.send(base64.StdEncoding.EncodeToString([]byte(p)))
			return strings.TrimPrefix(c.line(), "a ")
		},
	} {
		for _, at := range []*cell{east, west} {
			c := at.connect(t)
			if got := login(c, "wrong"); !strings.HasPrefix(got, wrong) {
				t.Errorf("%s with a wrong password in %s: %s", name, at.name, got)
			}
			if got := login(c, storetest.Password); !strings.HasPrefix(got, "OK [CAPABILITY ") {
				t.Fatalf("%s in %s: %s", name, at.name, got)
			}
			seesGuest(c)
		}
	}
	c := east.connect(t)
	c.want(plainOf("user@east.test", guestLogin, storetest.Password), "NO [AUTHORIZATIONFAILED] ")
	c.want(plainOf(guestHome, guestLogin, storetest.Password), "NO [AUTHORIZATIONFAILED] ")
	c.want(plainOf(guestLogin, guestHome, storetest.Password), "NO [AUTHORIZATIONFAILED] ") // who is at home acts as no guest
	if got := scramAs(c, guestLogin, storetest.Password, "n"); !strings.HasPrefix(got, wrong) {
		t.Errorf("SCRAM: %s", got)
	}
	c.want("LOGIN "+guestLogin+" "+storetest.Password, "OK ")
	await(t, func() bool { all, _ := west.server.Connections(); return all == 4 }) // those that were passed through; those who ask have no session

	if err := east.store.DisableAccount(t.Context(), guest, true); err != nil {
		t.Fatal(err)
	}
	c.expect("* BYE You are logged out: your password or what you may do has changed")
	c = east.connect(t)
	c.want("LOGIN "+guestLogin+" wrong", wrong)
	c.want("LOGIN "+guestLogin+" "+storetest.Password, "NO [CONTACTADMIN] ")
}

// What becomes of the user at home holds for the guest, from the next login on; and what becomes of the guest, at once.
func TestGuestAndHome(t *testing.T) {
	west, east, guest := guestCells(t, nil)
	ctx := t.Context()
	home, err := west.store.Account(ctx, guestHome)
	if err != nil {
		t.Fatal(err)
	}
	login := func(password, want string) *client {
		t.Helper()
		c := east.connect(t)
		c.want("LOGIN "+guestLogin+" "+password, want)
		return c
	}
	const wrong = "NO [AUTHENTICATIONFAILED] "
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	soon := time.Now().Add(20 * time.Second)
	for name, p := range map[string]store.AppPassword{"look": {ReadOnly: true}, "brief": {Expires: &soon}} {
		password, secret, err := auth.NewAppSecret(store.Login{}, nil)
		do(err)
		p.Name, p.Secret, p.Protocols = name, secret, auth.Protocols
		do(west.store.AddAppPassword(ctx, home.User(), p))
		c := login(password, "OK ")
		if name == "look" {
			c.want("SELECT "+projects, "OK [READ-ONLY] ")
			c.want(`STORE 1 +FLAGS (\Flagged)`, "NO ")
			c.want(appendText(projects, "x"), "NO ")
			continue
		}
		c.want(appendText(projects, "x"), "OK ")
		c.expect("* BYE You are logged out: your password or what you may do has changed")
		login(password, wrong)
	}
	do(west.store.DisableAccount(ctx, home.User(), true))
	login("wrong", wrong)
	login(storetest.Password, "NO [CONTACTADMIN] ")
	do(west.store.DisableAccount(ctx, home.User(), false))
	do(west.store.SetPassword(ctx, home.User(), ""))
	login(storetest.Password, wrong)
	do(west.store.SetPassword(ctx, home.User(), storetest.Secret))

	const bye = "* BYE You are logged out: your password or what you may do has changed"
	storetest.Account(t, west.store, "other@west.test")
	c := login(storetest.Password, "OK ")
	do(east.store.SetGuestHome(ctx, guest, "other@west.test"))
	c.expect(bye)
	c = login(storetest.Password, "OK ") // the passwords of both are the same
	do(west.store.DeleteAccount(ctx, mustAccount(t, west.store, "other@west.test")))
	login(storetest.Password, wrong)
	do(east.store.SetGuestHome(ctx, guest, guestHome))
	c.expect(bye)
	c = login(storetest.Password, "OK ")
	do(east.store.DeleteRemoteDomain(ctx, "west.test"))
	c.expect(bye)
	login(storetest.Password, wrong)
	do(east.store.SetRemoteDomain(ctx, "west.test", "nowhere")) // which is none of the cells that are known
	login(storetest.Password, "NO [UNAVAILABLE] ")
	do(east.store.SetRemoteDomain(ctx, "west.test", "west"))

	// A guest's home is no guest.
	if _, err := west.store.CreateGuest(ctx, "chain@west.test", guestLogin); err != nil {
		t.Fatal(err)
	}
	do(east.store.SetGuestHome(ctx, guest, "chain@west.test"))
	login(storetest.Password, wrong)
	do(east.store.SetGuestHome(ctx, guest, guestHome))
	c = login(storetest.Password, "OK ")
	do(east.store.DeleteAccount(ctx, guest))
	c.expect(bye)
	login(storetest.Password, wrong)
}

func mustAccount(t *testing.T, s *store.Store, login string) store.User {
	t.Helper()
	a, err := s.Account(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	return a.User()
}

// Who guesses a guest's password is counted in both cells, for where they are, and kept out of both.
func TestGuestGuessed(t *testing.T) {
	const most, from = 3, "127.0.0.78"
	west, east, _ := guestCells(t, func(o *Options) { o.Authenticator.Limit(auth.AttemptLimits{Address: most}) })
	for _, guess := range []string{"a", "b", "c"} {
		c := dialFrom(t, from, east.plain)
		c.expect("* OK ...")
		c.want("LOGIN "+guestLogin+" "+guess, "NO [AUTHENTICATIONFAILED] ")
	}
	for at, login := range map[*cell]string{west: guestHome, east: guestLogin} {
		blocked, err := at.store.FailedNames(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for name, failures := range map[string]int{"address:" + from + "/32": 0, "account:" + login: most} { // the address is blocked, and its count begins anew
			if !slices.ContainsFunc(blocked, func(f store.FailedName) bool { return f.Name == name && f.Failures == failures }) {
				t.Errorf("%s has counted %+v, want %d of %s", at.name, blocked, failures, name)
			}
		}
		c := dialFrom(t, from, at.plain)
		c.expect("* OK ...")
		c.want("LOGIN "+login+" "+storetest.Password, "NO [LIMIT] Too many failed logins")
	}
	c := east.connect(t)
	c.want("LOGIN "+guestLogin+" "+storetest.Password, "OK ")
	c = dialFrom(t, from, east.plain)
	c.expect("* OK ...")
	c.want(visitTo(east, "west", guestLogin, store.User{Login: guestHome, Subject: "1.1"}, netip.MustParseAddr(from)), "NO [LIMIT] ")

	west.server.Close()
	c = east.connect(t)
	c.want("LOGIN "+guestLogin+" "+storetest.Password, "NO [UNAVAILABLE] ")
}

// visitTo is the command by which a cell enters another as a guest.
func visitTo(to *cell, from, guest string, home store.User, client netip.Addr) string {
	a := auth.New(to.store, auth.Options{Cells: auth.Cells{Name: from, Secret: "what only cells know", Others: []string{to.name}}})
	return cellCommand(a.IntroduceGuest(store.Visit{Cell: to.name, Login: guest}, home, client))
}

func cellCommand(said []byte) string {
	return "AUTHENTICATE " + auth.CellMechanism + " " + base64.StdEncoding.EncodeToString(said)
}

// A front end of a guest's home enters as the guest without a password, where both cells say that it is them.
func TestVisit(t *testing.T) {
	west, east, guest := guestCells(t, nil)
	ctx := t.Context()
	home := subject(t, west.store, guestHome)
	visit := func(command, want string) *client {
		t.Helper()
		c := east.connect(t)
		c.want(command, want)
		return c
	}
	right := visitTo(east, "west", guestLogin, home, netip.Addr{})
	seesGuest(visit(right, "OK [CAPABILITY "))
	c := visit(visitTo(east, "west", guestLogin, store.User{Login: guestHome, Subject: home.Subject, ReadOnly: true}, netip.Addr{}), "OK ")
	c.want("SELECT "+projects, "OK [READ-ONLY] ")
	c.want(appendText(projects, "x"), "NO ")

	const none = "NO [AUTHORIZATIONFAILED] "
	for what, command := range map[string]string{
		"who is no guest":       visitTo(east, "west", "user@east.test", home, netip.Addr{}),
		"nobody":                visitTo(east, "west", "nobody@east.test", home, netip.Addr{}),
		"whose tenant has gone": visitTo(east, "west", "guest@gone.test", home, netip.Addr{}),
		"somebody else's guest": visitTo(east, "west", guestLogin, store.User{Login: "other@west.test", Subject: "1.1"}, netip.Addr{}),
		"no home":               visitTo(east, "west", "user@east.test", store.User{Subject: "1.1"}, netip.Addr{}),
	} {
		if _, got := east.connect(t).do(command); !strings.HasPrefix(got, none) {
			t.Errorf("a visit of %s: %s", what, got)
		}
	}
	for what, command := range map[string]string{
		"a cell that is not known":             visitTo(east, "north", guestLogin, home, netip.Addr{}),
		"who does not say which account it is": visitTo(east, "west", guestLogin, store.User{Login: guestHome}, netip.Addr{}),
		"another secret": func() string {
			a := auth.New(east.store, auth.Options{Cells: auth.Cells{Name: "west", Secret: "what others know", Others: []string{"east"}}})
			return cellCommand(a.IntroduceGuest(store.Visit{Cell: "east", Login: guestLogin}, home, netip.Addr{}))
		}(),
		"another cell's token": visitTo(&cell{name: "north", store: east.store}, "west", guestLogin, home, netip.Addr{}),
	} {
		if _, got := east.connect(t).do(command); !strings.HasPrefix(got, "NO ") || strings.HasPrefix(got, none) {
			t.Errorf("a visit by %s: %s", what, got)
		}
	}
	if err := east.store.SetRemoteDomain(ctx, "west.test", "north"); err != nil { // where that cell says nothing of its users
		t.Fatal(err)
	}
	visit(right, none)
	if err := east.store.SetRemoteDomain(ctx, "west.test", "west"); err != nil {
		t.Fatal(err)
	}
	c = visit(right, "OK ")
	if err := east.store.DisableAccount(ctx, guest, true); err != nil {
		t.Fatal(err)
	}
	c.expect("* BYE You are logged out: your password or what you may do has changed")
	visit(right, "NO [CONTACTADMIN] ")
}

// A cell that is asked about a password lets nobody in by it; and a token is good for nothing but its kind.
func TestTokensOfGuests(t *testing.T) {
	west, east, _ := guestCells(t, nil)
	cells := auth.Cells{Name: "east", Secret: "what only cells know", Others: []string{"west"}}
	a := auth.New(east.store, auth.Options{Cells: cells})
	question := func(login string) []byte {
		t.Helper()
		_, err := a.Login(t.Context(), auth.Channel{Private: true}, login, storetest.Password)
		e, ok := err.(*auth.ElsewhereError)
		if !ok {
			t.Fatalf("a login that is elsewhere: %v", err)
		}
		return a.Introduce(e, netip.Addr{})
	}
	c := west.connect(t)
	asked := question(guestLogin)
	c.send("a " + cellCommand(asked))
	if line := c.line(); line != "+ "+base64.StdEncoding.EncodeToString([]byte(`{"subject":"`+subject(t, west.store, guestHome).Subject+`","read_only":false}`)) {
		t.Fatalf("asked, it answers %s", line)
	}
	c.send("")
	c.expect("a BAD ...")
	c.want("SELECT INBOX", "BAD [CLIENTBUG] SELECT: log in first")

	// The parts of each of the three kinds.
	parts := func(said []byte) []string { return strings.SplitN(string(said), "\x00", 3) }
	visit, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(visitTo(west, "east", guestHome, store.User{Login: guestLogin, Subject: "1.1"}, netip.Addr{}), "AUTHENTICATE "+auth.CellMechanism+" "))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string][]string{"introduction": parts(question(guestHome)), "question": parts(asked), "visit": parts(visit)}
	for of, token := range kinds {
		for with, rest := range kinds {
			if of == with {
				continue
			}
			if _, got := west.connect(t).do(cellCommand([]byte(token[0] + "\x00" + rest[1] + "\x00" + rest[2]))); !strings.HasPrefix(got, "NO ") {
				t.Errorf("with the token of one %s, another %s: %s", of, with, got)
			}
		}
	}
	if _, got := west.connect(t).do(cellCommand([]byte(kinds["introduction"][0] + "\x00PLAIN\x00" + kinds["introduction"][2]))); !strings.HasPrefix(got, "OK ") {
		t.Errorf("an introduction as it is: %s", got)
	}
}

// subject is the user of a login, as who logs in has it.
func subject(t *testing.T, s *store.Store, login string) store.User {
	t.Helper()
	found, err := s.LookupLogin(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	return found.User
}

// Who gets a login that somebody else had, in another cell, does not get their guest: not by a password, nor by a front end.
func TestGuestOfAPredecessor(t *testing.T) {
	west, east, guest := guestCells(t, nil)
	ctx := t.Context()
	login, visit := "LOGIN "+guestLogin+" "+storetest.Password, ""
	comes := func(want string) {
		t.Helper()
		for _, command := range []string{login, visit} {
			c := east.connect(t)
			c.want(command, want)
		}
	}
	anew := func() {
		t.Helper()
		if err := west.store.DeleteAccount(ctx, mustAccount(t, west.store, guestHome)); err != nil {
			t.Fatal(err)
		}
		storetest.Account(t, west.store, guestHome)
		visit = visitTo(east, "west", guestLogin, subject(t, west.store, guestHome), netip.Addr{})
	}
	visit = visitTo(east, "west", guestLogin, subject(t, west.store, guestHome), netip.Addr{})
	comes("OK ")
	comes("OK ")
	anew()
	comes("NO [AUTHORIZATIONFAILED] ")
	all, err := east.store.Guests(ctx, guest.Tenant)
	if err != nil || len(all) != 1 || all[0].Refused == nil {
		t.Errorf("guests are %+v, %v; want that another one was refused", all, err)
	}
	if err := east.store.SetGuestHome(ctx, guest, guestHome); err != nil {
		t.Fatal(err)
	}
	comes("OK ")
	anew()
	login, visit = visit, login // whichever comes first
	comes("NO [AUTHORIZATIONFAILED] ")
	if err := east.store.SetGuestHome(ctx, guest, guestHome); err != nil {
		t.Fatal(err)
	}
	comes("OK ")
}
