// Package auth decides who is logging in: it keeps passwords as argon2id
// hashes and verifies them with bounded memory and the same work for logins
// that do not exist. Who exists, and under which hash, is store's to say.
//
// PHC strings with argon2id (RFC 9106); password preparation: RFC 8265.
package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/semaphore"

	"mailstead.dev/store"
)

// Options sets up an Authenticator. Zero fields mean the defaults.
type Options struct {
	// HashMemory is how many bytes all verifications together may use at once;
	// by default what one verification on each processor takes. Others wait.
	HashMemory int64
	// MaxWait is how long a login waits for its turn before it is told to come
	// back later; 10 s by default.
	MaxWait time.Duration
	// CacheTTL is for how long a verified password is accepted without hashing
	// it again; 5 minutes by default, negative for never.
	CacheTTL time.Duration
	// CacheEntries bounds the verified logins that are remembered, at some 100
	// bytes each; 50,000 by default.
	CacheEntries int
}

// directory is what an Authenticator needs of the store.
type directory interface {
	LookupLogin(ctx context.Context, login string) (store.Login, error)
	ActAs(ctx context.Context, actor store.User, login string) (store.User, error)
}

// Authenticator verifies logins. It is safe for concurrent use.
type Authenticator struct {
	directory directory
	verified  *verified
	maxWait   time.Duration
	capacity  int64 // of hashing, KiB
	hashing   *semaphore.Weighted
	nobody    hash // what the password of an unknown login is compared with
}

// New returns an Authenticator for the accounts of a store.
func New(s *store.Store, o Options) *Authenticator { return newAuthenticator(s, o) }

func newAuthenticator(d directory, o Options) *Authenticator {
	capacity := o.HashMemory >> 10
	if capacity <= 0 {
		capacity = int64(runtime.GOMAXPROCS(0)) * hashMemory
	}
	return &Authenticator{
		directory: d,
		verified:  newVerified(cmp.Or(o.CacheTTL, 5*time.Minute), cmp.Or(o.CacheEntries, 50_000)),
		maxWait:   cmp.Or(o.MaxWait, 10*time.Second),
		capacity:  capacity,
		hashing:   semaphore.NewWeighted(capacity),
		nobody:    hash{memory: hashMemory, time: hashTime, threads: hashThreads, salt: make([]byte, saltLen), key: make([]byte, keyLen)},
	}
}

// Login returns who logs in. Its errors wrap store.ErrAuth, store.ErrDisabled
// (only told to those who have the password) or store.ErrUnavailable.
//
// The account is looked up each time, also when the password needs no hashing
// because it was verified lately: a new password and a disabled account take
// effect at once.
func (a *Authenticator) Login(ctx context.Context, login, password string) (store.User, error) {
	password = prepare(password)
	account, err := a.directory.LookupLogin(ctx, login)
	if errors.Is(err, store.ErrNotExist) {
		return store.User{}, a.refuse(ctx, password)
	}
	if err != nil {
		return store.User{}, fmt.Errorf("login: %w", err)
	}
	expected, err := parseHash(account.Password)
	if err != nil { // "" lets nobody in
		return store.User{}, a.refuse(ctx, password)
	}
	if err := a.verify(ctx, a.verified.key(account, password), expected, password); err != nil {
		return store.User{}, err
	}
	if account.Disabled {
		return store.User{}, store.ErrDisabled
	}
	return account.User, nil
}

// LoginAs is Login for somebody who wants to act as another, their identity
// (RFC 4616 section 2); "" is no other. store.ErrActAs where their role does not let them.
func (a *Authenticator) LoginAs(ctx context.Context, identity, login, password string) (store.User, error) {
	user, err := a.Login(ctx, login, password)
	if err != nil || identity == "" {
		return user, err
	}
	return a.directory.ActAs(ctx, user, identity)
}

// refuse does the work of verifying a password, so that the time an answer
// takes does not tell which logins exist.
func (a *Authenticator) refuse(ctx context.Context, password string) error {
	if _, err := a.matches(ctx, a.nobody, password); err != nil {
		return err
	}
	return store.ErrAuth
}

func (a *Authenticator) verify(ctx context.Context, key loginKey, expected hash, password string) error {
	if a.verified.has(key) {
		return nil
	}
	ok, err := a.matches(ctx, expected, password)
	if err != nil {
		return err
	}
	if !ok {
		return store.ErrAuth
	}
	a.verified.add(key)
	return nil
}

// matches compares once there is memory for it.
func (a *Authenticator) matches(ctx context.Context, h hash, password string) (bool, error) {
	need := min(int64(h.memory), a.capacity) // what is larger than all runs alone
	waiting, cancel := context.WithTimeout(ctx, a.maxWait)
	defer cancel()
	if err := a.hashing.Acquire(waiting, need); err != nil {
		return false, fmt.Errorf("%w: too many logins at once: %w", store.ErrUnavailable, err)
	}
	defer a.hashing.Release(need)
	return h.matches(password), nil
}
