package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// all has every mechanism on.
var all = Options{CacheTTL: -1, Mechanisms: MechanismNames(), Anonymous: "public@one.test"}

// exchange runs an authentication, with a client that answers challenges; the first is nil.
func exchange(t *testing.T, a *Authenticator, ch Channel, mechanism string, client func(challenge []byte) ([]byte, error)) (Grant, error) {
	t.Helper()
	x, err := a.Begin(t.Context(), ch, mechanism)
	if err != nil {
		return Grant{}, err
	}
	var challenge []byte
	for range 10 {
		response, err := client(challenge)
		if err != nil {
			return Grant{}, err
		}
		next, done, err := x.Next(response)
		if err != nil {
			return Grant{}, err
		}
		if done {
			return x.Grant(), nil
		}
		challenge = next
	}
	t.Fatalf("%s does not end", mechanism)
	return Grant{}, nil
}

// saying is a client that says one thing after the other.
func saying(responses ...string) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) {
		if len(responses) == 0 {
			return nil, errors.New("nothing more to say")
		}
		response := responses[0]
		responses = responses[1:]
		return []byte(response), nil
	}
}

// scramClient is the client of a library, which is ours as well: gsasl, which is not, is part of make e2e-auth.
func scramClient(t *testing.T, h *scramHash, identity, login, password string, begin func(*scram.Client) *scram.ClientConversation) func([]byte) ([]byte, error) {
	t.Helper()
	c, err := h.NewClient(login, password, identity)
	if err != nil {
		t.Fatal(err)
	}
	conversation := begin(c.WithMinIterations(4096))
	return func(challenge []byte) ([]byte, error) {
		if conversation.Done() {
			return []byte{}, nil
		}
		response, err := conversation.Step(string(challenge))
		return []byte(response), err
	}
}

func unbound(c *scram.Client) *scram.ClientConversation { return c.NewConversation() }

func bound(b scram.ChannelBinding) func(*scram.Client) *scram.ClientConversation {
	return func(c *scram.Client) *scram.ClientConversation { return c.NewConversationWithChannelBinding(b) }
}

// tlsPair is a connection with TLS, as both sides see it.
func tlsPair(t *testing.T, client *tls.Config) (ch Channel, state tls.ConnectionState) {
	t.Helper()
	cert := certificate(t, "mail.one.test")
	raw, far := net.Pipe()
	t.Cleanup(func() { raw.Close(); far.Close() })
	server := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	config := client.Clone()
	config.InsecureSkipVerify = true
	near := tls.Client(far, config)
	if err := near.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	serverState := server.ConnectionState()
	return Channel{Protocol: IMAP, Private: true, TLS: &serverState, Certificate: cert.Leaf}, near.ConnectionState()
}

