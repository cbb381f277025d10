package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
)

// Errors of an exchange that are no refusal of who has shown who they are.
var (
	ErrMechanism = errors.New("no such mechanism")
	ErrPrivacy   = errors.New("the mechanism is only used where nobody else can read along")
	ErrMalformed = errors.New("authentication data is not as it should be")
)

// mechanism is a way to log in (RFC 4422). Each is a file of its own.
type mechanism struct {
	name  string
	when  func(ch Channel) bool // it can be used, where what is sent is private
	start func(ctx context.Context, a *Authenticator, ch Channel, granted *Grant) sasl.Server
}

// mechanisms are all that there are, in the order in which they are announced. PLUS goes with what it is added to.
var mechanisms = []mechanism{
	{"PLAIN", always, startPlain},
	{"LOGIN", always, startLogin},
	{"SCRAM-SHA-256-PLUS", Channel.bound, startScram(scramHashes[0], true)},
	{"SCRAM-SHA-256", always, startScram(scramHashes[0], false)},
	{"SCRAM-SHA-1-PLUS", Channel.bound, startScram(scramHashes[1], true)},
	{"SCRAM-SHA-1", always, startScram(scramHashes[1], false)},
	{"EXTERNAL", Channel.certified, startExternal},
	{"GSSAPI", always, startGSSAPI},
	{"OAUTHBEARER", always, startOAuthBearer},
	{"XOAUTH2", always, startXOAuth2},
	{"CRAM-MD5", always, startCramMD5},
	{"OTP", always, startOTP},
	{"ANONYMOUS", always, startAnonymous},
}

// DefaultMechanisms are those that every account can use that has a password, however it is kept.
var DefaultMechanisms = []string{"PLAIN", "LOGIN"}

// MechanismNames are those that Options.Mechanisms may have.
func MechanismNames() (names []string) {
	for _, m := range mechanisms {
		if !strings.HasSuffix(m.name, plus) {
			names = append(names, m.name)
		}
	}
	return names
}

const plus = "-PLUS"

func always(Channel) bool { return true }

// Mechanisms returns the names of the mechanisms that are offered to who comes in that way.
func (a *Authenticator) Mechanisms(ch Channel) (names []string) {
	ch = a.channel(ch)
	for _, m := range mechanisms {
		if a.offers(m, ch) {
			names = append(names, m.name)
		}
	}
	return names
}

func (a *Authenticator) offers(m mechanism, ch Channel) bool {
	return ch.Private && m.when(ch) && a.on[strings.TrimSuffix(m.name, plus)]
}

// TakesPasswords tells whether there is a mechanism by which passwords are sent; else none are taken without one either.
func (a *Authenticator) TakesPasswords() bool { return a.on["PLAIN"] || a.on["LOGIN"] }

// channel is how somebody comes in. What may be passed on to another cell is bound to no TLS, which would be ours, so that -PLUS is not offered where
// there are others.
func (a *Authenticator) channel(ch Channel) Channel {
	ch.unbound = len(a.cells.Others) > 0
	return ch
}

// Exchange is one authentication: what the client sends goes to Next until it is done.
type Exchange struct {
	name    string // of the mechanism
	server  sasl.Server
	granted Grant
}

// Begin begins an exchange; ErrMechanism, ErrPrivacy.
func (a *Authenticator) Begin(ctx context.Context, ch Channel, name string) (*Exchange, error) {
	x := &Exchange{name: name}
	if name == CellMechanism && len(a.cells.Others) > 0 && ch.Private {
		x.server = startCell(ctx, a, ch, &x.granted)
		return x, nil
	}
	ch = a.channel(ch)
	m, err := a.mechanism(name, ch)
	if err != nil {
		return nil, err
	}
	x.server = m.start(ctx, a, ch, &x.granted)
	return x, nil
}

// mechanism finds one that can be used by who comes in that way.
func (a *Authenticator) mechanism(name string, ch Channel) (m mechanism, err error) {
	i := slices.IndexFunc(mechanisms, func(m mechanism) bool { return m.name == name })
	switch {
	case i < 0 || !a.on[strings.TrimSuffix(name, plus)]:
		return m, ErrMechanism
	case !ch.Private:
		return m, ErrPrivacy
	case !a.offers(mechanisms[i], ch):
		return m, ErrMechanism
	}
	return mechanisms[i], nil
}

// Next takes a response, nil for that there is no initial one, and returns the next challenge, or that the client is let in.
// Its errors are those of LoginAs, and ErrMalformed.
func (x *Exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = x.server.Next(response)
	if e, ok := errors.AsType[*ElsewhereError](err); ok {
		if e.Mechanism == "" {
			e.Mechanism, e.Response = x.name, bytes.Clone(response)
		}
		return nil, true, e
	}
	if err != nil && !done {
		return nil, false, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return challenge, done, err
}

// closer is a sasl.Server that has something to end where its exchange does not come to its end.
type closer interface{ Close(ctx context.Context) }

// closeTime is how long an exchange may take to end, also where the client is gone and nothing else ends what it waits for.
const closeTime = 5 * time.Second

// Close ends an exchange that may have come to its end or not, within closeTime.
func (x *Exchange) Close(ctx context.Context) {
	if c, ok := x.server.(closer); ok {
		ctx, cancel := context.WithTimeout(ctx, closeTime)
		defer cancel()
		c.Close(ctx)
	}
}

// Grant is who is let in, once the exchange is done.
func (x *Exchange) Grant() Grant { return x.granted }
