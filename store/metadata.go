package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Annotation is an entry of metadata with its value (RFC 5464 section 3.1).
type Annotation struct {
	Entry string // as MetadataEntry returns it
	Value []byte // nil: none
	Size  int64  // octets of the value, also where that is left out
}

// MetadataQuery says which annotations are asked for.
type MetadataQuery struct {
	Entries []string
	Depth   int   // how many levels below them, too; -1 for all
	MaxSize int64 // values of more octets are left out
}

// Errors of metadata.
var (
	ErrBadEntry        = errors.New("no name of an annotation")
	ErrMetadataSize    = errors.New("annotation too big")
	ErrMetadataTooMany = errors.New("too many annotations")
	ErrSeenMode        = errors.New(`\Seen is either "shared" or each "user"'s own`)
)

const (
	private = "/private"
	shared  = "/shared"

	maxEntry = 255 // octets

	// SpecialUseEntry is the entry of a mailbox that is no annotation but its
	// special uses, with spaces between them (RFC 6154 section 4).
	SpecialUseEntry = private + "/specialuse"

	// SeenEntry is the entry of a mailbox that says whether all who read it have one \Seen or each their own:
	// "shared" or "user", which is so where there is none.
	SeenEntry = shared + "/vendor/mailstead/seen"
)

// MetadataEntry returns the name of an entry as it is stored: in lower case.
// ErrBadEntry where no entry can have it; "/private" and "/shared" alone have only what is below
// them (RFC 5464 section 3.2).
func MetadataEntry(name string) (string, error) {
	scope, rest, deeper := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	scope = "/" + strings.ToLower(scope)
	switch {
	case !strings.HasPrefix(name, "/"), len(name) > maxEntry, scope != private && scope != shared:
		return "", ErrBadEntry
	case !deeper:
		return scope, nil
	case rest == "", strings.HasPrefix(rest, "/"), strings.HasSuffix(rest, "/"), strings.Contains(rest, "//"):
		return "", ErrBadEntry
	}
	for i := range len(rest) {
		if c := rest[i]; c < ' ' || c >= 0x7f || c == '*' || c == '%' {
			return "", ErrBadEntry
		}
	}
	return scope + "/" + strings.ToLower(rest), nil
}

// canHaveValue tells whether an entry is deep enough for a value: those of
// vendors have four components or more.
func canHaveValue(entry string) bool {
	components := strings.Split(entry, "/")[1:]
	if len(components) > 1 && components[1] == "vendor" {
		return len(components) >= 4
	}
	return len(components) >= 2
}

// MaxMetadataSize returns how large the value of an annotation can be, in octets.
func (s *Store) MaxMetadataSize() int64 { return s.options.MaxMetadataSize }

// Metadata returns the annotations of a mailbox, "" for the server, that the
// user sees, by ascending entry: what all share, and what is the user's.
func (s *Store) Metadata(ctx context.Context, u User, mailbox string, q MetadataQuery) ([]Annotation, error) {
	of, err := s.annotated(ctx, u, mailbox)
	if err != nil {
		return nil, err
	}
	return s.metadata(ctx, u.Tenant, of.ID, u.Account, q)
}

// metadata returns the annotations of a mailbox that are shared or an account's.
func (s *Store) metadata(ctx context.Context, t id.Tenant, mailbox id.Mailbox, account id.Account, q MetadataQuery) ([]Annotation, error) {
	const query = `
		SELECT m.entry, CASE WHEN octet_length(m.value) <= $4::bigint THEN m.value END, octet_length(m.value)
		FROM (
			SELECT entry, value
			FROM metadata
			WHERE tenant_id = $1 AND mailbox_id = $2 AND account_id IN (0, $3)
			UNION ALL
			SELECT '/private/specialuse', convert_to(array_to_string(special_use, ' '), 'UTF8')
			FROM mailbox
			WHERE tenant_id = $1 AND mailbox_id = $2 AND account_id = $3 AND cardinality(special_use) > 0
			UNION ALL
			SELECT $7::text, CASE WHEN shared_seen THEN 'shared'::bytea ELSE 'user' END
			FROM mailbox
			WHERE tenant_id = $1 AND mailbox_id = $2 AND (shared_seen OR $7::text = ANY ($5::text[]))
		) m
		WHERE EXISTS (
			SELECT FROM unnest($5::text[]) AS asked (entry)
			WHERE m.entry = asked.entry
			   OR starts_with(m.entry, asked.entry || '/')
			      AND ($6::int < 0 OR $6::int > 0 AND strpos(substr(m.entry, length(asked.entry) + 2), '/') = 0))
		ORDER BY m.entry`

	var found []Annotation
	err := s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t, mailbox, account, q.MaxSize, q.Entries, q.Depth, SeenEntry).Query(func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Annotation])
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	return found, nil
}

