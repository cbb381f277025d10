package auth

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xdg-go/scram"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// logins is a directory of one moment.
type logins struct {
	mu       sync.Mutex
	accounts map[string]store.Login
	away     error
	used     []id.AppPassword
	revoked  []store.Revocation
	issuers  []store.Issuer
	failed   []store.FailedLogin
	upgrades int
	attempts store.Attempts // that are told of whoever comes
	known    []store.KnownAddress

	directory string // of the tenant
	counts    bool   // what has failed is told of the address

	otp       map[string]store.OneTimePassword
	exchanges map[string]bool // of logins, under way
}

func (l *logins) LookupLoginFrom(_ context.Context, login string, _ netip.Addr) (store.Login, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away != nil {
		return store.Login{}, l.away
	}
	account, ok := l.accounts[strings.ToLower(login)]
	if !ok {
		return store.Login{User: store.User{Tenant: 1}, Attempts: l.attempts, Directory: l.directory}, store.ErrNotExist
	}
	account.Attempts, account.Directory = l.attempts, l.directory
	if l.counts {
		account.Attempts.Address.Failures += len(l.failed)
	}
	return account, nil
}

func (l *logins) CreateAccount(_ context.Context, n store.NewAccount) (store.Account, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := id.Account(len(l.accounts) + 1)
	l.accounts[n.Login] = store.Login{User: store.User{Tenant: 1, Account: id, Login: n.Login}, Directory: l.directory, Standing: store.Standing{Tenant: 1, Account: id}}
	return store.Account{ID: id, Tenant: 1, Login: n.Login}, nil
}

func (l *logins) MeetGuest(_ context.Context, u store.User, home store.Home) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	account := l.accounts[u.Login]
	switch account.Home.Subject {
	case home.Subject:
		return nil
	case "":
		account.Home.Subject = home.Subject
		l.accounts[u.Login] = account
		return nil
	}
	return store.ErrOtherSubject
}

func (l *logins) LoginSecret(context.Context) ([]byte, error) { return []byte("secret"), nil }

func (l *logins) NoteFailedLogin(_ context.Context, f store.FailedLogin) ([]store.Block, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, f)
	return nil, l.away
}

func (l *logins) NoteKnownAddresses(_ context.Context, _ id.Tenant, all []store.KnownAddress) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = append(l.known, all...)
	return l.away
}

func (l *logins) ActAs(_ context.Context, actor store.User, login string) (store.User, store.Standing, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if actor.Login != "a@one.test" {
		return store.User{}, store.Standing{}, store.ErrActAs
	}
	return store.User{Login: login, Actor: actor.Login}, l.accounts[login].Standing, nil
}

func (l *logins) UpgradePassword(_ context.Context, u store.User, old, secret string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if account := l.accounts[u.Login]; account.Password == old {
		l.upgrades++
		account.Password = secret
		l.accounts[u.Login] = account
	}
	return nil
}

func (l *logins) UsedAppPassword(_ context.Context, _ store.User, p id.AppPassword) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = append(l.used, p)
	return nil
}

func (l *logins) Revocations(_ context.Context, since string) ([]store.Revocation, string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, _ := strconv.Atoi(since)
	return l.revoked[n:], strconv.Itoa(len(l.revoked)), l.away
}

func (l *logins) set(t *testing.T, login, password string, disabled bool) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	n := id.Account(len(l.accounts) + 1)
	account := store.Login{
		User: store.User{Tenant: 1, Account: n, Login: login}, Disabled: disabled, Standing: store.Standing{Tenant: 1, Account: n},
	}
	if password != "" {
		account.Password = cheap(password)
	}
	if l.accounts == nil {
		l.accounts = make(map[string]store.Login)
	}
	l.accounts[login] = account
}

// imapOverTLS is how all come in here.
var imapOverTLS = Channel{Protocol: IMAP, Private: true}

func (l *logins) Issuers(context.Context, id.Tenant) ([]store.Issuer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.issuers, nil
}

// cheap is Secret at a cost for tests.
func cheap(password string) string {
	h := argon2id{memory: 64, time: 1, threads: 1, salt: []byte(strings.Repeat("s", 16))}
	h.key = h.derive(newPassword(password), keyLen)
	words := h.String()
	for _, of := range scramHashes {
		v, err := newVerifier(of, scram.KeyFactors{Salt: "a salt of sixteen", Iters: 4096}, newPassword(password))
		if err != nil {
			panic(err) // of a password for tests
		}
		words += " " + v.String()
	}
	return words
}

// Who acts as another has shown their own password before anything is said of the other.
func TestLoginAs(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "right", false)
	dir.set(t, "b@one.test", "right", false)
	a := New(&dir, Options{})
	for _, test := range []struct {
		identity, login, password string
		want                      error
		as                        string
	}{
		{"", "a@one.test", "right", nil, "a@one.test"},
		{"b@one.test", "a@one.test", "right", nil, "b@one.test"},
		{"b@one.test", "a@one.test", "wrong", store.ErrAuth, ""},
		{"b@one.test", "nobody@one.test", "right", store.ErrAuth, ""},
		{"a@one.test", "b@one.test", "right", store.ErrActAs, ""},
		{"a@one.test", "b@one.test", "wrong", store.ErrAuth, ""},
	} {
		g, err := a.LoginAs(t.Context(), imapOverTLS, test.identity, test.login, test.password)
		if !errors.Is(err, test.want) || g.User.Login != test.as {
			t.Errorf("%s as %q with %s: %q, %v; want %q, %v", test.login, test.identity, test.password, g.User.Login, err, test.as, test.want)
		}
	}
}

