package store

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/quota"
	"mailstead.dev/store/id"
)

// How the mailboxes of an account stand to the limits of its roots, which SELECT tells. The account's own row says it
// of the account. Its domain and tenant are looked at only now and then, so nothing is
// lost where a process does not read that again at each SELECT.

const (
	rootsKnownFor = 5 * time.Second
	rootsKnownOf  = 10_000 // accounts
)

// knownRoots is what is known of the domains and tenants of accounts.
type knownRoots struct {
	mu sync.Mutex
	of map[rootsKey]rootsState
}

type rootsKey struct {
	tenant  id.Tenant
	account id.Account
}

type rootsState struct {
	state quota.State
	asked time.Time
}

func (k *knownRoots) get(key rootsKey) (state quota.State, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.of[key]
	return s.state, ok && time.Since(s.asked) < rootsKnownFor
}

func (k *knownRoots) put(key rootsKey, state quota.State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.of) >= rootsKnownOf || k.of == nil {
		k.of = make(map[rootsKey]rootsState)
	}
	k.of[key] = rootsState{state, time.Now()}
}

// forget comes after a change of what is known.
func (k *knownRoots) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.of)
}

// exceeded comes after a change that has made a root exceed a soft limit: "" for none.
func (k *knownRoots) exceeded(whose quota.Level) {
	if whose != "" {
		k.forget()
	}
}

// quotaState tells how the mailboxes of an account stand to their limits.
func (s *Store) quotaState(ctx context.Context, t id.Tenant, account id.Account) (quota.State, error) {
	const query = `
		SELECT (SELECT account_quota_state(a) FROM account_state a WHERE a.tenant_id = $1 AND a.account_id = $2), roots_quota_state($1, $2)`

	var own, roots quota.State
	err := s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t, account).QueryRow(func(row pgx.Row) error { return row.Scan(&own, &roots) })
	})
	return own.With(roots), err
}