// annotated returns the mailbox of a name, for the server one without a number. Who may see it
// needs a right to its mail besides, for reading annotations and for setting them (RFC 5464 section 3.3).
func (s *Store) annotated(ctx context.Context, u User, mailbox string) (*Mailbox, error) {
	const someRight = acl.Read | acl.Seen | acl.Write | acl.Insert | acl.Post

	if mailbox == "" {
		return &Mailbox{Tenant: u.Tenant}, nil
	}
	m, err := s.Open(ctx, u, mailbox, acl.Lookup)
	if err == nil && m.Rights&someRight == 0 {
		err = &acl.DeniedError{Missing: acl.Read}
	}
	return m, err
}

// SetMetadata sets annotations of a mailbox, "" for the server, all or none; a
// value of nil removes one. ErrBadEntry, ErrMetadataSize, ErrMetadataTooMany, *quota.OverError; ErrSpecialUse as
// Create's, and of what is not the user's own. What the server's users share is the operator's to set: *acl.DeniedError.
func (s *Store) SetMetadata(ctx context.Context, u User, mailbox string, set []Annotation) error {
	for attempt := 1; ; attempt++ {
		of, err := s.annotated(ctx, u, mailbox)
		if err != nil {
			return err
		}
		if err := u.mayChange(); err != nil {
			return err
		}
		for _, a := range set {
			switch {
			case of.ID == 0 && strings.HasPrefix(a.Entry, shared):
				return &acl.DeniedError{Missing: acl.Administer}
			case of.path.space != personal && a.Entry == SpecialUseEntry:
				return ErrSpecialUse
			case of.ID != 0 && a.Entry == SeenEntry:
				if err := of.may(acl.Administer); err != nil {
					return err
				}
			}
		}
		if err = s.setMetadata(ctx, of, u.Account, set, nil); !errors.Is(err, ErrRightsChanged) || attempt == attempts {
			return err
		}
	}
}

// TenantMetadata returns what all users of a tenant see as annotations of the server.
func (s *Store) TenantMetadata(ctx context.Context, t id.Tenant) ([]Annotation, error) {
	return s.metadata(ctx, t, 0, 0, MetadataQuery{Entries: []string{shared}, Depth: -1, MaxSize: s.options.MaxMetadataSize})
}

// SetTenantMetadata sets annotations of the server that all users of a tenant see.
func (s *Store) SetTenantMetadata(ctx context.Context, t id.Tenant, set ...Annotation) error {
	entries := make([]string, len(set))
	for i, a := range set {
		if !strings.HasPrefix(a.Entry, shared) {
			return ErrBadEntry
		}
		entries[i] = a.Entry
	}
	return s.setMetadata(ctx, &Mailbox{Tenant: t}, 0, set, &Act{Action: "tenant.annotate", Object: strings.Join(entries, " ")})
}

// annotations are those to be put and those to be removed, by column.
type annotations struct {
	putFor, removeFor []id.Account // 0: shared
	put, remove       []string
	values            [][]byte

	uses       []string // special ones,
	changeUses bool     // if they are to be others

	seen *bool // shared by all; nil: as it is
}

// sorted sorts annotations of a mailbox; of one entry the last counts.
func (s *Store) sorted(m *Mailbox, account id.Account, set []Annotation) (annotations, error) {
	var all annotations
	last := make(map[string]int, len(set))
	for i, a := range set {
		last[a.Entry] = i
	}
	for i, a := range set {
		owner := account
		if strings.HasPrefix(a.Entry, shared) {
			owner = 0
		}
		switch {
		case !canHaveValue(a.Entry):
			return all, ErrBadEntry
		case int64(len(a.Value)) > s.options.MaxMetadataSize:
			return all, ErrMetadataSize
		case last[a.Entry] != i:
		case a.Entry == SpecialUseEntry && m.ID != 0:
			all.uses, all.changeUses = append([]string{}, strings.Fields(string(a.Value))...), true
		case a.Entry == SeenEntry && m.ID != 0:
			var err error
			if all.seen, err = seenMode(a.Value); err != nil {
				return all, err
			}
		case a.Value == nil:
			all.removeFor, all.remove = append(all.removeFor, owner), append(all.remove, a.Entry)
		default:
			all.putFor, all.put, all.values = append(all.putFor, owner), append(all.put, a.Entry), append(all.values, a.Value)
		}
	}
	return all, nil
}

