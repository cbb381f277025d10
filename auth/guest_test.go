package auth

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailstead.dev/store"
)

// A guest is let in by nothing that is said of them here: whatever an account that is one has, and whoever of the tenant's vouches for it.
func TestNothingHereLetsAGuestIn(t *testing.T) {
	const login = "a@one.test"
	shown := certificate(t, login)
	is := newIssuer(t)
	var dir logins
	dir.set(t, login, "right", false)
	dir.withApp(login, CertificateSecret(shown.Leaf.Raw))
	dir.issuers = []store.Issuer{{URL: is.URL, Audience: "mail", Scope: "imap", Claim: "email"}}
	o := all
	o.Transport, o.Anonymous = is.Client().Transport, login
	a := New(&dir, o)
	ch, _ := tlsPair(t, &tls.Config{Certificates: []tls.Certificate{shown}})
	clients := map[string]func() func([]byte) ([]byte, error){
		"PLAIN": func() func([]byte) ([]byte, error) { return saying("\x00" + login + "\x00right") },
		"LOGIN": func() func([]byte) ([]byte, error) { return saying(login, "right") },
		"SCRAM-SHA-256": func() func([]byte) ([]byte, error) {
			return scramClient(t, scramHashes[0], "", login, "right", unbound)
		},
		"EXTERNAL": func() func([]byte) ([]byte, error) { return saying("") },
		"OAUTHBEARER": func() func([]byte) ([]byte, error) {
			return saying("n,a="+login+",\x01auth=Bearer "+is.token(nil)+"\x01\x01", "\x01")
		},
		"ANONYMOUS": func() func([]byte) ([]byte, error) { return saying("somebody") },
	}
	way := func(mechanism string) Channel {
		if mechanism == "EXTERNAL" {
			return ch
		}
		return imapOverTLS
	}
	for mechanism, client := range clients { // for what is refused below is let in as long as it is no guest
		if _, err := exchange(t, a, way(mechanism), mechanism, client()); err != nil {
			t.Errorf("%s of who is no guest: %v", mechanism, err)
		}
	}
	guest := dir.accounts[login]
	guest.User.Guest, guest.Home = true, store.Home{Login: "a@home.test"}
	dir.accounts[login] = guest
	dir.directory = "{}" // nor is a directory of the tenant asked
	for mechanism, client := range clients {
		if g, err := exchange(t, a, way(mechanism), mechanism, client()); !errors.Is(err, store.ErrAuth) {
			t.Errorf("%s of a guest: %+v, %v", mechanism, g, err)
		}
	}
}

// A guest who has been let in by a password stays for a day, or as long as the password is good for.
func TestGuestStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dir logins
		dir.set(t, "guest@one.test", "", false)
		guest := dir.accounts["guest@one.test"]
		guest.User.Guest, guest.User.Role, guest.Home = true, store.RoleTenantAdmin, store.Home{Login: "a@home.test", Cell: "home"}
		dir.accounts["guest@one.test"] = guest
		a := New(&dir, Options{Cells: Cells{Name: "here", Secret: "secret", Others: []string{"home"}}})
		defer a.verified.entries.StopAllGoroutines()
		defer a.taken.entries.StopAllGoroutines()
		_, err := a.Login(t.Context(), imapOverTLS, "guest@one.test", "right")
		e, ok := errors.AsType[*ElsewhereError](err)
		if !ok || !e.Guest() || e.Cell != "home" || e.Login != "a@home.test" {
			t.Fatalf("a guest's login: %+v, %v", e, err)
		}
		if said := a.Introduce(e, netip.Addr{}); !bytes.HasSuffix(said, []byte("\x00QUESTION\x00\x00a@home.test\x00right")) {
			t.Errorf("the home is asked %q", said)
		}
		for _, test := range []struct {
			good     time.Duration // 0: always
			readOnly bool
			lasts    time.Duration
		}{
			{0, false, guestTime},
			{0, true, guestTime},
			{time.Hour, false, time.Hour},
			{2 * guestTime, false, guestTime},
		} {
			began := time.Now()
			s := scope{Subject: "1.2", ReadOnly: test.readOnly}
			if test.good > 0 {
				s.Until = began.Add(test.good)
			}
			told, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			g, err := a.AdmitGuest(t.Context(), e, told)
			if err != nil || g.User.ReadOnly != test.readOnly || g.User.Role != store.RoleNone || !g.User.Guest {
				t.Fatalf("told %s: %+v, %v", told, g.User, err)
			}
			ended := make(chan time.Duration, 1)
			release, ok := a.Hold(g, func() { ended <- time.Since(began) })
			if !ok {
				t.Fatal("it does not hold")
			}
			if lasted := <-ended; lasted != test.lasts {
				t.Errorf("told %s, the session lasts %v, want %v", told, lasted, test.lasts)
			}
			release()
		}
		for _, told := range []string{"", "yes", `{"read_only":1}`, `[]`, `{"read_only":true}`} {
			if _, err := a.AdmitGuest(t.Context(), e, []byte(told)); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("told %q: %v", told, err)
			}
		}
	})
}

// What a cell has signed and is not as it should be is the front end's fault.
func TestVisitsThatSayTooLittle(t *testing.T) {
	var dir logins
	dir.set(t, "guest@one.test", "", false)
	guest := dir.accounts["guest@one.test"]
	guest.User.Guest, guest.Home = true, store.Home{Login: "a@home.test", Cell: "home"}
	dir.accounts["guest@one.test"] = guest
	a := New(&dir, Options{Cells: Cells{Name: "here", Secret: "secret", Others: []string{"home"}}})
	home := Cells{Name: "home", Secret: "secret"}
	visits := func(token []byte) error {
		_, err := exchange(t, a, imapOverTLS, CellMechanism, saying(string(token)+"\x00VISIT\x00"))
		return err
	}
	if err := visits(home.token(visit, "here", netip.Addr{}, "a@home.test", "guest@one.test", "1.2", "false")); err != nil {
		t.Fatalf("a visit as it should be: %v", err)
	}
	for _, more := range [][]string{nil, {"a@home.test", "guest@one.test", "false"}, {"a@home.test", "guest@one.test", "", "false"}, {"a@home.test", "guest@one.test", "1.2", "false", ""}} {
		if err := visits(home.token(visit, "here", netip.Addr{}, more...)); !errors.Is(err, ErrIntroduction) {
			t.Errorf("a visit of %q: %v", more, err)
		}
	}
	said := strings.Join([]string{"home", "here", "nowhere", strconv.FormatInt(time.Now().Add(introductionTime).Unix(), 10), "a@home.test", "guest@one.test", "1.2", "false"}, " ")
	if err := visits(append(home.sign(visit, said), said...)); !errors.Is(err, ErrIntroduction) {
		t.Errorf("a visit from an address that is none: %v", err)
	}
}
