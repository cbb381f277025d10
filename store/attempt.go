package store

import (
	"context"
	"net/netip"
	"time"

	"mailstead.dev/store/id"
)

// Logins that fail are counted for all front ends: of the address that they come from, of the account that they name, whether or not it is there, and of its
// tenant. How many there have been comes with the look at the account (LookupLoginFrom), and costs no round trip; only one that fails writes.
// What follows from the numbers is package auth's to say.

const (
	attemptsWithin = time.Hour      // failures count together
	longestBlock   = 4 * time.Hour  // of blocks that follow one another within a day
	keptAttempts   = 26 * time.Hour // after the last of them, and the end of a block
	mostAttempts   = 200_000        // rows; those that have rested longest go
	attemptsEvery  = time.Minute    // maintenance looks
)

// Origin is what an address counts as: itself, of IPv6 its network of 64 bits, which is what one client has. It is not valid where the address is not.
func Origin(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	bits := address.BitLen()
	if address.Is6() {
		bits = 64
	}
	from, _ := address.Prefix(bits) // which a valid one has
	return from
}

// inet returns an address as the database reads it, "" where it is not valid.
func inet(address netip.Addr) string {
	if !address.IsValid() {
		return ""
	}
	return address.Unmap().WithZone("").String()
}

// Attempts are the logins that have failed lately, as they count for one from an address to an account.
type Attempts struct {
	Address Attempt `json:"address"` // of the address, to whatever account
	Account Attempt `json:"account"` // of the account, from wherever
	Known   Attempt `json:"known"`   // of the account from the address, since that is known
	Tenant  Attempt `json:"tenant"`  // of all accounts of the tenant
}

// Attempt is a count of failures.
type Attempt struct {
	Failures int `json:"failures"` // within an hour, and since the last block began
	Blocked  int `json:"blocked"`  // for how many seconds still
}

// FailedLogin is a login that has failed.
type FailedLogin struct {
	From   netip.Addr
	Login  string    // as NormalLogin has it; "": it was none
	Tenant id.Tenant // of the login's domain; 0: there is none
	Known  bool      // the account has been logged in to from there
	Guess  *uint16   // some bits of a hash of what was given; nil: it is not known whether it is the same again
	Limits AttemptLimits
}

// AttemptLimits are how many logins may fail within an hour until there is a block, which lasts as long as Block, and each further within a day twice as long.
type AttemptLimits struct {
	Address, Account, Tenant int // an account has as many as an address at each address that it is known to be used from
	Block                    time.Duration
}

// Block is that too many logins have failed.
type Block struct {
	Name  string    `json:"name"` // address:…, account:…, tenant:…, or known:… for an account from an address that it is known to be used from
	Until time.Time `json:"until"`
}

// NoteFailedLogin counts a login that has failed, in one round trip, and returns the blocks that have begun with it.
func (s *Store) NoteFailedLogin(ctx context.Context, f FailedLogin) ([]Block, error) {
	const query = `
		SELECT name, until
		FROM note_failure(nullif($1::text, '')::inet, nullif($2::text, ''), $3, nullif($4::bigint, 0), $5, $6, $7, $8, $9, $10)`

	var guess *int32
	if f.Guess != nil {
		g := int32(*f.Guess)
		guess = &g
	}
	l := f.Limits
	return lookupOnce[Block](ctx, s, query, []any{
		inet(f.From), f.Login, f.Known, int64(f.Tenant), guess, []int32{int32(l.Address), int32(l.Account), int32(l.Address), int32(l.Tenant)},
		attemptsWithin, l.Block, longestBlock, s.options.Webhook != nil,
	})
}

// FailedName is what operators are shown of whoever has failed lately.
type FailedName struct {
	Name     string     `db:"name"` // as Block.Name
	Failures int        `db:"failures"`
	Last     time.Time  `db:"last_at"`
	Blocked  *time.Time `db:"blocked_until"` // nil: it is not
}

// FailedNames lists whoever has failed to log in within an hour, or is blocked.
func (s *Store) FailedNames(ctx context.Context) ([]FailedName, error) {
	return lookup[FailedName](ctx, s, `SELECT name, failures, last_at, blocked_until FROM list_attempts($1)`, attemptsWithin)
}

// ForgetFailures forgets what has failed of an address, an account and a tenant, each of which may be zero, and their blocks. It returns how many names that were.
func (s *Store) ForgetFailures(ctx context.Context, from netip.Addr, login, tenant string) (int64, error) {
	return s.clearAttempts(ctx, inet(from), login, tenant, false)
}

// ForgetAllFailures forgets all that has failed, and every block.
func (s *Store) ForgetAllFailures(ctx context.Context) (int64, error) {
	return s.clearAttempts(ctx, "", "", "", true)
}

func (s *Store) clearAttempts(ctx context.Context, address, login, tenant string, everything bool) (int64, error) {
	const query = `SELECT clear_attempts(nullif($1::text, '')::inet, nullif($2::text, ''), nullif($3::text, ''), $4) AS n`

	type row struct{ N int64 }
	rows, err := lookupOnce[row](ctx, s, query, []any{address, login, tenant, everything})
	if err != nil {
		return 0, err
	}
	return rows[0].N, nil
}

// forgetAttempts is the chore that bounds what is kept of attempts.
func (s *Store) forgetAttempts(ctx context.Context) error {
	const query = `SELECT forget_attempts($1, $2) AS n`

	type row struct{ N int64 }
	_, err := lookupOnce[row](ctx, s, query, []any{keptAttempts, mostAttempts})
	return err
}
