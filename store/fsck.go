package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// FindingKind is what is wrong, for those who count findings.
type FindingKind string

// The kinds of findings.
const (
	FoundCounter FindingKind = "counter" // a figure that is not the recount
	FoundNumber  FindingKind = "number"  // a UID, MODSEQ or email number out of bounds
	FoundLog     FindingKind = "log"     // a log that has gaps, does not decode or does not fit
	FoundOverlay FindingKind = "overlay" // what a reader has of their own, that does not decode or does not fit
	FoundSegment FindingKind = "segment" // a segment that does not decode or does not fit
	FoundKeyword FindingKind = "keyword" // a keyword that is not defined
	FoundEmail   FindingKind = "email"   // an email that is missing or damaged
	FoundContent FindingKind = "content" // content that is missing or damaged
	FoundRights  FindingKind = "rights"  // of an owner, that are not those of the access control list
	FoundObject  FindingKind = "object"  // an object that does not count, or is about to be collected
	FoundMissing FindingKind = "missing" // a row that every account has, or every mailbox
	FoundStaged  FindingKind = "staged"  // staged rows that no content refers to, told by Repair alone: they come about by themselves
)

// Finding is something that is not as it must be.
type Finding struct {
	Kind    FindingKind `json:"kind"`
	Tenant  id.Tenant   `json:"tenant"`
	Account id.Account  `json:"account,omitempty"`
	Mailbox id.Mailbox  `json:"mailbox,omitempty"`
	Digest  string      `json:"digest,omitempty"` // of the content
	Detail  string      `json:"detail"`

	Repaired bool `json:"repaired,omitempty"` // by Repair: it is not so any more
}

func (f Finding) String() string {
	where := fmt.Sprintf("tenant %d", f.Tenant)
	if f.Account != 0 {
		where += fmt.Sprintf(" account %d", f.Account)
	}
	if f.Mailbox != 0 {
		where += fmt.Sprintf(" mailbox %d", f.Mailbox)
	}
	if f.Digest != "" {
		where += " content " + f.Digest
	}
	line := fmt.Sprintf("%s: %s: %s", f.Kind, where, f.Detail)
	if f.Repaired {
		line += " (repaired)"
	}
	return line
}

// Checked is what Fsck has looked at.
type Checked struct {
	Accounts  int64 `json:"accounts"`
	Mailboxes int64 `json:"mailboxes"` // deleted ones that are kept included
	Messages  int64 `json:"messages"`
	Emails    int64 `json:"emails"`
	Contents  int64 `json:"contents"`
	Bytes     int64 `json:"bytes"` // of content, each once
}

// Add returns what both have looked at.
func (c Checked) Add(o Checked) Checked {
	return Checked{
		c.Accounts + o.Accounts, c.Mailboxes + o.Mailboxes, c.Messages + o.Messages,
		c.Emails + o.Emails, c.Contents + o.Contents, c.Bytes + o.Bytes,
	}
}

// Fsck proves that all of a tenant's mail is as it must be: segments and log
// lead to one state by two ways, counters are the recount, every email that a message
// names exists and every content is read and digested anew. It changes nothing, and may run while mail is served:
// each account is looked at in one snapshot. An error means that it could not look.
func (s *Store) Fsck(ctx context.Context, t id.Tenant, report func(Finding)) (Checked, error) {
	f := &fsck{store: s, tenant: t, report: report}
	return f.run(ctx)
}

type fsck struct {
	Checked
	store    *Store
	tenant   id.Tenant
	report   func(Finding)
	repairer bool // what can be repaired is
}

func (f *fsck) run(ctx context.Context) (Checked, error) {
	for a, err := range f.store.Accounts(ctx, f.tenant) {
		if err != nil {
			return f.Checked, err
		}
		check := f.look
		if f.repairer {
			check = f.repairAccount
		}
		if err := check(ctx, a.ID); err != nil {
			return f.Checked, fmt.Errorf("check account %s: %w", a.Login, err)
		}
	}
	if err := f.slots(ctx); err != nil {
		return f.Checked, fmt.Errorf("check quotas: %w", err)
	}
	if err := f.strays(ctx); err != nil {
		return f.Checked, fmt.Errorf("look for mailboxes without a row: %w", err)
	}
	if err := f.contents(ctx); err != nil {
		return f.Checked, fmt.Errorf("check content: %w", err)
	}
	return f.Checked, nil
}

