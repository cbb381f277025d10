package auth

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"mailstead.dev/store"
)

// issuing is a server that issues tokens.
type issuing struct {
	t *testing.T
	*httptest.Server

	mu   sync.Mutex
	name string
	key  *ecdsa.PrivateKey
	read int    // how often its keys were
	away bool   // it does not answer
	lost bool   // its keys are not to be had
	at   string // where they are; "": with it
}

func newIssuer(t *testing.T) *issuing {
	i := &issuing{t: t}
	i.rotate("first")
	i.Server = httptest.NewTLSServer(i)
	t.Cleanup(i.Close)
	return i
}

func (i *issuing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.away:
		http.Error(w, "away", http.StatusServiceUnavailable)
	case r.URL.Path == "/.well-known/openid-configuration":
		json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": cmp.Or(i.at, i.URL+"/keys"), "id_token_signing_alg_values_supported": []string{"ES256", "none"}})
	case r.URL.Path == "/keys" && i.lost:
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	case r.URL.Path == "/keys", r.URL.Path == "/elsewhere":
		i.read++
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: i.name, Algorithm: "ES256", Use: "sig"}}})
	}
}

func (i *issuing) rotate(name string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.name, i.key = name, key
}

// token signs what is said, over what is usual.
func (i *issuing) token(say map[string]any) string {
	i.t.Helper()
	all := map[string]any{"iss": i.URL, "aud": "mail", "exp": time.Now().Add(time.Hour).Unix(), "email": "a@one.test", "email_verified": true, "scope": "openid imap"}
	for name, value := range say {
		all[name] = value
	}
	text, err := json.Marshal(all)
	if err != nil {
		i.t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: i.name}}, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		i.t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return compact
}

func TestTokens(t *testing.T) {
	is, other := newIssuer(t), newIssuer(t)
	var dir logins
	for _, login := range []string{"a@one.test", "b@one.test"} {
		dir.set(t, login, "right", false)
	}
	dir.set(t, "off@one.test", "right", true)
	dir.issuers = []store.Issuer{{URL: is.URL, Audience: "mail", Scope: "imap", Claim: "email"}}
	o := all
	o.Transport = is.Client().Transport
	a := New(&dir, o)
	unsigned := func(say string) string {
		b64 := base64.RawURLEncoding.EncodeToString
		return b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(say)) + "."
	}
	forged := is.token(nil)
	forged = forged[:strings.LastIndex(forged, ".")+1] + other.token(nil)[strings.LastIndex(other.token(nil), ".")+1:]
	try := func(name, identity, token string, want error, as string) {
		t.Helper()
		for mechanism, client := range map[string]func([]byte) ([]byte, error){
			"OAUTHBEARER": saying("n,a="+identity+",\x01host=mail.one.test\x01port=993\x01auth=Bearer "+token+"\x01\x01", "\x01"),
			"XOAUTH2":     saying("user="+identity+"\x01auth=Bearer "+token+"\x01\x01", ""),
		} {
			g, err := exchange(t, a, imapOverTLS, mechanism, client)
			if !errors.Is(err, want) || g.User.Login != as {
				t.Errorf("%s, %s: %+v, %v; want %q, %v", mechanism, name, g.User, err, as, want)
			}
			if err == nil && (g.until.IsZero() || g.until.After(time.Now().Add(time.Hour))) {
				t.Errorf("%s, %s: the session would last until %v", mechanism, name, g.until)
			}
		}
	}
	say := func(name string, value any) string { return is.token(map[string]any{name: value}) }
	try("right", "a@one.test", is.token(nil), nil, "a@one.test")
	try("right, unnamed", "", is.token(nil), nil, "a@one.test")
	try("several audiences, and scopes as a list", "", is.token(map[string]any{"aud": []string{"x", "mail"}, "scope": nil, "scp": []string{"imap"}}), nil, "a@one.test")
	try("as another", "b@one.test", is.token(nil), nil, "b@one.test")
	try("as another who may not", "a@one.test", say("email", "b@one.test"), store.ErrActAs, "")
	try("another issuer", "", other.token(nil), store.ErrAuth, "")
	try("another issuer's key", "", other.token(map[string]any{"iss": is.URL}), store.ErrAuth, "")
	try("another signature", "", forged, store.ErrAuth, "")
	try("another audience", "", say("aud", "other"), store.ErrAuth, "")
	try("over", "", say("exp", time.Now().Add(-time.Second).Unix()), store.ErrAuth, "")
	try("not yet", "", say("nbf", time.Now().Add(time.Hour).Unix()), store.ErrAuth, "")
	try("another scope", "", say("scope", "openid imaps"), store.ErrAuth, "")
	try("nobody", "", say("email", "nobody@one.test"), store.ErrAuth, "")
	for _, verified := range []any{false, "false", nil, 1} {
		try(fmt.Sprintf("an address that is verified: %v", verified), "", say("email_verified", verified), store.ErrAuth, "")
	}
	try("an address that is verified in another way", "", say("email_verified", "true"), nil, "a@one.test")
	try("the login by another claim", "", is.token(map[string]any{"email": "x@two.test", "upn": "a@one.test"}), store.ErrAuth, "")
	try("disabled", "", say("email", "off@one.test"), store.ErrDisabled, "")
	try("no signature", "", unsigned(`{"iss":"`+is.URL+`","aud":"mail","exp":9999999999,"email":"a@one.test","scope":"imap"}`), store.ErrAuth, "")
	try("no JSON", "", unsigned(`x`), store.ErrAuth, "")

	// Keys change, and are read again, but not for each token that names one which nobody knows.
	is.rotate("second")
	is.mu.Lock()
	before := is.read
	is.mu.Unlock()
	forget(a)
	try("after the keys have changed", "", is.token(nil), nil, "a@one.test")
	for range 20 {
		is.rotate("unknown")
		try("with a key that is too new", "", is.token(nil), store.ErrAuth, "")
	}
	is.mu.Lock()
	if is.read-before > 2 {
		t.Errorf("keys were read %d times", is.read-before)
	}
	is.mu.Unlock()
	forget(a)
	try("later", "", is.token(nil), nil, "a@one.test")

	// Where the issuer is away, what it has said holds. What depends on what it would say now, or on what it has never said, is no wrong password.
	is.mu.Lock()
	is.away = true
	is.mu.Unlock()
	forget(a)
	try("while the issuer is away", "", is.token(nil), nil, "a@one.test")
	is.rotate("third")
	forget(a)
	try("with a new key while it is away", "", is.token(nil), store.ErrUnavailable, "")
	try("of nobody while it is away", "", say("email", "nobody@one.test"), store.ErrUnavailable, "")
	is.mu.Lock()
	is.away, is.lost = false, true
	is.mu.Unlock()
	forget(a)
	try("while its keys are elsewhere", "", is.token(nil), store.ErrUnavailable, "")
	a.issuers = newIssuers(o.Transport)
	try("before it has answered", "", is.token(nil), store.ErrUnavailable, "")
	is.mu.Lock()
	is.lost, is.at = false, "http://127.0.0.1:9/keys"
	is.mu.Unlock()
	forget(a)
	try("with its keys where others could change them", "", is.token(nil), store.ErrUnavailable, "")
}

