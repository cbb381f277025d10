package imapd

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"time"

	"mailstead.dev/auth"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
)

// STARTTLS, LOGIN and AUTHENTICATE.
//
// RFC 3501 sections 6.2.1 to 6.2.3; SASL-IR: RFC 4959; response codes: RFC 5530 section 3. The mechanisms are package auth's.

// privacy tells whether passwords may be sent.
func (s *session) privacy() bool {
	return s.conn.tls || s.server.o.PlaintextLogin && fromLoopback(s.raw)
}

func fromLoopback(c net.Conn) bool {
	addr, ok := c.RemoteAddr().(*net.TCPAddr)
	return ok && addr.IP.IsLoopback()
}

// starttls = "STARTTLS"
func readStartTLS(d *wire.Decoder) (run, error) {
	return do(runStartTLS), d.End()
}

func runStartTLS(ctx context.Context, s *session) error {
	if !mayStartTLS(s) {
		return bad("STARTTLS is not available")
	}
	s.writeTagged("OK", "", "Begin TLS negotiation now")
	s.answered = true
	if err := s.enc.Flush(); err != nil {
		return err
	}
	return s.startTLS(ctx, s.server.o.TLS)
}

// login = "LOGIN" SP userid SP password
func readLogin(d *wire.Decoder) (run, error) {
	d.SP()
	login := d.AString()
	d.SP()
	password := d.AString()
	return do(func(ctx context.Context, s *session) error {
		return s.login(ctx, login, password)
	}), d.End()
}

// errPrivacy refuses what others could read.
var errPrivacy = no("PRIVACYREQUIRED", "Passwords are only taken over TLS")

// login lets a client in by its password.
func (s *session) login(ctx context.Context, login, password string) error {
	switch {
	case !s.privacy():
		return errPrivacy
	case !s.server.o.Authenticator.TakesPasswords():
		return no("CANNOT", "LOGIN is switched off: use AUTHENTICATE")
	}
	grant, err := s.server.o.Authenticator.Login(ctx, s.channel(), login, password)
	if err != nil {
		return s.notHere(ctx, err)
	}
	return s.letIn(ctx, grant)
}

// notHere lets in whoever has their account elsewhere, and refuses all others.
func (s *session) notHere(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*auth.ElsewhereError](err); ok {
		return s.elsewhere(ctx, e)
	}
	return s.refused(ctx, err)
}

// channel is how the client comes in.
func (s *session) channel() auth.Channel {
	ch := auth.Channel{Protocol: auth.IMAP, Private: s.privacy(), From: remote(s.raw.RemoteAddr()), Introduced: s.comesFor}
	if t, ok := s.nc.(*tls.Conn); ok {
		state := t.ConnectionState()
		ch.TLS, ch.Certificate = &state, s.shown
	}
	return ch
}

// letIn begins the session of who has logged in.
func (s *session) letIn(ctx context.Context, grant auth.Grant) error {
	user := grant.User
	if of := s.server.admit(s.conn, user); of != "" {
		return no("LIMIT", "Too many connections of this "+of)
	}
	unhold, ok := s.server.o.Authenticator.Hold(grant, s.conn.revoke)
	if !ok {
		s.server.dismiss(s.conn, user)
		return store.ErrAuth // it was right when we looked
	}
	s.user, s.unhold, s.state = user, unhold, authenticated
	s.trust()
	if s.introduced && user.Guest {
		s.takeUnasked()
	}
	s.mayVisit()
	s.log = s.log.With("tenant", user.Tenant, "account", user.Account)
	s.log.InfoContext(ctx, "logged in", "tls", s.conn.tls, "for_another", user.Actor != "", "guest", user.Guest, "read_only", user.ReadOnly)
	s.ok("CAPABILITY "+s.capabilityList(), "Logged in")
	return nil
}

// slowestLogin bounds how many times LoginDelay a failed login is answered later.
const slowestLogin = 8

