package imapd

import (
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"mailstead.dev/auth"
	"mailstead.dev/auth/otp"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// withOTP switches OTP on, and counts nothing of what fails here.
func withOTP(s *store.Store) func(*Options) {
	return func(o *Options) {
		o.Authenticator = auth.New(s, auth.Options{
			Mechanisms: []string{"PLAIN", "LOGIN", "OTP"},
			Attempts:   auth.AttemptLimits{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		})
	}
}

// giveOTP gives an account the one-time passwords of a pass phrase.
func giveOTP(t testing.TB, s *store.Store, login string, p otp.Params, phrase string) {
	t.Helper()
	l, err := s.LookupLogin(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	first := p.Password(phrase)
	kept := store.OneTimePassword{Algorithm: string(p.Algorithm), Sequence: p.Sequence, Seed: p.Seed, Last: first[:]}
	if err := s.SetOTP(t.Context(), l.User, kept); err != nil {
		t.Fatal(err)
	}
}

// otpAs logs in with a pass phrase and returns the answer.
func otpAs(c *client, login, phrase string) string {
	c.t.Helper()
	c.send("o AUTHENTICATE OTP " + base64.StdEncoding.EncodeToString([]byte("\x00"+login)))
	line := c.line()
	text, ok := strings.CutPrefix(line, "+ ")
	if !ok {
		return strings.TrimPrefix(line, "o ")
	}
	challenge, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		c.t.Fatal(err)
	}
	params, err := otp.ParseParams(strings.TrimSuffix(strings.TrimPrefix(string(challenge), "otp-"), " ext"))
	if err != nil {
		c.t.Fatalf("the challenge is %q: %v", challenge, err)
	}
	c.send(base64.StdEncoding.EncodeToString([]byte("word:" + params.Password(phrase).Words())))
	return strings.TrimPrefix(c.line(), "o ")
}

// Of many who answer with the right password at the same time, on two front ends, each is let in by one of their own: the sequence has gone down by as many as
// were let in, and the others were told that somebody else was there.
func TestOTPRace(t *testing.T) {
	const login, phrase = "a@otp.test", "This is a test."
	cluster := storetest.Config(t)
	s := storetest.Open(t, cluster)
	storetest.Account(t, s, login)
	giveOTP(t, s, login, otp.Params{Algorithm: otp.SHA1, Sequence: 100, Seed: "ke1234"}, phrase)
	connect := []func(testing.TB) *client{serveStore(t, s, withOTP(s))}
	second := storetest.Open(t, cluster)
	connect = append(connect, serveStore(t, second, withOTP(second)))
	var mu sync.Mutex
	var all sync.WaitGroup
	answers := make(map[string]int)
	for n := range 12 {
		c := connect[n%2](t)
		c.expect("* OK ...")
		all.Go(func() {
			for range 3 {
				answer := otpAs(c, login, phrase)
				kind := strings.Join(strings.Fields(answer)[:2], " ")
				mu.Lock()
				answers[kind]++
				mu.Unlock()
				if kind == "OK [CAPABILITY" {
					return
				}
			}
		})
	}
	all.Wait()
	l, err := s.LookupLogin(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	left, err := s.OTP(t.Context(), l.User)
	if err != nil {
		t.Fatal(err)
	}
	in := answers["OK [CAPABILITY"]
	delete(answers, "OK [CAPABILITY")
	delete(answers, "NO [INUSE]")
	delete(answers, "NO [AUTHENTICATIONFAILED]") // which had begun before the one who was let in had used theirs
	if in < 1 || left.Sequence != 100-in || len(answers) > 0 {
		t.Errorf("%d were let in, and the sequence is at %d; others were told %v", in, left.Sequence, answers)
	}
}

// Whoever goes away in the middle keeps nobody out.
func TestOTPGone(t *testing.T) {
	const login, phrase = "a@otp.test", "This is a test."
	s := storetest.New(t)
	storetest.Account(t, s, login)
	giveOTP(t, s, login, otp.Params{Algorithm: otp.MD5, Sequence: 100, Seed: "ke1234"}, phrase)
	connect := serveStore(t, s, withOTP(s))
	c := connect(t)
	c.expect("* OK ...")
	c.send("a AUTHENTICATE OTP " + base64.StdEncoding.EncodeToString([]byte("\x00"+login)))
	c.expect("+ ...")
	c.nc.Close()
	await(t, func() bool {
		c := connect(t)
		defer c.nc.Close()
		c.expect("* OK ...")
		return strings.HasPrefix(otpAs(c, login, phrase), "OK ")
	})
}

// What fails and what is broken off is counted, of who is there and of who is not, and then nobody there is asked any more.
func TestOTPGuessing(t *testing.T) {
	const from = "127.0.97.1"
	s := storetest.New(t)
	storetest.Account(t, s, "a@otp.test")
	giveOTP(t, s, "a@otp.test", otp.Params{Algorithm: otp.MD5, Sequence: 100, Seed: "ke1234"}, "This is a test.")
	o := testOptions(t)
	o.Store, o.Authenticator = s, auth.New(s, auth.Options{Mechanisms: []string{"OTP"}, Attempts: auth.AttemptLimits{Address: 4}})
	server := New(o)
	addr := listen(t, server, server.Serve)
	for n, login := range []string{"a@otp.test", "nobody@otp.test", "a@otp.test", "nobody@otp.test"} {
		c := dialFrom(t, from, addr)
		c.expect("* OK ...")
		if n < 2 {
			if got := otpAs(c, login, "What is wrong."); !strings.HasPrefix(got, "NO [AUTHENTICATIONFAILED]") {
				t.Errorf("%s: %s", login, got)
			}
			continue
		}
		c.send("a AUTHENTICATE OTP " + base64.StdEncoding.EncodeToString([]byte("\x00"+login)))
		c.expect("+ ...")
		c.send("*")
		c.expect("a BAD [CLIENTBUG] Authentication cancelled")
	}
	failed, err := s.FailedNames(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(failed, func(f store.FailedName) bool { return f.Name == "account:nobody@otp.test" && f.Failures == 2 }) {
		t.Errorf("counted are %+v", failed)
	}
	c := dialFrom(t, from, addr)
	c.expect("* OK ...")
	if got := otpAs(c, "a@otp.test", "This is a test."); !strings.HasPrefix(got, "NO [LIMIT] Too many failed logins") {
		t.Errorf("with the right one, after four failures: %s", got)
	}
}
