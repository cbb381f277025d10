package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Rename gives a mailbox, or a name that only has children, and all that is
// below it another name; mailboxes above the new one are made where they are
// missing. Renaming INBOX moves its messages to a new mailbox, and leaves it
// empty, with what is below it (RFC 9051 section 6.3.6). Subscriptions are to
// names, and stay, as does what is granted. It needs the right to delete the mailbox, and the one to create
// another where it goes (RFC 4314 section 4). ErrNotExist, ErrExists, ErrBadName, *acl.DeniedError, *quota.OverError; ErrNamespace where
// the mailbox would be another's.
func (s *Store) Rename(ctx context.Context, u User, from, to string) error {
	source, sourceErr := u.path(from)
	dest, destErr := u.path(strings.TrimSuffix(to, separator))
	switch {
	case sourceErr != nil:
		return ErrNotExist
	case source.space != personal && source.name == "":
		return s.keepsNamespace(ctx, u, source)
	case destErr != nil, s.checkNewName(dest.name) != nil:
		return ErrBadName
	case source.space != dest.space || source.owner != dest.owner:
		return s.keepsNamespace(ctx, u, source)
	case dest.name == inbox || source.name == dest.name:
		return s.takenName(ctx, u, dest)
	case source.space == personal && source.name == inbox:
		if err := s.renameInbox(ctx, u, dest.name); err != nil {
			return fmt.Errorf("rename INBOX: %w", err)
		}
		return nil
	case strings.HasPrefix(dest.name, source.name+separator):
		return ErrBadName // into itself
	}
	var moved []*named
	err := s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		n, err := namesOf(ctx, tx, u, source)
		if err != nil {
			return err
		}
		if n.space != personal { // nobody holds up names without a right
			if _, err := n.movable(ctx, tx, source.name); err != nil {
				return err
			}
		}
		if err := lockNames(ctx, tx, n.owner); err != nil {
			return err
		}
		if err := n.hold(ctx, tx, source.name, parents(dest.name)...); err != nil {
			return err
		}
		if moved, err = s.renameTree(ctx, tx, n, source.name, dest.name); err != nil {
			return err
		}
		return n.audit(ctx, tx, "mailbox.rename", source.name, map[string]string{"to": dest.name})
	})
	if err != nil {
		return fmt.Errorf("rename mailbox: %w", changeError(err))
	}
	for _, m := range moved {
		s.watch.changed(viewKey{u.Tenant, m.Mailbox}, 0)
	}
	return nil
}

// keepsNamespace is ErrNamespace for what is there.
func (s *Store) keepsNamespace(ctx context.Context, u User, p path) error {
	m, err := s.open(ctx, u, p.full())
	switch {
	case errors.Is(err, ErrNoSelect):
		return ErrNamespace
	case err != nil:
		return err
	}
	if err := m.may(acl.DeleteMailbox); err != nil {
		return err
	}
	return ErrNamespace
}

// takenName is ErrExists, of another's name only where the user may know that.
func (s *Store) takenName(ctx context.Context, u User, p path) error {
	if p.space != personal {
		if _, err := s.open(ctx, u, p.full()); err != nil {
			return err
		}
	}
	return ErrExists
}

