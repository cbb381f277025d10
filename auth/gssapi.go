package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-sasl"

	"mailstead.dev/auth/kerberos"
	"mailstead.dev/store"
)

// GSSAPI: RFC 4752, which is Kerberos. TLS protects the connection, so no security layer is offered besides. A principal of a realm is the
// account of that name in the domain that the operator has said, and of no other: who has a realm's keys could be anybody of it.

// Realm says of which domain the users of a realm are.
type Realm struct{ Realm, Domain string }

// ParseRealm reads REALM, whose users are of the domain of the same name, or REALM=domain.
func ParseRealm(text string) (Realm, error) {
	realm, domain, found := strings.Cut(text, "=")
	if !found {
		domain = realm
	}
	if _, err := store.NormalLogin("a@" + domain); err != nil || realm == "" || strings.Contains(domain, "@") {
		return Realm{}, fmt.Errorf("%q: want a realm, or REALM=domain", text)
	}
	return Realm{realm, strings.ToLower(domain)}, nil
}

func (r Realm) String() string {
	if strings.EqualFold(r.Realm, r.Domain) {
		return r.Realm
	}
	return r.Realm + "=" + r.Domain
}

const noLayer = 1 // of security (RFC 4752 section 3.3)

// gssapiServer runs one exchange.
type gssapiServer struct {
	accept func(token []byte) (*kerberos.Context, []byte, error)
	admit  func(c *kerberos.Context, identity string) error

	context *kerberos.Context
	state   int // how many responses have come
}

func startGSSAPI(ctx context.Context, a *Authenticator, ch Channel, granted *Grant) sasl.Server {
	return &gssapiServer{
		accept: func(token []byte) (*kerberos.Context, []byte, error) {
			c, reply, err := a.keytab.Accept(ch.Protocol, ch.From, token)
			switch {
			case errors.Is(err, kerberos.ErrNoKeys):
				a.log.WarnContext(ctx, "there are no keys for GSSAPI", "err", err)
				err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
			case err != nil:
				err = fmt.Errorf("%w: %w", store.ErrAuth, err)
			}
			return c, reply, err
		},
		admit: func(c *kerberos.Context, identity string) (err error) {
			*granted, err = a.principal(ctx, c, identity)
			return err
		},
	}
}

// Next implements sasl.Server.
func (g *gssapiServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil && g.state == 0 {
		return []byte{}, false, nil
	}
	g.state++
	switch g.state {
	case 1:
		if g.context, challenge, err = g.accept(response); err != nil {
			return nil, true, err
		}
		if challenge == nil { // the client does not ask whether we have the key
			return g.Next(nil)
		}
		return challenge, false, nil
	case 2: // it has seen that we do, and has nothing more to say of that
		if len(response) > 0 {
			return nil, false, errLonger
		}
		challenge, err = g.context.Wrap([]byte{noLayer, 0, 0, 0})
		return challenge, err != nil, err
	case 3:
		chosen, err := g.context.Unwrap(response)
		if err != nil {
			return nil, true, fmt.Errorf("%w: %w", store.ErrAuth, err)
		}
		identity, ok := bytes.CutPrefix(chosen, []byte{noLayer, 0, 0, 0})
		if !ok {
			return nil, false, errors.New("there is no security layer but that of TLS")
		}
		return nil, true, g.admit(g.context, string(identity))
	}
	return nil, false, errLonger
}

// principal lets in the account of a principal.
func (a *Authenticator) principal(ctx context.Context, c *kerberos.Context, identity string) (Grant, error) {
	domain, ok := a.realms[c.Realm]
	if !ok || strings.Contains(c.Name, "@") {
		return Grant{}, fmt.Errorf("%w: nobody of the ticket's realm is let in, or none of that name", store.ErrAuth)
	}
	account, err := a.lookup(ctx, c.Name+"@"+domain)
	switch {
	case errors.Is(err, store.ErrNotExist):
		return Grant{}, store.ErrAuth
	case err != nil:
		return Grant{}, fmt.Errorf("login: %w", err)
	}
	g, err := admit(account)
	if err != nil {
		return Grant{}, err
	}
	g.vouched(false)
	g.until = c.Until
	if strings.EqualFold(identity, c.Name) || strings.EqualFold(identity, c.Name+"@"+c.Realm) || strings.EqualFold(identity, account.User.Login) {
		identity = "" // as some programs say who they are
	}
	return a.as(ctx, g, identity)
}
