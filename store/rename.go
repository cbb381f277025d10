package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Rename gives a mailbox, or a name that only has children, and all that is
// below it another name; mailboxes above the new one are made where they are
// missing. Renaming INBOX moves its messages to a new mailbox, and leaves it
// empty, with what is below it (RFC 9051 section 6.3.6). Subscriptions are to
// names, and stay. ErrNotExist, ErrExists, ErrBadName, *quota.OverError.
func (s *Store) Rename(ctx context.Context, u User, from, to string) error {
	from, to = canonicalName(from), canonicalName(strings.TrimSuffix(to, separator))
	switch {
	case checkName(from) != nil:
		return ErrNotExist
	case s.checkNewName(to) != nil:
		return ErrBadName
	case to == inbox || from == to:
		return ErrExists
	}
	if from == inbox {
		if err := s.renameInbox(ctx, u, to); err != nil {
			return fmt.Errorf("rename INBOX: %w", err)
		}
		return nil
	}
	if strings.HasPrefix(to, from+separator) {
		return ErrBadName // into itself
	}
	var moved []*named
	err := s.transact(ctx, u.Tenant, func(tx pgx.Tx) (err error) {
		moved, err = s.renameTree(ctx, tx, u, from, to)
		return err
	})
	if err != nil {
		return fmt.Errorf("rename mailbox: %w", changeError(err))
	}
	for _, m := range moved {
		s.watch.changed(viewKey{u.Tenant, m.Mailbox}, 0)
	}
	return nil
}

func (s *Store) renameTree(ctx context.Context, tx pgx.Tx, u User, from, to string) ([]*named, error) {
	if err := lockNames(ctx, tx, u); err != nil {
		return nil, err
	}
	tree, err := treeOf(ctx, tx, u, from)
	if err != nil {
		return nil, err
	}
	if len(tree) == 0 {
		return nil, ErrNotExist
	}
	var names []string
	for _, m := range tree {
		name := to + m.Name[len(from):]
		if err := s.checkNewName(name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	there, err := existing(ctx, tx, u, append(names, to))
	if err != nil {
		return nil, err
	}
	if len(there) > 0 {
		return nil, ErrExists
	}
	more, err := s.createMissing(ctx, tx, u, parents(to))
	if err != nil {
		return nil, err
	}
	for i, m := range tree {
		if err := leaveTombstone(ctx, tx, u, m.Name, m.UIDValidity); err != nil {
			return nil, err
		}
		if err := renameOne(ctx, tx, u, m, names[i]); err != nil {
			return nil, err
		}
	}
	return tree, chargeNames(ctx, tx, u, more, 0)
}

// treeOf returns a mailbox, if there is one of the name, and all below it, by ascending number.
func treeOf(ctx context.Context, tx pgx.Tx, u User, name string) ([]*named, error) {
	there, err := existing(ctx, tx, u, []string{name})
	if err != nil {
		return nil, err
	}
	children, err := below(ctx, tx, u, name)
	if err != nil {
		return nil, err
	}
	var tree []*named
	for _, m := range there {
		tree = append(tree, m)
	}
	for _, m := range children {
		tree = append(tree, m)
	}
	slices.SortFunc(tree, func(a, b *named) int { return int(a.Mailbox - b.Mailbox) })
	return tree, nil
}

// createMissing makes those mailboxes of the names that are not there, and returns how many, for chargeNames.
func (s *Store) createMissing(ctx context.Context, tx pgx.Tx, u User, names []string) (int, error) {
	there, err := existing(ctx, tx, u, names)
	if err != nil {
		return 0, err
	}
	missing := len(names) - len(there)
	if err := s.roomForMailboxes(ctx, tx, u, missing); err != nil {
		return 0, err
	}
	for _, name := range names {
		if there[name] != nil {
			continue
		}
		if _, err := insertMailbox(ctx, tx, u.Tenant, u.Account, name, nil); err != nil {
			return 0, err
		}
	}
	return missing, nil
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
		if err := lockNames(ctx, tx, u); err != nil {
			return err
		}
		there, err := existing(ctx, tx, u, []string{inbox})
		if err != nil {
			return err
		}
		source := there[inbox]
		if source == nil {
			return ErrNotExist
		}
		dest, more, err := s.createWithParents(ctx, tx, u, to, nil)
		if err != nil {
			return err
		}
		if err := copyMetadata(ctx, tx, u.Tenant, source.Mailbox, dest.ID); err != nil {
			return err
		}
		t := transfer{uids: afterUID(0), move: true, keywords: s.options.MaxKeywords, saved: time.Now().UTC().Truncate(time.Second)}
		c = &changing{
			store: s, tenant: u.Tenant, account: u.Account, compute: t.between,
			targets: []target{{mailbox: source.Mailbox}, {mailbox: dest.ID}},
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
