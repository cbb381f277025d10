package auth

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailstead.dev/store"
)

// watched runs Watch beside a test of what it does.
func watched(t *testing.T, a *Authenticator) {
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Watch(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRevocationsEndSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dir logins
		for _, login := range []string{"a@one.test", "b@one.test", "c@one.test"} {
			dir.set(t, login, "right", false)
		}
		a := New(&dir, Options{})
		defer a.verified.entries.StopAllGoroutines()
		defer a.taken.entries.StopAllGoroutines()
		watched(t, a)
		hold := func(identity, login string) *atomic.Bool {
			t.Helper()
			g, err := a.LoginAs(t.Context(), imapOverTLS, identity, login, "right")
			if err != nil {
				t.Fatal(err)
			}
			ended := new(atomic.Bool)
			release, ok := a.Hold(g, func() { ended.Store(true) })
			if !ok {
				t.Fatal("not held")
			}
			t.Cleanup(release)
			return ended
		}
		sessions := map[string]*atomic.Bool{
			"a": hold("", "a@one.test"), "b": hold("", "b@one.test"), "b, a acting": hold("b@one.test", "a@one.test"), "c": hold("", "c@one.test"),
		}
		late, err := a.Login(t.Context(), imapOverTLS, "a@one.test", "right")
		if err != nil {
			t.Fatal(err)
		}
		revoke := func(r store.Revocation, ends ...string) {
			t.Helper()
			dir.mu.Lock()
			dir.revoked = append(dir.revoked, r)
			dir.mu.Unlock()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			for _, name := range ends {
				if !sessions[name].Load() {
					t.Errorf("%+v does not end the session of %s", r, name)
				}
				delete(sessions, name)
			}
			for name, ended := range sessions {
				if ended.Load() {
					t.Errorf("%+v ends the session of %s", r, name)
				}
			}
		}
		revoke(store.Revocation{ID: 1, Tenant: 2, Account: 1})
		revoke(store.Revocation{ID: 2, Tenant: 1, Account: 3, AppPassword: 7})
		revoke(store.Revocation{ID: 3, Tenant: 1, Account: 1}, "a", "b, a acting")
		if _, ok := a.Hold(late, nil); ok {
			t.Error("a session has begun with what was revoked before it")
		}
		revoke(store.Revocation{ID: 4, Tenant: 1}, "b", "c")
		for len(a.sessions.recent) > 0 { // which go when there is something new
			revoke(store.Revocation{ID: 5, Tenant: 9, Account: 9})
			time.Sleep(2 * rememberRevocations)
			a.sessions.revoke(nil, time.Now())
		}
	})
}

// A session of an app password ends when that does, whether or not the database is there.
func TestExpiryEndsSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(&logins{away: errors.New("away")}, Options{})
		defer a.verified.entries.StopAllGoroutines()
		defer a.taken.entries.StopAllGoroutines()
		watched(t, a)
		var ended atomic.Int32
		for _, n := range []time.Duration{time.Minute, time.Hour} {
			release, ok := a.Hold(Grant{until: time.Now().Add(n), rests: []store.Standing{{Tenant: 1, Account: 1}}}, func() { ended.Add(1) })
			if !ok {
				t.Fatal("not held")
			}
			defer release()
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if n := ended.Load(); n != 1 {
			t.Errorf("%d sessions ended, want 1", n)
		}
	})
}
