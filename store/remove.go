package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
)

// Delete removes a mailbox with its messages. Those below it stay, and its
// name then only has children (RFC 9051 section 6.3.5); such a name cannot be
// deleted: ErrHasChildren. Nor can INBOX: ErrBadName. ErrNotExist, *acl.DeniedError.
func (s *Store) Delete(ctx context.Context, u User, name string) error {
	p, err := u.path(name)
	switch {
	case err != nil:
		return ErrNotExist
	case p.space == personal && p.name == inbox:
		return ErrBadName
	}
	var gone id.Mailbox
	err = s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		n, err := namesOf(ctx, tx, u, p)
		if err != nil {
			return err
		}
		if n.space != personal { // nobody holds up names without a right
			if _, err := n.deletable(ctx, tx, p.name); err != nil {
				return err
			}
		}
		if err := lockNames(ctx, tx, n.owner); err != nil {
			return err
		}
		if err := n.hold(ctx, tx, "", p.name); err != nil {
			return err
		}
		m, err := n.deletable(ctx, tx, p.name)
		if err != nil {
			return err
		}
		gone = m.Mailbox
		if err := leaveTombstone(ctx, tx, n.owner, p.name, m.UIDValidity); err != nil {
			return err
		}
		if err := deleteMailbox(ctx, tx, n.owner, m.Mailbox); err != nil {
			return err
		}
		return n.audit(ctx, tx, "mailbox.delete", p.name, nil)
	})
	if errors.Is(err, ErrNotExist) {
		if err = s.absent(ctx, u, p); errors.Is(err, ErrNoSelect) {
			err = ErrHasChildren
		}
	}
	if err != nil {
		return fmt.Errorf("delete mailbox: %w", changeError(err))
	}
	key := viewKey{u.Tenant, gone}
	s.views.drop(key.owners())
	s.watch.changed(key, 0)
	return nil
}

// deletable returns the mailbox of a name, if the user may delete it.
func (n names) deletable(ctx context.Context, tx pgx.Tx, name string) (*named, error) {
	there, err := n.existing(ctx, tx, name)
	if err != nil {
		return nil, err
	}
	m := there[name]
	if err := m.may(acl.DeleteMailbox); err != nil {
		return nil, err
	}
	if name == inbox {
		return nil, ErrBadName
	}
	return m, nil
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
