package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Create makes a mailbox, and those above it that are missing. A separator at
// the end only says that there will be children (RFC 9051 section 6.3.4).
// ErrExists, ErrBadName, *acl.DeniedError; ErrSpecialUse where another mailbox has one of the special uses:
// a client would not know which to take, or where the mailbox is not the user's own; ErrMailboxes where there would be too many; *quota.OverError.
func (s *Store) Create(ctx context.Context, u User, name string, specialUse []string) (*Mailbox, error) {
	p, err := u.path(strings.TrimSuffix(name, separator))
	switch {
	case err != nil, s.checkNewName(p.name) != nil:
		return nil, ErrBadName
	case p.space == personal && p.name == inbox:
		return nil, ErrExists
	case p.space != personal && len(specialUse) > 0:
		return nil, ErrSpecialUse
	}
	var m *Mailbox
	err = s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		if p.space == common && u.AdministersTenant(u.Tenant) {
			if _, err := sharedAccount(ctx, tx, u.Tenant); err != nil {
				return err
			}
		}
		n, err := namesOf(ctx, tx, u, p)
		if err != nil {
			return err
		}
		if n.space != personal { // nobody holds up names without a right
			if err := n.mayCreate(ctx, tx, p.name); err != nil {
				return err
			}
		}
		if err := lockNames(ctx, tx, n.owner); err != nil {
			return err
		}
		if err := n.hold(ctx, tx, "", parents(p.name)...); err != nil {
			return err
		}
		var more int
		if m, more, err = s.createWithParents(ctx, tx, n, p.name, specialUse); err != nil {
			return err
		}
		made, err := n.existing(ctx, tx, p.name)
		if err != nil {
			return err
		}
		m.Rights, m.SharedSeen, m.others = made[p.name].Rights, made[p.name].SharedSeen, made[p.name].others
		if err := chargeNames(ctx, tx, n.owner, more, 0); err != nil {
			return err
		}
		return n.audit(ctx, tx, "mailbox.create", p.name, nil)
	})
	if err != nil {
		return nil, fmt.Errorf("create mailbox: %w", changeError(err))
	}
	m.Name, m.user, m.path, m.epoch, m.store = p.full(), u, p, 1, s
	return m, nil
}

// lockNames puts all changes of an account's names in line, before any mailbox is locked.
func lockNames(ctx context.Context, tx pgx.Tx, u User) error {
	const query = `
		SELECT FROM name_tree
		WHERE tenant_id = $1 AND account_id = $2
		FOR NO KEY UPDATE`

	if err := u.mayChange(); err != nil {
		return err
	}
	err := tx.QueryRow(ctx, query, u.Tenant, u.Account).Scan()
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotExist // the account is being deleted
	}
	return err
}

// createWithParents makes a mailbox, and those above it that are missing. The names are locked, and those above are held.
// It returns how many there are more, for chargeNames.
func (s *Store) createWithParents(ctx context.Context, tx pgx.Tx, n names, name string, specialUse []string) (m *Mailbox, more int, err error) {
	if err := n.mayCreate(ctx, tx, name); err != nil {
		return nil, 0, err
	}
	there, err := n.existing(ctx, tx, name)
	if err != nil {
		return nil, 0, err
	}
	if err := there[name].isFree(); err != nil {
		return nil, 0, err
	}
	if err := specialUseFree(ctx, tx, n.owner, specialUse); err != nil {
		return nil, 0, err
	}
	lowest, more, err := s.insertParents(ctx, tx, n, name, 1)
	if err != nil {
		return nil, 0, err
	}
	m, err = n.insert(ctx, tx, name, lowest, specialUse)
	return m, more + 1, err
}

// roomForMailboxes tells whether the account can have n mailboxes more. The names are locked.
func (s *Store) roomForMailboxes(ctx context.Context, tx pgx.Tx, u User, n int) error {
	const query = `
		SELECT count(*)
		FROM (
			SELECT FROM mailbox
			WHERE tenant_id = $1 AND account_id = $2 AND deleted_at IS NULL
			LIMIT $3) AS mailboxes`

	var have int
	if err := tx.QueryRow(ctx, query, u.Tenant, u.Account, s.options.MaxMailboxes).Scan(&have); err != nil {
		return err
	}
	if have+n > s.options.MaxMailboxes {
		return ErrMailboxes
	}
	return nil
}

// specialUseFree fails with ErrSpecialUse where a mailbox has any of the special uses. The names are locked.
func specialUseFree(ctx context.Context, tx pgx.Tx, u User, specialUse []string) error {
	taken, err := takenSpecialUse(ctx, tx, u, specialUse)
	if err == nil && len(taken) > 0 {
		err = ErrSpecialUse
	}
	return err
}

// takenSpecialUse returns those of the special uses that a mailbox has. The names are locked.
func takenSpecialUse(ctx context.Context, tx pgx.Tx, u User, specialUse []string) (taken []string, err error) {
	const query = `
		SELECT use
		FROM mailbox, unnest(special_use) AS use
		WHERE tenant_id = $1 AND account_id = $2 AND special_use && $3 AND deleted_at IS NULL AND use = ANY ($3)
		ORDER BY use`

	if len(specialUse) == 0 {
		return nil, nil
	}
	rows, _ := tx.Query(ctx, query, u.Tenant, u.Account, specialUse) // CollectRows reports the error
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
