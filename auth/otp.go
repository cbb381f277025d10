package auth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/emersion/go-sasl"

	"mailstead.dev/auth/otp"
	"mailstead.dev/store"
)

// OTP: RFC 2444, with the passwords of RFC 2289 (package otp). The right one is what has the last one for its hash: so none is of use
// twice, and what the store has lets nobody in.
//
// Of a login there is one exchange at a time (RFC 2289 section 9), also of one that does not exist: else whoever reads along while somebody types could
// guess the rest in an exchange of their own. One that is broken off counts as a failure, or a login could be kept busy for nothing.

// Errors of who has shown the right one-time password.
var (
	// ErrOTPSpent says that it was the last one, which only begins another sequence. It is used up.
	ErrOTPSpent = errors.New("the one-time passwords are used up")
	// ErrOTPRenewal says that the sequence that it was to begin cannot be.
	ErrOTPRenewal = errors.New("another sequence cannot begin so")
)

// OTPSequence is the number that new sequences begin with by default.
const OTPSequence = 500

// OTPFew is how few one-time passwords may be left before there is a warning (RFC 2243 section 4.3).
const OTPFew = 10

// lastOTP is the sequence number of the last one: none is asked for below (RFC 2243 section 4.3).
const lastOTP = 1

// NewOTP begins a sequence of the one-time passwords of a pass phrase.
func NewOTP(algorithm otp.Algorithm, sequence int, phrase string) (store.OneTimePassword, error) {
	switch {
	case len(phrase) < 10: // RFC 2289 section 6
		return store.OneTimePassword{}, errors.New("the pass phrase is shorter than 10 characters")
	case len(phrase) > maxPassword:
		return store.OneTimePassword{}, fmt.Errorf("the pass phrase is longer than %d bytes", maxPassword)
	case sequence <= lastOTP || sequence > otp.MaxSequence:
		return store.OneTimePassword{}, fmt.Errorf("the sequence number is not one of %d to %d", lastOTP+1, otp.MaxSequence)
	}
	var chance [8]byte
	rand.Read(chance[:])
	return keptOTP(otp.Params{Algorithm: algorithm, Sequence: sequence, Seed: newSeed(chance[:])}, phrase), nil
}

func keptOTP(p otp.Params, phrase string) store.OneTimePassword {
	first := p.Password(phrase)
	return store.OneTimePassword{Algorithm: string(p.Algorithm), Sequence: p.Sequence, Seed: p.Seed, Last: first[:]}
}

// OTPLeft is how many times somebody can log in still before another sequence begins.
func OTPLeft(p store.OneTimePassword) int { return max(p.Sequence-lastOTP-1, 0) }

// newSeed makes a seed of eight octets.
func newSeed(of []byte) string {
	n := binary.BigEndian.Uint64(of)
	return fmt.Sprintf("%c%c%06d", 'a'+rune(n%26), 'a'+rune(n/26%26), n/26/26%1_000_000)
}

// nobodysOTP is what a login is asked for that has no one-time passwords: the same each time.
func (a *Authenticator) nobodysOTP(ctx context.Context, login string) (otp.Params, error) {
	made, err := a.nobodys(ctx, "OTP", login)
	if err != nil {
		return otp.Params{}, err
	}
	sequence := OTPSequence/2 + int(made[8])%(OTPSequence/2)
	return otp.Params{Algorithm: otp.MD5, Sequence: sequence, Seed: newSeed(made)}, nil
}

// otpServer runs an exchange: who it is, a challenge, an answer.
type otpServer struct {
	begin  func(login string) (*otpExchange, error)
	answer func(x *otpExchange, r otp.Response) error
	wrong  func(x *otpExchange) error
	breaks func(ctx context.Context, x *otpExchange)

	exchange *otpExchange // nil: it has not begun
	over     bool
}

// otpExchange is one that has begun.
type otpExchange struct {
	attempt  *attempt
	of       store.OTPExchange
	params   otp.Params // that are asked for
	identity string     // as whom
}

func startOTP(ctx context.Context, a *Authenticator, ch Channel, granted *Grant) sasl.Server {
	return &otpServer{
		begin: func(login string) (*otpExchange, error) { return a.beginOTP(ctx, ch, login) },
		answer: func(x *otpExchange, r otp.Response) (err error) {
			*granted, err = a.answerOTP(ctx, x, r)
			return err
		},
		wrong:  func(x *otpExchange) error { return a.refuseOTP(ctx, x) },
		breaks: func(ctx context.Context, x *otpExchange) { _ = a.refuseOTP(ctx, x) }, // nobody is there to be told
	}
}

