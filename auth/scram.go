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

// errBinding says that an exchange cannot be bound as the client wants it.
var errBinding = errors.New("no such channel binding")

// bound tells whether an exchange can be bound to the channel.
func (ch Channel) bound() bool {
	if ch.TLS == nil || ch.unbound {
		return false
	}
	_, err := scram.NewTLSExporterBinding(ch.TLS) // which TLS 1.2 has not without its extended master secret
	return err == nil || ch.Certificate != nil
}

// binding is what an exchange is bound to, by the name of its kind.
func (ch Channel) binding(kind scram.ChannelBindingType) (scram.ChannelBinding, error) {
	if kind == scram.ChannelBindingTLSServerEndpoint {
		if ch.Certificate == nil { // where the session is one that was resumed
			return scram.ChannelBinding{}, errBinding
		}
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
// the client is told one. Where there is none at all, one is made up.
func (a *Authenticator) scramCandidates(ctx context.Context, h *scramHash, ch Channel, login string) (t *attempt, found []candidate, err error) {
	t, err = a.attempt(ctx, ch, login)
	if err != nil {
		return nil, nil, err
	}
	decoy, err := a.nobodysFactors(ctx, h, cmp.Or(t.login, login)) // for everybody, so that it takes as long
	if err != nil {
		return nil, nil, err
	}
	account := t.account
	if account.Directory != "" {
		account.Password = "" // it is the directory's to say which password is the user's, and that knows nothing of SCRAM
	}
	factors, ok := factorsOf(account, h)
	if !ok {
		nobody := scram.StoredCredentials{KeyFactors: decoy, StoredKey: make([]byte, h.size), ServerKey: make([]byte, h.size)}
		rand.Read(nobody.StoredKey)
		return t, []candidate{{nobody, func() (Grant, error) { return Grant{}, store.ErrAuth }}}, nil
	}
	if v, ok := parseSecret(account.Password).verifier(h); ok {
		found = append(found, candidate{v.StoredCredentials, func() (Grant, error) { return admit(account) }})
	}
	for _, app := range account.AppPasswords {
		if v, ok := parseSecret(app.Secret).verifier(h); ok && v.KeyFactors == factors {
			found = append(found, candidate{v.StoredCredentials, func() (Grant, error) { return a.admitApp(ctx, ch, account, app) }})
		}
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
	switch {
	case binds != s.plus:
		return nil, false, errors.New("-PLUS and the flag for it go together")
	case string(flag) == "y" && s.ch.bound(): // it could bind, and has been told that we could not: somebody is in between (RFC 5802 section 6)
		return nil, true, fmt.Errorf("%w: the client does not know that there is -PLUS", store.ErrAuth)
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
	case errors.Is(err, errBinding), err != nil && strings.HasPrefix(answer, "e="): // such as of a kind of binding that there is not
		return nil, true, fmt.Errorf("%w: %w", store.ErrAuth, errBinding) // and not err, which may quote the client
	case err != nil:
		return nil, false, err
	}
	return []byte(answer), false, nil
}

// begin begins a conversation.
func (s *scramServer) begin(server *scram.Server, kind scram.ChannelBindingType) (*scram.ServerConversation, error) {
	if !s.plus {
		return server.NewConversation(), nil
	}
	b, err := s.ch.binding(kind)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBinding, err)
	}
	return server.NewConversationWithChannelBindingRequired(b), nil
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
