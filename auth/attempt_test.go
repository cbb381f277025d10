package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailstead.dev/store"
)

// from is how somebody comes in from an address.
func from(address string) Channel {
	return Channel{Protocol: IMAP, Private: true, From: netip.MustParseAddr(address)}
}

// Who is kept out is so whatever they send, and whether or not the account is there.
func TestKeptOut(t *testing.T) {
	failed, blocked := func(n int) store.Attempt { return store.Attempt{Failures: n} }, store.Attempt{Blocked: 60}
	for _, test := range []struct {
		name     string
		attempts store.Attempts
		known    bool
		kept     bool
	}{
		{"nothing has failed", store.Attempts{}, false, false},
		{"a few have", store.Attempts{Address: failed(4)}, false, false},
		{"too many of the address", store.Attempts{Address: failed(5)}, false, true},
		{"the address is blocked", store.Attempts{Address: blocked}, false, true},
		{"the address is blocked, and known", store.Attempts{Address: blocked}, true, false},
		{"too many of the account from a known address", store.Attempts{Known: failed(5)}, true, true},
		{"of the account from a known address, blocked", store.Attempts{Known: blocked}, true, true},
		{"the account is guarded", store.Attempts{Account: blocked}, false, false},
		{"the account is guarded, and a few of the address", store.Attempts{Account: failed(9), Address: failed(2)}, false, false},
		{"the account is guarded, and more of the address", store.Attempts{Account: failed(9), Address: failed(3)}, false, true},
		{"the account is guarded, from a known address", store.Attempts{Account: blocked, Address: failed(3)}, true, false},
		{"the tenant is guarded, and more of the address", store.Attempts{Tenant: blocked, Address: failed(3)}, false, true},
		{"the tenant is nearly guarded, and more of the address", store.Attempts{Tenant: failed(99), Address: failed(3)}, false, false},
	} {
		dir := logins{attempts: test.attempts}
		dir.set(t, "a@one.test", "right", false)
		if test.known {
			account := dir.accounts["a@one.test"]
			account.Known = time.Now().Add(-time.Hour)
			dir.accounts["a@one.test"] = account
		}
		o := all
		o.Attempts = AttemptLimits{Address: 5, Account: 9, Tenant: 100, Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/25")}}
		a := New(&dir, o)
		h := scramHashes[0]
		tries := map[string]func(ch Channel, login string) error{
			"LOGIN": func(ch Channel, login string) error { _, err := a.Login(t.Context(), ch, login, "right"); return err },
			"SCRAM": func(ch Channel, login string) error {
				_, err := exchange(t, a, ch, h.name, scramClient(t, h, "", login, "right", unbound))
				return err
			},
		}
		for name, try := range tries {
			for login, want := range map[string]error{"a@one.test": nil, "nobody@one.test": store.ErrAuth} {
				if test.known && want != nil {
					continue
				}
				if test.kept {
					want = ErrBlocked
				}
				if err := try(from("192.0.2.200"), login); !errors.Is(err, want) {
					t.Errorf("%s, %s as %s: %v, want %v", test.name, name, login, err, want)
				}
			}
			if err := try(from("192.0.2.7"), "a@one.test"); err != nil {
				t.Errorf("%s, %s from a network that is trusted: %v", test.name, name, err)
			}
		}
	}
}

// Guesses that come at the same time are not all tried because none had failed when they came.
func TestGuessesAtOnce(t *testing.T) {
	dir := logins{counts: true}
	dir.set(t, "a@one.test", "right", false)
	for _, name := range []string{"LOGIN", "SCRAM"} {
		o := all
		o.Attempts = AttemptLimits{Address: 10}
		a := New(&dir, o)
		var wait, ready sync.WaitGroup
		start := make(chan struct{})
		ready.Add(200)
		for n := range 200 {
			wait.Go(func() {
				if name == "LOGIN" {
					ready.Done()
					<-start
					a.Login(t.Context(), from("192.0.2.1"), "a@one.test", fmt.Sprint(n))
					return
				}
				x, err := a.Begin(t.Context(), from("192.0.2.1"), "SCRAM-SHA-256")
				if err != nil {
					t.Error(err)
				}
				x.Next([]byte("n,,n=a@one.test,r=abc"))
				ready.Done()
				<-start
				x.Next([]byte("c=biws,r=abc,p=AAAA"))
			})
		}
		ready.Wait()
		close(start)
		wait.Wait()
		if f := a.Failures(); f.Failed < 10 || f.Failed > 30 || f.Failed+f.Kept != 200 {
			t.Errorf("%s: %+v", name, f)
		}
		dir.failed = nil
	}
}

// What fails is counted once each, with what tells whether it is the same again; what cannot be guessed is not.
func TestFailuresAreCounted(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "right", false)
	a := New(&dir, all)
	ch := from("2001:db8::1")
	for _, password := range []string{"wrong", "wrong", "other"} {
		if _, err := a.Login(t.Context(), ch, "A@one.test", password); !errors.Is(err, store.ErrAuth) {
			t.Error(err)
		}
	}
	a.Login(t.Context(), ch, "nobody@one.test", "wrong")
	a.Login(t.Context(), ch, "no address", "wrong")
	exchange(t, a, ch, "SCRAM-SHA-256", scramClient(t, scramHashes[0], "", "a@one.test", "wrong", unbound))
	exchange(t, a, ch, "CRAM-MD5", func(challenge []byte) ([]byte, error) {
		if challenge == nil {
			return nil, nil
		}
		return []byte("a@one.test 00112233445566778899aabbccddeeff"), nil
	})
	exchange(t, a, ch, "XOAUTH2", saying("user=\x01auth=Bearer x.y.z\x01\x01", ""))
	var got []string
	for _, f := range dir.failed {
		if f.From != ch.From || f.Known || f.Limits.Address != 20 || f.Login != "" && f.Tenant != 1 {
			t.Errorf("%+v", f)
		}
		got = append(got, fmt.Sprintf("%s %t", f.Login, f.Guess != nil))
	}
	if want := []string{"a@one.test true", "a@one.test true", "a@one.test true", "nobody@one.test true", " true", "a@one.test false", "a@one.test false"}; !slices.Equal(got, want) {
		t.Errorf("counted: %q\nwant %q", got, want)
	}
	if *dir.failed[0].Guess != *dir.failed[1].Guess || *dir.failed[0].Guess == *dir.failed[2].Guess {
		t.Error("the same password again is not known as such")
	}
}

