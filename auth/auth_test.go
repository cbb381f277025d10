package auth

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// logins is a directory of one moment.
type logins struct {
	mu       sync.Mutex
	accounts map[string]store.Login
	away     error
}

func (l *logins) LookupLogin(_ context.Context, login string) (store.Login, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away != nil {
		return store.Login{}, l.away
	}
	account, ok := l.accounts[strings.ToLower(login)]
	if !ok {
		return store.Login{}, store.ErrNotExist
	}
	return account, nil
}

func (l *logins) ActAs(_ context.Context, actor store.User, login string) (store.User, error) {
	if actor.Login != "a@one.test" {
		return store.User{}, store.ErrActAs
	}
	return store.User{Login: login, Actor: actor.Login}, nil
}

func (l *logins) set(t *testing.T, login, password string, disabled bool) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	account := store.Login{User: store.User{Tenant: 1, Account: id.Account(len(l.accounts) + 1), Login: login}, Disabled: disabled}
	if password != "" {
		account.Password = cheap(password)
	}
	if l.accounts == nil {
		l.accounts = make(map[string]store.Login)
	}
	l.accounts[login] = account
}

// cheap is Hash at a cost for tests.
func cheap(password string) string {
	h := hash{memory: 64, time: 1, threads: 1, salt: []byte(strings.Repeat("s", 16))}
	h.key = h.derive(prepare(password), keyLen)
	return h.String()
}

// Who acts as another has shown their own password before anything is said of the other.
func TestLoginAs(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "right", false)
	dir.set(t, "b@one.test", "right", false)
	a := newAuthenticator(&dir, Options{})
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
		u, err := a.LoginAs(t.Context(), test.identity, test.login, test.password)
		if !errors.Is(err, test.want) || u.Login != test.as {
			t.Errorf("%s as %q with %s: %q, %v; want %q, %v", test.login, test.identity, test.password, u.Login, err, test.as, test.want)
		}
	}
}

func TestLogin(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "right", false)
	dir.set(t, "off@one.test", "right", true)
	dir.set(t, "none@one.test", "", false)
	dir.set(t, "é@one.test", "caf\u00e9", false)
	a := newAuthenticator(&dir, Options{})
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
		user, err := a.Login(t.Context(), test.login, test.password)
		if !errors.Is(err, test.want) {
			t.Errorf("Login(%q, %q) = %v, want %v", test.login, test.password, err, test.want)
		}
		if err == nil && user.Login != strings.ToLower(test.login) || err != nil && user != (store.User{}) {
			t.Errorf("Login(%q, %q) = %v", test.login, test.password, user)
		}
	}
}

// A new password and a disabled account take effect at once, whatever is cached.
func TestLoginLooksAtTheAccount(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "old", false)
	a := newAuthenticator(&dir, Options{})
	login := func(password string, want error) {
		t.Helper()
		if _, err := a.Login(t.Context(), "a@one.test", password); !errors.Is(err, want) {
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
		key := v.key(store.Login{User: store.User{Login: "a@one.test"}, Password: "h"}, "p")
		v.add(key)
		time.Sleep(59 * time.Second)
		if !v.has(key) {
			t.Error("forgotten before its time")
		}
		time.Sleep(2 * time.Second)
		if v.has(key) {
			t.Error("remembered after its time")
		}
	})
}

func TestVerifiedIsBounded(t *testing.T) {
	v := newVerified(time.Hour, 100)
	for i := range 10_000 {
		v.add(v.key(store.Login{Password: "h"}, strings.Repeat("x", i%100)+string(rune(i))))
	}
	v.entries.CleanUp()
	if n := v.entries.EstimatedSize(); n > 100 {
		t.Errorf("%d entries, want at most 100", n)
	}
}

// A storm of logins never hashes more at once than there is memory for, and
// those who wait too long are told to come back.
func TestHashingIsBounded(t *testing.T) {
	a := newAuthenticator(&logins{}, Options{HashMemory: 2 * hashMemory << 10, MaxWait: 20 * time.Millisecond})
	for range 2 {
		if !a.hashing.TryAcquire(hashMemory) {
			t.Fatal("no room for two")
		}
	}
	var unavailable atomic.Int32
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if _, err := a.Login(t.Context(), "nobody@one.test", "x"); errors.Is(err, store.ErrUnavailable) {
				unavailable.Add(1)
			}
		})
	}
	wait.Wait()
	if n := unavailable.Load(); n != 20 {
		t.Errorf("%d of 20 were told to come back", n)
	}
	a.hashing.Release(2 * hashMemory)
	if _, err := a.Login(t.Context(), "nobody@one.test", "x"); !errors.Is(err, store.ErrAuth) {
		t.Errorf("after the storm: %v, want %v", err, store.ErrAuth)
	}
}

func TestHash(t *testing.T) {
	phc, err := Hash("secret")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("Hash = %q", phc)
	}
	h, err := parseHash(phc)
	if err != nil {
		t.Fatal(err)
	}
	if !h.matches("secret") || h.matches("Secret") {
		t.Error("the hash matches another password than its own")
	}
	if again, _ := Hash("secret"); again == phc {
		t.Error("two hashes of a password are alike")
	}
	if _, err := Hash(""); err == nil {
		t.Error("an empty password was hashed")
	}
}

// Made with the reference implementation's command line tool:
// argon2 somesalt -id -t 2 -k 65536 -p 1, password "password".
func TestHashOfOthers(t *testing.T) {
	h, err := parseHash("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	if err != nil {
		t.Fatal(err)
	}
	if !h.matches("password") {
		t.Error("does not match")
	}
}

func TestCheckHash(t *testing.T) {
	good := cheap("x")
	for _, phc := range []string{
		"", "x", "$", "$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "m=64", "m=4", 1),
		strings.Replace(good, "m=64", "m=4000000000", 1),
		strings.Replace(good, "t=1", "t=0", 1),
		strings.Replace(good, "t=1", "t=1000", 1),
		strings.Replace(good, "p=1", "p=0", 1),
		strings.Replace(good, "p=1", "p=1,x=1", 1),
		strings.Replace(good, "p=1", "p=1 ", 1),
		good + "=", good[:len(good)-30], good + "$",
	} {
		if CheckHash(phc) == nil {
			t.Errorf("CheckHash(%q) = nil", phc)
		}
	}
	if err := CheckHash(good); err != nil {
		t.Errorf("CheckHash(%q) = %v", good, err)
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add(cheap("x"))
	f.Fuzz(func(t *testing.T, phc string) {
		h, err := parseHash(phc)
		if err == nil && h.String() != phc {
			t.Errorf("parseHash(%q).String() = %q", phc, h.String())
		}
	})
}

func BenchmarkLoginVerified(b *testing.B) {
	dir := logins{accounts: map[string]store.Login{"a@one.test": {Password: cheap("p")}}}
	a := newAuthenticator(&dir, Options{})
	for b.Loop() {
		if _, err := a.Login(b.Context(), "a@one.test", "p"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	for b.Loop() {
		if _, err := Hash("password"); err != nil {
			b.Fatal(err)
		}
	}
}