// forget lets the time pass in which issuers are not asked again.
func forget(a *Authenticator) {
	for _, i := range a.issuers.known {
		i.mu.Lock()
		i.asked = time.Time{}
		if p := i.now.Load(); p != nil {
			i.now.Store(&published{p.keys, time.Now().Add(-2 * issuerAgain)})
		}
		i.mu.Unlock()
	}
}

// Who comes by a token has no role, or where the tenant wants it so their own, but never one of the platform.
func TestTokenRoles(t *testing.T) {
	is := newIssuer(t)
	o := all
	o.Transport = is.Client().Transport
	for _, test := range []struct {
		roles    bool
		has, got store.Role
	}{
		{false, store.RoleTenantAdmin, store.RoleNone},
		{true, store.RoleTenantAdmin, store.RoleTenantAdmin},
		{true, store.RoleSupport, store.RoleSupport},
		{true, store.RolePlatformAdmin, store.RoleNone},
		{true, store.RolePlatformSupport, store.RoleNone},
	} {
		var dir logins
		dir.set(t, "a@one.test", "right", false)
		account := dir.accounts["a@one.test"]
		account.User.Role = test.has
		dir.accounts["a@one.test"] = account
		dir.issuers = []store.Issuer{{URL: is.URL, Audience: "mail", Claim: "email", Roles: test.roles}}
		g, err := exchange(t, New(&dir, o), imapOverTLS, "XOAUTH2", saying("user=\x01auth=Bearer "+is.token(nil)+"\x01\x01"))
		if err != nil || g.User.Role != test.got {
			t.Errorf("roles %t, %v: %v, %v; want %v", test.roles, test.has, g.User.Role, err, test.got)
		}
	}
}

// An address that the issuer does not say it has verified is believed where the tenant has said so.
func TestUnverifiedAddress(t *testing.T) {
	is := newIssuer(t)
	o := all
	o.Transport = is.Client().Transport
	var dir logins
	dir.set(t, "a@one.test", "right", false)
	dir.issuers = []store.Issuer{{URL: is.URL, Audience: "mail", Claim: "email", Unverified: true}}
	if _, err := exchange(t, New(&dir, o), imapOverTLS, "XOAUTH2", saying("user=\x01auth=Bearer "+is.token(map[string]any{"email_verified": nil})+"\x01\x01")); err != nil {
		t.Error(err)
	}
}

// A storm of tokens asks an issuer once.
func TestIssuerIsAskedOnce(t *testing.T) {
	is := newIssuer(t)
	issuers := newIssuers(is.Client().Transport)
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if _, err := issuers.verify(t.Context(), store.Issuer{URL: is.URL, Audience: "mail"}, is.token(nil)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if is.read != 1 {
		t.Errorf("asked %d times", is.read)
	}
}
