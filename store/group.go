package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
)

// Group is some of a tenant's users, as access control lists name them.
type Group struct {
	Name    string
	Created time.Time
	Members []string // logins
}

// Errors of groups.
var (
	ErrNoGroup    error = missing("group")
	ErrGroupTaken error = taken("a group of that name exists")
)

// maxGroupName bounds the name of a group, in octets.
const maxGroupName = 64

// newGroup checks the name of a group that is to be made, and returns it as it is kept.
func newGroup(name string) (string, error) {
	identifier, err := acl.ParseIdentifier(string(acl.Group(name)))
	normal, _ := identifier.Group()
	if err != nil || len(normal) > maxGroupName || checkName(normal) != nil {
		return "", &InvalidError{"group", name, fmt.Sprintf("want up to %d octets, none of them a slash or a control character", maxGroupName)}
	}
	return normal, nil
}

// CreateGroup makes a group of nobody; ErrGroupTaken.
func (s *Store) CreateGroup(ctx context.Context, t id.Tenant, name string) (Group, error) {
	const query = `INSERT INTO user_group (tenant_id, name) VALUES ($1, $2) RETURNING created_at`

	name, err := newGroup(name)
	if err != nil {
		return Group{}, err
	}
	g := Group{Name: name}
	err = s.transact(ctx, t, func(tx pgx.Tx) error {
		if err := lockTenant(ctx, tx, t); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, query, t, name).Scan(&g.Created); err != nil {
			return err
		}
		return audit(ctx, tx, t, Act{Action: "group.create", Object: name})
	})
	return g, unique(err, ErrGroupTaken)
}

// Groups lists a tenant's groups by name.
func (s *Store) Groups(ctx context.Context, t id.Tenant) (groups []Group, err error) {
	const query = `
		SELECT g.name, g.created_at, array(
			SELECT a.login
			FROM group_member m
			JOIN account a ON a.tenant_id = m.tenant_id AND a.account_id = m.account_id
			WHERE m.tenant_id = g.tenant_id AND m.name = g.name
			ORDER BY a.login)
		FROM user_group g
		WHERE g.tenant_id = $1
		ORDER BY g.name`

	err = s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t).Query(func(rows pgx.Rows) (err error) {
			groups, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Group])
			return err
		})
	})
	return groups, err
}

// DeleteGroup removes a group, and what access control lists say of it; ErrNoGroup.
func (s *Store) DeleteGroup(ctx context.Context, t id.Tenant, name string) error {
	const (
		forget = `DELETE FROM mailbox_acl WHERE tenant_id = $1 AND identifier = ANY ($2)`
		remove = `DELETE FROM user_group WHERE tenant_id = $1 AND name = $2`
	)
	return s.changeGroup(ctx, t, name, Act{Action: "group.delete"}, func(tx pgx.Tx, name string, _ []id.Mailbox) error {
		if _, err := tx.Exec(ctx, forget, t, identifiers(acl.Group(name))); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, remove, t, name)
		return err
	})
}

