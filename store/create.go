package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
)

// Create makes a mailbox, and those above it that are missing. A separator at
// the end only says that there will be children (RFC 9051 section 6.3.4).
// ErrExists, ErrBadName; ErrSpecialUse where another mailbox has one of the special uses:
// a client would not know which to take; ErrMailboxes where there would be too many; *quota.OverError.
func (s *Store) Create(ctx context.Context, u User, name string, specialUse []string) (*Mailbox, error) {
	name = canonicalName(strings.TrimSuffix(name, separator))
	if err := s.checkNewName(name); err != nil {
		return nil, err
	}
	if name == inbox {
		return nil, ErrExists
	}
	var m *Mailbox
	err := s.transact(ctx, u.Tenant, func(tx pgx.Tx) (err error) {
		if err := lockNames(ctx, tx, u); err != nil {
			return err
		}
		var more int
		if m, more, err = s.createWithParents(ctx, tx, u, name, specialUse); err != nil {
			return err
		}
		return chargeNames(ctx, tx, u, more, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("create mailbox: %w", changeError(err))
	}
	m.store, m.Rights = s, acl.All
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

// createWithParents makes a mailbox, and those above it that are missing. The names are locked.
// It returns how many there are more, for chargeNames.
func (s *Store) createWithParents(ctx context.Context, tx pgx.Tx, u User, name string, specialUse []string) (m *Mailbox, more int, err error) {
	above := parents(name)
	there, err := existing(ctx, tx, u, append(above, name))
	if err != nil {
		return nil, 0, err
	}
	if there[name] != nil {
		return nil, 0, ErrExists
	}
	if err := specialUseFree(ctx, tx, u, specialUse); err != nil {
		return nil, 0, err
	}
	more = 1 + len(above) - len(there)
	if err := s.roomForMailboxes(ctx, tx, u, more); err != nil {
		return nil, 0, err
	}
	for _, parent := range above {
		if there[parent] != nil {
			continue
		}
		if _, err := insertMailbox(ctx, tx, u.Tenant, u.Account, parent, nil); err != nil {
			return nil, 0, err
		}
	}
	m, err = insertMailbox(ctx, tx, u.Tenant, u.Account, name, specialUse)
	return m, more, err
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

// named is a mailbox as far as changes of names look at it.
type named struct {
	Mailbox     id.Mailbox
	Name        string
	UIDValidity uint32
}

// existing returns those mailboxes of the names that are there.
func existing(ctx context.Context, tx pgx.Tx, u User, names []string) (map[string]*named, error) {
	const query = `
		SELECT mailbox_id, name, uidvalidity
		FROM mailbox
		WHERE tenant_id = $1 AND account_id = $2 AND name = ANY ($3) AND deleted_at IS NULL`

	rows, _ := tx.Query(ctx, query, u.Tenant, u.Account, names) // CollectRows reports the error
	return byName(rows)
}

func byName(rows pgx.Rows) (map[string]*named, error) {
	all, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[named])
	if err != nil {
		return nil, err
	}
	m := make(map[string]*named, len(all))
	for _, n := range all {
		m[n.Name] = n
	}
	return m, nil
}

// below returns the mailboxes below a name, at any depth. The octet behind the separator is 0.
func below(ctx context.Context, tx pgx.Tx, u User, name string) (map[string]*named, error) {
	const query = `
		SELECT mailbox_id, name, uidvalidity
		FROM mailbox
		WHERE tenant_id = $1 AND account_id = $2 AND name > $3 || '/' AND name < $3 || '0' AND deleted_at IS NULL`

	rows, _ := tx.Query(ctx, query, u.Tenant, u.Account, name) // CollectRows reports the error
	return byName(rows)
}
