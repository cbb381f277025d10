package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"mailstead.dev/certificate/acmetest"
	"mailstead.dev/certificate/certtest"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// farm is two front ends on one database, a balancer before them, and a process beside each that orders.
type farm struct {
	*testing.T
	fronts    []*site
	authority *acmetest.Authority
}

// waiting is how long anything may take.
const waiting = time.Minute

func newFarm(t *testing.T, challenge string, lasts time.Duration) *farm {
	t.Helper()
	c := storetest.Config(t)
	f := &farm{T: t}
	for range 2 {
		f.fronts = append(f.fronts, newSite(t, storetest.Open(t, c), 1<<20))
	}
	f.fronts[1].seals = f.fronts[0].seals
	f.fronts[1].kept.Seal(f.fronts[0].seals)
	storetest.Domain(t, f.fronts[0].store, "one", "one.test")

	options := acmetest.Options{Lasts: lasts, Blocked: "blocked.test"}
	balancer := f.balance(challenge)
	if challenge == HTTP01 {
		options.HTTP = balancer
	} else {
		options.TLS = balancer
	}
	f.authority = acmetest.Start(t, options)
	return f
}

// balance has two front ends answer in turns.
func (f *farm) balance(challenge string) net.Listener {
	f.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	var turn atomic.Int64
	next := func() *site { return f.fronts[turn.Add(1)%2] }
	var serving sync.WaitGroup
	if challenge == HTTP01 {
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next().kept.ServeHTTP(w, r) })}
		serving.Go(func() { server.Serve(l) }) // until it is closed
		f.Cleanup(func() { server.Close(); serving.Wait() })
		return l
	}
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // the end of the test
			}
			serving.Go(func() {
				defer c.Close()
				tls.Server(c, next().Config(false)).HandshakeContext(f.Context())
			})
		}
	})
	f.Cleanup(func() { l.Close(); serving.Wait() })
	return l
}

// run has the front ends watch, and two processes order.
func (f *farm) run(challenge string) {
	f.Helper()
	f.beside(func(ctx context.Context, s *site) { s.kept.Watch(ctx) })
	f.beside(func(ctx context.Context, s *site) { f.orders(s, challenge, 100*time.Millisecond).Run(ctx) })
}

// beside runs something for each front end until the test ends.
func (f *farm) beside(run func(context.Context, *site)) {
	ctx, stop := context.WithCancel(f.Context())
	var running sync.WaitGroup
	f.Cleanup(func() { stop(); running.Wait() })
	for _, s := range f.fronts {
		running.Go(func() { run(ctx, s) })
	}
}

