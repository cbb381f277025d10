package auth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"

	"mailstead.dev/store"
)

// SCRAM: RFC 5802, with SHA-256 RFC 7677. The -PLUS mechanisms bind the exchange to the TLS connection: to its keys
// (tls-exporter, RFC 9266), or to our certificate (tls-server-end-point, RFC 5929). So who stands in the middle, with TLS to both sides, cannot pass it on.

// bound tells whether an exchange can be bound to the channel.
func (ch Channel) bound() bool { return ch.TLS != nil && ch.Certificate != nil }

// binding is what an exchange is bound to, by the name of its kind.
func (ch Channel) binding(kind scram.ChannelBindingType) (scram.ChannelBinding, error) {
	if kind == scram.ChannelBindingTLSServerEndpoint {
		return scram.NewTLSServerEndpointBinding(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{ch.Certificate}})
	}
	return scram.NewTLSExporterBinding(ch.TLS) // which no client knows by another name
}

// scramServer checks an exchange with all that it can be right by. These differ in their keys alone.
type scramServer struct {
	hash   *scramHash
	ch     Channel
	plus   bool
	lookup func(login string) (*attempt, []candidate, error)
	admit  func(c candidate, identity string) error
	refuse func(t *attempt) error

	state         int // how many responses have come
	attempt       *attempt
	candidates    []candidate
	conversations []*scram.ServerConversation // of each candidate
}

// candidate is a verifier, and what follows where it is the one.
type candidate struct {
	credentials scram.StoredCredentials
	admit       func() (Grant, error)
}

func startScram(h *scramHash, plus bool) func(ctx context.Context, a *Authenticator, ch Channel, granted *Grant) sasl.Server {
	return func(ctx context.Context, a *Authenticator, ch Channel, granted *Grant) sasl.Server {
		return &scramServer{
			hash: h, ch: ch, plus: plus,
			lookup: func(login string) (*attempt, []candidate, error) { return a.scramCandidates(ctx, h, ch, login) },
			refuse: func(t *attempt) error { return t.refused(ctx, nil) },
			admit: func(c candidate, identity string) error {
				g, err := c.admit()
				if err == nil {
					*granted, err = a.as(ctx, g, identity)
				}
				return err
			},
		}
	}
}

// scramCandidates returns the verifiers of a login that an exchange can be right by: that of its password, and those of its app passwords with the same salt, since
// the client is told one. Where there is none at all, one is made up, with the salt that the login would have.
func (a *Authenticator) scramCandidates(ctx context.Context, h *scramHash, ch Channel, login string) (t *attempt, found []candidate, err error) {
	t, err = a.attempt(ctx, ch, login)
	if err != nil {
		return nil, nil, err
	}
	account := t.account
	factors := scram.KeyFactors{Salt: scramSalt(h, cmp.Or(t.login, login)), Iters: scramIterations}
	if v, ok := parseSecret(account.Password).verifier(h); ok {
		factors = v.KeyFactors
		found = append(found, candidate{v.StoredCredentials, func() (Grant, error) { return admit(account) }})
	}
	for _, app := range account.AppPasswords {
		if v, ok := parseSecret(app.Secret).verifier(h); ok && v.KeyFactors == factors {
			found = append(found, candidate{v.StoredCredentials, func() (Grant, error) { return a.admitApp(ctx, ch, account, app) }})
		}
	}
	if len(found) == 0 {
		nobody := scram.StoredCredentials{KeyFactors: factors, StoredKey: make([]byte, h.size), ServerKey: make([]byte, h.size)}
		rand.Read(nobody.StoredKey)
		found = append(found, candidate{nobody, func() (Grant, error) { return Grant{}, store.ErrAuth }})
	}
	return t, found, nil
}

// Next implements sasl.Server.
func (s *scramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil && s.state == 0 {
		return []byte{}, false, nil
	}
	s.state++
	switch s.state {
	case 1:
		return s.first(response)
	case 2:
		return s.final(response)
	case 3: // the client has seen that we know its password as well
		if len(response) > 0 {
			return nil, false, errLonger
		}
		return nil, true, nil
	}
	return nil, false, errLonger
}

// first takes the client's first message, which tells who it is and how it is bound.
func (s *scramServer) first(message []byte) (challenge []byte, done bool, err error) {
	flag, _, _ := bytes.Cut(message, []byte(","))
	kind, binds := strings.CutPrefix(string(flag), "p=")
	if binds != s.plus {
		return nil, false, errors.New("-PLUS and the flag for it go together")
	}
	var lookup error
	nonce := rand.Text()
	conversation := func(credentials func(string) (scram.StoredCredentials, error)) (string, error) {
		server, err := s.hash.NewServer(credentials)
		if err != nil {
			return "", err
		}
		server.WithNonceGenerator(func() string { return nonce })
		c, err := s.begin(server, scram.ChannelBindingType(kind))
		if err != nil {
			return "", err
		}
		s.conversations = append(s.conversations, c)
		return c.Step(string(message))
	}
	answer, err := conversation(func(login string) (scram.StoredCredentials, error) {
		s.attempt, s.candidates, lookup = s.lookup(login)
		if lookup != nil {
			return scram.StoredCredentials{}, lookup
		}
		return s.candidates[0].credentials, nil
	})
	for _, c := range s.candidates[min(1, len(s.candidates)):] {
		if err == nil {
			_, err = conversation(func(string) (scram.StoredCredentials, error) { return c.credentials, nil })
		}
	}
	switch {
	case lookup != nil:
		return nil, true, lookup
	case err != nil && strings.HasPrefix(answer, "e="): // such as of who has been made to believe that there is no -PLUS
		return nil, true, fmt.Errorf("%w: %w", store.ErrAuth, err)
	case err != nil:
		return nil, false, err
	}
	return []byte(answer), false, nil
}

// begin begins a conversation, which knows whether -PLUS is offered: a client that could bind and is not told so has somebody in between (RFC 5802 section 6).
func (s *scramServer) begin(server *scram.Server, kind scram.ChannelBindingType) (*scram.ServerConversation, error) {
	if !s.ch.bound() {
		return server.NewConversation(), nil
	}
	if !s.plus {
		kind = scram.ChannelBindingTLSServerEndpoint
	}
	b, err := s.ch.binding(kind)
	switch {
	case err != nil:
		return nil, err
	case s.plus:
		return server.NewConversationWithChannelBindingRequired(b), nil
	}
	return server.NewConversationWithChannelBinding(b), nil
}

// final takes the client's proof.
func (s *scramServer) final(message []byte) (challenge []byte, done bool, err error) {
	if err := s.attempt.allowed(); err != nil { // not any more
		return nil, true, err
	}
	for i, c := range s.conversations {
		answer, err := c.Step(string(message))
		if err != nil || !c.Valid() {
			continue
		}
		if err := s.admit(s.candidates[i], c.AuthzID()); err != nil {
			return nil, true, err
		}
		s.attempt.succeeded()
		return []byte(answer), false, nil
	}
	return nil, true, s.refuse(s.attempt)
}

// verifier returns the one for a hash.
func (s secret) verifier(h *scramHash) (verifier, bool) {
	for _, v := range s.verifiers {
		if v.hash == h {
			return v, true
		}
	}
	return verifier{}, false
}
