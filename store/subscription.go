package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Subscribe adds a name to the user's subscriptions, whether or not there is a
// mailbox of the name: a shared one may come and go (RFC 9051 section 6.3.7).
// ErrNotExist where the account is being deleted: nothing new may come. ErrSubscriptions where there would be
// more than an account can have mailboxes.
func (s *Store) Subscribe(ctx context.Context, u User, name string) error {
	p, err := u.path(name)
	if err != nil || p.name != "" && s.checkNewName(p.name) != nil {
		return ErrBadName
	}
	name = p.full()
	err = s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		if err := lockNames(ctx, tx, u); err != nil {
			return err
		}
		if err := s.roomForSubscription(ctx, tx, u, name); err != nil {
			return err
		}
		return insertSubscription(ctx, tx, u.Tenant, u.Account, name)
	})
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

// roomForSubscription tells whether the user can have the name among their subscriptions. The names are locked.
func (s *Store) roomForSubscription(ctx context.Context, tx pgx.Tx, u User, name string) error {
	const query = `
		SELECT count(*)
		FROM (
			SELECT FROM subscription
			WHERE tenant_id = $1 AND account_id = $2 AND name <> $3
			LIMIT $4) AS others`

	var others int
	if err := tx.QueryRow(ctx, query, u.Tenant, u.Account, name, s.options.MaxMailboxes).Scan(&others); err != nil {
		return err
	}
	if others >= s.options.MaxMailboxes {
		return ErrSubscriptions
	}
	return nil
}

// Unsubscribe takes a name out of the user's subscriptions; where it is not among them nothing changes.
func (s *Store) Unsubscribe(ctx context.Context, u User, name string) error {
	p, err := u.path(name)
	if err != nil {
		return nil
	}
	if err := u.mayChange(); err != nil {
		return err
	}
	const query = `DELETE FROM subscription WHERE tenant_id = $1 AND account_id = $2 AND name = $3`

	err = s.batch(ctx, u.Tenant, func(b *pgx.Batch) { b.Queue(query, u.Tenant, u.Account, p.full()) })
	if err != nil {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	return nil
}
