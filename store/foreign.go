package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
)

// Mailboxes of which the user is not the owner. What they may do there is asked
// together with the mailbox, so that one they may not see takes the same way as one that is not there.

// entries are those of an access control list that stand for one user, by column.
type entries struct {
	identifiers []acl.Identifier
	rights      []acl.Rights
}

// entriesFor is a part of a query that has the identifiers of a user as me.ids,
// and a mailbox m: their entries as e.identifiers and e.rights.
const entriesFor = `
	CROSS JOIN LATERAL (
		SELECT coalesce(array_agg(a.identifier), '{}') AS identifiers, coalesce(array_agg(a.rights), '{}') AS rights
		FROM mailbox_acl a, me
		WHERE a.tenant_id = m.tenant_id AND a.mailbox_id = m.mailbox_id AND a.identifier = ANY (me.ids)
	) e`

// effective returns the rights that entries that stand for a user give them.
func (e entries) effective(owner bool, login string) acl.Rights {
	var groups []string
	list := make([]acl.Entry, len(e.identifiers))
	for i, identifier := range e.identifiers {
		list[i] = acl.Entry{Identifier: identifier, Rights: e.rights[i]}
		if name, ok := identifier.Group(); ok {
			groups = append(groups, name)
		}
	}
	return acl.Effective(owner, login, groups, list)
}

// named leaves out what everyone of the tenant is given. What is taken from everyone is taken from strangers as well.
func (e entries) named() (left entries) {
	for i, identifier := range e.identifiers {
		if identifier != acl.Anyone {
			left.identifiers, left.rights = append(left.identifiers, identifier), append(left.rights, e.rights[i])
		}
	}
	return left
}

// managed is what a tenant's administrators may do with its mailboxes, whatever the lists say: what is needed
// to give themselves, or others, more.
const managed = acl.Lookup | acl.Create | acl.DeleteMailbox | acl.Administer

// rights returns what the user may do in a mailbox of a namespace that is not their own.
func (u User) rights(in space, e entries) acl.Rights {
	if u.Anonymous || u.Guest {
		e = e.named()
	}
	r := e.effective(false, u.Login)
	if in == common && u.AdministersTenant(u.Tenant) {
		r |= managed
	}
	return u.permitted(r)
}

// foreignMailbox is a mailbox that is not the user's, as they may see it.
type foreignMailbox struct {
	*Mailbox
	status Status
}

// foreign returns those mailboxes of paths that are there and that the user may see, by the index of their path.
func (s *Store) foreign(ctx context.Context, u User, paths []path) (map[int]foreignMailbox, error) {
	const query = `
		WITH me AS MATERIALIZED (SELECT identifiers_of($1, $2, $3) AS ids)
		SELECT p.at - 1, m.account_id, m.mailbox_id, m.uidvalidity, m.objectid, m.acl_epoch, m.shared_seen, m.others, e.identifiers, e.rights,
			m.uidnext, m.highestmodseq, m.recent_uid, m.messages, m.unseen, m.deleted, m.bytes, m.deleted_bytes
		FROM unnest($4::text[], $5::text[]) WITH ORDINALITY AS p (owner, name, at)
		JOIN account o ON o.tenant_id = $1 AND o.login = p.owner AND o.account_id <> $2 AND NOT o.deleting
		JOIN mailbox m ON m.tenant_id = $1 AND m.account_id = o.account_id AND m.name = p.name AND m.deleted_at IS NULL` + entriesFor

	var owners, names []string
	for _, p := range paths {
		owners, names = append(owners, p.owner), append(names, p.name)
	}
	var found map[int]foreignMailbox
	err := s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		found = make(map[int]foreignMailbox)
		b.Queue(query, u.Tenant, u.Account, u.Login, owners, names).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var at int
				var e entries
				m := &Mailbox{Tenant: u.Tenant, user: u, store: s}
				st := Status{AppendLimit: s.options.MaxMessage}
				err := rows.Scan(&at, &m.Owner, &m.ID, &m.UIDValidity, &m.ObjectID, &m.epoch, &m.SharedSeen, &m.others, &e.identifiers, &e.rights,
					&st.UIDNext, &st.HighestModSeq, &st.recentUID,
					&st.Counts.Messages, &st.Counts.Unseen, &st.Counts.Deleted, &st.Counts.Bytes, &st.Counts.DeletedBytes)
				if err != nil {
					return err
				}
				m.path = paths[at]
				m.Name, m.Rights = m.path.full(), u.rights(m.path.space, e)
				st.UIDValidity, st.MailboxID, st.Rights, st.viewer = m.UIDValidity, m.ObjectID, m.Rights, m.viewer()
				if !m.SharedSeen {
					st.Counts.Unseen, st.ownSeen = 0, true // that is the owner's
				}
				if m.Rights.Has(acl.Lookup) {
					found[at] = foreignMailbox{m, st}
				}
			}
			return rows.Err()
		})
	})
	return found, err
}

