package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
)

// Errors of access control lists.
var (
	// ErrNoIdentifier says that the tenant has no such user or group.
	ErrNoIdentifier = errors.New("no such user or group")
	ErrACL          = errors.New("too many entries in the access control list")
)

// maxACL bounds the entries of one list.
const maxACL = 1000

// ACL returns a mailbox's access control list, with that of the owner first. It
// needs the right to administer the mailbox.
func (s *Store) ACL(ctx context.Context, u User, name string) ([]acl.Entry, error) {
	m, err := s.Open(ctx, u, name, acl.Administer)
	if err != nil {
		return nil, err
	}
	const query = `
		SELECT a.identifier, a.rights
		FROM mailbox_acl a
		WHERE a.tenant_id = $1 AND a.mailbox_id = $2
		ORDER BY a.identifier`

	var list []acl.Entry
	err = s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		b.Queue(query, u.Tenant, m.ID).Query(func(rows pgx.Rows) (err error) {
			list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[acl.Entry])
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read access control list: %w", err)
	}
	return withOwner(list, m.ownerLogin()), nil
}

// withOwner puts the owner's entry first, which they have if there is none; but for one who cannot have any.
func withOwner(list []acl.Entry, owner string) []acl.Entry {
	if acl.Required(owner, acl.User(owner)) == 0 {
		return list
	}
	first := acl.Entry{Identifier: acl.User(owner), Rights: acl.All}
	list = slices.DeleteFunc(list, func(e acl.Entry) bool {
		if e.Identifier != first.Identifier {
			return false
		}
		first = e
		return true
	})
	return slices.Insert(list, 0, first)
}

// ownerLogin returns the login of the mailbox's owner, "" where it is the tenant's.
func (m *Mailbox) ownerLogin() string {
	login := m.path.owner
	if m.path.space == personal {
		login = m.user.Login
	}
	if isShared(login) {
		return ""
	}
	return login
}

// OwnerLogin returns the login of the owner of the mailbox of a name, "" where it is the tenant's.
// It needs the right to administer the mailbox.
func (s *Store) OwnerLogin(ctx context.Context, u User, name string) (string, error) {
	m, err := s.Open(ctx, u, name, acl.Administer)
	if err != nil {
		return "", err
	}
	return m.ownerLogin(), nil
}

// SetACL changes the rights that an identifier has on a mailbox, or that a negative one takes; without
// any left, its entry goes. It needs the right to administer the mailbox. ErrNoIdentifier, ErrACL.
//
// It is so for all sessions at once: each finds the epoch of the mailbox's rights moved, in the first
// answer or change that comes after.
func (s *Store) SetACL(ctx context.Context, u User, name string, of acl.Identifier, change acl.Modification) error {
	m, err := s.Open(ctx, u, name, acl.Administer)
	if err != nil {
		return err
	}
	owner := m.ownerLogin()
	err = s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		if err := lockIdentifier(ctx, tx, u.Tenant, of); err != nil {
			return err
		}
		if err := m.lockToAdminister(ctx, tx); err != nil {
			return err
		}
		now, n, err := entryOf(ctx, tx, m, of)
		if err != nil {
			return err
		}
		was := now
		if acl.Required(owner, of) != 0 && now == 0 {
			was = acl.All // what they have without an entry
		}
		rights := acl.Settle(owner, of, change.Of(was))
		if rights != 0 && now == 0 && n >= maxACL {
			return ErrACL
		}
		if err := setEntry(ctx, tx, m, of, rights); err != nil {
			return err
		}
		if err := settleRights(ctx, tx, u.Tenant, m.ID); err != nil {
			return err
		}
		if rights.Has(acl.Lookup) && !now.Has(acl.Lookup) {
			if err := s.autoSubscribe(ctx, tx, u.Tenant, of, m.ID); err != nil {
				return err
			}
		}
		return m.audit(ctx, tx, of, rights)
	})
	if err != nil {
		return fmt.Errorf("set access control list: %w", changeError(err))
	}
	s.watch.changed(m.key(), 0)
	return nil
}

// DeleteACL removes the entry of an identifier, if there is one. The owner has all rights then. It needs the
// right to administer the mailbox.
func (s *Store) DeleteACL(ctx context.Context, u User, name string, of acl.Identifier) error {
	m, err := s.Open(ctx, u, name, acl.Administer)
	if err != nil {
		return err
	}
	err = s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		if err := m.lockToAdminister(ctx, tx); err != nil {
			return err
		}
		if err := setEntry(ctx, tx, m, of, 0); err != nil {
			return err
		}
		if err := settleRights(ctx, tx, u.Tenant, m.ID); err != nil {
			return err
		}
		return m.audit(ctx, tx, of, 0)
	})
	if err != nil {
		return fmt.Errorf("delete from access control list: %w", changeError(err))
	}
	s.watch.changed(m.key(), 0)
	return nil
}