// refused answers a login that failed: later each time, of this connection or, where it is a guess, of its address and account, and not at
// all after many of them.
func (s *session) refused(ctx context.Context, err error) error {
	if !failed(err) {
		return err
	}
	s.log.InfoContext(ctx, "login failed", "why", err)
	if s.server.o.LoginDelay > 0 && !s.introduced { // whose client waits where it is
		select {
		case <-time.After(s.server.o.LoginDelay * s.loginDelay(err)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.failed++; s.failed < s.server.o.MaxLoginFailures {
		return err
	}
	r, _ := answer(err)
	s.writeTagged(r.kind, r.code, r.text)
	s.answered = true
	return &errBye{"", "Too many failed logins"}
}

// failed tells whether a login has failed by what was sent, or by whom it was to be looked at by: a directory, or another cell, which may have refused it as well.
// Who tries again and again, while that is away, is not to do so without end.
func failed(err error) bool {
	return errors.Is(err, store.ErrAuth) || errors.Is(err, store.ErrActAs) || errors.Is(err, auth.ErrIntroduction) || errors.Is(err, auth.ErrBlocked) || errors.Is(err, store.ErrOTPExchange) || errors.Is(err, store.ErrUnavailable) || as[*refusal](err)
}

// loginDelay is how many times as late a refusal is told as the first.
func (s *session) loginDelay(err error) time.Duration {
	before := s.failed
	if r, ok := errors.AsType[*auth.RefusedError](err); ok {
		before = max(before, r.Failures-1)
	}
	return min(time.Duration(1)<<min(before, 10), slowestLogin)
}

// authenticate = "AUTHENTICATE" SP auth-type [SP initial-resp] *(CRLF base64)
func readAuthenticate(d *wire.Decoder) (run, error) {
	d.SP()
	a := authenticateCmd{mechanism: d.Keyword()}
	if d.TrySP() && d.Peek() != 0 { // mutt sends the blank with nothing behind it, where it is for the server to begin
		a.hasInitial = true
		a.initial = d.Atom() // as base64 and "=" are
	}
	return a, d.End()
}

type authenticateCmd struct {
	mechanism, initial string
	hasInitial         bool
}

func (a authenticateCmd) run(ctx context.Context, s *session) error {
	exchange, err := s.server.o.Authenticator.Begin(ctx, s.channel(), a.mechanism)
	switch {
	case errors.Is(err, auth.ErrMechanism):
		return no("CANNOT", "Unknown authentication mechanism")
	case err != nil: // auth.ErrPrivacy
		return errPrivacy
	}
	defer exchange.Close(context.WithoutCancel(ctx)) // what others wait for ends, also where the client is gone
	response, err := a.first()
	if err != nil {
		return err
	}
	for {
		challenge, done, err := exchange.Next(response)
		switch {
		case errors.Is(err, auth.ErrMalformed):
			return bad("Wrong authentication data")
		case err != nil:
			return s.notHere(ctx, err)
		case done:
			return s.letIn(ctx, exchange.Grant())
		}
		if response, err = s.challenge(challenge); err != nil {
			return err
		}
	}
}

// first returns the initial response: nil if there is none, and the server
// has to ask (RFC 4959 section 3).
func (a authenticateCmd) first() ([]byte, error) {
	if !a.hasInitial {
		return nil, nil
	}
	if a.initial == "=" {
		return []byte{}, nil
	}
	return decodeResponse(a.initial)
}

// challenge asks the client for a response.
func (s *session) challenge(challenge []byte) ([]byte, error) {
	if err := s.proceed(base64.StdEncoding.EncodeToString(challenge)); err != nil {
		return nil, err
	}
	line := s.dec.Line()
	if err := s.dec.End(); err != nil {
		return nil, err
	}
	if strings.TrimSpace(line) == "*" {
		return nil, bad("Authentication cancelled")
	}
	return decodeResponse(line)
}

func decodeResponse(line string) ([]byte, error) {
	response, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil {
		return nil, bad("Authentication data is not in base64")
	}
	return response, nil
}
