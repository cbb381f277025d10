package imapd

import (
	"encoding/base64"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailstead.dev/auth"
	"mailstead.dev/auth/otp"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

var (
	loginCount  = flag.Int("login.count", 20, "logins of TestLoginRate with remembered passwords; their rate is looked at where there are 1000")
	guesses     = flag.Int("login.guesses", 200, "passwords that TestGuessing tries")
	timingTries = flag.Int("login.tries", 3, "tries of each kind in TestLoginTiming and TestOTPTiming; their time is looked at where there are 100")
)

// Passwords that were right lately are not hashed again: logins of 200 users are ten times as many a second as those that are. Measured alone (make login-bench).
func TestLoginRate(t *testing.T) {
	const workers = 8
	users := min(200, *loginCount/10)
	secret, err := auth.NewSecret(store.Login{}, storetest.Password, auth.DefaultMechanisms)
	if err != nil {
		t.Fatal(err)
	}
	s := storetest.New(t)
	for n := range users {
		u := storetest.Account(t, s, fmt.Sprintf("user%d@rate.test", n))
		if err := s.SetPassword(t.Context(), u, secret); err != nil {
			t.Fatal(err)
		}
	}
	rate := func(logins int, cache time.Duration) float64 {
		connect := serveStore(t, s, func(o *Options) { o.Logger, o.Authenticator = nil, auth.New(s, auth.Options{CacheTTL: cache}) })
		next := atomic.Int64{}
		begin := time.Now()
		var working sync.WaitGroup
		for range workers {
			working.Go(func() {
				for n := next.Add(1); n <= int64(logins); n = next.Add(1) {
					c := connect(t)
					c.expect("* OK ...")
					c.send(fmt.Sprintf("a LOGIN user%d@rate.test %s", int(n)%users, storetest.Password))
					c.expect("a OK ...")
					c.nc.Close()
				}
			})
		}
		working.Wait()
		return float64(logins) / time.Since(begin).Seconds()
	}
	cached, hashed := rate(*loginCount, 0), rate(min(*loginCount, 2000), -1)
	t.Logf("%.0f logins a second, %.0f with every password hashed: %.1f times", cached, hashed, cached/hashed)
	if *loginCount >= 1000 && cached < 10*hashed {
		t.Errorf("%.1f times as many with remembered passwords, want 10", cached/hashed)
	}
}

// The time that a refusal takes does not tell whether the account is there: neither with a hash of ours, nor with a fast one of another system, nor with none. Measured alone (make login-timing).
func TestLoginTiming(t *testing.T) {
	s := storetest.New(t)
	ours, err := auth.NewSecret(store.Login{}, "right", auth.DefaultMechanisms)
	if err != nil {
		t.Fatal(err)
	}
	for login, secret := range map[string]string{"ours@time.test": ours, "ssha@time.test": "{SSHA}n0MgpE49UOlYSAptYLeZPpSboiVzYWx0eQ==", "none@time.test": ""} {
		u := storetest.Account(t, s, login)
		if err := s.SetPassword(t.Context(), u, secret); err != nil {
			t.Fatal(err)
		}
	}
	a := auth.New(s, auth.Options{Attempts: auth.AttemptLimits{Address: 1 << 30, Account: 1 << 30, Tenant: 1 << 30}})
	connect := serveStore(t, s, func(o *Options) {
		o.Logger, o.Authenticator, o.MaxLoginFailures, o.LoginTimeout = nil, a, 1<<30, time.Hour
	})
	c := connect(t)
	c.expect("* OK ...")
	comparesTime(t, []string{"nobody@time.test", "ours@time.test", "ssha@time.test", "none@time.test"}, func(login string, n int) {
		c.send(fmt.Sprintf("a LOGIN %s wrong%d", login, n))
		c.expect("a NO [AUTHENTICATIONFAILED] Wrong login or password")
	})
}

// The same of OTP: a login that does not exist, one that has no one-time passwords, and one that has.
func TestOTPTiming(t *testing.T) {
	s := storetest.New(t)
	for _, login := range []string{"none@time.test", "has@time.test"} {
		storetest.Account(t, s, login)
	}
	giveOTP(t, s, "has@time.test", otp.Params{Algorithm: otp.MD5, Sequence: auth.OTPSequence, Seed: "ke1234"}, "This is a test.")
	a := auth.New(s, auth.Options{Mechanisms: []string{"OTP"}, Attempts: auth.AttemptLimits{Address: 1 << 30, Account: 1 << 30, Tenant: 1 << 30}})
	connect := serveStore(t, s, func(o *Options) {
		o.Logger, o.Authenticator, o.MaxLoginFailures, o.LoginTimeout = nil, a, 1<<30, time.Hour
	})
	c := connect(t)
	c.expect("* OK ...")
	wrong := base64.StdEncoding.EncodeToString([]byte("hex:0123456789abcdef"))
	comparesTime(t, []string{"nobody@time.test", "none@time.test", "has@time.test"}, func(login string, _ int) {
		c.send("a AUTHENTICATE OTP " + base64.StdEncoding.EncodeToString([]byte("\x00"+login)))
		c.expect("+ ...")
		c.send(wrong)
		c.expect("a NO [AUTHENTICATIONFAILED] Wrong login or password")
	})
}

// comparesTime has logins refused in turn, and compares how long that takes of each with the first.
func comparesTime(t *testing.T, logins []string, refuse func(login string, n int)) {
	t.Helper()
	took := make(map[string][]time.Duration)
	for n := range *timingTries {
		// In no order: memory is collected at every second hash about, and that must not be the same login's each time.
		for _, i := range rand.Perm(len(logins)) {
			begin := time.Now()
			refuse(logins[i], n)
			took[logins[i]] = append(took[logins[i]], time.Since(begin))
		}
	}
	median := func(login string) float64 {
		slices.Sort(took[login])
		return took[login][len(took[login])/2].Seconds()
	}
	for _, login := range logins {
		ratio := median(login) / median(logins[0])
		t.Logf("%s: %.2f ms, %.3f", login, median(login)*1000, ratio)
		if *timingTries >= 100 && (ratio < 0.95 || ratio > 1.05) {
			t.Errorf("a refusal of %s takes %.3f times as long as one of nobody", login, ratio)
		}
	}
}