func (s *Store) renameTree(ctx context.Context, tx pgx.Tx, n names, from, to string) ([]*named, error) {
	tree, err := n.movable(ctx, tx, from)
	if err != nil {
		return nil, err
	}
	if err := n.mayCreate(ctx, tx, to); err != nil {
		return nil, err
	}
	var names []string
	for _, m := range tree {
		name := to + m.Name[len(from):]
		if err := s.checkNewName(name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	there, err := n.existing(ctx, tx, append(names, to)...)
	if err != nil {
		return nil, err
	}
	for _, m := range there {
		if err := m.isFree(); err != nil {
			return nil, err
		}
	}
	_, more, err := s.insertParents(ctx, tx, n, to, 0)
	if err != nil {
		return nil, err
	}
	for i, m := range tree {
		if err := leaveTombstone(ctx, tx, n.owner, m.Name, m.UIDValidity); err != nil {
			return nil, err
		}
		if err := renameOne(ctx, tx, n.owner, m, names[i]); err != nil {
			return nil, err
		}
	}
	return tree, chargeNames(ctx, tx, n.owner, more, 0)
}

// movable returns a mailbox, if there is one of the name, and all below it, by ascending number, if the
// user may rename them: with the right to on the mailbox; where there is none, or none that they may look up, on all of them.
func (n names) movable(ctx context.Context, tx pgx.Tx, name string) ([]*named, error) {
	there, err := n.existing(ctx, tx, name)
	if err != nil {
		return nil, err
	}
	children, err := n.below(ctx, tx, name)
	if err != nil {
		return nil, err
	}
	tree := slices.Collect(maps.Values(children))
	top := there[name]
	if top != nil {
		tree = append(tree, top)
	}
	seen := func(m *named) bool { return m.Rights.Has(acl.Lookup) }
	stays := func(m *named) bool { return m.may(acl.DeleteMailbox) != nil }
	if err = top.may(acl.DeleteMailbox); errors.Is(err, ErrNotExist) && slices.ContainsFunc(tree, seen) {
		err = nil
		if slices.ContainsFunc(tree, stays) {
			err = &acl.DeniedError{Missing: acl.DeleteMailbox}
		}
	}
	if n.space != personal && name == inbox && err == nil {
		err = ErrBadName // what is renamed then is its messages, by their owner alone
	}
	slices.SortFunc(tree, func(a, b *named) int { return int(a.Mailbox - b.Mailbox) })
	return tree, err
}

// renameOne gives a mailbox its new name.
func renameOne(ctx context.Context, tx pgx.Tx, u User, m *named, name string) error {
	const rename = `
		UPDATE mailbox SET name = $4, uidvalidity = $5
		WHERE tenant_id = $1 AND account_id = $2 AND mailbox_id = $3 AND deleted_at IS NULL`

	validity, err := validityFor(ctx, tx, u, m, name)
	if err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, rename, u.Tenant, u.Account, m.Mailbox, name, validity)
	return affected(tag, err, ErrNotExist)
}

// validityFor returns the UIDVALIDITY of a mailbox under a name. Where the name
// had a higher one before, that is a new one: a client must never find
// other messages under a pair of UIDVALIDITY and UID that it knows (RFC 9051 section 2.3.1.1).
func validityFor(ctx context.Context, tx pgx.Tx, u User, m *named, name string) (uint32, error) {
	const (
		known = `
			SELECT EXISTS (
				SELECT FROM mailbox_tombstone
				WHERE tenant_id = $1 AND account_id = $2 AND name = $3 AND uidvalidity > $4)`

		fresh = `
			UPDATE name_tree SET uidvalidity = greatest(uidvalidity + 1, extract(epoch FROM now())::bigint)
			WHERE tenant_id = $1 AND account_id = $2
			RETURNING uidvalidity`
	)
	var used bool
	if err := tx.QueryRow(ctx, known, u.Tenant, u.Account, name, m.UIDValidity).Scan(&used); err != nil || !used {
		return m.UIDValidity, err
	}
	var validity uint32
	err := tx.QueryRow(ctx, fresh, u.Tenant, u.Account).Scan(&validity)
	return validity, err
}

// renameInbox makes a mailbox and moves INBOX's messages there, with new UIDs and copies of its annotations.
// INBOX keeps UIDNEXT and MODSEQ.
func (s *Store) renameInbox(ctx context.Context, u User, to string) error {
	var c *changing
	err := s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		c = nil
		n := names{user: u, owner: u}
		if err := lockNames(ctx, tx, u); err != nil {
			return err
		}
		if err := n.hold(ctx, tx, "", append(parents(to), inbox)...); err != nil {
			return err
		}
		there, err := n.existing(ctx, tx, inbox)
		if err != nil {
			return err
		}
		source := there[inbox]
		if err := source.may(acl.DeleteMailbox); err != nil {
			return err
		}
		dest, more, err := s.createWithParents(ctx, tx, n, to, nil)
		if err != nil {
			return err
		}
		if err := copyMetadata(ctx, tx, u.Tenant, source.Mailbox, dest.ID); err != nil {
			return err
		}
		t := transfer{uids: afterUID(0), move: true, keywords: s.options.MaxKeywords, rights: acl.All, saved: time.Now().UTC().Truncate(time.Second)}
		c = &changing{
			store: s, tenant: u.Tenant, compute: t.between,
			targets: []target{{mailbox: source.Mailbox, owner: u.Account}, {mailbox: dest.ID, owner: u.Account}},
		}
		if err := c.within(ctx, tx); err != nil {
			return err
		}
		if err := s.metadataFits(ctx, tx, u.Tenant, map[id.Account]int64{u.Account: 0}); err != nil {
			return err
		}
		notes, err := annotationOctets(ctx, tx, u.Tenant, dest.ID, u.Account)
		if err != nil {
			return err
		}
		return chargeNames(ctx, tx, u, more, notes)
	})
	if err != nil {
		return changeError(err)
	}
	c.publish()
	return nil
}

// within makes the change inside a transaction of others, who publish it after the commit.
func (c *changing) within(ctx context.Context, tx pgx.Tx) error {
	c.before = make([]*view.View, len(c.targets))
	b := &pgx.Batch{}
	h := c.queueLock(b)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	if err := c.bringUp(ctx, tx, h); err != nil {
		return err
	}
	if err := c.plan(); err != nil || !c.changes() {
		return err
	}
	b = &pgx.Batch{}
	var done bool
	c.queue(b, true, &done)
	c.written = true
	return tx.SendBatch(ctx, b).Close()
}