// slots checks what the domains and the tenant count and grant, and counts it anew where it is not so and that may be repaired.
func (f *fsck) slots(ctx context.Context) error {
	drift, err := f.slotDrift(ctx)
	if err != nil || len(drift) == 0 {
		return err
	}
	left := drift
	if f.repairer {
		if err := f.store.RecountQuota(ctx, f.tenant); err != nil {
			return err
		}
		if left, err = f.slotDrift(ctx); err != nil {
			return err
		}
	}
	for _, d := range drift {
		f.report(Finding{
			Kind: FoundCounter, Tenant: f.tenant, Detail: d.String(),
			Repaired: f.repairer && !slices.Contains(left, d),
		})
	}
	return nil
}

func (f *fsck) slotDrift(ctx context.Context) (drift []QuotaDrift, err error) {
	err = f.store.snapshot(ctx, f.tenant, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, unhurried); err != nil {
			return err
		}
		drift, err = slotDrift(ctx, tx, f.tenant)
		return err
	})
	return drift, err
}

// strays looks for mailboxes that have lost their row. They are no account's any more.
func (f *fsck) strays(ctx context.Context) error {
	return f.store.snapshot(ctx, f.tenant, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, unhurried); err != nil {
			return err
		}
		strays, err := strayMailboxes(ctx, tx, f.tenant)
		for _, m := range strays {
			f.found(FoundMissing, 0, m, "it has a log, segments, expunge records or overlays, and no row")
		}
		return err
	})
}

// strayMailboxes returns what the rows of a tenant's mailboxes belong to that is not there.
func strayMailboxes(ctx context.Context, tx pgx.Tx, t id.Tenant) ([]id.Mailbox, error) {
	const query = `
		SELECT r.mailbox_id
		FROM (
			SELECT mailbox_id FROM mailbox_log WHERE tenant_id = $1
			UNION
			SELECT mailbox_id FROM mailbox_segment WHERE tenant_id = $1
			UNION
			SELECT mailbox_id FROM mailbox_expunged WHERE tenant_id = $1
			UNION
			SELECT mailbox_id FROM mailbox_overlay WHERE tenant_id = $1
		) r
		WHERE NOT EXISTS (SELECT FROM mailbox m WHERE m.tenant_id = $1 AND m.mailbox_id = r.mailbox_id)
		ORDER BY r.mailbox_id`

	rows, _ := tx.Query(ctx, query, t) // CollectRows reports the error
	return pgx.CollectRows(rows, pgx.RowTo[id.Mailbox])
}

func (f *fsck) found(kind FindingKind, account id.Account, mailbox id.Mailbox, format string, args ...any) {
	f.report(Finding{Kind: kind, Tenant: f.tenant, Account: account, Mailbox: mailbox, Detail: fmt.Sprintf(format, args...)})
}

// unhurried lifts the bounds that are for those who serve: an account can be large, and what is only read keeps nobody waiting.
const unhurried = `SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)`

// look checks an account and its mailboxes, in one snapshot.
func (f *fsck) look(ctx context.Context, account id.Account) error {
	return f.store.snapshot(ctx, f.tenant, func(tx pgx.Tx) error { return f.account(ctx, tx, account) })
}

