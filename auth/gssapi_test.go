package auth

import (
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailstead.dev/auth/kerberos/krbtest"
	"mailstead.dev/store"
)

// The KDC and the clients are others' in make e2e-auth; here they do what they should not.
func TestGSSAPI(t *testing.T) {
	var dir logins
	dir.set(t, "jane@acme.test", "", false)
	dir.set(t, "jane@other.test", "", false)
	dir.set(t, "off@acme.test", "", true)
	jane := dir.accounts["jane@acme.test"]
	jane.User.Role = store.RolePlatformAdmin
	dir.accounts["jane@acme.test"] = jane
	kdc := krbtest.New(t)
	a := New(&dir, Options{Mechanisms: []string{"GSSAPI"}, Keytab: kdc.Keytab, Realms: []Realm{{krbtest.Realm, "acme.test"}}})
	ch := Channel{Protocol: IMAP, Private: true, From: netip.MustParseAddr("::ffff:192.0.2.1")}
	const subkey, none = 4, 0x80
	right := []byte{1, 0, 0, 0}
	exchange := func(ask krbtest.Ask, chosen []byte, flags byte, rotated int) (Grant, error) {
		t.Helper()
		x, err := a.Begin(t.Context(), ch, "GSSAPI")
		if err != nil {
			t.Fatal(err)
		}
		if challenge, done, err := x.Next(nil); len(challenge) > 0 || done || err != nil {
			t.Fatalf("%q %t %v", challenge, done, err)
		}
		c := kdc.Client(ask)
		layers, done, err := x.Next(c.Token)
		if err != nil || done {
			return Grant{}, err
		}
		if c.Agree(layers) {
			if layers, done, err = x.Next([]byte{}); err != nil || done {
				t.Fatalf("%t, %v", done, err)
			}
		}
		if got := c.Unwrap(layers); !slices.Equal(got, right) {
			t.Errorf("layers of security: %v", got)
		}
		_, done, err = x.Next(c.Wrap(chosen, flags, rotated))
		if !done && err == nil {
			t.Error("it goes on")
		}
		if _, _, again := x.Next([]byte{}); again == nil {
			t.Error("it goes on when it is over")
		}
		return x.Grant(), err
	}
	for name, test := range map[string]struct {
		ask     krbtest.Ask
		chosen  []byte
		flags   byte
		rotated int
		want    error
	}{
		"jane":                   {},
		"who says who she is":    {chosen: append(right, "jane@acme.test"...)},
		"as Windows wraps":       {rotated: 12},
		"who acts as another":    {chosen: append(right, "jane@other.test"...), want: store.ErrActAs},
		"disabled":               {ask: krbtest.Ask{Name: "off"}, want: store.ErrDisabled},
		"no account":             {ask: krbtest.Ask{Name: "joe"}, want: store.ErrAuth},
		"a name with a domain":   {ask: krbtest.Ask{Name: "jane@other.test"}, want: store.ErrAuth},
		"another instance":       {ask: krbtest.Ask{Name: "jane/admin"}, want: store.ErrAuth},
		"another realm":          {ask: krbtest.Ask{Realm: "OTHER.TEST"}, want: store.ErrAuth},
		"who says another realm": {ask: krbtest.Ask{Realm: "OTHER.TEST", Says: krbtest.Realm}, want: store.ErrAuth},
		"another service":        {ask: krbtest.Ask{Service: "host"}, want: store.ErrAuth},
		"not mutual":             {ask: krbtest.Ask{Flags: 16}, flags: none},
		"old keys":               {ask: krbtest.Ask{Kind: 23}, want: store.ErrAuth},
		"an old key of ours":     {ask: krbtest.Ask{Sealed: 23}, want: store.ErrAuth},
		"an old key of theirs":   {ask: krbtest.Ask{Kind: 23, Sealed: 18}, want: store.ErrAuth},
		"a ticket that is over":  {ask: krbtest.Ask{Lasts: -10 * time.Minute}, want: store.ErrAuth},
		"a layer of security":    {chosen: []byte{2, 0, 0, 0}, want: ErrMalformed},
		"a buffer for none":      {chosen: []byte{1, 0, 16, 0}, want: ErrMalformed},
		"nothing":                {chosen: []byte{1}, want: ErrMalformed},
		"sealed":                 {flags: subkey | 2, want: store.ErrAuth},
		"another key":            {flags: none, want: store.ErrAuth},
	} {
		if test.chosen == nil {
			test.chosen = right
		}
		switch test.flags {
		case 0:
			test.flags = subkey
		case none:
			test.flags = 0
		}
		g, err := exchange(test.ask, test.chosen, test.flags, test.rotated)
		if !errors.Is(err, test.want) || err == nil && (g.User.Login != "jane@acme.test" || g.User.Role != store.RoleNone || g.until.IsZero()) || err != nil && g.User != (store.User{}) {
			t.Errorf("%s: %+v, %v; want %v", name, g.User, err, test.want)
		}
		for _, said := range []string{"jane", "joe", "admin", "host/", krbtest.Realm, "OTHER.TEST"} {
			if err != nil && strings.Contains(err.Error(), said) {
				t.Errorf("%s: the log would have %q: %v", name, said, err)
			}
		}
	}

	// Of what is not mutual the same is not taken twice.
	again := kdc.Client(krbtest.Ask{Flags: 16}).Token
	for i, want := range []error{nil, store.ErrAuth} {
		x, err := a.Begin(t.Context(), ch, "GSSAPI")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := x.Next(again); !errors.Is(err, want) {
			t.Errorf("try %d: %v", i+1, err)
		}
	}

	for name, spoil := range map[string]func(token []byte) []byte{
		"cut off": func(token []byte) []byte { return token[:len(token)-20] },
		"longer":  func(token []byte) []byte { return append(token, 0) },
		"changed": func(token []byte) []byte { token[len(token)-5] ^= 1; return token },
		"empty":   func([]byte) []byte { return []byte{} },
	} {
		x, err := a.Begin(t.Context(), ch, "GSSAPI")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := x.Next(spoil(kdc.Client(krbtest.Ask{}).Token)); !errors.Is(err, store.ErrAuth) {
			t.Errorf("a token that is %s: %v", name, err)
		}
	}

	a = New(&dir, Options{Mechanisms: []string{"GSSAPI"}, Keytab: filepath.Join(t.TempDir(), "gone"), Realms: []Realm{{krbtest.Realm, "acme.test"}}})
	x, err := a.Begin(t.Context(), ch, "GSSAPI")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := x.Next(kdc.Client(krbtest.Ask{}).Token); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without its keys: %v", err)
	}
	if offered := New(&dir, Options{Mechanisms: []string{"GSSAPI"}}).Mechanisms(ch); len(offered) > 0 {
		t.Errorf("without a keytab there is %v", offered)
	}
}

func TestParseRealm(t *testing.T) {
	for text, want := range map[string]Realm{
		"ACME.TEST": {"ACME.TEST", "acme.test"}, "CORP.ACME.TEST=Acme.test": {"CORP.ACME.TEST", "acme.test"}, "": {}, "A=": {}, "=acme.test": {}, "A=a@b": {},
	} {
		if got, err := ParseRealm(text); got != want || (err == nil) != (want != Realm{}) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
