package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"mailstead.dev/store"
)

// Who guesses passwords is stopped. The store counts what fails, for all front ends; here it is decided what follows:
//
//   - An address from which too many logins have failed is blocked. Accounts that have been logged in to from there before are not: each of them has as many
//     failures of its own there.
//   - An account of which too many logins have failed, or whose tenant has too many, is guarded: an address that it is not known to be used from is believed
//     to guess after a few failures. So its user gets in from wherever they are, and who guesses from many addresses gets a few guesses from each.
//
// Somebody who is kept out is told so, whether or not their password was right, or the account is there. What cannot be guessed, certificates and tokens, is not counted.

// AttemptLimits say how many logins may fail. Zero fields mean the defaults.
type AttemptLimits struct {
	Address int            // of an address within an hour; 20 by default
	Account int            // of an account; 50 by default
	Tenant  int            // of a tenant; 1000 by default
	Block   time.Duration  // how long the first block is, and each further within a day twice as long, up to four hours; 5 minutes by default
	Trusted []netip.Prefix // from where nothing is counted
}

func (l AttemptLimits) withDefaults() AttemptLimits {
	l.Address = cmp.Or(l.Address, 20)
	l.Account = cmp.Or(l.Account, 50)
	l.Tenant = cmp.Or(l.Tenant, 1000)
	l.Block = cmp.Or(l.Block, 5*time.Minute)
	return l
}

// guardedFailures is how many logins to guarded accounts may fail from an address.
const guardedFailures = 3

// ErrBlocked says that somebody is kept out for now, because too many logins have failed.
var ErrBlocked = errors.New("too many failed logins")

// A RefusedError is a refusal of somebody who may be guessing: store.ErrAuth, or ErrBlocked. The more have failed before, the later it should be told.
type RefusedError struct {
	Err      error
	Failures int // that count together with this one, and it; 0: they are not counted
}

func (e *RefusedError) Error() string { return e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

// attempt is one to log in by what can be guessed.
type attempt struct {
	a       *Authenticator
	account store.Login // zero but for its tenant where there is none
	login   string      // as NormalLogin has it; "": it is none
	from    netip.Addr
	limits  AttemptLimits
	trusted bool
	before  [2]int64 // what had failed here before the account was looked up, of the address and the account
}

// attempt looks up an account that somebody wants to log in to. Where they are kept out it is an ErrBlocked, and where the account is in another cell an
// ElsewhereError.
func (a *Authenticator) attempt(ctx context.Context, ch Channel, login string) (*attempt, error) {
	t := &attempt{a: a, from: ch.From, limits: *a.limits.Load()}
	t.login, _ = store.NormalLogin(login) // what is no login is nobody's
	t.before = a.recent.of(t.keys())
	account, err := a.directory.LookupLoginFrom(ctx, login, ch.From)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return nil, fmt.Errorf("login: %w", err)
	}
	t.account = account
	t.trusted = account.Trusted || !ch.From.IsValid() || slices.ContainsFunc(t.limits.Trusted, func(p netip.Prefix) bool { return p.Contains(ch.From.Unmap()) })
	if err := a.elsewhere(ch, t); err != nil {
		return t, err // who is kept out there is for that cell to say, which knows from where its accounts are used
	}
	return t, t.allowed()
}

func (t *attempt) keys() [2]string { return [2]string{store.Origin(t.from).String(), t.login} }

// failures returns how often the address has failed until now, as it counts for the account, and how often the account has. What fails in
// other processes meanwhile is seen at the next look.
func (t *attempt) failures() (ofAddress, ofAccount store.Attempt) {
	ofAddress, ofAccount = t.account.Attempts.Address, t.account.Attempts.Account
	if t.known() {
		ofAddress = t.account.Attempts.Known
	}
	now := t.a.recent.of(t.keys())
	ofAddress.Failures += int(now[0] - t.before[0])
	ofAccount.Failures += int(now[1] - t.before[1])
	return ofAddress, ofAccount
}

// known tells whether the account has been logged in to from the address before.
func (t *attempt) known() bool { return !t.account.Known.IsZero() }

