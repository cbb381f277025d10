package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
)

// Mailbox is an opened mailbox, acted on by one user with the rights they had. It holds no resources.
//
// Where Open opened it, Append finds out by itself whether its name still leads
// to it and whether the rights are still those: it then is ErrNotExist, and may be opened anew.
type Mailbox struct {
	Tenant      id.Tenant
	Owner       id.Account
	ID          id.Mailbox
	Name        string
	UIDValidity uint32
	ObjectID    id.Object
	Rights      acl.Rights

	epoch int64 // of the rights; 0: it was not found by its name
	store *Store
}

func (m *Mailbox) key() viewKey { return viewKey{m.Tenant, m.ID} }

// Open opens a mailbox for what needs the rights want. ErrNotExist,
// ErrNoSelect where the name only has children, *acl.DeniedError.
func (s *Store) Open(ctx context.Context, u User, name string, want acl.Rights) (*Mailbox, error) {
	name = canonicalName(name)
	if checkName(name) != nil {
		return nil, ErrNotExist // and no question for the database, which takes no NUL
	}
	const query = `
		SELECT mailbox_id, uidvalidity, objectid, acl_epoch
		FROM mailbox
		WHERE tenant_id = $1 AND account_id = $2 AND name = $3 AND deleted_at IS NULL`

	m := &Mailbox{Tenant: u.Tenant, Owner: u.Account, Name: name, Rights: u.permitted(acl.All), store: s}
	err := s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		b.Queue(query, u.Tenant, u.Account, name).QueryRow(func(row pgx.Row) error {
			return row.Scan(&m.ID, &m.UIDValidity, &m.ObjectID, &m.epoch)
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, s.noMailbox(ctx, u, name)
	}
	if err != nil {
		return nil, err
	}
	if !m.Rights.Has(want) {
		return nil, &acl.DeniedError{Missing: want &^ m.Rights}
	}
	return m, nil
}

// noMailbox says in what way there is no mailbox of the name.
func (s *Store) noMailbox(ctx context.Context, u User, name string) error {
	var children bool
	err := s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		queueHasChildren(b, u.Tenant, u.Account, name, &children)
	})
	switch {
	case err != nil:
		return err
	case children:
		return ErrNoSelect
	}
	return ErrNotExist
}

// queueHasChildren asks whether there are mailboxes below the name. Names
// below name/ are those from name/ up to name0, 0 being the octet behind the separator.
func queueHasChildren(b *pgx.Batch, t id.Tenant, account id.Account, name string, children *bool) {
	const query = `
		SELECT EXISTS (
			SELECT FROM mailbox
			WHERE tenant_id = $1 AND account_id = $2 AND name > $3 || '/' AND name < $3 || '0' AND deleted_at IS NULL)`

	b.Queue(query, t, account, name).QueryRow(func(row pgx.Row) error { return row.Scan(children) })
}