func certificate(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}
	if strings.Contains(name, "@") {
		template.EmailAddresses = []string{name}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// withApp gives an account an app password, by what it is kept as.
func (l *logins) withApp(login, secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	account := l.accounts[login]
	account.AppPasswords = append(account.AppPasswords, store.LoginAppPassword{ID: 7, Secret: secret, Protocols: Protocols})
	l.accounts[login] = account
}

func TestMechanismsOffered(t *testing.T) {
	a := New(&logins{}, all)
	overTLS, _ := tlsPair(t, &tls.Config{Certificates: []tls.Certificate{certificate(t, "a@one.test")}})
	for _, test := range []struct {
		ch   Channel
		want string
	}{
		{Channel{Protocol: IMAP}, ""},
		{imapOverTLS, "PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-1 OAUTHBEARER XOAUTH2 CRAM-MD5 OTP ANONYMOUS"},
		{overTLS, "PLAIN LOGIN SCRAM-SHA-256-PLUS SCRAM-SHA-256 SCRAM-SHA-1-PLUS SCRAM-SHA-1 EXTERNAL OAUTHBEARER XOAUTH2 CRAM-MD5 OTP ANONYMOUS"},
	} {
		if got := strings.Join(a.Mechanisms(test.ch), " "); got != test.want {
			t.Errorf("offered: %s\nwant %s", got, test.want)
		}
	}
	for name, want := range map[string]error{"PLAIN": ErrPrivacy, "NONE": ErrMechanism} {
		if _, err := a.Begin(t.Context(), Channel{Protocol: IMAP}, name); !errors.Is(err, want) {
			t.Errorf("%s in clear: %v, want %v", name, err, want)
		}
	}
	if _, err := New(&logins{}, Options{Mechanisms: []string{"PLAIN"}}).Begin(t.Context(), imapOverTLS, "LOGIN"); !errors.Is(err, ErrMechanism) {
		t.Errorf("what is off: %v", err)
	}
}

// Each mechanism lets in who it should, and nobody else.
func TestMechanisms(t *testing.T) {
	var dir logins
	for _, login := range []string{"a@one.test", "b@one.test", "public@one.test"} {
		dir.set(t, login, "right", false)
	}
	app, kept := NewCramSecret()
	dir.withApp("a@one.test", kept)
	a := New(&dir, all)
	cram := func(login, password string) func([]byte) ([]byte, error) {
		return func(challenge []byte) ([]byte, error) {
			if challenge == nil {
				return nil, nil
			}
			mac := hmac.New(md5.New, []byte(password))
			mac.Write(challenge)
			return fmt.Appendf(nil, "%s %s", login, hex.EncodeToString(mac.Sum(nil))), nil
		}
	}
	sha256, sha1 := scramHashes[0], scramHashes[1]
	for _, test := range []struct {
		name, mechanism string
		client          func([]byte) ([]byte, error)
		want            error
		as              string
	}{
		{"right", "PLAIN", saying("\x00a@one.test\x00right"), nil, "a@one.test"},
		{"wrong", "PLAIN", saying("\x00a@one.test\x00wrong"), store.ErrAuth, ""},
		{"as another", "PLAIN", saying("b@one.test\x00a@one.test\x00right"), nil, "b@one.test"},
		{"two fields", "PLAIN", saying("a@one.test\x00right"), ErrMalformed, ""},
		{"right", "LOGIN", saying("a@one.test", "right"), nil, "a@one.test"},
		{"wrong", "LOGIN", saying("a@one.test", "wrong"), store.ErrAuth, ""},
		{"right", "SCRAM-SHA-256", scramClient(t, sha256, "", "a@one.test", "right", unbound), nil, "a@one.test"},
		{"wrong", "SCRAM-SHA-256", scramClient(t, sha256, "", "a@one.test", "wrong", unbound), store.ErrAuth, ""},
		{"nobody", "SCRAM-SHA-256", scramClient(t, sha256, "", "nobody@one.test", "right", unbound), store.ErrAuth, ""},
		{"as another", "SCRAM-SHA-256", scramClient(t, sha256, "b@one.test", "a@one.test", "right", unbound), nil, "b@one.test"},
		{"as another who may not", "SCRAM-SHA-256", scramClient(t, sha256, "a@one.test", "b@one.test", "right", unbound), store.ErrActAs, ""},
		{"right", "SCRAM-SHA-1", scramClient(t, sha1, "", "a@one.test", "right", unbound), nil, "a@one.test"},
		{"the other hash", "SCRAM-SHA-1", scramClient(t, sha256, "", "a@one.test", "right", unbound), store.ErrAuth, ""},
		{"nonsense", "SCRAM-SHA-256", saying("x"), ErrMalformed, ""},
		{"nothing", "SCRAM-SHA-256", saying(""), ErrMalformed, ""},
		{"bound without -PLUS", "SCRAM-SHA-256", saying("p=tls-exporter,,n=a@one.test,r=abc"), ErrMalformed, ""},
		{"right", "CRAM-MD5", cram("a@one.test", app), nil, "a@one.test"},
		{"wrong", "CRAM-MD5", cram("a@one.test", "wrong"), store.ErrAuth, ""},
		{"the user's password", "CRAM-MD5", cram("a@one.test", "right"), store.ErrAuth, ""},
		{"nobody", "CRAM-MD5", cram("nobody@one.test", app), store.ErrAuth, ""},
		{"at once", "CRAM-MD5", saying("a@one.test 00"), ErrMalformed, ""},
		{"whoever", "ANONYMOUS", saying("somebody"), nil, "public@one.test"},
		{"nonsense", "OAUTHBEARER", saying("x"), ErrMalformed, ""},
		{"nonsense", "XOAUTH2", saying("user=a\x01auth=Basic x\x01\x01"), ErrMalformed, ""},
		{"no token", "OAUTHBEARER", saying("n,,\x01auth=Bearer x.y.z\x01\x01", "\x01"), store.ErrAuth, ""},
		{"no token, and no answer", "OAUTHBEARER", saying("n,,\x01auth=Bearer x.y.z\x01\x01", ""), store.ErrAuth, ""},
	} {
		g, err := exchange(t, a, imapOverTLS, test.mechanism, test.client)
		if !errors.Is(err, test.want) || g.User.Login != test.as {
			t.Errorf("%s, %s: %+v, %v; want %q, %v", test.mechanism, test.name, g.User, err, test.as, test.want)
		}
		if test.mechanism == "ANONYMOUS" && !(g.User.ReadOnly && g.User.Anonymous) {
			t.Errorf("ANONYMOUS is %+v", g.User)
		}
	}
}

// App passwords work with SCRAM as the user's own does, also when that has changed, and where another system has kept it.
func TestScramOfAppPasswords(t *testing.T) {
	for _, first := range []string{"", imported["SSHA"], imported["SCRAM-SHA-256"]} {
		var dir logins
		dir.set(t, "a@one.test", "", false)
		dir.keeps("a@one.test", first)
		app, kept, err := NewAppSecret(dir.accounts["a@one.test"], scramOn)
		if err != nil {
			t.Fatal(err)
		}
		dir.withApp("a@one.test", kept)
		a := New(&dir, all)
		try := func(password string, by id.AppPassword) {
			t.Helper()
			g, err := exchange(t, a, imapOverTLS, "SCRAM-SHA-256", scramClient(t, scramHashes[0], "", "A@one.test", password, unbound))
			if err != nil || g.rests[0].AppPassword != by {
				t.Errorf("of %q, with %s: %+v, %v", first, password, g, err)
			}
		}
		try(app, 7)
		own, err := NewSecret(dir.accounts["a@one.test"], "right", scramOn)
		if err != nil {
			t.Fatal(err)
		}
		dir.keeps("a@one.test", own)
		try(app, 7)
		try("right", 0)
	}
}

// What the server says first of a login that does not exist looks as if it did, and is the same each time, but not in another deployment.
func TestScramOfNobody(t *testing.T) {
	own, err := NewSecret(store.Login{}, "right", scramOn)
	if err != nil {
		t.Fatal(err)
	}
	here := &logins{accounts: map[string]store.Login{"a@one.test": {Password: own}}}
	var salts []string
	for _, test := range []struct {
		dir   *logins
		decoy string
	}{{here, "x"}, {&logins{}, "x"}, {&logins{}, "x"}, {&logins{}, "y"}} {
		a := New(test.dir, all)
		a.decoy = []byte(test.decoy)
		x, err := a.Begin(t.Context(), imapOverTLS, "SCRAM-SHA-256")
		if err != nil {
			t.Fatal(err)
		}
		first, _, err := x.Next([]byte("n,,n=a@one.test,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		_, salt, _ := strings.Cut(string(first), ",")
		salts = append(salts, salt)
	}
	if salts[1] != salts[2] || salts[2] == salts[3] || len(salts[0]) != len(salts[1]) || !strings.HasSuffix(salts[0], ",i=100000") || !strings.HasSuffix(salts[1], ",i=100000") {
		t.Errorf("told are %q", salts)
	}
}

// A certificate of which nothing can be made that an exchange could be bound to, or one that is not known, leaves all else as it is.
func TestScramWithoutEndPoint(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "right", false)
	a := New(&dir, all)
	ours, theirs := tlsPair(t, &tls.Config{})
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	modern, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	exporter, err := scram.NewTLSExporterBinding(&theirs)
	if err != nil {
		t.Fatal(err)
	}
	endPoint, err := scram.NewTLSServerEndpointBinding(&theirs)
	if err != nil {
		t.Fatal(err)
	}
	h := scramHashes[0]
	for _, shown := range []*x509.Certificate{modern, nil} {
		ours.Certificate = shown
		if _, err := exchange(t, a, ours, h.name, scramClient(t, h, "", "a@one.test", "right", unbound)); err != nil {
			t.Errorf("not bound: %v", err)
		}
		if _, err := exchange(t, a, ours, h.name+plus, scramClient(t, h, "", "a@one.test", "right", bound(exporter))); err != nil {
			t.Errorf("bound to the keys: %v", err)
		}
		if _, err := exchange(t, a, ours, h.name+plus, scramClient(t, h, "", "a@one.test", "right", bound(endPoint))); !errors.Is(err, store.ErrAuth) {
			t.Errorf("bound to a certificate that there is not: %v", err)
		}
	}
}

// -PLUS lets in whom the channel is bound to, by its keys and by our certificate, and not who is in between: with TLS of their
// own to us, and to the client, whose messages they pass on.
func TestScramPlus(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "right", false)
	a := New(&dir, all)
	for _, config := range []*tls.Config{{}, {MaxVersion: tls.VersionTLS12}} {
		ours, theirs := tlsPair(t, config)
		_, relayed := tlsPair(t, config) // the client's connection to the one in between, who has another certificate
		for _, h := range scramHashes {
			client := func(state tls.ConnectionState, kind scram.ChannelBindingType, password string) func([]byte) ([]byte, error) {
				binding, err := scram.NewTLSExporterBinding(&state)
				if kind == scram.ChannelBindingTLSServerEndpoint {
					binding, err = scram.NewTLSServerEndpointBinding(&state)
				}
				if err != nil {
					t.Fatal(err)
				}
				return scramClient(t, h, "", "a@one.test", password, bound(binding))
			}
			for _, kind := range []scram.ChannelBindingType{scram.ChannelBindingTLSExporter, scram.ChannelBindingTLSServerEndpoint} {
				if g, err := exchange(t, a, ours, h.name+plus, client(theirs, kind, "right")); err != nil || g.User.Login != "a@one.test" {
					t.Errorf("%s-PLUS, %s: %+v, %v", h.name, kind, g, err)
				}
				if _, err := exchange(t, a, ours, h.name+plus, client(theirs, kind, "wrong")); !errors.Is(err, store.ErrAuth) {
					t.Errorf("%s-PLUS, %s, wrong password: %v", h.name, kind, err)
				}
				if _, err := exchange(t, a, ours, h.name+plus, client(relayed, kind, "right")); !errors.Is(err, store.ErrAuth) {
					t.Errorf("%s-PLUS, %s, relayed: %v", h.name, kind, err)
				}
			}
			advertising := func(c *scram.Client) *scram.ClientConversation { return c.NewConversationAdvertisingChannelBinding() }
			if _, err := exchange(t, a, ours, h.name, scramClient(t, h, "", "a@one.test", "right", advertising)); !errors.Is(err, store.ErrAuth) {
				t.Errorf("%s of who believes that there is no -PLUS: %v", h.name, err)
			}
			if _, err := exchange(t, a, ours, h.name+plus, saying("n,,n=a@one.test,r=abc")); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s-PLUS, not bound: %v", h.name, err)
			}
			if _, err := exchange(t, a, ours, h.name+plus, saying("p=tls-unique,,n=a@one.test,r=abc")); !errors.Is(err, store.ErrAuth) {
				t.Errorf("%s-PLUS, bound in a way that there is not: %v", h.name, err)
			}
		}
	}
}

