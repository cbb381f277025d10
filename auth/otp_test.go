package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailstead.dev/auth/otp"
	"mailstead.dev/store"
)

const phrase = "This is a test."

var somewhere = netip.MustParseAddr("192.0.2.7")

// withOTP gives an account one-time passwords, as RFC 2444 section 5 has them.
func (l *logins) withOTP(login string, sequence int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.otp == nil {
		l.otp = make(map[string]store.OneTimePassword)
	}
	l.otp[login] = keptOTP(otp.Params{Algorithm: otp.MD5, Sequence: sequence, Seed: "ke1234"}, phrase)
}

// otpClient answers the challenge with what answer makes of the right password.
func otpClient(t *testing.T, first string, answer func(asked otp.Params, right otp.Password) string) func([]byte) ([]byte, error) {
	t.Helper()
	began := false
	return func(challenge []byte) ([]byte, error) {
		if !began {
			began = true
			return []byte(first), nil
		}
		text, ok := strings.CutSuffix(strings.TrimPrefix(string(challenge), "otp-"), " ext")
		params, err := otp.ParseParams(text)
		if !ok || err != nil {
			t.Errorf("the challenge is %q: %v", challenge, err)
		}
		return []byte(answer(params, params.Password(phrase))), nil
	}
}

func hexOTP(_ otp.Params, right otp.Password) string { return "hex:" + right.String() }

func renewal(p otp.Params) string {
	return ":" + strings.TrimSuffix(strings.TrimPrefix(p.Challenge(), "otp-"), " ext") + ":" + p.Password(phrase).String()
}

func TestOTP(t *testing.T) {
	again := otp.Params{Algorithm: otp.SHA1, Sequence: 100, Seed: "ke1235"}
	initHex := func(_ otp.Params, right otp.Password) string { return "init-hex:" + right.String() + renewal(again) }
	same := func(asked otp.Params, right otp.Password) string {
		return "init-hex:" + right.String() + renewal(otp.Params{Algorithm: otp.MD5, Sequence: 100, Seed: asked.Seed})
	}
	nothing := func(_ otp.Params, right otp.Password) string { return "init-hex:" + right.String() + ":md4 1 x:" }
	low := func(_ otp.Params, right otp.Password) string {
		return "init-hex:" + right.String() + renewal(otp.Params{Algorithm: otp.MD5, Sequence: 1, Seed: "ke1235"})
	}
	words := func(_ otp.Params, right otp.Password) string { return "word:" + right.Words() }
	wrong := func(otp.Params, otp.Password) string { return "hex:0123456789abcdef" }
	slip := func(_ otp.Params, right otp.Password) string { return "word:" + right.Words() + "X" }
	plain := func(_ otp.Params, right otp.Password) string { return right.String() }
	const user, admin = "\x00b@one.test", "b@one.test\x00a@one.test"
	for _, test := range []struct {
		name     string
		sequence int
		first    string
		answer   func(otp.Params, otp.Password) string
		want     error
		as       string
		left     int // the sequence number after it
		failed   int
	}{
		{"hex", 500, user, hexOTP, nil, "b@one.test", 499, 0},
		{"words", 500, user, words, nil, "b@one.test", 499, 0},
		{"another case", 500, "\x00B@ONE.test", hexOTP, nil, "b@one.test", 499, 0},
		{"as another", 500, admin, hexOTP, nil, "b@one.test", 499, 0},
		{"as another who may not", 500, "a@one.test\x00b@one.test", hexOTP, store.ErrActAs, "", 499, 0}, // and it is used up
		{"wrong", 500, user, wrong, store.ErrAuth, "", 500, 1},
		{"a slip", 500, user, slip, store.ErrAuth, "", 500, 1},
		{"not extended", 500, user, plain, ErrMalformed, "", 500, 1},
		{"another", 500, user, initHex, nil, "b@one.test", 100, 0},
		{"another of the same seed", 500, user, same, ErrOTPRenewal, "", 499, 0},
		{"another that is none", 500, user, nothing, ErrOTPRenewal, "", 499, 0},
		{"another that ends at once", 500, user, low, ErrOTPRenewal, "", 499, 0},
		{"the last but one", 3, user, hexOTP, nil, "b@one.test", 2, 0},
		{"the last", 2, user, hexOTP, ErrOTPSpent, "", 1, 0}, // and it is used up
		{"another by the last", 2, user, initHex, nil, "b@one.test", 100, 0},
		{"another by the last that is none", 2, user, nothing, ErrOTPRenewal, "", 1, 0},
		{"none is left", 1, user, hexOTP, store.ErrAuth, "", 1, 1},
		{"nobody", 500, "\x00nobody@one.test", hexOTP, store.ErrAuth, "", 500, 1},
		{"no login", 500, "\x00@", hexOTP, store.ErrAuth, "", 500, 1},
		{"disabled", 500, "\x00off@one.test", hexOTP, store.ErrDisabled, "", 499, 0},
		{"two NULs", 500, "\x00b@one.test\x00", hexOTP, ErrMalformed, "", 500, 0},
		{"no NUL", 500, "b@one.test", hexOTP, ErrMalformed, "", 500, 0},
		{"too long", 500, "\x00" + strings.Repeat("b", 256), hexOTP, ErrMalformed, "", 500, 0},
		{"no UTF-8", 500, "\x00\xff", hexOTP, ErrMalformed, "", 500, 0},
	} {
		var dir logins
		for _, login := range []string{"a@one.test", "b@one.test"} {
			dir.set(t, login, "right", false)
			dir.withOTP(login, test.sequence)
		}
		dir.set(t, "off@one.test", "right", true)
		dir.withOTP("off@one.test", test.sequence)
		a := New(&dir, all)
		ch := imapOverTLS
		ch.From = somewhere
		x, err := a.Begin(t.Context(), ch, "OTP")
		if err != nil {
			t.Fatal(err)
		}
		client := otpClient(t, test.first, test.answer)
		challenge, done := []byte(nil), false
		for !done && err == nil {
			var response []byte
			if response, err = client(challenge); err == nil {
				challenge, done, err = x.Next(response)
			}
		}
		x.Close(t.Context())
		if g := x.Grant(); !errors.Is(err, test.want) || g.User.Login != test.as {
			t.Errorf("%s: %+v, %v; want %q, %v", test.name, g.User, err, test.as, test.want)
		}
		got := test.sequence // of the one that has changed
		for _, p := range dir.otp {
			if p.Sequence != test.sequence {
				got = p.Sequence
			}
		}
		if got != test.left || len(dir.failed) != test.failed {
			t.Errorf("%s: the sequence is at %d, and %d are counted; want %d, %d", test.name, got, len(dir.failed), test.left, test.failed)
		}
		if len(dir.exchanges) > 0 {
			t.Errorf("%s: it has not ended: %v", test.name, dir.exchanges)
		}
		if errors.Is(test.want, ErrOTPSpent) { // whoever has seen it begins no sequence with it
			if _, err := exchange(t, a, ch, "OTP", saying(test.first, initHex(otp.Params{}, otp.Params{Algorithm: otp.MD5, Sequence: 1, Seed: "ke1234"}.Password(phrase)))); !errors.Is(err, store.ErrAuth) || dir.otp["b@one.test"].Sequence != 1 {
				t.Errorf("%s, to begin another: %v", test.name, err)
			}
		}
		if test.want == nil {
			if _, err := exchange(t, a, ch, "OTP", saying(test.first, test.answer(otp.Params{}, otp.Params{Algorithm: otp.MD5, Sequence: test.sequence - 1, Seed: "ke1234"}.Password(phrase)))); !errors.Is(err, store.ErrAuth) {
				t.Errorf("%s, again: %v", test.name, err)
			}
		}
	}
}

