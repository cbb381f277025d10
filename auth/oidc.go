package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// Tokens are JWTs of the issuers that a tenant has named (OpenID Connect): signed by a key that the issuer shows, for the audience and with
// the scope that the tenant has said, and not over. An issuer is believed only of accounts of the tenants that have named it.

const (
	maxToken     = 12 << 10         // octets
	maxDocument  = 1 << 20          // octets of what an issuer answers
	issuerTime   = 10 * time.Second // for an issuer to answer
	rediscover   = time.Hour        // an issuer's document is read again
	keysInterval = 5 * time.Second  // its keys are not read again sooner, whatever tokens name unknown ones
)

// bearer lets in whom a token names. It returns the issuer that the token should have been of, also of an account that is not there: whether it is, is told to
// nobody who has no token.
func (a *Authenticator) bearer(ctx context.Context, b bearer) (Grant, store.Issuer, error) {
	said, err := peek(b.token)
	if err != nil {
		return Grant{}, store.Issuer{}, store.ErrAuth
	}
	for _, login := range said.logins(b.identity) {
		account, err := a.lookup(ctx, login)
		missing := errors.Is(err, store.ErrNotExist)
		if missing && account.User.Tenant == 0 {
			continue
		}
		if err != nil && !missing {
			return Grant{}, store.Issuer{}, fmt.Errorf("login: %w", err)
		}
		issuers, err := a.directory.Issuers(ctx, account.User.Tenant)
		if err != nil {
			return Grant{}, store.Issuer{}, fmt.Errorf("login: %w", err)
		}
		i := slices.IndexFunc(issuers, func(of store.Issuer) bool { return of.URL == said.Issuer })
		if i < 0 {
			continue
		}
		g, err := a.verifyToken(ctx, account, issuers[i], b.token)
		if err == nil && !strings.EqualFold(b.identity, login) {
			g, err = a.as(ctx, g, b.identity)
		}
		return g, issuers[i], err
	}
	return Grant{}, store.Issuer{}, store.ErrAuth
}

// claims are what a token says, whether or not it is true.
type claims struct {
	Issuer string
	all    map[string]any
}

// peek reads a token that nothing is known of yet, to find out who would have to have signed it.
func peek(token string) (c claims, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > maxToken {
		return c, errBearer
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c.all); err != nil {
		return c, err
	}
	c.Issuer = c.text("iss")
	return c, nil
}

func (c claims) text(name string) string {
	s, _ := c.all[name].(string) // "" where it is none
	return s
}

// identityClaims are those that may say whose a token is.
var identityClaims = []string{"email", "preferred_username", "upn", "sub"}

// logins are the accounts that a token may be of: what the client says where a claim says it as well, or one of the claims.
func (c claims) logins(identity string) (found []string) {
	for _, name := range identityClaims {
		if s := c.text(name); strings.Contains(s, "@") && !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	slices.SortStableFunc(found, func(x, y string) int {
		return order(!strings.EqualFold(x, identity)) - order(!strings.EqualFold(y, identity))
	})
	return found
}

func order(last bool) int {
	if last {
		return 1
	}
	return 0
}

// verifyToken lets in the account where the token is all that its tenant wants.
func (a *Authenticator) verifyToken(ctx context.Context, account store.Login, of store.Issuer, token string) (Grant, error) {
	v, err := a.issuers.verifier(ctx, account.User.Tenant, of)
	if err != nil {
		a.log.WarnContext(ctx, "an issuer of tokens does not answer", "tenant", account.User.Tenant, "issuer", of.URL, "err", err)
		return Grant{}, fmt.Errorf("%w: issuer %s: %w", store.ErrUnavailable, of.URL, err)
	}
	t, err := v.Verify(ctx, token)
	if err != nil {
		return Grant{}, fmt.Errorf("%w: %w", store.ErrAuth, err)
	}
	var c claims
	if err := t.Claims(&c.all); err != nil {
		return Grant{}, fmt.Errorf("%w: %w", store.ErrAuth, err)
	}
	login, err := store.NormalLogin(c.text(of.Claim))
	if verified, said := c.all["email_verified"].(bool); of.Claim == "email" && said && !verified {
		err = errors.New("the address is not verified")
	}
	if err != nil || login != account.User.Login {
		return Grant{}, fmt.Errorf("%w: %s is not the account's: %w", store.ErrAuth, of.Claim, err)
	}
	if of.Scope != "" && !slices.Contains(c.scopes(), of.Scope) {
		return Grant{}, fmt.Errorf("%w: it has not the scope %s", store.ErrAuth, of.Scope)
	}
	g, err := admit(account)
	g.until = t.Expiry // who has no new one by then is let in no more
	return g, err
}

// scopes are those of a token: "scope" as RFC 8693 section 4.2 has it, or "scp", as some write it.
func (c claims) scopes() (all []string) {
	for _, name := range []string{"scope", "scp"} {
		switch v := c.all[name].(type) {
		case string:
			all = append(all, strings.Fields(v)...)
		case []any:
			for _, s := range v {
				if s, ok := s.(string); ok {
					all = append(all, s)
				}
			}
		}
	}
	return all
}

// issuers are those that have been asked who they are.
type issuers struct {
	client *http.Client

	mu    sync.Mutex // guards what follows
	known map[issuerKey]knownIssuer
}

type issuerKey struct {
	tenant id.Tenant
	url    string
}

type knownIssuer struct {
	provider *oidc.Provider
	asked    time.Time
}

func newIssuers(transport http.RoundTripper) *issuers {
	if transport == nil {
		transport = http.DefaultTransport
	}
	return &issuers{
		client: &http.Client{Timeout: issuerTime, Transport: &documents{next: transport, last: make(map[string]document)}},
		known:  make(map[issuerKey]knownIssuer),
	}
}

// verifier returns what verifies an issuer's tokens. Where the issuer does not answer, what it has said before holds.
func (i *issuers) verifier(ctx context.Context, t id.Tenant, of store.Issuer) (*oidc.IDTokenVerifier, error) {
	key := issuerKey{t, of.URL}
	i.mu.Lock()
	k := i.known[key]
	i.mu.Unlock()
	if k.provider == nil || time.Since(k.asked) > rediscover {
		p, err := oidc.NewProvider(oidc.ClientContext(ctx, i.client), of.URL)
		if err != nil && k.provider == nil {
			return nil, err
		}
		if err == nil {
			k.provider = p
		}
		k.asked = time.Now()
		i.mu.Lock()
		i.known[key] = k
		i.mu.Unlock()
	}
	return k.provider.Verifier(&oidc.Config{ClientID: of.Audience}), nil
}

// documents bounds what an issuer is asked for, and how often: a token that names an unknown key has its keys read again.
type documents struct {
	next http.RoundTripper

	mu   sync.Mutex // guards what follows
	last map[string]document
}

type document struct {
	text []byte
	at   time.Time
}

// RoundTrip implements http.RoundTripper.
func (d *documents) RoundTrip(r *http.Request) (*http.Response, error) {
	url := r.URL.String()
	d.mu.Lock()
	last := d.last[url]
	d.mu.Unlock()
	if time.Since(last.at) < keysInterval {
		return &http.Response{
			StatusCode: http.StatusOK, Request: r, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(last.text))),
		}, nil
	}
	response, err := d.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err == nil && len(text) > maxDocument {
		err = fmt.Errorf("%s is larger than %d octets", url, maxDocument)
	}
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		d.mu.Lock()
		d.last[url] = document{text, time.Now()}
		d.mu.Unlock()
	}
	response.Body = io.NopCloser(strings.NewReader(string(text)))
	return response, nil
}