// setMetadata sets annotations, and writes down the act if it is one.
func (s *Store) setMetadata(ctx context.Context, m *Mailbox, account id.Account, set []Annotation, act *Act) error {
	all, err := s.sorted(m, account, set)
	if err != nil {
		return err
	}
	var modSeq id.ModSeq // that a mailbox has by it, 0 where nothing is changed
	var log int64
	var switched *changing // of the mode of \Seen, before the annotations
	err = s.transact(ctx, m.Tenant, func(tx pgx.Tx) error {
		modSeq, switched = 0, nil
		if all.changeUses { // names come before mailboxes
			if err := lockNames(ctx, tx, m.owner()); err != nil {
				return err
			}
		}
		at, err := m.lockAnnotated(ctx, tx, account)
		if err != nil {
			return err
		}
		if all.seen != nil && *all.seen != m.SharedSeen {
			if switched, err = m.switchSeen(ctx, tx, *all.seen); err != nil {
				return err
			}
			at.modSeq++
		}
		if all.changeUses {
			if err := changeSpecialUse(ctx, tx, m, all.uses); err != nil {
				return err
			}
		}
		changed, err := s.changeMetadata(ctx, tx, m, account, all)
		if err == nil && act != nil {
			err = audit(ctx, tx, m.Tenant, *act)
		}
		if err != nil || m.ID == 0 {
			return err
		}
		if changed || all.changeUses {
			modSeq = at.modSeq + 1
			if log, err = recordAnnotated(ctx, tx, m, at); err != nil {
				return err
			}
		}
		if switched != nil {
			return m.auditSeen(ctx, tx, *all.seen)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("set metadata: %w", changeError(err))
	}
	if switched != nil {
		switched.publish()
	}
	if modSeq > 0 {
		s.changed(m.key(), modSeq, log)
	}
	return nil
}

// recordAnnotated gives a mailbox that is locked the next MODSEQ, since its annotations
// are others now (RFC 7162 section 3.2), by a record that changes no message.
func recordAnnotated(ctx context.Context, tx pgx.Tx, m *Mailbox, at position) (log int64, err error) {
	const query = `SELECT write_record($1, $2, $3, 0, $4, $5, $6, 0, 0, 0, 0, 0, 0)`

	base := at.uidNext - 1
	err = tx.QueryRow(ctx, query, m.Tenant, m.Owner, m.ID, at.modSeq, view.Record{}.Encode(base, 0), base).Scan(&log)
	return log, err
}

// owner is who a mailbox belongs to.
func (m *Mailbox) owner() User { return User{Tenant: m.Tenant, Account: m.Owner} }

// changeMetadata changes the annotations of a mailbox that is locked, and tells whether any is another now. Whoever has too
// many, since a limit was lowered, can still clear away.
func (s *Store) changeMetadata(ctx context.Context, tx pgx.Tx, m *Mailbox, account id.Account, all annotations) (bool, error) {
	const (
		remove = `
			DELETE FROM metadata m
			USING unnest($3::bigint[], $4::text[]) AS gone (account_id, entry)
			WHERE m.tenant_id = $1 AND m.mailbox_id = $2 AND m.account_id = gone.account_id AND m.entry = gone.entry`

		put = `
			INSERT INTO metadata (tenant_id, mailbox_id, account_id, entry, value)
			SELECT $1, $2, a.account_id, a.entry, a.value
			FROM unnest($3::bigint[], $4::text[], $5::bytea[]) AS a (account_id, entry, value)
			ON CONFLICT (tenant_id, mailbox_id, account_id, entry) DO UPDATE SET value = excluded.value
			WHERE metadata.value <> excluded.value`
	)
	before, err := countMetadata(ctx, tx, m.Tenant, m.ID, account)
	if err != nil {
		return false, err
	}
	octets, err := annotationOctets(ctx, tx, m.Tenant, m.ID, account)
	if err != nil {
		return false, err
	}
	weights, err := weighMetadata(ctx, tx, m.Tenant, m.Owner, account)
	if err != nil {
		return false, err
	}
	removed, err := tx.Exec(ctx, remove, m.Tenant, m.ID, all.removeFor, all.remove)
	if err != nil {
		return false, err
	}
	written, err := tx.Exec(ctx, put, m.Tenant, m.ID, all.putFor, all.put, all.values)
	if err != nil {
		return false, err
	}
	after, err := countMetadata(ctx, tx, m.Tenant, m.ID, account)
	if err != nil {
		return false, err
	}
	for i, n := range after {
		if n > s.options.MaxMetadata && n > before[i] {
			return false, ErrMetadataTooMany
		}
	}
	if err := s.metadataFits(ctx, tx, m.Tenant, weights); err != nil {
		return false, err
	}
	return removed.RowsAffected()+written.RowsAffected() > 0, chargeAnnotations(ctx, tx, m, account, octets)
}

// chargeAnnotations charges a mailbox's owner, or of the server who they belong to, for annotations that have been changed. What
// all users of a tenant share of the server is the operator's, and charged to nobody.
func chargeAnnotations(ctx context.Context, tx pgx.Tx, m *Mailbox, account id.Account, before int64) error {
	owner := m.owner()
	if m.ID == 0 {
		owner.Account = account
	}
	if owner.Account == 0 {
		return nil
	}
	after, err := annotationOctets(ctx, tx, m.Tenant, m.ID, account)
	if err != nil {
		return err
	}
	return chargeNames(ctx, tx, owner, 0, after-before)
}

// annotationOctets returns how many octets the annotations of a mailbox take that its owner is charged: all; of the
// server (0) those of an account.
func annotationOctets(ctx context.Context, tx pgx.Tx, t id.Tenant, mailbox id.Mailbox, account id.Account) (octets int64, err error) {
	const query = `
		SELECT coalesce(sum(octet_length(entry) + octet_length(value)), 0)
		FROM metadata
		WHERE tenant_id = $1 AND mailbox_id = $2 AND (mailbox_id <> 0 OR account_id = $3)`

	err = tx.QueryRow(ctx, query, t, mailbox, account).Scan(&octets)
	return octets, err
}

// weighMetadata locks accounts, 0 being none, and returns how many octets the annotations of each take:
// those that are theirs, and those that are shared of their mailboxes.
func weighMetadata(ctx context.Context, tx pgx.Tx, t id.Tenant, accounts ...id.Account) (map[id.Account]int64, error) {
	const (
		lock = `
			SELECT FROM account_state
			WHERE tenant_id = $1 AND account_id = ANY ($2)
			ORDER BY account_id
			FOR NO KEY UPDATE`

		weigh = `
			SELECT a.account_id,
				(SELECT coalesce(sum(octet_length(d.entry) + octet_length(d.value)), 0)
				FROM metadata d
				WHERE d.tenant_id = $1 AND d.account_id = a.account_id)
				+ (SELECT coalesce(sum(octet_length(d.entry) + octet_length(d.value)), 0)
				FROM metadata d
				JOIN mailbox m ON m.tenant_id = d.tenant_id AND m.mailbox_id = d.mailbox
				WHERE d.tenant_id = $1 AND d.account_id = 0 AND m.account_id = a.account_id AND m.deleted_at IS NULL)
			FROM unnest($2::bigint[]) AS a (account_id)
			WHERE a.account_id <> 0`
	)
	if _, err := tx.Exec(ctx, lock, t, accounts); err != nil {
		return nil, err
	}
	rows, _ := tx.Query(ctx, weigh, t, accounts) // ForEachRow reports the error
	weights := make(map[id.Account]int64)
	var account id.Account
	var octets int64
	_, err := pgx.ForEachRow(rows, []any{&account, &octets}, func() error {
		weights[account] = octets
		return nil
	})
	return weights, err
}

// metadataFits tells whether the annotations of accounts that are locked take no more than they may, or than they did before.
func (s *Store) metadataFits(ctx context.Context, tx pgx.Tx, t id.Tenant, before map[id.Account]int64) error {
	after, err := weighMetadata(ctx, tx, t, slices.Collect(maps.Keys(before))...)
	if err != nil {
		return err
	}
	for account, octets := range after {
		if octets > s.options.MaxAccountMetadata && octets > before[account] {
			return ErrMetadataTooMany
		}
	}
	return nil
}

// changeSpecialUse gives a mailbox other special uses, which no other one has. Names and mailbox are locked.
func changeSpecialUse(ctx context.Context, tx pgx.Tx, m *Mailbox, uses []string) error {
	const query = `UPDATE mailbox SET special_use = $3 WHERE tenant_id = $1 AND mailbox_id = $2`

	if _, err := tx.Exec(ctx, query, m.Tenant, m.ID, []string{}); err != nil {
		return err
	}
	if err := specialUseFree(ctx, tx, m.owner(), uses); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, query, m.Tenant, m.ID, uses)
	return err
}

// lockAnnotated puts all who set annotations of a mailbox in line, so that they
// are counted right, and holds it where it is: at the position that it returns. Those of the
// server are counted by account, or tenant, which have none.
func (m *Mailbox) lockAnnotated(ctx context.Context, tx pgx.Tx, account id.Account) (at position, err error) {
	const (
		ofMailbox = `
			SELECT uidnext, highestmodseq, acl_epoch FROM mailbox
			WHERE tenant_id = $1 AND mailbox_id = $2 AND deleted_at IS NULL
			FOR NO KEY UPDATE`

		ofAccount = `
			SELECT FROM account
			WHERE tenant_id = $1 AND account_id = $2 AND NOT deleting
			FOR NO KEY UPDATE`

		ofTenant = `
			SELECT FROM tenant
			WHERE tenant_id = $1 AND NOT deleting
			FOR NO KEY UPDATE`
	)
	switch {
	case m.ID != 0:
		var epoch int64
		err = tx.QueryRow(ctx, ofMailbox, m.Tenant, m.ID).Scan(&at.uidNext, &at.modSeq, &epoch)
		if err == nil && epoch != m.epoch {
			err = ErrRightsChanged
		}
	case account != 0:
		err = tx.QueryRow(ctx, ofAccount, m.Tenant, account).Scan()
	default:
		err = tx.QueryRow(ctx, ofTenant, m.Tenant).Scan()
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return at, ErrNotExist
	}
	return at, err
}

// countMetadata returns how many annotations of a mailbox are shared, and how many are the account's.
func countMetadata(ctx context.Context, tx pgx.Tx, t id.Tenant, mailbox id.Mailbox, account id.Account) (n [2]int, err error) {
	const query = `
		SELECT count(*) FILTER (WHERE account_id = 0), count(*) FILTER (WHERE account_id <> 0)
		FROM metadata
		WHERE tenant_id = $1 AND mailbox_id = $2 AND account_id IN (0, $3)`

	err = tx.QueryRow(ctx, query, t, mailbox, account).Scan(&n[0], &n[1])
	return n, err
}

// forgetAnnotations removes what an account that is being deleted has noted of others' mailboxes, one by one: their owners
// are charged for it no more.
func (s *Store) forgetAnnotations(ctx context.Context, u User) error {
	const (
		next = `
			SELECT m.mailbox_id, m.account_id
			FROM metadata n
			JOIN mailbox m ON m.tenant_id = n.tenant_id AND m.mailbox_id = n.mailbox
			WHERE n.tenant_id = $1 AND n.account_id = $2 AND m.account_id <> $2
			LIMIT 1`

		// Of a deleted mailbox nothing is charged.
		forget = `
			WITH gone AS (
				DELETE FROM metadata n
				USING mailbox m
				WHERE n.tenant_id = $1 AND n.mailbox_id = $2 AND n.account_id = $3 AND m.tenant_id = $1 AND m.mailbox_id = $2
				RETURNING CASE WHEN m.deleted_at IS NULL THEN octet_length(n.entry) + octet_length(n.value) ELSE 0 END AS octets
			)
			SELECT coalesce(sum(octets), 0) FROM gone`
	)
	for {
		err := s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
			var m id.Mailbox
			owner := User{Tenant: u.Tenant}
			if err := tx.QueryRow(ctx, next, u.Tenant, u.Account).Scan(&m, &owner.Account); err != nil {
				return err
			}
			if err := lockMailboxes(ctx, tx, u.Tenant, []id.Mailbox{m}); err != nil {
				return err
			}
			var octets int64
			if err := tx.QueryRow(ctx, forget, u.Tenant, m, u.Account).Scan(&octets); err != nil {
				return err
			}
			return chargeNames(ctx, tx, owner, 0, -octets)
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// copyMetadata gives a mailbox the annotations of another (RFC 5464 section 4.1: INBOX keeps its own when it is renamed).
func copyMetadata(ctx context.Context, tx pgx.Tx, t id.Tenant, from, to id.Mailbox) error {
	const query = `
		INSERT INTO metadata (tenant_id, mailbox_id, account_id, entry, value)
		SELECT tenant_id, $3, account_id, entry, value
		FROM metadata
		WHERE tenant_id = $1 AND mailbox_id = $2`

	_, err := tx.Exec(ctx, query, t, from, to)
	return err
}
