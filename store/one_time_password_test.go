package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

func oneTime(sequence int, last string) store.OneTimePassword {
	return store.OneTimePassword{Algorithm: "md5", Sequence: sequence, Seed: "ke1234", Last: []byte(last)}
}

func TestOneTimePasswords(t *testing.T) {
	ctx := t.Context()
	s := storetest.New(t)
	u, other := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "a@two.test")
	_, since, err := s.Revocations(ctx, "0")
	if err != nil {
		t.Fatal(err)
	}
	ended := func() bool {
		t.Helper()
		revoked, next, err := s.Revocations(ctx, since)
		if err != nil {
			t.Fatal(err)
		}
		since = next
		ofOther, ofUser := false, false
		for _, r := range revoked {
			ofUser = ofUser || r.Account == u.Account
			ofOther = ofOther || r.Account == other.Account
		}
		if ofOther {
			t.Error("sessions of another end")
		}
		return ofUser
	}
	if _, err := s.OTP(ctx, u); !errors.Is(err, store.ErrNoOneTimePassword) {
		t.Errorf("none: %v", err)
	}
	if err := s.SetOTP(ctx, u, oneTime(500, "last0500")); err != nil || ended() {
		t.Errorf("the first: %v", err)
	}
	x, err := s.BeginOTP(ctx, u.Login)
	if err != nil || x.Password == nil || x.Password.Sequence != 500 || string(x.Password.Last) != "last0500" {
		t.Fatalf("BeginOTP = %+v, %v", x, err)
	}
	if of, err := s.BeginOTP(ctx, other.Login); err != nil || of.Password != nil {
		t.Errorf("BeginOTP of who has none = %+v, %v", of, err)
	}
	for name, u := range map[string]store.User{"another's": other, "none": {Tenant: u.Tenant, Account: 1 << 40}} {
		if used, err := s.UseOTP(ctx, u, *x.Password, oneTime(499, "last0499")); err != nil || used {
			t.Errorf("%s is used: %v, %v", name, used, err)
		}
	}
	for _, want := range []bool{true, false} {
		if used, err := s.UseOTP(ctx, u, *x.Password, oneTime(499, "last0499")); err != nil || used != want {
			t.Errorf("used: %v, %v; want %v", used, err, want)
		}
	}
	p, err := s.OTP(ctx, u)
	if err != nil || p.Sequence != 499 || !bytes.Equal(p.Last, []byte("last0499")) || time.Since(p.Set).Abs() > time.Minute || ended() {
		t.Errorf("OTP = %+v, %v", p, err)
	}
	if err := s.SetOTP(ctx, u, oneTime(100, "last0100")); err != nil || !ended() {
		t.Errorf("another: %v, or sessions go on", err)
	}
	for _, want := range []error{nil, store.ErrNoOneTimePassword} {
		if err := s.DeleteOTP(ctx, u); !errors.Is(err, want) || ended() != (want == nil) {
			t.Errorf("DeleteOTP: %v, want %v", err, want)
		}
	}
	gone := store.User{Tenant: u.Tenant, Account: 1 << 40}
	if err := s.SetOTP(ctx, gone, oneTime(2, "last0002")); !errors.Is(err, store.ErrNoAccount) {
		t.Errorf("of an account that is gone: %v", err)
	}
	if err := s.DeleteOTP(ctx, gone); !errors.Is(err, store.ErrNoAccount) {
		t.Errorf("deleted of an account that is gone: %v", err)
	}
}

