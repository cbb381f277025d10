package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"mailstead.dev/store"
)

// What an issuer has published: where its keys are, and these. They are read again each hour, and when a token names a key that is not among them; by
// one login at a time, while the others go on with what is known. Where it does not answer, what it has published before holds.

const (
	maxDocument  = 1 << 20          // octets of what an issuer answers
	issuerTime   = 10 * time.Second // for an issuer to answer all that it is asked
	issuerAgain  = time.Hour
	issuerPause  = 5 * time.Second // it is not asked again sooner, whatever tokens name, or whether it has answered
	keysOfIssuer = 100             // at the most
)

// algorithms are those that tokens may be signed with: none that needs no key, or one that we would have to know.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
}

// issuers are those that have been asked, by their URL.
type issuers struct {
	client *http.Client

	mu    sync.Mutex // guards what follows
	known map[string]*issuer
}

func newIssuers(transport http.RoundTripper) *issuers {
	if transport == nil {
		transport = http.DefaultTransport
	}
	return &issuers{
		client: &http.Client{
			Transport:     bounded{transport},
			CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("an issuer is where its URL says") },
		},
		known: make(map[string]*issuer),
	}
}

func (i *issuers) of(url string) *issuer {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known[url] == nil {
		i.known[url] = &issuer{url: url, client: i.client}
	}
	return i.known[url]
}

// verify returns what a token of an issuer says: store.ErrAuth where it is not right, store.ErrUnavailable where that cannot be told now.
func (i *issuers) verify(ctx context.Context, of store.Issuer, token string) (*oidc.IDToken, error) {
	keys := &keySet{issuer: i.of(of.URL)}
	names := make([]string, len(algorithms))
	for n, a := range algorithms {
		names[n] = string(a)
	}
	t, err := oidc.NewVerifier(of.URL, keys, &oidc.Config{ClientID: of.Audience, SupportedSigningAlgs: names}).Verify(ctx, token)
	switch {
	case keys.away != nil:
		return nil, fmt.Errorf("%w: issuer %s: %w", store.ErrUnavailable, of.URL, keys.away)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", store.ErrAuth, err)
	}
	return t, nil
}

// keySet verifies one token.
type keySet struct {
	issuer *issuer
	away   error // why the keys are not known
}

var errKey = errors.New("no key of the issuer has signed it")

// VerifySignature implements oidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return nil, err
	}
	if len(signed.Signatures) != 1 {
		return nil, errKey
	}
	name := signed.Signatures[0].Header.KeyID
	p, err := k.issuer.published(ctx, time.Now().Add(-issuerAgain), false)
	if p != nil && !p.has(name) {
		p, err = k.issuer.published(ctx, p.read, true)
	}
	if p == nil || err != nil && !p.has(name) {
		k.away = err
		return nil, err
	}
	for _, key := range p.keys {
		if name != "" && key.KeyID != name {
			continue
		}
		if payload, err := signed.Verify(&key); err == nil {
			return payload, nil
		}
	}
	return nil, errKey
}

// issuer is one with what it has published.
type issuer struct {
	url    string
	client *http.Client
	now    atomic.Pointer[published] // nil: nothing is known

	mu    sync.Mutex // held by who asks; guards what follows
	asked time.Time
	err   error // of the last time that it was asked
}

// published are its keys.
type published struct {
	keys []jose.JSONWebKey
	read time.Time
}

func (p *published) has(name string) bool {
	return name == "" || slices.ContainsFunc(p.keys, func(k jose.JSONWebKey) bool { return k.KeyID == name })
}

// published returns what was read after a time, or else what there is, with why it is not newer; nil where nothing is known. It waits
// for another who asks only where that matters.
func (i *issuer) published(ctx context.Context, after time.Time, matters bool) (*published, error) {
	have := i.now.Load()
	switch {
	case have != nil && have.read.After(after):
		return have, nil
	case have == nil || matters:
		i.mu.Lock()
	case !i.mu.TryLock():
		return have, nil // another asks
	}
	defer i.mu.Unlock()
	if have = i.now.Load(); have != nil && have.read.After(after) || time.Since(i.asked) < issuerPause {
		return have, i.err
	}
	// For all who want to know, whether or not this login goes on.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), issuerTime)
	defer cancel()
	p, err := i.ask(ctx)
	i.asked, i.err = time.Now(), err
	if err != nil {
		return have, err
	}
	i.now.Store(p)
	return p, nil
}

// ask reads what the issuer publishes.
func (i *issuer) ask(ctx context.Context) (*published, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, i.client), i.url)
	if err != nil {
		return nil, err
	}
	var says struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&says); err != nil {
		return nil, err
	}
	if !private(i.url, says.Keys) {
		return nil, fmt.Errorf("its keys are at %s, where others could change them on the way", says.Keys)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, says.Keys, nil)
	if err != nil {
		return nil, err
	}
	response, err := i.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("its keys: the server answered %d", response.StatusCode)
	}
	var set jose.JSONWebKeySet
	if err := json.NewDecoder(response.Body).Decode(&set); err != nil {
		return nil, fmt.Errorf("its keys: %w", err)
	}
	if len(set.Keys) > keysOfIssuer {
		return nil, fmt.Errorf("it has %d keys", len(set.Keys))
	}
	return &published{set.Keys, time.Now()}, nil
}

// private tells whether nobody can change on the way what an issuer publishes elsewhere: by TLS, or on this machine where the issuer itself is.
func private(issuer, elsewhere string) bool {
	from, err := url.Parse(issuer)
	if err != nil {
		return false
	}
	to, err := url.Parse(elsewhere)
	if err != nil {
		return false
	}
	address := net.ParseIP(to.Hostname())
	return to.Scheme == "https" || from.Scheme == "http" && to.Scheme == "http" && address != nil && address.IsLoopback()
}

// bounded bounds what is read of an answer, and of one that is a refusal reads nothing, which errors would quote.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(r)
	if err == nil && response.StatusCode != http.StatusOK {
		response.Body.Close()
		response.Body = http.NoBody
	}
	if err == nil {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(response.Body, maxDocument), response.Body}
	}
	return response, err
}