// While one exchange is under way there is no other of the login, whether or not that exists; one that is broken off ends, and counts.
func TestOTPAtOnce(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "right", false)
	dir.withOTP("a@one.test", 500)
	a := New(&dir, all)
	ch := imapOverTLS
	ch.From = somewhere
	begin := func(login string) (*Exchange, string, error) {
		t.Helper()
		x, err := a.Begin(t.Context(), ch, "OTP")
		if err != nil {
			t.Fatal(err)
		}
		challenge, _, err := x.Next([]byte("\x00" + login))
		return x, string(challenge), err
	}
	for _, login := range []string{"a@one.test", "nobody@one.test"} {
		dir.failed = nil
		first, asked, err := begin(login)
		if err != nil {
			t.Fatal(err)
		}
		second, _, err := begin(login)
		if !errors.Is(err, store.ErrOTPExchange) {
			t.Errorf("%s, a second exchange: %v", login, err)
		}
		second.Close(t.Context())
		if _, _, err := begin(login); !errors.Is(err, store.ErrOTPExchange) || len(dir.failed) != 0 {
			t.Errorf("%s, a third exchange: %v, %d are counted", login, err, len(dir.failed))
		}
		first.Close(t.Context())
		first.Close(t.Context())
		again, asks, err := begin(login)
		if err != nil || asks != asked || len(dir.failed) != 1 {
			t.Errorf("%s, after it was broken off: %q, %v, %d are counted; want %q, and one", login, asks, err, len(dir.failed), asked)
		}
		delete(dir.exchanges, login) // as one that took too long
		if _, _, err := again.Next([]byte("hex:" + otp.Params{Algorithm: otp.MD5, Sequence: 499, Seed: "ke1234"}.Password(phrase).String())); !errors.Is(err, store.ErrAuth) {
			t.Errorf("%s, an answer that came too late: %v", login, err)
		}
	}
	if got := dir.otp["a@one.test"].Sequence; got != 499 {
		t.Errorf("the sequence is at %d: what came too late was shown, and is not used up", got)
	}
	dir.away = store.ErrUnavailable
	if _, _, err := begin("a@one.test"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("with the database away: %v", err)
	}
}

