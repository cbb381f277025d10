package auth

import (
	"context"
	"errors"
	"strings"

	"github.com/emersion/go-sasl"

	"mailstead.dev/store"
)

// OAUTHBEARER: RFC 7628. XOAUTH2 is what Google had before it, and what some programs know alone. Both carry a token
// (oidc.go), and tell who is refused why in JSON, before they refuse.
//
// go-sasl's server of OAUTHBEARER panics on an empty response to that, and takes no other header than "n,a=…".

// bearer is what a client sends.
type bearer struct{ identity, token string }

// oauthServer takes a token, once.
type oauthServer struct {
	parse   func(response string) (bearer, error)
	check   func(b bearer) error
	why     string // that who is refused is told, in JSON
	asked   bool
	refused error // to be told when the client has taken the reason
}

func startOAuthBearer(ctx context.Context, a *Authenticator, ch Channel, granted *Grant) sasl.Server {
	return startOAuth(ctx, a, ch, granted, parseOAuthBearer, `{"status":"invalid_token"}`)
}

func startXOAuth2(ctx context.Context, a *Authenticator, ch Channel, granted *Grant) sasl.Server {
	return startOAuth(ctx, a, ch, granted, parseXOAuth2, `{"status":"401","schemes":"bearer"}`)
}

// startOAuth begins an exchange in which the same is told to all who are refused: the scope would tell of what tenant an account is.
func startOAuth(ctx context.Context, a *Authenticator, ch Channel, granted *Grant, parse func(response string) (bearer, error), why string) sasl.Server {
	return &oauthServer{parse: parse, why: why, check: func(b bearer) (err error) {
		*granted, err = a.bearer(ctx, ch, b)
		return err
	}}
}

// Next implements sasl.Server.
func (o *oauthServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case o.refused != nil: // whatever comes: ^A of OAUTHBEARER, nothing of XOAUTH2
		return nil, true, o.refused
	case o.check == nil:
		return nil, false, errLonger
	case response == nil && !o.asked:
		o.asked = true
		return []byte{}, false, nil
	}
	check := o.check
	o.check = nil
	b, err := o.parse(string(response))
	if err != nil {
		return nil, false, err
	}
	if err := check(b); !errors.Is(err, store.ErrAuth) {
		return nil, true, err
	}
	o.refused = store.ErrAuth
	return []byte(o.why), false, nil
}

var errBearer = errors.New("want an identity and a bearer token")

// parseOAuthBearer reads gs2-header kvsep *kvpair kvsep (RFC 7628 section 3.1). There is no binding, so the header's
// flag is "n" or "y".
func parseOAuthBearer(response string) (b bearer, err error) {
	header, rest, found := strings.Cut(response, "\x01")
	parts := strings.Split(header, ",")
	if !found || len(parts) != 3 || parts[0] != "n" && parts[0] != "y" || parts[2] != "" {
		return b, errBearer
	}
	if parts[1] != "" {
		name, ok := strings.CutPrefix(parts[1], "a=")
		if !ok {
			return b, errBearer
		}
		b.identity = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(name) // saslname (RFC 5801 section 4)
	}
	b.token, err = bearerToken(rest)
	return b, err
}

// parseXOAuth2 reads "user=" identity ^A "auth=Bearer " token ^A ^A.
func parseXOAuth2(response string) (b bearer, err error) {
	user, rest, found := strings.Cut(response, "\x01")
	identity, ok := strings.CutPrefix(user, "user=")
	if !found || !ok {
		return b, errBearer
	}
	b.identity = identity
	b.token, err = bearerToken(rest)
	return b, err
}

// bearerToken finds the token among pairs that each end with ^A; the last is empty.
func bearerToken(pairs string) (token string, err error) {
	for pair := range strings.SplitSeq(pairs, "\x01") {
		value, ok := strings.CutPrefix(pair, "auth=")
		if !ok {
			continue
		}
		scheme, rest, _ := strings.Cut(value, " ")
		if !strings.EqualFold(scheme, "Bearer") || token != "" {
			return "", errBearer
		}
		token = strings.TrimSpace(rest)
	}
	if token == "" || !strings.HasSuffix(pairs, "\x01") {
		return "", errBearer
	}
	return token, nil
}
