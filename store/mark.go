package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// marking finds the dead emails of an account: those that neither a mailbox
// names, nor an expunge that can be undone, nor a deleted mailbox that can be brought back.
//
// What is dead stays dead, however long ago it was found: an email number comes
// into a mailbox with a new email, or from a mailbox or an expunge record that is held
// under its lock meanwhile (COPY, MOVE, undelete), and so was named when it came. Numbers are never given out again.
type marking struct {
	tenant  id.Tenant
	account id.Account

	next    id.Email
	named   emailSet
	there   emailSet // those of them that are in a mailbox now
	emails  emailSet // that there are
	drift   []string // what is not as it is counted: then rows may be missing
	boxes   int64    // deleted mailboxes that count as gone,
	records int64    // and expunge records
}

// mark reads all that an account's rows name, in one snapshot. Where expired
// is not nil, what can be brought back for longer than that counts as gone.
// pgx.ErrNoRows where the account is gone or going.
func (s *Store) mark(ctx context.Context, t id.Tenant, account id.Account, expired *time.Duration) (*marking, error) {
	var m *marking
	err := s.snapshot(ctx, t, func(tx pgx.Tx) error {
		m = &marking{tenant: t, account: account}
		return m.read(ctx, tx, expired)
	})
	if err != nil {
		return nil, fmt.Errorf("mark account %d: %w", account, err)
	}
	return m, nil
}

func (m *marking) read(ctx context.Context, tx pgx.Tx, expired *time.Duration) error {
	const (
		state = `
			SELECT s.next_email, s.messages, s.bytes, now()
			FROM account_state s
			JOIN account a ON a.tenant_id = s.tenant_id AND a.account_id = s.account_id
			WHERE s.tenant_id = $1 AND s.account_id = $2 AND NOT a.deleting`

		mailboxes = selectMailboxRow + `
			WHERE tenant_id = $1 AND account_id = $2 AND NOT purging
			ORDER BY mailbox_id`

		emails = `
			SELECT email_id
			FROM email
			WHERE tenant_id = $1 AND account_id = $2`
	)
	if _, err := tx.Exec(ctx, unhurried); err != nil {
		return err
	}
	var counted, sum view.Counts
	var now time.Time
	if err := tx.QueryRow(ctx, state, m.tenant, m.account).Scan(&m.next, &counted.Messages, &counted.Bytes, &now); err != nil {
		return err
	}
	cutoff := time.Time{} // nothing is from before it
	if expired != nil {
		cutoff = now.Add(-*expired)
	}
	rows, _ := tx.Query(ctx, mailboxes, m.tenant, m.account) // CollectRows reports the error
	boxes, err := pgx.CollectRows(rows, pgx.RowToStructByName[mailboxRow])
	if err != nil {
		return err
	}
	for _, row := range boxes {
		if row.DeletedAt != nil && row.DeletedAt.Before(cutoff) {
			m.boxes++
			continue
		}
		box := mailboxRows{row: row}
		if err := box.read(ctx, tx, m.tenant); err != nil {
			return err
		}
		if err := m.mailbox(&box, cutoff); err != nil {
			return fmt.Errorf("mailbox %d: %w", row.MailboxID, err)
		}
		if row.DeletedAt == nil {
			sum.Messages += row.Messages
			sum.Bytes += row.Bytes
		}
	}
	if sum != counted {
		m.drifts("it counts %d messages of %d octets, its mailboxes %d of %d", counted.Messages, counted.Bytes, sum.Messages, sum.Bytes)
	}
	rows, _ = tx.Query(ctx, emails, m.tenant, m.account) // ForEachRow reports the error
	var email id.Email
	_, err = pgx.ForEachRow(rows, []any{&email}, func() error {
		m.emails.add(email)
		return nil
	})
	if missing := m.named.minus(&m.emails); err == nil && missing.n > 0 {
		m.drifts("%d emails that it names are missing", missing.n)
	}
	return err
}

func (m *marking) drifts(format string, args ...any) {
	m.drift = append(m.drift, fmt.Sprintf(format, args...))
}

// mailbox marks what a mailbox names. What does not decode keeps the whole account from being swept.
func (m *marking) mailbox(box *mailboxRows, cutoff time.Time) error {
	v, err := box.view()
	if err != nil {
		return err
	}
	if row := box.row.counts(); row != v.Counts() {
		m.drifts("mailbox %d counts %+v, and holds %+v", box.row.MailboxID, row, v.Counts())
	}
	for msg := range v.All() {
		if err := m.name(msg.Email); err != nil {
			return err
		}
		if box.row.DeletedAt == nil {
			m.there.add(msg.Email)
		}
	}
	for _, records := range [][]timedRow{box.log, box.expunged} {
		for _, l := range records {
			messages, _, err := l.expunged()
			if err != nil {
				return err
			}
			if l.at.Before(cutoff) && len(messages) > 0 {
				m.records++
				continue
			}
			for _, msg := range messages {
				if err := m.name(msg.Email); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (m *marking) name(email id.Email) error {
	if email < 1 || email >= m.next {
		return fmt.Errorf("email %d, where the next is %d", email, m.next)
	}
	m.named.add(email)
	return nil
}

// dead returns the emails that nothing names.
func (m *marking) dead() emailSet { return m.emails.minus(&m.named) }

// emailSet is a set of the numbers of emails, which are dense.
type emailSet struct {
	n     int
	pages map[id.Email]*emailPage // by what is before the page
}

// emailPage has a bit for each of 32,768 numbers.
type emailPage [512]uint64

const emailsPerPage = id.Email(64 * len(emailPage{}))

func (s *emailSet) at(e id.Email) (page *emailPage, word int, bit uint64) {
	i := int(e % emailsPerPage)
	return s.pages[e/emailsPerPage], i / 64, 1 << (i % 64)
}

func (s *emailSet) add(e id.Email) {
	page, word, bit := s.at(e)
	if page == nil {
		if s.pages == nil {
			s.pages = make(map[id.Email]*emailPage)
		}
		page = &emailPage{}
		s.pages[e/emailsPerPage] = page
	}
	if page[word]&bit == 0 {
		page[word] |= bit
		s.n++
	}
}

func (s *emailSet) has(e id.Email) bool {
	page, word, bit := s.at(e)
	return page != nil && page[word]&bit != 0
}

// all calls yield for each number, in no order.
func (s *emailSet) all(yield func(id.Email) bool) {
	for first, page := range s.pages {
		for i, word := range page {
			for bit := range 64 {
				if word&(1<<bit) != 0 && !yield(first*emailsPerPage+id.Email(64*i+bit)) {
					return
				}
			}
		}
	}
}

func (s *emailSet) minus(o *emailSet) (left emailSet) {
	for e := range s.all {
		if !o.has(e) {
			left.add(e)
		}
	}
	return left
}