// The right one is used up also where its address has failed too often meanwhile, and begins no other sequence.
func TestOTPBlocked(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "right", false)
	dir.withOTP("a@one.test", 500)
	o := all
	o.Attempts.Address = 2
	a := New(&dir, o)
	ch := imapOverTLS
	ch.From = somewhere
	x, err := a.Begin(t.Context(), ch, "OTP")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := x.Next([]byte("\x00a@one.test")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := a.Login(t.Context(), ch, "nobody@one.test", "wrong"); !errors.Is(err, store.ErrAuth) {
			t.Fatal(err)
		}
	}
	right := otp.Params{Algorithm: otp.MD5, Sequence: 499, Seed: "ke1234"}.Password(phrase)
	if _, _, err := x.Next([]byte("init-hex:" + right.String() + renewal(otp.Params{Algorithm: otp.SHA1, Sequence: 100, Seed: "ke1235"}))); !errors.Is(err, ErrBlocked) {
		t.Errorf("with the right one: %v", err)
	}
	if got := dir.otp["a@one.test"]; got.Sequence != 499 || got.Seed != "ke1234" {
		t.Errorf("after it the sequence is %+v", got)
	}
}

// An exchange that is broken off ends in bounded time, also where the database does not answer.
func TestOTPClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := stuck{logins: new(logins)}
		a := New(dir, all)
		x, err := a.Begin(t.Context(), imapOverTLS, "OTP")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := x.Next([]byte("\x00a@one.test")); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		x.Close(context.Background()) // which waits for ever
		if took := time.Since(began); took != closeTime {
			t.Errorf("it took %v", took)
		}
	})
}

// stuck are logins of a database that does not answer whoever ends an exchange.
type stuck struct{ *logins }

func (s stuck) EndOTP(ctx context.Context, _ store.OTPExchange) (bool, error) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Hour):
	}
	return false, ctx.Err()
}

// What a login is asked that does not exist looks as if it did, and is the same each time, but not in another deployment.
func TestOTPOfNobody(t *testing.T) {
	var told []string
	for _, decoy := range []string{"x", "x", "y"} {
		a := New(&logins{}, all)
		a.decoy = []byte(decoy)
		x, err := a.Begin(t.Context(), imapOverTLS, "OTP")
		if err != nil {
			t.Fatal(err)
		}
		challenge, _, err := x.Next([]byte("\x00a@one.test"))
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, string(challenge))
	}
	p, err := NewOTP(otp.MD5, OTPSequence, phrase)
	if err != nil {
		t.Fatal(err)
	}
	if like := (otp.Params{Algorithm: otp.MD5, Sequence: p.Sequence - 1, Seed: p.Seed}).Challenge(); told[0] != told[1] || told[1] == told[2] || len(like) != len(told[0]) {
		t.Errorf("told are %q, and of somebody %q", told, like)
	}
}

// When few are left it is said in the log, with each login.
func TestOTPFew(t *testing.T) {
	for sequence, want := range map[int]bool{13: false, 12: true, 3: true} { // before the login
		var dir logins
		dir.set(t, "a@one.test", "right", false)
		dir.withOTP("a@one.test", sequence)
		var log strings.Builder
		o := all
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		if _, err := exchange(t, New(&dir, o), imapOverTLS, "OTP", otpClient(t, "\x00a@one.test", hexOTP)); err != nil {
			t.Fatal(err)
		}
		if warned := strings.Contains(log.String(), fmt.Sprintf("few one-time passwords are left\" tenant=1 account=1 left=%d", sequence-3)); warned != want {
			t.Errorf("from %d: %s", sequence, log.String())
		}
	}
}

func TestNewOTP(t *testing.T) {
	one, err := NewOTP(otp.SHA1, 30, phrase)
	if err != nil || one.Sequence != 30 || one.Algorithm != "sha1" || OTPLeft(one) != 28 {
		t.Errorf("NewOTP = %+v, %v", one, err)
	}
	if two, err := NewOTP(otp.SHA1, 30, phrase); err != nil || two.Seed == one.Seed {
		t.Errorf("two seeds are %s and %s, %v", one.Seed, two.Seed, err)
	}
	for _, wrong := range []struct {
		sequence int
		phrase   string
	}{{1, phrase}, {10000, phrase}, {500, "Too_short"}, {500, strings.Repeat("x", maxPassword+1)}} {
		if p, err := NewOTP(otp.MD5, wrong.sequence, wrong.phrase); err == nil {
			t.Errorf("NewOTP(%d, %.20q) = %+v", wrong.sequence, wrong.phrase, p)
		}
	}
}
