package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
)

// Entry is a mailbox as LIST shows it.
type Entry struct {
	Name       string
	Mailbox    id.Mailbox // 0: no mailbox, but a name that has children or a subscription
	Owner      id.Account
	SpecialUse []string // "\\Sent" ...; of the user's own mailboxes alone
	Subscribed bool
	Exists     bool       // false: subscribed, but neither a mailbox nor above one
	Rights     acl.Rights // none on what is no mailbox
}

// List returns all mailboxes that the user may see, of all namespaces, the names above them that are none themselves,
// and subscribed names of neither kind, sorted by name.
func (s *Store) List(ctx context.Context, u User) ([]Entry, error) {
	const query = `
		SELECT coalesce(m.name, s.name) AS name, coalesce(m.mailbox_id, 0), coalesce(m.special_use, '{}'), s.name IS NOT NULL,
			coalesce(m.owner_rights, 0)
		FROM (
			SELECT name, mailbox_id, special_use, owner_rights
			FROM mailbox
			WHERE tenant_id = $1 AND account_id = $2 AND deleted_at IS NULL
		) m
		FULL JOIN (
			SELECT name
			FROM subscription
			WHERE tenant_id = $1 AND account_id = $2
		) s ON s.name = m.name`

	var entries []Entry
	var foreign []listedForeign
	err := s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		b.Queue(query, u.Tenant, u.Account).Query(func(rows pgx.Rows) (err error) {
			entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Entry, error) {
				e := Entry{Owner: u.Account}
				err := row.Scan(&e.Name, &e.Mailbox, &e.SpecialUse, &e.Subscribed, &e.Rights)
				e.Exists, e.Rights = e.Mailbox != 0, u.permitted(e.Rights)
				return e, err
			})
			return err
		})
		queueForeign(b, u, &foreign)
	})
	if err != nil {
		return nil, fmt.Errorf("list mailboxes: %w", err)
	}
	return withParents(withForeign(entries, foreign)), nil
}

// withForeign adds the mailboxes of others, some of which may be among entries as subscribed names.
func withForeign(entries []Entry, foreign []listedForeign) []Entry {
	at := make(map[string]int, len(foreign))
	for i, l := range foreign {
		at[l.Name] = i
	}
	for i, e := range entries {
		if e.Mailbox != 0 {
			continue
		}
		if k, ok := at[e.Name]; ok {
			entries[i] = foreign[k].Entry
			entries[i].Subscribed = true
			foreign[k].Mailbox = 0 // it is among them
		}
	}
	for _, l := range foreign {
		if l.Mailbox != 0 {
			entries = append(entries, l.Entry)
		}
	}
	return entries
}

// withParents adds the names above mailboxes that are no mailboxes, and sorts.
func withParents(entries []Entry) []Entry {
	at := make(map[string]int, len(entries))
	for i, e := range entries {
		at[e.Name] = i
	}
	for _, e := range entries[:len(entries):len(entries)] {
		if e.Mailbox == 0 {
			continue
		}
		for _, above := range parents(e.Name) {
			i, ok := at[above]
			if !ok {
				i = len(entries)
				at[above] = i
				entries = append(entries, Entry{Name: above, Owner: e.Owner})
			}
			entries[i].Exists = true
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries
}