// audit writes down that an entry has other rights now, 0 where it has gone.
func (m *Mailbox) audit(ctx context.Context, tx pgx.Tx, of acl.Identifier, rights acl.Rights) error {
	return audit(ctx, tx, m.Tenant, Act{Actor: m.user.Who(), Action: "acl.set", Object: m.Name, Detail: map[string]any{
		"account": m.Owner, "mailbox": m.ID, "identifier": of, "rights": rights.String(),
	}})
}

// lockToAdminister locks a mailbox, on which the rights must still be those that it was opened with.
func (m *Mailbox) lockToAdminister(ctx context.Context, tx pgx.Tx) error {
	const query = `
		SELECT acl_epoch
		FROM mailbox
		WHERE tenant_id = $1 AND mailbox_id = $2 AND deleted_at IS NULL
		FOR NO KEY UPDATE`

	var epoch int64
	if err := tx.QueryRow(ctx, query, m.Tenant, m.ID).Scan(&epoch); err != nil {
		return err
	}
	if epoch == m.epoch {
		return nil
	}
	now, err := m.renew(ctx, tx)
	if err != nil {
		return err
	}
	m.epoch, m.Rights = now.epoch, now.Rights
	return m.may(acl.Administer)
}

// lockIdentifier makes sure that there is a user or group of the tenant, and stays until the transaction ends. ErrNoIdentifier.
func lockIdentifier(ctx context.Context, tx pgx.Tx, t id.Tenant, of acl.Identifier) error {
	const (
		account = `SELECT FROM account WHERE tenant_id = $1 AND login = $2 AND NOT deleting FOR SHARE`
		group   = `SELECT FROM user_group WHERE tenant_id = $1 AND name = $2 FOR SHARE`
	)
	query, name := account, ""
	if login, ok := of.Login(); ok {
		if name = login; isShared(login) {
			return ErrNoIdentifier
		}
	} else if name, ok = of.Group(); ok {
		query = group
	} else {
		return nil // anyone
	}
	tag, err := tx.Exec(ctx, query, t, name)
	return affected(tag, err, ErrNoIdentifier)
}

// entryOf returns the rights of an entry of a mailbox that is locked, none where there is none, and how many entries there are.
func entryOf(ctx context.Context, tx pgx.Tx, m *Mailbox, of acl.Identifier) (rights acl.Rights, n int, err error) {
	const query = `
		SELECT coalesce(max(rights) FILTER (WHERE identifier = $3), 0), count(*)
		FROM mailbox_acl
		WHERE tenant_id = $1 AND mailbox_id = $2`

	err = tx.QueryRow(ctx, query, m.Tenant, m.ID, of).Scan(&rights, &n)
	return rights, n, err
}

// setEntry gives a mailbox that is locked an entry, or takes it away.
func setEntry(ctx context.Context, tx pgx.Tx, m *Mailbox, of acl.Identifier, rights acl.Rights) error {
	const (
		remove = `DELETE FROM mailbox_acl WHERE tenant_id = $1 AND mailbox_id = $2 AND identifier = $3`

		put = `
			INSERT INTO mailbox_acl (tenant_id, mailbox_id, identifier, rights)
			VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant_id, mailbox_id, identifier) DO UPDATE SET rights = excluded.rights`
	)
	if rights == 0 {
		_, err := tx.Exec(ctx, remove, m.Tenant, m.ID, of)
		return err
	}
	_, err := tx.Exec(ctx, put, m.Tenant, m.ID, of, rights)
	return err
}

// lockMailboxes locks mailboxes in order.
func lockMailboxes(ctx context.Context, tx pgx.Tx, t id.Tenant, mailboxes []id.Mailbox) error {
	const query = `
		SELECT FROM mailbox
		WHERE tenant_id = $1 AND mailbox_id = ANY ($2)
		ORDER BY mailbox_id
		FOR NO KEY UPDATE`

	_, err := tx.Exec(ctx, query, t, mailboxes)
	return err
}