func TestExternal(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "right", false)
	dir.set(t, "b@one.test", "right", false)
	a := New(&dir, all)
	known, unknown, nameless := certificate(t, "a@one.test"), certificate(t, "a@one.test"), certificate(t, "device")
	dir.withApp("a@one.test", CertificateSecret(known.Leaf.Raw))
	dir.withApp("a@one.test", CertificateSecret(nameless.Leaf.Raw))
	for _, test := range []struct {
		name, identity string
		shown          tls.Certificate
		want           error
	}{
		{"its address", "", known, nil},
		{"named", "a@one.test", known, nil},
		{"another", "b@one.test", known, store.ErrAuth},
		{"nobody", "nobody@one.test", known, store.ErrAuth},
		{"unknown", "", unknown, store.ErrAuth},
		{"without an address", "", nameless, store.ErrAuth},
		{"without an address, named", "a@one.test", nameless, nil},
	} {
		ch, _ := tlsPair(t, &tls.Config{Certificates: []tls.Certificate{test.shown}})
		g, err := exchange(t, a, ch, "EXTERNAL", saying(test.identity))
		if !errors.Is(err, test.want) || err == nil && g.User.Login != "a@one.test" {
			t.Errorf("%s: %+v, %v; want %v", test.name, g, err, test.want)
		}
	}
	ch, _ := tlsPair(t, &tls.Config{})
	if slices.Contains(a.Mechanisms(ch), "EXTERNAL") {
		t.Error("EXTERNAL is offered to who has no certificate")
	}
}

func FuzzExchange(f *testing.F) {
	for _, m := range mechanisms {
		f.Add(m.name, []byte("n,a=b@one.test,n=a@one.test,r=abc"), []byte("c=biws,r=abc,p=AAAA"))
	}
	f.Add("OAUTHBEARER", []byte("n,a=a@one.test,\x01auth=Bearer a.e30.c\x01\x01"), []byte("\x01"))
	dir := logins{accounts: map[string]store.Login{"a@one.test": {User: store.User{Login: "a@one.test"}, Password: cheap("secret of the test")}}}
	a := New(&dir, Options{CacheTTL: -1, Mechanisms: slices.DeleteFunc(MechanismNames(), func(name string) bool { return name == "ANONYMOUS" })})
	f.Fuzz(func(t *testing.T, name string, first, second []byte) {
		x, err := a.Begin(t.Context(), imapOverTLS, name)
		if err != nil || bytes.Contains(first, []byte("secret")) || bytes.Contains(second, []byte("secret")) {
			return
		}
		for _, response := range [][]byte{first, second, nil, {}} {
			_, done, err := x.Next(response)
			if done && err == nil {
				t.Fatalf("%s lets in by %q, %q", name, first, second)
			}
			if err != nil {
				return
			}
		}
	})
}