// AddToGroup makes a user one of a group; ErrNoGroup, ErrNoAccount.
func (s *Store) AddToGroup(ctx context.Context, u User, group string) error {
	const (
		lock = `SELECT FROM account WHERE tenant_id = $1 AND account_id = $2 AND NOT deleting FOR SHARE`
		add  = `INSERT INTO group_member (tenant_id, name, account_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	)
	return s.changeGroup(ctx, u.Tenant, group, Act{Action: "group.add", Detail: u.Login}, func(tx pgx.Tx, name string, mailboxes []id.Mailbox) error {
		tag, err := tx.Exec(ctx, lock, u.Tenant, u.Account)
		if err := affected(tag, err, ErrNoAccount); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, add, u.Tenant, name, u.Account); err != nil {
			return err
		}
		return s.autoSubscribe(ctx, tx, u.Tenant, acl.Group(name), mailboxes...)
	})
}

// RemoveFromGroup takes a user out of a group; ErrNoGroup.
func (s *Store) RemoveFromGroup(ctx context.Context, u User, group string) error {
	const query = `DELETE FROM group_member WHERE tenant_id = $1 AND name = $2 AND account_id = $3`

	return s.changeGroup(ctx, u.Tenant, group, Act{Action: "group.remove", Detail: u.Login}, func(tx pgx.Tx, name string, _ []id.Mailbox) error {
		_, err := tx.Exec(ctx, query, u.Tenant, name, u.Account)
		return err
	})
}

// changeGroup changes a group, and the rights on the mailboxes whose lists name it. The lock of the
// group comes before any mailbox's, also where a list is changed: so none is missed that is granted anew. change is
// told those that the group may look up.
func (s *Store) changeGroup(ctx context.Context, t id.Tenant, name string, a Act, change func(tx pgx.Tx, name string, visible []id.Mailbox) error) error {
	const lock = `SELECT FROM user_group WHERE tenant_id = $1 AND name = $2 FOR UPDATE`

	name, err := newGroup(name)
	if err != nil {
		return ErrNoGroup
	}
	var named []id.Mailbox
	err = s.transact(ctx, t, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, lock, t, name)
		if err := affected(tag, err, ErrNoGroup); err != nil {
			return err
		}
		var visible []id.Mailbox
		if named, visible, err = lockNaming(ctx, tx, t, acl.Group(name)); err != nil {
			return err
		}
		if err := change(tx, name, visible); err != nil {
			return err
		}
		if err := settleRights(ctx, tx, t, named...); err != nil {
			return err
		}
		a.Object = name
		return audit(ctx, tx, t, a)
	})
	if err != nil {
		return err
	}
	s.rightsChanged(t, named)
	return nil
}

// rightsChanged wakes who watches mailboxes on which the rights have changed.
func (s *Store) rightsChanged(t id.Tenant, mailboxes []id.Mailbox) {
	for _, m := range mailboxes {
		s.watch.changed(viewKey{t, m}, 0)
	}
}

// identifiers are that of a user or group, and the negative one.
func identifiers(of acl.Identifier) []acl.Identifier { return []acl.Identifier{of, "-" + of} }

// lockNaming is naming of mailboxes that it locks. While it waits for their locks others may inherit a list; once
// it has those of all that have been found, none does.
func lockNaming(ctx context.Context, tx pgx.Tx, t id.Tenant, of acl.Identifier) (named, visible []id.Mailbox, err error) {
	var locked []id.Mailbox
	for {
		named, visible, err = naming(ctx, tx, t, of)
		if err != nil || slices.Equal(named, locked) {
			return named, visible, err
		}
		if err := lockMailboxes(ctx, tx, t, named); err != nil {
			return nil, nil, err
		}
		locked = named
	}
}

// naming returns the mailboxes whose lists have an entry for an identifier, and those of them that it may look up.
func naming(ctx context.Context, tx pgx.Tx, t id.Tenant, of acl.Identifier) (named, visible []id.Mailbox, err error) {
	const query = `
		SELECT mailbox_id, bool_or(identifier = $3 AND rights & $4 <> 0)
		FROM mailbox_acl
		WHERE tenant_id = $1 AND identifier = ANY ($2)
		GROUP BY mailbox_id
		ORDER BY mailbox_id`

	rows, _ := tx.Query(ctx, query, t, identifiers(of), of, acl.Lookup) // ForEachRow reports the error
	var m id.Mailbox
	var sees bool
	_, err = pgx.ForEachRow(rows, []any{&m, &sees}, func() error {
		named = append(named, m)
		if sees {
			visible = append(visible, m)
		}
		return nil
	})
	return named, visible, err
}

// revokeStep is how many mailboxes one transaction of a revocation locks.
const revokeStep = 200

// revoke takes an account that is being deleted out of all groups and lists. Nothing new comes: it is closed. Nor does anyone
// stand for it any more, so what is everybody's is revoked too.
func (s *Store) revoke(ctx context.Context, u User) error {
	if err := s.leaveGroups(ctx, u); err != nil {
		return err
	}
	own := identifiers(acl.User(u.Login))
	for {
		some, err := s.revokeSome(ctx, u.Tenant, own, 0, true)
		if err != nil {
			return err
		}
		if len(some) == 0 {
			break
		}
	}
	for last := id.Mailbox(0); ; {
		some, err := s.revokeSome(ctx, u.Tenant, identifiers(acl.Anyone), last, false)
		if err != nil || len(some) == 0 {
			return err
		}
		last = some[len(some)-1]
	}
}

// leaveGroups takes an account out of all groups.
func (s *Store) leaveGroups(ctx context.Context, u User) error {
	const query = `SELECT name FROM group_member WHERE tenant_id = $1 AND account_id = $2 LIMIT 1`

	for {
		var name string
		err := s.read(ctx, u.Tenant, func(b *pgx.Batch) {
			b.Queue(query, u.Tenant, u.Account).QueryRow(func(row pgx.Row) error { return row.Scan(&name) })
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil {
			err = s.RemoveFromGroup(ctx, u, name)
		}
		if err != nil && !errors.Is(err, ErrNoGroup) {
			return err
		}
	}
}

// revokeSome settles the rights on some mailboxes behind the last whose lists have an entry for any of the identifiers, and takes these
// entries away or not. Nothing needs to be settled in a tenant that is being deleted, with all of its sessions.
func (s *Store) revokeSome(ctx context.Context, t id.Tenant, of []acl.Identifier, last id.Mailbox, take bool) (some []id.Mailbox, err error) {
	const (
		query = `
			SELECT DISTINCT mailbox_id
			FROM mailbox_acl
			WHERE tenant_id = $1 AND identifier = ANY ($2) AND mailbox_id > $3 AND NOT (SELECT deleting FROM tenant WHERE tenant_id = $1)
			ORDER BY mailbox_id
			LIMIT $4`

		forget = `DELETE FROM mailbox_acl WHERE tenant_id = $1 AND identifier = ANY ($2) AND mailbox_id = ANY ($3)`
	)
	err = s.transact(ctx, t, func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(ctx, query, t, of, last, revokeStep) // CollectRows reports the error
		if some, err = pgx.CollectRows(rows, pgx.RowTo[id.Mailbox]); err != nil {
			return err
		}
		if err := lockMailboxes(ctx, tx, t, some); err != nil {
			return err
		}
		if take {
			if _, err := tx.Exec(ctx, forget, t, of, some); err != nil {
				return err
			}
		}
		return settleRights(ctx, tx, t, some...)
	})
	if err == nil {
		s.rightsChanged(t, some)
	}
	return some, err
}