// orders returns what orders beside a front end.
func (f *farm) orders(s *site, challenge string, pause time.Duration) *Orders {
	text, err := os.ReadFile(f.authority.CAFile)
	if err != nil {
		f.Error(err) // and the authority is not believed
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return NewOrders(OrderOptions{
		Store: s.store, Seals: func() *Seals { return s.seals }, Directory: f.authority.Directory, Contact: "postmaster@one.test", Challenge: challenge, Roots: roots,
		Logger: slog.New(slog.NewTextHandler(f.Output(), nil)), Every: 100 * time.Millisecond, Settle: time.Second, Pause: pause,
	})
}

func (f *farm) order(name, domain string) {
	f.Helper()
	if _, err := f.fronts[0].store.OrderCertificate(f.Context(), name, domain); err != nil {
		f.Fatal(err)
	}
}

// shown waits until both front ends show an ordered certificate for a name that is another than one before, and returns it.
func (f *farm) shown(name string, before *x509.Certificate) *x509.Certificate {
	f.Helper()
	for began := time.Now(); time.Since(began) < waiting; time.Sleep(50 * time.Millisecond) {
		one, two := shownBy(f.T, f.fronts[0].Shown, name), shownBy(f.T, f.fronts[1].Shown, name)
		if one != two || one == f.fronts[0].rest || before != nil && one == string(before.Raw) {
			continue
		}
		c, err := x509.ParseCertificate([]byte(one))
		if err != nil {
			f.Fatal(err)
		}
		if err := c.VerifyHostname(name); err != nil {
			continue // its own of the folder, or that for others
		}
		return c
	}
	orders, err := f.fronts[0].store.CertificateOrders(f.Context())
	f.Fatalf("no other certificate is shown for %s: %+v, %v", name, orders, err)
	return nil
}

// fails waits until an order has failed, and returns what the problem was.
func (f *farm) fails(name string) string {
	f.Helper()
	for began := time.Now(); time.Since(began) < waiting; time.Sleep(50 * time.Millisecond) {
		orders, err := f.fronts[0].store.CertificateOrders(f.Context())
		if err != nil {
			f.Fatal(err)
		}
		if i := slices.IndexFunc(orders, func(o store.CertificateOrder) bool { return o.Name == name && o.Failures > 0 }); i >= 0 {
			return orders[i].Problem
		}
	}
	f.Fatalf("%s does not fail", name)
	return ""
}

// Names are proven by http-01 and by tls-alpn-01, to whichever front end the authority comes; one of two processes orders, both front ends show. Names that nobody
// has ordered cost nothing.
func TestOrders(t *testing.T) {
	for _, challenge := range []string{HTTP01, TLSALPN01} {
		t.Run(challenge, func(t *testing.T) {
			f := newFarm(t, challenge, time.Hour)
			f.order("imap.One.test", "one.test")
			f.order("mail2.test", "")
			f.run(challenge)
			c := f.shown("imap.one.test", nil)
			f.shown("mail2.test", nil)
			for range 20 {
				f.fronts[0].shows("stranger.test", f.fronts[0].rest)
			}
			if n := f.authority.Orders.Load(); n != 2 {
				t.Errorf("%d orders, want 2", n)
			}
			all, err := f.fronts[0].store.Certificates(t.Context())
			if err != nil || len(all) != 2 || all[0].Source != store.SourceACME || all[0].Domain != "one.test" || !all[0].Ends.Equal(c.NotAfter) {
				t.Errorf("%+v, %v", all, err)
			}
			proofs, err := f.fronts[0].store.Proofs(t.Context())
			if err != nil || len(proofs) > 0 {
				t.Errorf("proofs stay: %+v, %v", proofs, err)
			}

			// One of a domain that the authority refuses keeps no other back.
			f.order("x.blocked.test", "")
			if problem := f.fails("x.blocked.test"); !strings.Contains(problem, "blocked") && !strings.Contains(problem, "policy") && !strings.Contains(problem, "rejectedIdentifier") {
				t.Errorf("the problem is %q", problem)
			}
			f.order("mail3.test", "")
			f.shown("mail3.test", nil)

			// What goes with the domain.
			if err := f.fronts[0].store.DeleteDomain(t.Context(), "one.test"); err != nil {
				t.Fatal(err)
			}
			orders, err := f.fronts[0].store.CertificateOrders(t.Context())
			if err != nil || slices.ContainsFunc(orders, func(o store.CertificateOrder) bool { return o.Domain != "" }) {
				t.Errorf("orders of a domain that is gone: %+v, %v", orders, err)
			}
		})
	}
}

// A certificate is ordered anew before it ends; not while the authority is away, or does not know the account any more, but as soon as it can be.
func TestOrdersAnew(t *testing.T) {
	const lasts = 45 * time.Second
	f := newFarm(t, HTTP01, lasts)
	s := f.fronts[0]
	// An account that the authority has forgotten.
	account := store.OrderAccount{Authority: f.authority.Directory}
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	account.URI = strings.TrimSuffix(f.authority.Directory, "/dir") + "/my-account/123"
	account.Sealed, account.SealedBy = s.seals.seal(accountOf(f.authority.Directory), secret)
	if err := s.store.SetOrderAccount(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	f.order("imap.one.test", "one.test")
	f.run(HTTP01)
	first := f.shown("imap.one.test", nil)
	second := f.shown("imap.one.test", first)
	if at := time.Now(); at.After(first.NotAfter) || second.NotBefore.Before(first.NotBefore.Add(lasts/2)) {
		t.Errorf("of %v to %v, there is another from %v, at %v", first.NotBefore, first.NotAfter, second.NotBefore, at)
	}
	if err := s.store.CancelCertificate(t.Context(), store.CertificateOrder{Name: "imap.one.test", Domain: "one.test"}); err != nil {
		t.Error(err)
	}
	f.authority.Away.Store(true)
	f.order("late.test", "")
	if problem := f.fails("late.test"); problem == "" {
		t.Error("no problem is told")
	}
	f.fronts[1].shows("imap.one.test", string(second.Raw))
	f.authority.Away.Store(false)
	f.shown("late.test", nil)
	now, err := s.store.OrderAccount(t.Context(), f.authority.Directory)
	if err != nil || now.URI == "" || now.URI == account.URI || bytes.Equal(now.Sealed, account.Sealed) {
		t.Errorf("the account is %+v, %v", now, err)
	}
	anew := seals(t, certtest.SealKey())
	if _, err := anew.ResealAccount(now); !errors.Is(err, errNoSeal) {
		t.Errorf("without its seal: %v", err)
	}
	now.Authority = "https://other.test/dir"
	if _, err := s.seals.ResealAccount(now); !errors.Is(err, errSealed) {
		t.Errorf("for another authority: %v", err)
	}
}

func TestProofs(t *testing.T) {
	s := newSite(t, storetest.New(t), 1<<20)
	proof := store.Proof{Kind: HTTP01, Key: "token", Answer: []byte("token.thumbprint")}
	if err := s.store.SetProof(t.Context(), proof, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := s.store.SetProof(t.Context(), store.Proof{Kind: HTTP01, Key: "over", Answer: []byte("x")}, -time.Second); err != nil {
		t.Fatal(err)
	}
	s.look()
	server := httptest.NewServer(s.kept)
	defer server.Close()
	ask := func(method, path, want string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if got := string(text); err != nil || want == "" && answer.StatusCode != http.StatusNotFound || want != "" && (answer.StatusCode != http.StatusOK || got != want) {
			t.Errorf("%s %s: %s %q, %v, want %q", method, path, answer.Status, got, err, want)
		}
	}
	ask("GET", proofPath+"token", "token.thumbprint")
	for _, path := range []string{"/", "/token", proofPath, proofPath + "over", proofPath + "token/", proofPath + "Token"} {
		ask("GET", path, "")
	}
	ask("POST", proofPath+"token", "")

	// By TLS a name that is not being proven is not even shown what others are.
	shown := func(name string, protocols ...string) (*tls.ConnectionState, error) {
		here, there := net.Pipe()
		defer here.Close()
		defer there.Close()
		go tls.Server(there, s.Config(false)).HandshakeContext(t.Context())
		client := tls.Client(here, &tls.Config{ServerName: name, NextProtos: protocols, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}) // it is of nobody
		err := client.HandshakeContext(t.Context())
		state := client.ConnectionState()
		return &state, err
	}
	pair := certtest.Pair(t, time.Hour, "proven.test")
	_, sealed, err := s.seals.Seal(pair, "", store.SourceACME)
	if err != nil {
		t.Fatal(err)
	}
	proof = store.Proof{Kind: TLSALPN01, Key: "proven.test", Answer: sealed.Chain, Sealed: sealed.Sealed, SealedBy: sealed.SealedBy}
	if err := s.store.SetProof(t.Context(), proof, time.Minute); err != nil {
		t.Fatal(err)
	}
	s.look()
	if state, err := shown("proven.test", acme.ALPNProto); err != nil || state.NegotiatedProtocol != acme.ALPNProto || !bytes.Equal(state.PeerCertificates[0].Raw, pair.Certificate[0]) {
		t.Errorf("a name that is being proven: %v", err)
	}
	if _, err := shown("other.test", acme.ALPNProto); err == nil {
		t.Error("a name that is not being proven is")
	}
	for _, protocols := range [][]string{nil, {"imap"}, {acme.ALPNProto, "imap"}} {
		if state, err := shown("proven.test", protocols...); err != nil || string(state.PeerCertificates[0].Raw) != s.rest || state.NegotiatedProtocol != "" {
			t.Errorf("a client with %v: %v", protocols, err)
		}
	}
	if err := s.store.DeleteProof(t.Context(), proof); err != nil {
		t.Fatal(err)
	}
	s.look()
	if _, err := shown("proven.test", acme.ALPNProto); err == nil {
		t.Error("a name is proven that was")
	}
}

// An authority to which too much was asked is not asked again for as long as it says while others wait, and an account whose key cannot be opened stays as it is.
func TestOrdersDoNotWait(t *testing.T) {
	s := newSite(t, storetest.New(t), 1<<20)
	asked := 0
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer busy.Close()
	by := s.seals
	o := NewOrders(OrderOptions{Store: s.store, Seals: func() *Seals { return by }, Directory: busy.URL, Challenge: HTTP01})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := o.order(ctx, store.CertificateOrder{Name: "one.test"})
	if err == nil || ctx.Err() != nil || asked != 1 {
		t.Errorf("%v, after %d requests", err, asked)
	}
	for failures, want := range []time.Duration{1: time.Second, 2: 2 * time.Second, 3: 0} {
		if got := again(failures, nil, &http.Response{StatusCode: http.StatusServiceUnavailable}); got != want {
			t.Errorf("after %d failures: %v, want %v", failures, got, want)
		}
	}

	account, err := s.store.OrderAccount(t.Context(), busy.URL)
	if err != nil {
		t.Fatal(err)
	}
	by = seals(t, certtest.SealKey())
	if err := o.order(ctx, store.CertificateOrder{Name: "one.test"}); !errors.Is(err, errNoSeal) || ofOrder(err) {
		t.Errorf("without the seal of the account: %v", err)
	}
	if now, err := s.store.OrderAccount(t.Context(), busy.URL); err != nil || !bytes.Equal(now.Sealed, account.Sealed) {
		t.Errorf("the key of the account is another: %v", err)
	}
}

// An authority that gives no account, or has no directory any more, is not asked again for each name.
func TestOrdersOfNobody(t *testing.T) {
	s := newSite(t, storetest.New(t), 1<<20)
	var asked atomic.Int64
	routes := http.NewServeMux()
	authority := httptest.NewServer(routes)
	defer authority.Close()
	refuse := func(w http.ResponseWriter, status int, what string) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"type": "urn:ietf:params:acme:error:%s"}`, what)
	}
	routes.HandleFunc("/directory", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"newNonce": "%[1]s/nonce", "newAccount": "%[1]s/account", "newOrder": "%[1]s/order"}`, authority.URL)
	})
	routes.HandleFunc("/nonce", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Replay-Nonce", "x") })
	routes.HandleFunc("/account", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, "externalAccountRequired")
	})
	routes.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "malformed") })
	known, err := s.seals.NewAccount(authority.URL + "/gone")
	if err != nil {
		t.Fatal(err)
	}
	known.URI = authority.URL + "/account/1"
	if err := s.store.SetOrderAccount(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	for _, directory := range []string{"/directory", "/gone"} {
		asked.Store(0)
		for _, name := range []string{"one.test", "two.test", "three.test"} {
			if _, err := s.store.OrderCertificate(t.Context(), name, ""); err != nil {
				t.Fatal(err)
			}
		}
		o := NewOrders(OrderOptions{Store: s.store, Seals: func() *Seals { return s.seals }, Directory: authority.URL + directory, Challenge: HTTP01, Logger: slog.New(slog.NewTextHandler(&s.log, nil))})
		var refused *acme.Error
		if err := o.round(t.Context()); !errors.As(err, &refused) || asked.Load() != 1 {
			t.Errorf("%s: %v, and it was asked %d times", directory, err, asked.Load())
		}
		orders, err := s.store.CertificateOrders(t.Context())
		if err != nil || len(orders) != 3 || orders[0].Failures+orders[1].Failures+orders[2].Failures != 1 {
			t.Errorf("%s: the orders are %+v, %v", directory, orders, err)
		}
	}
}

