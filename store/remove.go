package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Delete removes a mailbox with its messages. Those below it stay, and its
// name then only has children (RFC 9051 section 6.3.5); such a name cannot be
// deleted: ErrHasChildren. Nor can INBOX: ErrBadName. ErrNotExist.
func (s *Store) Delete(ctx context.Context, u User, name string) error {
	name = canonicalName(name)
	switch {
	case name == inbox:
		return ErrBadName
	case checkName(name) != nil:
		return ErrNotExist
	}
	var gone id.Mailbox
	err := s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		if err := lockNames(ctx, tx, u); err != nil {
			return err
		}
		there, err := existing(ctx, tx, u, []string{name})
		if err != nil {
			return err
		}
		m := there[name]
		if m == nil {
			return noName(ctx, tx, u, name)
		}
		gone = m.Mailbox
		if err := leaveTombstone(ctx, tx, u, name, m.UIDValidity); err != nil {
			return err
		}
		return deleteMailbox(ctx, tx, u, m.Mailbox)
	})
	if err != nil {
		return fmt.Errorf("delete mailbox: %w", changeError(err))
	}
	key := viewKey{u.Tenant, gone}
	s.views.drop(key)
	s.watch.changed(key, 0)
	return nil
}

// noName says why a name that is no mailbox cannot be deleted or renamed.
func noName(ctx context.Context, tx pgx.Tx, u User, name string) error {
	children, err := below(ctx, tx, u, name)
	switch {
	case err != nil:
		return err
	case len(children) > 0:
		return ErrHasChildren
	}
	return ErrNotExist
}

// deleteMailbox ends a mailbox and gives back what it counted. Its row, log and
// segments stay for undelete, for no shorter than they should where the clock was set back. Locks: mailbox, account.
func deleteMailbox(ctx context.Context, tx pgx.Tx, u User, m id.Mailbox) error {
	const (
		end = `
			UPDATE mailbox
			SET deleted_at = greatest(now(), created_at, (SELECT max(at) FROM mailbox_log WHERE tenant_id = $1 AND mailbox_id = $3))
			WHERE tenant_id = $1 AND account_id = $2 AND mailbox_id = $3 AND deleted_at IS NULL
			RETURNING messages, bytes`

		uncharge = `SELECT charge_account($1, $2, $3, $4, 0)`
	)
	var messages, octets int64
	if err := tx.QueryRow(ctx, end, u.Tenant, u.Account, m).Scan(&messages, &octets); err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotExist
		}
		return err
	}
	notes, err := annotationOctets(ctx, tx, u.Tenant, m, u.Account)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, uncharge, u.Tenant, u.Account, -messages, -octets); err != nil {
		return err
	}
	return chargeNames(ctx, tx, u, -1, -notes)
}

// leaveTombstone remembers the highest UIDVALIDITY that a name has had.
func leaveTombstone(ctx context.Context, tx pgx.Tx, u User, name string, uidValidity uint32) error {
	const query = `
		INSERT INTO mailbox_tombstone AS t (tenant_id, account_id, name, uidvalidity)
		VALUES ($1, $2, $3, $4)
		ON CONFLICT (tenant_id, account_id, name)
		DO UPDATE SET uidvalidity = greatest(t.uidvalidity, excluded.uidvalidity)`

	_, err := tx.Exec(ctx, query, u.Tenant, u.Account, name, uidValidity)
	return err
}