// blocking is a store in which each failure begins all blocks that it can.
type blocking struct{ *logins }

func (b blocking) NoteFailedLogin(_ context.Context, f store.FailedLogin) ([]store.Block, error) {
	from := store.Origin(f.From).String()
	all := []store.Block{{Name: "address:" + from}, {Name: "account:" + f.Login}, {Name: "known:" + from + " " + f.Login}, {Name: "tenant:one"}}
	if !f.Known {
		all = slices.Delete(all, 2, 3)
	}
	return all, nil
}

// The log tells blocks by the numbers of whom they are of, and of a login without an account only its tenant.
func TestBlocksInTheLog(t *testing.T) {
	for _, test := range []struct {
		login string
		known bool
		want  string
	}{
		{"a@one.test", false, "of=address remote=2001:db8::/64|of=account tenant=1 account=7|of=tenant tenant=1"},
		{"a@one.test", true, "of=address remote=2001:db8::/64|of=account tenant=1 account=7|of=known tenant=1 account=7 remote=2001:db8::/64|of=tenant tenant=1"},
		{"nobody@one.test", false, "of=address remote=2001:db8::/64|of=account tenant=1|of=tenant tenant=1"},
	} {
		dir := blocking{&logins{}}
		dir.set(t, "a@one.test", "right", false)
		account := dir.accounts["a@one.test"]
		account.User.Tenant, account.User.Account = 1, 7
		if test.known {
			account.Known = time.Now().Add(-time.Hour)
		}
		dir.accounts["a@one.test"] = account
		var log bytes.Buffer
		a := New(dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if _, err := a.Login(t.Context(), from("2001:db8::1"), test.login, "wrong"); !errors.Is(err, store.ErrAuth) {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(log.String()) {
			_, said, _ := strings.Cut(line, `msg="too many failed logins" `)
			said, _, _ = strings.Cut(said, " until=")
			got = append(got, said)
		}
		if got := strings.Join(got, "|"); got != test.want {
			t.Errorf("%s, known %t:\n%s\nwant %s", test.login, test.known, &log, test.want)
		}
	}
}

// From where an account is used is noted behind the login, and not each time.
func TestKnownAddresses(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "right", false)
	a := New(&dir, Options{})
	login := func(password string) {
		t.Helper()
		for range 2 {
			a.Login(t.Context(), from("192.0.2.1"), "a@one.test", password)
		}
		if err := a.noteKnown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	login("wrong")
	if len(dir.known) != 0 {
		t.Errorf("a wrong password has made it known: %v", dir.known)
	}
	login("right")
	if len(dir.known) != 1 || dir.known[0] != (store.KnownAddress{Account: 1, From: netip.MustParseAddr("192.0.2.1")}) {
		t.Errorf("known: %v", dir.known)
	}
	account := dir.accounts["a@one.test"]
	account.Known = time.Now().Add(-time.Hour)
	dir.accounts["a@one.test"] = account
	login("right")
	if len(dir.known) != 1 {
		t.Errorf("noted again: %v", dir.known)
	}
}