// Next implements sasl.Server.
func (o *otpServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case o.over:
		return nil, false, errLonger
	case o.exchange == nil && response == nil:
		return []byte{}, false, nil
	case o.exchange == nil:
		const longest = 255 // octets of each (RFC 2444 section 4)
		identity, login, ok := bytes.Cut(response, []byte{0})
		if !ok || len(identity) > longest || len(login) > longest || !utf8.Valid(response) || bytes.IndexByte(login, 0) >= 0 {
			return nil, false, errors.New("want an identity and a login")
		}
		x, err := o.begin(string(login))
		if err != nil {
			o.over = true
			return nil, true, err
		}
		x.identity, o.exchange = string(identity), x
		return []byte(x.params.Challenge()), false, nil
	}
	r, err := otp.ParseResponse(response)
	switch {
	case errors.Is(err, otp.ErrPassword): // such as a word that is none: a slip, or a guess
		o.over = true
		return nil, true, o.wrong(o.exchange)
	case err != nil:
		return nil, false, err
	}
	o.over = true
	return nil, true, o.answer(o.exchange, r)
}

// Close implements closer.
func (o *otpServer) Close(ctx context.Context) {
	if o.exchange != nil && !o.over {
		o.over = true
		o.breaks(ctx, o.exchange)
	}
}

// beginOTP begins an exchange, where there is none of the login yet.
func (a *Authenticator) beginOTP(ctx context.Context, ch Channel, login string) (*otpExchange, error) {
	t, err := a.attempt(ctx, ch, login)
	if err != nil {
		return nil, err
	}
	decoy, err := a.nobodysOTP(ctx, cmp.Or(t.login, login)) // for everybody, so that it takes as long
	if err != nil {
		return nil, err
	}
	of, err := a.directory.BeginOTP(ctx, t.login)
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	if p := of.Password; p == nil || p.Sequence <= lastOTP || t.account.User.Account == 0 {
		of.Password = nil
		return &otpExchange{attempt: t, of: of, params: decoy}, nil
	}
	p := otp.Params{Algorithm: otp.Algorithm(of.Password.Algorithm), Sequence: of.Password.Sequence - 1, Seed: of.Password.Seed}
	return &otpExchange{attempt: t, of: of, params: p}, nil
}

// answerOTP lets in who has answered with the right one-time password. That is used up before anybody is let in, and also where nobody is: it has been shown, and
// would let in whoever saw it.
func (a *Authenticator) answerOTP(ctx context.Context, x *otpExchange, r otp.Response) (Grant, error) {
	t := x.attempt
	held, err := a.directory.EndOTP(ctx, x.of)
	if err != nil {
		return Grant{}, fmt.Errorf("login: %w", err)
	}
	blocked := t.allowed()
	was, hash := x.of.Password, x.params.Algorithm.Next(r.Password)
	right := was != nil && subtle.ConstantTimeCompare(hash[:], was.Last) == 1
	switch {
	case !right && blocked != nil:
		return Grant{}, blocked
	case !right:
		return Grant{}, t.refused(ctx, nil)
	}
	next := store.OneTimePassword{Algorithm: was.Algorithm, Sequence: x.params.Sequence, Seed: was.Seed, Last: r.Password[:]}
	var refusal error
	switch {
	case blocked != nil || !held: // it begins no other sequence either
	case r.Renews:
		if refusal = renewable(*was, r); refusal == nil {
			next = store.OneTimePassword{Algorithm: string(r.Params.Algorithm), Sequence: r.Params.Sequence, Seed: r.Params.Seed, Last: r.First[:]}
		}
	case x.params.Sequence == lastOTP:
		refusal = ErrOTPSpent
	}
	used, err := a.directory.UseOTP(ctx, t.account.User, *was, next)
	switch {
	case err != nil:
		return Grant{}, fmt.Errorf("login: %w", err)
	case blocked != nil:
		return Grant{}, blocked
	case !held, !used: // it came too late, or after somebody else
		return Grant{}, t.refused(ctx, nil)
	case refusal != nil:
		return Grant{}, refusal
	}
	t.succeeded()
	if left := OTPLeft(next); left < OTPFew {
		a.log.WarnContext(ctx, "few one-time passwords are left", "tenant", t.account.User.Tenant, "account", t.account.User.Account, "left", left)
	}
	g, err := admit(t.account)
	if err != nil {
		return Grant{}, err
	}
	return a.as(ctx, g, x.identity)
}

// refuseOTP ends an exchange that has come to nothing, and counts it.
func (a *Authenticator) refuseOTP(ctx context.Context, x *otpExchange) error {
	if _, err := a.directory.EndOTP(ctx, x.of); err != nil {
		a.log.WarnContext(ctx, "an exchange has not ended, and keeps others out for a minute", "err", err)
	}
	return x.attempt.refused(ctx, nil)
}

// renewable tells whether a response can begin another sequence: with another seed, since whether the pass phrase is another nobody can
// tell (RFC 2289 section 8), and of two passwords at least.
func renewable(was store.OneTimePassword, r otp.Response) error {
	switch {
	case r.Unclear != nil:
		return fmt.Errorf("%w: %w", ErrOTPRenewal, r.Unclear)
	case r.Params.Seed == was.Seed:
		return fmt.Errorf("%w: the seed is the same", ErrOTPRenewal)
	case r.Params.Sequence <= lastOTP:
		return fmt.Errorf("%w: its number is too low", ErrOTPRenewal)
	}
	return nil
}