// allowed is called before anything is verified, and again where that had to wait: else as many guesses as there can be connections
// would be looked up before the first has failed.
func (t *attempt) allowed() error {
	if t.trusted {
		return nil
	}
	ofAddress, ofAccount := t.failures()
	ofTenant := t.account.Attempts.Tenant
	most := t.limits.Address
	over := func(of store.Attempt, most int) bool { return of.Blocked > 0 || of.Failures >= most }
	if !t.known() && (over(ofAccount, t.limits.Account) || over(ofTenant, t.limits.Tenant)) {
		most = min(most, guardedFailures)
	}
	if !over(ofAddress, most) {
		return nil
	}
	t.a.counted.kept.Add(1)
	return &RefusedError{ErrBlocked, ofAddress.Failures + 1}
}

// refused counts the attempt as a failure; guess tells whether it was made before, nil where that is not known.
func (t *attempt) refused(ctx context.Context, guess *uint16) error {
	t.a.counted.failed.Add(1)
	if t.trusted {
		return &RefusedError{store.ErrAuth, 0}
	}
	before, _ := t.failures()
	t.a.recent.add(t.keys())
	blocks, err := t.a.directory.NoteFailedLogin(ctx, store.FailedLogin{
		From: t.from, Login: t.login, Tenant: t.account.User.Tenant, Known: t.known(), Guess: guess,
		Limits: store.AttemptLimits{Address: t.limits.Address, Account: t.limits.Account, Tenant: t.limits.Tenant, Block: t.limits.Block},
	})
	if err != nil { // it is refused nevertheless, and counted here
		t.a.log.WarnContext(ctx, "a failed login was not counted", "remote", t.from, "err", err)
	}
	for _, b := range blocks {
		t.a.counted.blocks.Add(1)
		t.a.log.WarnContext(ctx, "too many failed logins", append(t.blocked(b), "until", b.Until)...)
	}
	return &RefusedError{store.ErrAuth, before.Failures + 1}
}

// blocked is what the log says of a block: of what it is, and whose, by number. Of a login without an account it says no more than its tenant; who wants
// to know it finds it by its end among the blocks.
func (t *attempt) blocked(b store.Block) []any {
	of, _, _ := strings.Cut(b.Name, ":")
	said := []any{"of", of}
	switch of {
	case "address":
		return append(said, "remote", store.Origin(t.from))
	case "known":
		return append(append(said, t.who()...), "remote", store.Origin(t.from))
	case "tenant":
		return append(said, "tenant", t.account.User.Tenant)
	}
	return append(said, t.who()...)
}

// who is what the log says of whoever wants to log in.
func (t *attempt) who() (said []any) {
	if t.account.User.Tenant != 0 {
		said = append(said, "tenant", t.account.User.Tenant)
	}
	if t.account.User.Account != 0 {
		said = append(said, "account", t.account.User.Account)
	}
	return said
}

// guess returns some bits of a hash of a password that was wrong: enough to see that a program tries the same again and again, and too few to find it by.
func (t *attempt) guess(p password) *uint16 {
	h := sha256.New()
	h.Write([]byte(t.login + "\x00" + p.given))
	bits := binary.BigEndian.Uint16(h.Sum(nil))
	return &bits
}

// counted are counts since the start of a process.
type counted struct{ failed, kept, blocks atomic.Int64 }

// Failures are what an Authenticator has refused since it was made.
type Failures struct {
	Failed int64 // logins, by what can be guessed
	Kept   int64 // logins that were not tried, because too many had failed
	Blocks int64 // that began with a failure here
}

// Failures returns them.
func (a *Authenticator) Failures() Failures {
	return Failures{a.counted.failed.Load(), a.counted.kept.Load(), a.counted.blocks.Load()}
}

// Limit changes how many logins may fail, while logins go on.
func (a *Authenticator) Limit(l AttemptLimits) {
	l = l.withDefaults()
	a.limits.Store(&l)
}

// recent counts what has failed in this process, by address and account. Names that share a counter take the one's failures for
// the other's, for as long as a login takes.
type recent struct {
	seed   maphash.Seed
	counts [1 << 16]atomic.Int64
}

func newRecent() *recent { return &recent{seed: maphash.MakeSeed()} }

func (r *recent) count(key string) *atomic.Int64 {
	return &r.counts[maphash.String(r.seed, key)%uint64(len(r.counts))]
}

func (r *recent) of(keys [2]string) [2]int64 {
	return [2]int64{r.count(keys[0]).Load(), r.count(keys[1]).Load()}
}

func (r *recent) add(keys [2]string) {
	r.count(keys[0]).Add(1)
	r.count(keys[1]).Add(1)
}