func (f *fsck) account(ctx context.Context, tx pgx.Tx, account id.Account) error {
	const (
		there = `SELECT login FROM account WHERE tenant_id = $1 AND account_id = $2 AND NOT deleting`

		state = `
			SELECT s.next_email, n.uidvalidity
			FROM account_state s
			JOIN name_tree n ON n.tenant_id = s.tenant_id AND n.account_id = s.account_id
			WHERE s.tenant_id = $1 AND s.account_id = $2`
	)
	if _, err := tx.Exec(ctx, unhurried); err != nil {
		return err
	}
	var login string
	err := tx.QueryRow(ctx, there, f.tenant, account).Scan(&login)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // half of it is gone, or all
	}
	if err != nil {
		return err
	}
	f.Accounts++
	var nextEmail id.Email
	var uidValidity int64
	err = tx.QueryRow(ctx, state, f.tenant, account).Scan(&nextEmail, &uidValidity)
	if errors.Is(err, pgx.ErrNoRows) {
		f.found(FoundMissing, account, 0, "it has no state or no name tree")
		return nil
	}
	if err != nil {
		return err
	}
	sizes, err := f.emails(ctx, tx, account, nextEmail)
	if err != nil {
		return err
	}
	rows, _ := tx.Query(ctx, selectMailboxRow+` WHERE tenant_id = $1 AND account_id = $2 AND NOT purging ORDER BY mailbox_id`, f.tenant, account) // CollectRows reports the error
	mailboxes, err := pgx.CollectRows(rows, pgx.RowToStructByName[mailboxRow])
	if err != nil {
		return err
	}
	wrong, err := wrongRights(ctx, tx, f.tenant, mailboxes)
	if err != nil {
		return err
	}
	for _, m := range wrong {
		f.found(FoundRights, account, m, "the owner's rights are not those of the access control list")
	}
	hasInbox := false
	for _, row := range mailboxes {
		m := mailboxRows{row: row}
		if err := m.read(ctx, tx, f.tenant); err != nil {
			return err
		}
		f.Mailboxes++
		check := &mailboxCheck{fsck: f, mailboxRows: &m, sizes: sizes}
		check.run()
		if row.UIDValidity > uidValidity {
			check.found(FoundNumber, "UIDVALIDITY %d is above %d, the highest that the account has given out", row.UIDValidity, uidValidity)
		}
		if row.DeletedAt == nil {
			hasInbox = hasInbox || row.Name == inbox
		}
	}
	if !hasInbox && !isShared(login) {
		f.found(FoundMissing, account, 0, "it has no INBOX")
	}
	drift, err := accountDrift(ctx, tx, f.tenant, account)
	for _, d := range drift {
		f.found(FoundCounter, account, 0, "%v", d)
	}
	return err
}

// emails checks the emails of an account, and returns their sizes.
func (f *fsck) emails(ctx context.Context, tx pgx.Tx, account id.Account, next id.Email) (map[id.Email]int64, error) {
	const query = `
		SELECT e.email_id, e.size, octet_length(e.prefix), e.meta, b.size, coalesce(b.dying, false)
		FROM email e
		LEFT JOIN blob b ON b.tenant_id = e.tenant_id AND b.digest = e.digest
		WHERE e.tenant_id = $1 AND e.account_id = $2`

	sizes := make(map[id.Email]int64)
	var email id.Email
	var size, prefix int64
	var meta []byte
	var content *int64
	var dying bool
	rows, _ := tx.Query(ctx, query, f.tenant, account) // ForEachRow reports the error
	_, err := pgx.ForEachRow(rows, []any{&email, &size, &prefix, &meta, &content, &dying}, func() error {
		f.Emails++
		sizes[email] = size
		if email >= next || email < 1 {
			f.found(FoundNumber, account, 0, "email %d, where the next is %d", email, next)
		}
		switch {
		case content == nil:
			f.found(FoundContent, account, 0, "email %d has no content", email)
		case dying:
			f.found(FoundContent, account, 0, "the content of email %d is marked as dying", email)
		case *content+prefix != size:
			f.found(FoundEmail, account, 0, "email %d has %d octets, its parts %d and %d", email, size, prefix, *content)
		}
		if _, err := message.DecodeMeta(meta); err != nil {
			f.found(FoundEmail, account, 0, "meta of email %d: %v", email, err)
		}
		return nil
	})
	return sizes, err
}

// wrongRights returns those mailboxes whose rows do not say of their owner what the lists do.
func wrongRights(ctx context.Context, tx pgx.Tx, t id.Tenant, rows []mailboxRow) (wrong []id.Mailbox, err error) {
	mailboxes := make([]id.Mailbox, len(rows))
	for i, row := range rows {
		mailboxes[i] = row.MailboxID
	}
	rights, err := rightsOfOwners(ctx, tx, t, mailboxes)
	for _, row := range rows {
		if err == nil && rights[row.MailboxID] != (settled{row.OwnerRights, row.Others}) {
			wrong = append(wrong, row.MailboxID)
		}
	}
	return wrong, err
}
