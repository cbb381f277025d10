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
// What is asked of it, and done to it, finds out by itself whether the rights on it
// have changed meanwhile, and is ErrRightsChanged then; nothing has been done, and Renew tells the rights.
// Append finds out as well whether the name that Open opened still leads to it: where that or the rights
// are others it is ErrNotExist, and the mailbox may be opened anew.
type Mailbox struct {
	Tenant      id.Tenant
	Owner       id.Account
	ID          id.Mailbox
	Name        string // as the user has it
	UIDValidity uint32
	ObjectID    id.Object
	Rights      acl.Rights
	SharedSeen  bool // \Seen is one for all who read it

	user   User  // who opened it
	path   path  // by which it was found
	epoch  int64 // of the rights, of SharedSeen and others; 0: it was not opened by a user
	others bool  // not only its owner may have rights on it
	store  *Store
}

func (m *Mailbox) key() viewKey { return viewKey{m.Tenant, m.ID} }

// viewer is the mailbox as who opened it has it.
func (m *Mailbox) viewer() viewerKey { return viewerKey{m.key(), m.reader()} }

// reader returns who opened the mailbox, 0 where that is its owner.
func (m *Mailbox) reader() id.Account {
	if m.user.Account == m.Owner {
		return 0
	}
	return m.user.Account
}

// ownSeen tells whether who opened the mailbox has a \Seen of their own there.
func (m *Mailbox) ownSeen() bool { return m.reader() != 0 && !m.SharedSeen }

// may refuses what needs more rights than the user has.
func (m *Mailbox) may(want acl.Rights) error {
	if !m.Rights.Has(want) {
		return &acl.DeniedError{Missing: want &^ m.Rights}
	}
	return nil
}

// Open opens a mailbox for what needs the rights want. ErrNotExist, also where
// the user may not look it up (RFC 4314 section 6); ErrNoSelect where the name only has
// children that they may; *acl.DeniedError.
func (s *Store) Open(ctx context.Context, u User, name string, want acl.Rights) (*Mailbox, error) {
	m, err := s.open(ctx, u, name)
	if err == nil {
		err = m.may(want)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// MyRights returns what the user may do in a mailbox.
func (s *Store) MyRights(ctx context.Context, u User, name string) (acl.Rights, error) {
	m, err := s.open(ctx, u, name)
	if err != nil {
		return 0, err
	}
	return m.Rights, nil
}

func (s *Store) open(ctx context.Context, u User, name string) (*Mailbox, error) {
	p, err := u.path(name)
	if err != nil {
		return nil, ErrNotExist // and no question for the database, which takes no NUL
	}
	if p.space != personal {
		m, err := s.openForeign(ctx, u, p)
		return m.Mailbox, err
	}
	const query = `
		SELECT mailbox_id, uidvalidity, objectid, acl_epoch, owner_rights, shared_seen, others
		FROM mailbox
		WHERE tenant_id = $1 AND account_id = $2 AND name = $3 AND deleted_at IS NULL`

	m := &Mailbox{Tenant: u.Tenant, Owner: u.Account, Name: p.name, user: u, path: p, store: s}
	err = s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		b.Queue(query, u.Tenant, u.Account, p.name).QueryRow(func(row pgx.Row) error {
			return row.Scan(&m.ID, &m.UIDValidity, &m.ObjectID, &m.epoch, &m.Rights, &m.SharedSeen, &m.others)
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, s.absent(ctx, u, p)
	}
	if err != nil {
		return nil, err
	}
	m.Rights = u.permitted(m.Rights)
	return m, nil
}

// absent says in what way there is no mailbox for the user.
func (s *Store) absent(ctx context.Context, u User, p path) error {
	if p.space != personal {
		return s.noForeign(ctx, u, p)
	}
	var children bool
	err := s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		queueHasChildren(b, u.Tenant, u.Account, p.name, &children)
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
