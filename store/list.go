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
	SpecialUse []string // "\\Sent" ...
	Subscribed bool
	Exists     bool // false: subscribed, but neither a mailbox nor above one
	Rights     acl.Rights
}

// List returns all mailboxes, the names above them that are none themselves,
// and subscribed names of neither kind, sorted by name.
func (s *Store) List(ctx context.Context, u User) ([]Entry, error) {
	const query = `
		SELECT coalesce(m.name, s.name) AS name, coalesce(m.mailbox_id, 0), coalesce(m.special_use, '{}'), s.name IS NOT NULL
		FROM (
			SELECT name, mailbox_id, special_use
			FROM mailbox
			WHERE tenant_id = $1 AND account_id = $2 AND deleted_at IS NULL
		) m
		FULL JOIN (
			SELECT name
			FROM subscription
			WHERE tenant_id = $1 AND account_id = $2
		) s ON s.name = m.name`

	var entries []Entry
	err := s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		b.Queue(query, u.Tenant, u.Account).Query(func(rows pgx.Rows) (err error) {
			entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Entry, error) {
				e := Entry{Owner: u.Account, Rights: u.permitted(acl.All)}
				err := row.Scan(&e.Name, &e.Mailbox, &e.SpecialUse, &e.Subscribed)
				e.Exists = e.Mailbox != 0
				return e, err
			})
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list mailboxes: %w", err)
	}
	return withParents(entries), nil
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
				entries = append(entries, Entry{Name: above, Owner: e.Owner, Rights: e.Rights})
			}
			entries[i].Exists = true
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries
}
