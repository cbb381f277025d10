package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailstead.dev/store"
)

// Tokens are JWTs of the issuers that a tenant has named (OpenID Connect): signed by a key that the issuer shows, for the audience and with
// the scope that the tenant has said, and not over. An issuer is believed only of accounts of the tenants that have named it.

// maxToken is how long a token may be, in octets: what a stranger may send in a line has room for it in base64.
const maxToken = 11 << 10

// bearer lets in whom a token names. Whether an account is there is told to nobody who has no token for it: what the issuer
// says decides first, of those that are not there as well.
func (a *Authenticator) bearer(ctx context.Context, ch Channel, b bearer) (Grant, error) {
	said, err := peek(b.token)
	if err != nil {
		return Grant{}, store.ErrAuth
	}
	for _, login := range said.logins(b.identity) {
		account, err := a.lookup(ctx, login)
		missing := errors.Is(err, store.ErrNotExist)
		if missing && account.User.Tenant == 0 {
			if a.cells.among(account.Cell) && !ch.introduced {
				return Grant{}, &ElsewhereError{Cell: account.Cell, Login: login}
			}
			continue
		}
		if err != nil && !missing {
			return Grant{}, fmt.Errorf("login: %w", err)
		}
		issuers, err := a.directory.Issuers(ctx, account.User.Tenant)
		if err != nil {
			return Grant{}, fmt.Errorf("login: %w", err)
		}
		i := slices.IndexFunc(issuers, func(of store.Issuer) bool { return of.URL == said.Issuer })
		if i < 0 {
			continue
		}
		g, err := a.verifyToken(ctx, account, issuers[i], b.token)
		if err == nil && !strings.EqualFold(b.identity, login) {
			g, err = a.as(ctx, g, b.identity)
		}
		return g, err
	}
	return Grant{}, store.ErrAuth
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

// logins are the accounts that a token may be of: what the client says where a claim says it as well, or one of the claims.
func (c claims) logins(identity string) (found []string) {
	for _, name := range store.IssuerClaims {
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
	t, err := a.issuers.verify(ctx, of, token)
	if errors.Is(err, store.ErrUnavailable) {
		a.log.WarnContext(ctx, "an issuer of tokens does not answer", "tenant", account.User.Tenant, "issuer", of.URL, "err", err)
	}
	if err != nil {
		return Grant{}, err
	}
	var c claims
	if err := t.Claims(&c.all); err != nil {
		return Grant{}, fmt.Errorf("%w: %w", store.ErrAuth, err)
	}
	login, err := store.NormalLogin(c.text(of.Claim))
	switch {
	case err != nil:
		return Grant{}, fmt.Errorf("%w: %s is no address", store.ErrAuth, of.Claim) // the error has it, and is logged
	case of.Claim == "email" && !of.Unverified && c.all["email_verified"] != true && c.text("email_verified") != "true":
		return Grant{}, fmt.Errorf("%w: the issuer has not verified the address", store.ErrAuth)
	case login != account.User.Login: // which is "" where there is no account
		return Grant{}, fmt.Errorf("%w: %s is not the account's", store.ErrAuth, of.Claim)
	case of.Scope != "" && !slices.Contains(c.scopes(), of.Scope):
		return Grant{}, fmt.Errorf("%w: it has not the scope %s", store.ErrAuth, of.Scope)
	}
	g, err := admit(account)
	g.vouched(of.Roles)
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
