package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
)

// names are those of the mailboxes of one account, as a user may change them.
type names struct {
	user  User // who acts
	owner User // whose names they are; account 0 where there is no such user
	space space
}

// namesOf returns the names among which a path leads.
func namesOf(ctx context.Context, tx pgx.Tx, u User, p path) (names, error) {
	const query = `SELECT account_id FROM account WHERE tenant_id = $1 AND login = $2 AND account_id <> $3 AND NOT deleting`

	n := names{user: u, owner: u, space: p.space}
	if p.space == personal {
		return n, nil
	}
	n.owner = User{Tenant: u.Tenant, Login: p.owner}
	err := tx.QueryRow(ctx, query, u.Tenant, p.owner, u.Account).Scan(&n.owner.Account)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return n, err
}

// audit writes down what was done to the names of a tenant's own mailboxes, which its admins manage. It comes last.
func (n names) audit(ctx context.Context, tx pgx.Tx, action, name string, detail any) error {
	if !isShared(n.owner.Login) {
		return nil
	}
	return audit(ctx, tx, n.owner.Tenant, Act{Actor: n.user.Who(), Action: action, Object: SharedFolders + separator + name, Detail: detail})
}

// named is a mailbox as far as changes of names look at it.
type named struct {
	Mailbox     id.Mailbox
	Name        string
	UIDValidity uint32
	Rights      acl.Rights // of who acts
	SharedSeen  bool
	others      bool
}

// may refuses what needs a right on a mailbox; nil is one that is not there, as is one that may not be looked up.
func (m *named) may(want acl.Rights) error {
	switch {
	case m == nil, !m.Rights.Has(acl.Lookup):
		return ErrNotExist
	case !m.Rights.Has(want):
		return &acl.DeniedError{Missing: want &^ m.Rights}
	}
	return nil
}

// hold locks mailboxes whose lists say what may be done, or are inherited, and one with all below it (tree; "": none) that is to be
// renamed: from here on nobody changes these lists, and a change that was under way is done. Their order is that of all locks. No
// name begins with a separator, so below "" there is nothing.
func (n names) hold(ctx context.Context, tx pgx.Tx, tree string, others ...string) error {
	const query = `
		SELECT FROM mailbox
		WHERE tenant_id = $1 AND account_id = $2 AND deleted_at IS NULL
		  AND (name = ANY ($3) OR name > $4 || '/' AND name < $4 || '0')
		ORDER BY mailbox_id
		FOR NO KEY UPDATE`

	if tree != "" {
		others = append(others, tree)
	} else if len(others) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, query, n.owner.Tenant, n.owner.Account, others, tree)
	return err
}

const selectNamed = `
	WITH me AS MATERIALIZED (SELECT identifiers_of($1, $2, $3) AS ids)
	SELECT m.mailbox_id, m.name, m.uidvalidity, m.owner_rights, m.shared_seen, m.others, e.identifiers, e.rights
	FROM mailbox m` + entriesFor

// existing returns those mailboxes of the names that are there.
func (n names) existing(ctx context.Context, tx pgx.Tx, names ...string) (map[string]*named, error) {
	const query = selectNamed + `
		WHERE m.tenant_id = $1 AND m.account_id = $4 AND m.name = ANY ($5) AND m.deleted_at IS NULL`

	rows, _ := tx.Query(ctx, query, n.owner.Tenant, n.user.Account, n.user.Login, n.owner.Account, names) // collect reports the error
	return n.collect(rows)
}

// below returns the mailboxes below a name, at any depth. The octet behind the separator is 0.
func (n names) below(ctx context.Context, tx pgx.Tx, name string) (map[string]*named, error) {
	const query = selectNamed + `
		WHERE m.tenant_id = $1 AND m.account_id = $4 AND m.name > $5 || '/' AND m.name < $5 || '0' AND m.deleted_at IS NULL`

	rows, _ := tx.Query(ctx, query, n.owner.Tenant, n.user.Account, n.user.Login, n.owner.Account, name) // collect reports the error
	return n.collect(rows)
}

func (n names) collect(rows pgx.Rows) (map[string]*named, error) {
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*named, error) {
		m := &named{}
		var e entries
		err := row.Scan(&m.Mailbox, &m.Name, &m.UIDValidity, &m.Rights, &m.SharedSeen, &m.others, &e.identifiers, &e.rights)
		if n.space != personal {
			m.Rights = n.user.rights(n.space, e)
		}
		return m, err
	})
	if err != nil {
		return nil, err
	}
	byName := make(map[string]*named, len(all))
	for _, m := range all {
		byName[m.Name] = m
	}
	return byName, nil
}