// A round does not order what is cancelled, or goes with its domain, while it orders others; nor at once again what is due again when it comes.
func TestOrdersOfARound(t *testing.T) {
	f := newFarm(t, HTTP01, time.Second) // by whose end it begins
	s := f.fronts[0]
	f.order("one.alone.test", "")
	f.order("two.alone.test", "")
	f.order("imap.one.test", "one.test")
	f.beside(func(ctx context.Context, s *site) { s.kept.Watch(ctx) })
	o := f.orders(s, HTTP01, time.Hour)
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), waiting)
	defer cancel()
	go func() { ended <- o.round(ctx) }()
	for proofs := []store.Proof(nil); len(proofs) == 0; time.Sleep(10 * time.Millisecond) {
		var err error
		if proofs, err = s.store.Proofs(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.store.CancelCertificate(t.Context(), store.CertificateOrder{Name: "two.alone.test"}); err != nil {
		t.Error(err)
	}
	if err := s.store.DeleteDomain(t.Context(), "one.test"); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil || f.authority.Orders.Load() != 1 {
		t.Errorf("%v, after %d orders, want 1", err, f.authority.Orders.Load())
	}
	all, err := s.store.CertificateOrders(t.Context())
	if err != nil || len(all) != 1 || all[0].Name != "one.alone.test" || all[0].Due || all[0].Failures != 0 {
		t.Errorf("the orders are %+v, %v", all, err)
	}
	// It goes while it is being ordered, which keeps no other back.
	if err := o.order(ctx, store.CertificateOrder{Name: "imap.one.test", Domain: "one.test"}); !errors.Is(err, store.ErrNoDomain) || !ofOrder(err) {
		t.Errorf("of a domain that is gone: %v", err)
	}
}

// What would not be kept is not ordered: not where it is known at once, nor where a certificate has been added since, and then no other is kept back.
func TestOrdersOfNamesTaken(t *testing.T) {
	f := newFarm(t, HTTP01, time.Hour)
	s := f.fronts[0]
	f.order("imap.one.test", "one.test")
	s.put(certtest.Pair(t, time.Minute, "imap.one.test")) // in its last third, and the deployment's
	if _, err := s.store.OrderCertificate(t.Context(), "imap.one.test", "one.test"); !errors.Is(err, store.ErrCertificateTaken) {
		t.Errorf("ordered for a domain: %v", err)
	}
	f.run(HTTP01)
	if problem := f.fails("imap.one.test"); problem != store.ErrCertificateTaken.Error() {
		t.Errorf("the problem is %q", problem)
	}
	f.order("mail2.test", "")
	f.shown("mail2.test", nil)
	if n := f.authority.Orders.Load(); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	if !ofOrder(store.ErrCertificateTaken) {
		t.Error("one that is taken keeps others back")
	}
}

func TestPauses(t *testing.T) {
	o := NewOrders(OrderOptions{Pause: 5 * time.Minute})
	limited := &acme.Error{ProblemType: "urn:ietf:params:acme:error:rateLimited", StatusCode: 429, Header: http.Header{"Retry-After": {"90000"}}}
	for _, test := range []struct {
		failures int
		err      error
		least    time.Duration
	}{
		{0, io.EOF, 5 * time.Minute}, {1, io.EOF, 10 * time.Minute}, {3, io.EOF, 40 * time.Minute}, {50, io.EOF, longest}, {0, limited, 25 * time.Hour},
		{0, &acme.Error{ProblemType: "urn:ietf:params:acme:error:rateLimited", StatusCode: 429, Header: http.Header{"Retry-After": {"99999999"}}}, mostPaused},
	} {
		if got := o.pause(test.failures, test.err); got < test.least || got > test.least*6/5+1 {
			t.Errorf("after %d failures and %v: %v, want %v", test.failures, test.err, got, test.least)
		}
	}
	long := problem(errors.New("one\r\ntwo\x00" + strings.Repeat("ü", 2000)))
	if !strings.HasPrefix(long, "one  two ü") || len([]rune(long)) != maxProblem+1 {
		t.Errorf("the problem is %q", long)
	}
}
