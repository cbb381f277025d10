package store

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Receive is Receive of the mailbox's store for text that no test expects to be refused.
func (m *Mailbox) Receive(text string) *Content {
	c, err := m.store.Receive(context.Background(), m.Tenant, strings.NewReader(text)) // of no test's own
	if err != nil {
		panic(err)
	}
	return c
}

// Transact and Batch let tests look at the database, and break it, as a serving process could.
func (s *Store) Transact(ctx context.Context, t id.Tenant, f func(tx pgx.Tx) error) error {
	return s.transact(ctx, t, f)
}

func (s *Store) Batch(ctx context.Context, t id.Tenant, queue func(b *pgx.Batch)) error {
	return s.batch(ctx, t, queue)
}

// These are statements that bind their transaction to a tenant, their last parameter.
const (
	WriteRecordBound = writeRecordBound
	SelectOwnBound   = selectOwnBound
)

// ForgetViews drops all cached views, so that the next are loaded anew.
func (s *Store) ForgetViews() { s.views = newViewCache(s.options.ViewCacheBytes) }

// DelegateEagerly has a mailbox delegated after one read, also where it was recalled a moment ago.
func (s *Store) DelegateEagerly() { s.delegations.after, s.delegations.rest = 1, 0 }

// Freeze has what a process knows of its delegations stand still, as the whole process may, until the function that it returns is called.
func (s *Store) Freeze() func() {
	s.delegations.mu.Lock()
	return s.delegations.mu.Unlock
}

// TrustTime is for how long a front end answers from memory of which nothing is heard.
const TrustTime = trustTime

// AwaitPacks waits until no pack is being read ahead.
func (s *Store) AwaitPacks() { s.packs.work.Wait() }

// InTransit returns how many octets of messages are on their way, or wait for room.
func (s *Store) InTransit() (octets int64) {
	s.transit.mu.Lock()
	defer s.transit.mu.Unlock()
	for _, of := range s.transit.tenants {
		octets += of.octets
	}
	return octets
}

// RevokeAccount is what all that ends an account's sessions does.
func RevokeAccount(ctx context.Context, tx pgx.Tx, u User) error { return revokeAccount(ctx, tx, u) }