// mayCreate tells whether the user may make a mailbox of the name: with the right to on the nearest mailbox above
// it (RFC 4314 section 4). Where there is none, its owner may, and who administers the tenant what is the tenant's.
// There is no other answer where the user may not look that mailbox up, or where there is no such owner.
func (n names) mayCreate(ctx context.Context, tx pgx.Tx, name string) error {
	nearest, err := n.nearest(ctx, tx, name)
	switch {
	case err != nil:
		return err
	case nearest == nil && (n.space == personal || n.space == common && n.user.AdministersTenant(n.user.Tenant)):
		return nil
	case nearest == nil || nearest.may(acl.Create) != nil:
		return &acl.DeniedError{Missing: acl.Create}
	}
	return nil
}

// nearest returns the nearest mailbox above a name, nil if there is none.
func (n names) nearest(ctx context.Context, tx pgx.Tx, name string) (*named, error) {
	above := parents(name)
	there, err := n.existing(ctx, tx, above...)
	if err != nil {
		return nil, err
	}
	for i := len(above) - 1; i >= 0; i-- {
		if m := there[above[i]]; m != nil {
			return m, nil
		}
	}
	return nil, nil
}

// isFree tells whether a name is free. One that is another's mailbox which the user may not look up is not theirs to have.
func (m *named) isFree() error {
	switch {
	case m == nil:
		return nil
	case !m.Rights.Has(acl.Lookup):
		return &acl.DeniedError{Missing: acl.Create}
	}
	return ErrExists
}

// insert makes a mailbox with the rights of the one above it, which is held, as RFC 4314 section 4 wants, and one \Seen for all
// where that has; nil where there is none.
// A mailbox of the tenant that is below none is for whom has made it, to begin with, where they can have an entry.
func (n names) insert(ctx context.Context, tx pgx.Tx, name string, above *named, specialUse []string) (*Mailbox, error) {
	const (
		inherit = `
			INSERT INTO mailbox_acl (tenant_id, mailbox_id, identifier, rights)
			SELECT tenant_id, $3, identifier, rights
			FROM mailbox_acl
			WHERE tenant_id = $1 AND mailbox_id = $2`

		owner = `
			UPDATE mailbox m
			SET owner_rights = p.owner_rights, others = p.others, shared_seen = p.shared_seen
			FROM mailbox p
			WHERE m.tenant_id = $1 AND m.mailbox_id = $3 AND p.tenant_id = $1 AND p.mailbox_id = $2`

		others = `UPDATE mailbox SET others = true WHERE tenant_id = $1 AND mailbox_id = $2`
	)
	m, err := insertMailbox(ctx, tx, n.owner.Tenant, n.owner.Account, name, specialUse)
	switch {
	case err != nil:
		return nil, err
	case above != nil:
		for _, query := range []string{inherit, owner} {
			if _, err := tx.Exec(ctx, query, n.owner.Tenant, above.Mailbox, m.ID); err != nil {
				return nil, err
			}
		}
	case n.space == common && !acl.User(n.user.Login).Negative():
		if _, err := tx.Exec(ctx, others, n.owner.Tenant, m.ID); err != nil {
			return nil, err
		}
		return m, setEntry(ctx, tx, m, acl.User(n.user.Login), acl.All)
	}
	return m, nil
}

// insertParents makes those mailboxes above a name that are not there, and returns the lowest, nil where the name
// has none above it, and how many it has made, for chargeNames. There must be room for them and for so many more. The names are locked, and those above are held.
func (s *Store) insertParents(ctx context.Context, tx pgx.Tx, n names, name string, more int) (lowest *named, made int, err error) {
	above := parents(name)
	there, err := n.existing(ctx, tx, above...)
	if err != nil {
		return nil, 0, err
	}
	made = len(above) - len(there)
	if err := s.roomForMailboxes(ctx, tx, n.owner, made+more); err != nil {
		return nil, 0, err
	}
	for _, name := range above {
		if m := there[name]; m != nil {
			lowest = m
			continue
		}
		m, err := n.insert(ctx, tx, name, lowest, nil)
		if err != nil {
			return nil, 0, err
		}
		lowest = &named{Mailbox: m.ID, Name: name, UIDValidity: m.UIDValidity}
	}
	return lowest, made, nil
}