// settleRights moves the epoch of mailboxes that are locked, after something has changed that the rights on
// them depend on, and reckons anew what their owners may do.
func settleRights(ctx context.Context, tx pgx.Tx, t id.Tenant, mailboxes ...id.Mailbox) error {
	const settle = `
		UPDATE mailbox m
		SET acl_epoch = m.acl_epoch + 1, owner_rights = n.rights, others = n.others
		FROM unnest($2::bigint[], $3::integer[], $4::boolean[]) AS n (mailbox_id, rights, others)
		WHERE m.tenant_id = $1 AND m.mailbox_id = n.mailbox_id`

	owners, err := rightsOfOwners(ctx, tx, t, mailboxes)
	if err != nil {
		return err
	}
	var which []id.Mailbox
	var rights []acl.Rights
	var others []bool
	for m, o := range owners {
		which, rights, others = append(which, m), append(rights, o.rights), append(others, o.others)
	}
	_, err = tx.Exec(ctx, settle, t, which, rights, others)
	return err
}

// settled is what follows for its owner from a mailbox's list.
type settled struct {
	rights acl.Rights
	others bool // the list has entries of others
}

// rightsOfOwners reckons what the owners of mailboxes may do there, from the lists.
func rightsOfOwners(ctx context.Context, tx pgx.Tx, t id.Tenant, mailboxes []id.Mailbox) (map[id.Mailbox]settled, error) {
	const query = `
		SELECT m.mailbox_id, o.login,
			EXISTS (
				SELECT FROM mailbox_acl x
				WHERE x.tenant_id = m.tenant_id AND x.mailbox_id = m.mailbox_id AND x.identifier NOT IN (o.login, '-' || o.login)),
			array_agg(a.identifier) FILTER (WHERE a.identifier IS NOT NULL), array_agg(a.rights) FILTER (WHERE a.identifier IS NOT NULL)
		FROM mailbox m
		JOIN account o ON o.tenant_id = m.tenant_id AND o.account_id = m.account_id
		LEFT JOIN mailbox_acl a ON a.tenant_id = m.tenant_id AND a.mailbox_id = m.mailbox_id
			AND a.identifier = ANY (identifiers_of($1, m.account_id, o.login))
		WHERE m.tenant_id = $1 AND m.mailbox_id = ANY ($2)
		GROUP BY m.tenant_id, m.mailbox_id, o.login`

	rows, _ := tx.Query(ctx, query, t, mailboxes) // ForEachRow reports the error
	all := make(map[id.Mailbox]settled, len(mailboxes))
	var m id.Mailbox
	var login string
	var others bool
	var e entries
	_, err := pgx.ForEachRow(rows, []any{&m, &login, &others, &e.identifiers, &e.rights}, func() error {
		all[m] = settled{e.effective(true, login), others}
		return nil
	})
	return all, err
}

// autoSubscribe subscribes those whom an identifier stands for to a mailbox that they may look up from now on, where
// the tenant has decided so; but for those from whom the right is taken away again, who are to know nothing of the mailbox; guests are none of
// anyone. A name that is one too many for an account is left out.
func (s *Store) autoSubscribe(ctx context.Context, tx pgx.Tx, t id.Tenant, of acl.Identifier, mailboxes ...id.Mailbox) error {
	const query = `
		INSERT INTO subscription (tenant_id, account_id, name)
		SELECT $1, a.account_id,
			CASE WHEN o.login = $4 THEN $5 || m.name ELSE $6 || o.login || '/' || m.name END
		FROM account a, mailbox m
		JOIN account o ON o.tenant_id = m.tenant_id AND o.account_id = m.account_id
		WHERE a.tenant_id = $1 AND NOT a.deleting AND m.tenant_id = $1 AND m.mailbox_id = ANY ($2) AND m.deleted_at IS NULL
		  AND a.account_id <> m.account_id AND a.login <> $4
		  AND $3 = ANY (identifiers_of($1, a.account_id, a.login))
		  AND ($3 <> 'anyone' OR NOT EXISTS (SELECT FROM guest g WHERE g.tenant_id = $1 AND g.account_id = a.account_id))
		  AND NOT EXISTS (
			SELECT FROM mailbox_acl n
			WHERE n.tenant_id = $1 AND n.mailbox_id = m.mailbox_id AND n.rights & $8 <> 0
			  AND starts_with(n.identifier, '-') AND n.identifier = ANY (identifiers_of($1, a.account_id, a.login)))
		  AND (SELECT auto_subscribe FROM tenant WHERE tenant_id = $1)
		  AND (SELECT count(*) FROM subscription s WHERE s.tenant_id = $1 AND s.account_id = a.account_id) < $7
		FOR SHARE OF a
		ON CONFLICT DO NOTHING`

	if of.Negative() {
		return nil
	}
	_, err := tx.Exec(ctx, query, t, mailboxes, of, sharedLogin(t),
		SharedFolders+separator, OtherUsers+separator, s.options.MaxMailboxes, acl.Lookup)
	return err
}