// openForeign opens a mailbox that is not the user's.
func (s *Store) openForeign(ctx context.Context, u User, p path) (foreignMailbox, error) {
	found, err := s.foreign(ctx, u, []path{p})
	if err != nil {
		return foreignMailbox{}, err
	}
	if m, ok := found[0]; ok {
		return m, nil
	}
	return foreignMailbox{}, s.absent(ctx, u, p)
}

// noForeign is absent for a mailbox that is not the user's.
func (s *Store) noForeign(ctx context.Context, u User, p path) error {
	entries, err := s.listForeign(ctx, u)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if p.above(e.path) {
			return ErrNoSelect
		}
	}
	return ErrNotExist
}

// listForeign returns the mailboxes of others, and of the tenant, that the user may see.
func (s *Store) listForeign(ctx context.Context, u User) (all []listedForeign, err error) {
	err = s.read(ctx, u.Tenant, func(b *pgx.Batch) { queueForeign(b, u, &all) })
	return all, err
}

// listedForeign is a mailbox that is not the user's, as LIST shows it.
type listedForeign struct {
	Entry
	path path
}

// queueForeign asks for the mailboxes of others, and of the tenant, that the user may see.
func queueForeign(b *pgx.Batch, u User, all *[]listedForeign) {
	const query = `
		WITH mine AS MATERIALIZED (
			SELECT a.mailbox_id, array_agg(a.identifier) AS identifiers, array_agg(a.rights) AS rights
			FROM mailbox_acl a
			WHERE a.tenant_id = $1 AND a.identifier = ANY ((SELECT identifiers_of($1, $2, $3))::text[])
			GROUP BY a.mailbox_id
		)
		SELECT m.mailbox_id, m.account_id, o.login, m.name, all_of.identifiers, all_of.rights
		FROM (
			TABLE mine
			UNION ALL
			SELECT m.mailbox_id, '{}', '{}'
			FROM account o
			JOIN mailbox m ON m.tenant_id = o.tenant_id AND m.account_id = o.account_id
			WHERE o.tenant_id = $1 AND o.login = $4 AND $5 AND m.mailbox_id NOT IN (SELECT mailbox_id FROM mine)
		) all_of
		CROSS JOIN LATERAL (
			SELECT m.* FROM mailbox m WHERE m.tenant_id = $1 AND m.mailbox_id = all_of.mailbox_id
			OFFSET 0 -- by its key, however few mailboxes PostgreSQL believes that there are
		) m
		JOIN account o ON o.tenant_id = $1 AND o.account_id = m.account_id
		WHERE m.account_id <> $2 AND m.deleted_at IS NULL AND NOT o.deleting`

	shared := sharedLogin(u.Tenant)
	*all = nil
	b.Queue(query, u.Tenant, u.Account, u.Login, shared, u.AdministersTenant(u.Tenant)).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var l listedForeign
			var e entries
			if err := rows.Scan(&l.Mailbox, &l.Owner, &l.path.owner, &l.path.name, &e.identifiers, &e.rights); err != nil {
				return err
			}
			l.path.space = others
			if l.path.owner == shared {
				l.path.space = common
			}
			l.Name, l.Rights, l.Exists = l.path.full(), u.rights(l.path.space, e), true
			if l.Rights.Has(acl.Lookup) {
				*all = append(*all, l)
			}
		}
		return rows.Err()
	})
}

// Renew returns the mailbox with what the user may do there now, which may be nothing. ErrNotExist where it is gone.
func (m *Mailbox) Renew(ctx context.Context) (now *Mailbox, err error) {
	err = m.store.snapshot(ctx, m.Tenant, func(tx pgx.Tx) error {
		now, err = m.renew(ctx, tx)
		return err
	})
	if err != nil {
		return nil, changeError(err)
	}
	return now, nil
}

func (m *Mailbox) renew(ctx context.Context, tx pgx.Tx) (*Mailbox, error) {
	const query = `
		WITH me AS MATERIALIZED (SELECT identifiers_of($1, $2, $3) AS ids)
		SELECT m.account_id, m.acl_epoch, m.owner_rights, m.shared_seen, m.others, e.identifiers, e.rights
		FROM mailbox m` + entriesFor + `
		WHERE m.tenant_id = $1 AND m.mailbox_id = $4 AND m.deleted_at IS NULL`

	now := *m
	var e entries
	err := tx.QueryRow(ctx, query, m.Tenant, m.user.Account, m.user.Login, m.ID).Scan(
		&now.Owner, &now.epoch, &now.Rights, &now.SharedSeen, &now.others, &e.identifiers, &e.rights)
	if now.Owner == m.user.Account {
		now.Rights = m.user.permitted(now.Rights)
	} else {
		now.Rights = m.user.rights(m.path.space, e)
	}
	return &now, err
}