// Of a login there is one exchange at a time, whether or not it exists, until that ends or a minute is over.
func TestOTPExchanges(t *testing.T) {
	ctx := t.Context()
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	u := storetest.Account(t, s, "a@one.test")
	if err := s.SetOTP(ctx, u, oneTime(500, "last0500")); err != nil {
		t.Fatal(err)
	}
	a := newAuditor(t, c)
	for _, login := range []string{u.Login, "nobody@one.test", ""} {
		x, err := s.BeginOTP(ctx, login)
		if err != nil || (x.Password != nil) != (login == u.Login) {
			t.Fatalf("%q: %+v, %v", login, x, err)
		}
		if _, err := s.BeginOTP(ctx, login); !errors.Is(err, store.ErrOTPExchange) {
			t.Errorf("%q, a second: %v", login, err)
		}
		if _, err := a.conn.Exec(ctx, `UPDATE otp_exchange SET until = now() - interval '1 second' WHERE login = $1`, login); err != nil {
			t.Fatal(err)
		}
		again, err := s.BeginOTP(ctx, login)
		if err != nil {
			t.Errorf("%q, after a minute: %v", login, err)
		}
		for _, test := range []struct {
			of   store.OTPExchange
			held bool
		}{{x, false}, {again, true}, {again, false}} {
			if held, err := s.EndOTP(ctx, test.of); err != nil || held != test.held {
				t.Errorf("%q ends: %v, %v; want %v", login, held, err, test.held)
			}
		}
		if late, err := s.BeginOTP(ctx, login); err != nil {
			t.Errorf("%q, after the end: %v", login, err)
		} else if _, err := a.conn.Exec(ctx, `UPDATE otp_exchange SET until = now() - interval '1 second'`); err != nil {
			t.Fatal(err)
		} else if held, err := s.EndOTP(ctx, late); err != nil || held {
			t.Errorf("%q ends too late: %v, %v", login, held, err)
		}
	}

	// What nobody has ended goes.
	if _, err := a.conn.Exec(ctx, `INSERT INTO otp_exchange SELECT 'a' || n, gen_random_uuid(), now() - interval '1 second' FROM generate_series(1, 100) n`); err != nil {
		t.Fatal(err)
	}
	for n := range 11 {
		if _, err := s.BeginOTP(ctx, fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
	}
	var n int
	if err := a.conn.QueryRow(ctx, `SELECT count(*) FROM otp_exchange`).Scan(&n); err != nil || n != 11 {
		t.Errorf("%d exchanges are kept, %v; want those that are under way", n, err)
	}
}

// Who waits for an exchange of one login holds none of another.
func TestOTPExchangesWait(t *testing.T) {
	ctx := t.Context()
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	a := newAuditor(t, c)
	if _, err := a.conn.Exec(ctx, `INSERT INTO otp_exchange SELECT login, gen_random_uuid(), now() - interval '1 second' FROM unnest(ARRAY['a', 'b']) login`); err != nil {
		t.Fatal(err)
	}
	tx, err := a.conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, `SELECT FROM otp_exchange WHERE login = 'a' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := s.BeginOTP(ctx, "a")
		waited <- err
	}()
	for waits := false; !waits; {
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_locks l WHERE NOT l.granted AND pg_backend_pid() = ANY (pg_blocking_pids(l.pid)))`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	soon, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if _, err := s.BeginOTP(soon, "b"); err != nil {
		t.Errorf("b, while a waits: %v", err)
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("a: %v", err)
	}
}

// Of many who begin at once one does, and of many who use one password one is told that it was theirs.
func TestOTPAtOnce(t *testing.T) {
	ctx := t.Context()
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	if err := s.SetOTP(ctx, u, oneTime(500, "last0500")); err != nil {
		t.Fatal(err)
	}
	var begun, used atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if _, err := s.BeginOTP(ctx, u.Login); err == nil {
				begun.Add(1)
			} else if !errors.Is(err, store.ErrOTPExchange) {
				t.Errorf("begin: %v", err)
			}
			ok, err := s.UseOTP(ctx, u, oneTime(500, "last0500"), oneTime(499, "last0499"))
			if err != nil {
				t.Errorf("use: %v", err)
			}
			if ok {
				used.Add(1)
			}
		})
	}
	all.Wait()
	if begun.Load() != 1 || used.Load() != 1 {
		t.Errorf("%d have begun, and %d have used it; want one of each", begun.Load(), used.Load())
	}
}