func TestLogin(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "right", false)
	dir.set(t, "off@one.test", "right", true)
	dir.set(t, "none@one.test", "", false)
	dir.set(t, "é@one.test", "caf\u00e9", false)
	a := New(&dir, Options{})
	for _, test := range []struct {
		login, password string
		want            error
	}{
		{"a@one.test", "right", nil},
		{"a@one.test", "right", nil}, // from the cache
		{"A@One.Test", "right", nil},
		{"a@one.test", "wrong", store.ErrAuth},
		{"a@one.test", "", store.ErrAuth},
		{"b@one.test", "right", store.ErrAuth},
		{"off@one.test", "right", store.ErrDisabled},
		{"off@one.test", "wrong", store.ErrAuth},
		{"none@one.test", "", store.ErrAuth},
		{"none@one.test", "right", store.ErrAuth},
		{"é@one.test", "cafe\u0301", nil}, // the same letters, composed differently
	} {
		g, err := a.Login(t.Context(), imapOverTLS, test.login, test.password)
		if !errors.Is(err, test.want) {
			t.Errorf("Login(%q, %q) = %v, want %v", test.login, test.password, err, test.want)
		}
		if err == nil && g.User.Login != strings.ToLower(test.login) || err != nil && g.User != (store.User{}) {
			t.Errorf("Login(%q, %q) = %v", test.login, test.password, g.User)
		}
	}
}

// A new password and a disabled account take effect at once, whatever is cached.
func TestLoginLooksAtTheAccount(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "old", false)
	a := New(&dir, Options{})
	login := func(password string, want error) {
		t.Helper()
		if _, err := a.Login(t.Context(), imapOverTLS, "a@one.test", password); !errors.Is(err, want) {
			t.Errorf("Login with %q: %v, want %v", password, err, want)
		}
	}
	login("old", nil)
	dir.set(t, "a@one.test", "new", false)
	login("old", store.ErrAuth)
	login("new", nil)
	dir.set(t, "a@one.test", "new", true)
	login("new", store.ErrDisabled)
	dir.away = store.ErrUnavailable
	login("new", store.ErrUnavailable)
}

func TestVerifiedExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerified(time.Minute, 10)
		defer v.entries.StopAllGoroutines()
		key := v.key("a@one.test", newPassword("p"), "h")
		v.add(key, "a@one.test")
		time.Sleep(59 * time.Second)
		if login, ok := v.get(key); !ok || login != "a@one.test" {
			t.Error("forgotten before its time")
		}
		time.Sleep(2 * time.Second)
		if _, ok := v.get(key); ok {
			t.Error("remembered after its time")
		}
	})
}

func TestVerifiedIsBounded(t *testing.T) {
	v := newVerified(time.Hour, 100)
	for i := range 10_000 {
		v.add(v.key("a@one.test", newPassword(strings.Repeat("x", i%100)+string(rune(i))), "h"), "a@one.test")
	}
	v.entries.CleanUp()
	if n := v.entries.EstimatedSize(); n > 100 {
		t.Errorf("%d entries, want at most 100", n)
	}
}

// A storm of logins never hashes more at once than there is memory for, and
// those who wait too long are told to come back.
func TestHashingIsBounded(t *testing.T) {
	a := New(&logins{}, Options{HashMemory: 2 * hashMemory << 10, MaxWait: 20 * time.Millisecond})
	for range 2 {
		if !a.hashing.TryAcquire(hashMemory) {
			t.Fatal("no room for two")
		}
	}
	var unavailable atomic.Int32
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if _, err := a.Login(t.Context(), imapOverTLS, "nobody@one.test", "x"); errors.Is(err, store.ErrUnavailable) {
				unavailable.Add(1)
			}
		})
	}
	wait.Wait()
	if n := unavailable.Load(); n != 20 {
		t.Errorf("%d of 20 were told to come back", n)
	}
	a.hashing.Release(2 * hashMemory)
	if _, err := a.Login(t.Context(), imapOverTLS, "nobody@one.test", "x"); !errors.Is(err, store.ErrAuth) {
		t.Errorf("after the storm: %v, want %v", err, store.ErrAuth)
	}
}

func BenchmarkLoginVerified(b *testing.B) {
	dir := logins{accounts: map[string]store.Login{"a@one.test": {Password: cheap("p")}}}
	a := New(&dir, Options{})
	for b.Loop() {
		if _, err := a.Login(b.Context(), imapOverTLS, "a@one.test", "p"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSecret(b *testing.B) {
	for b.Loop() {
		if _, err := NewSecret(store.Login{}, "password", nil); err != nil {
			b.Fatal(err)
		}
	}
}

func (l *logins) BeginOTP(_ context.Context, login string) (store.OTPExchange, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away != nil {
		return store.OTPExchange{}, l.away
	}
	if _, busy := l.exchanges[login]; busy {
		return store.OTPExchange{}, store.ErrOTPExchange
	}
	if l.exchanges == nil {
		l.exchanges = make(map[string]bool)
	}
	l.exchanges[login] = true
	x := store.OTPExchange{Login: login}
	if p, ok := l.otp[login]; ok {
		x.Password = &p
	}
	return x, nil
}

func (l *logins) EndOTP(_ context.Context, x store.OTPExchange) (held bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held = l.exchanges[x.Login]
	delete(l.exchanges, x.Login)
	return held, l.away
}

func (l *logins) UseOTP(_ context.Context, u store.User, was, next store.OneTimePassword) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.otp[u.Login]; p.Sequence != was.Sequence || p.Seed != was.Seed || string(p.Last) != string(was.Last) {
		return false, l.away
	}
	l.otp[u.Login] = next
	return true, l.away
}
