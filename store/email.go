package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// emailBatch is how many emails are read from the database at a time.
const emailBatch = 256

// Email is a stored email of an account, without its content.
type Email struct {
	ID       id.Email
	EmailID  id.Object
	ThreadID id.Object
	Size     int64
	Meta     *message.Meta // with the prefix applied
}

// Emails calls yield for each email, in the order asked, reading a bounded
// number at a time. Those that do not exist (any more) are left out.
func (m *Mailbox) Emails(ctx context.Context, ids []id.Email, yield func(Email) error) error {
	for some := range slices.Chunk(ids, emailBatch) {
		if err := m.someEmails(ctx, some, yield); err != nil {
			return err
		}
	}
	return nil
}

// someEmails reads at once what is stored of emails, and decodes it one by one:
// what an email says can be a thousand times as much.
func (m *Mailbox) someEmails(ctx context.Context, ids []id.Email, yield func(Email) error) error {
	var unknown []id.Email
	for _, email := range ids {
		if _, ok := m.store.emails.emails.GetIfPresent(emailKey{m.Tenant, m.Owner, email}); !ok {
			unknown = append(unknown, email)
		}
	}
	rows := make(map[id.Email]*emailRow, len(unknown))
	if err := m.addRows(ctx, rows, unknown...); err != nil {
		return err
	}
	for _, email := range ids {
		e, err := m.email(ctx, rows, email)
		if err == nil && e.Meta != nil {
			err = yield(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// email returns one of the emails that are known or among rows, without Meta if there is none.
func (m *Mailbox) email(ctx context.Context, rows map[id.Email]*emailRow, email id.Email) (Email, error) {
	key := emailKey{m.Tenant, m.Owner, email}
	if e, ok := m.store.emails.emails.GetIfPresent(key); ok {
		return e, nil
	}
	if _, ok := rows[email]; !ok { // it was known a moment ago
		if err := m.addRows(ctx, rows, email); err != nil {
			return Email{}, err
		}
	}
	row := rows[email]
	if row == nil {
		return Email{}, nil
	}
	e, err := row.email()
	if err != nil {
		return Email{}, fmt.Errorf("email %d of account %d: %w", email, m.Owner, err)
	}
	m.store.emails.emails.Set(key, e)
	return e, nil
}

// emailRow is a row of email, without what only its content needs.
type emailRow struct {
	EmailID  id.Email
	ObjectID id.Object
	ThreadID id.Object
	Size     int64
	Prefix   []byte
	Meta     []byte
}

func (r *emailRow) email() (Email, error) {
	meta, err := message.DecodeMeta(r.Meta)
	if err != nil {
		return Email{}, err
	}
	if len(r.Prefix) > 0 {
		meta = meta.WithPrefix(r.Prefix)
	}
	return Email{ID: r.EmailID, EmailID: r.ObjectID, ThreadID: r.ThreadID, Size: r.Size, Meta: meta}, nil
}

// addRows adds the rows of emails, nil where there is none.
func (m *Mailbox) addRows(ctx context.Context, rows map[id.Email]*emailRow, ids ...id.Email) error {
	var unknown []id.Email
	for _, email := range ids {
		row, ok := m.store.emails.rows.GetIfPresent(emailKey{m.Tenant, m.Owner, email})
		if !ok {
			unknown = append(unknown, email)
		}
		rows[email] = row
	}
	if len(unknown) == 0 {
		return nil
	}
	found, err := m.readEmailRows(ctx, unknown)
	if err != nil {
		return err
	}
	for email, row := range found {
		m.store.emails.rows.Set(emailKey{m.Tenant, m.Owner, email}, row)
		rows[email] = row
	}
	return nil
}

func (m *Mailbox) readEmailRows(ctx context.Context, ids []id.Email) (map[id.Email]*emailRow, error) {
	const query = `
		SELECT email_id, emailid, threadid, size, prefix, meta
		FROM email
		WHERE tenant_id = $1 AND account_id = $2 AND email_id = ANY ($3)`

	var found map[id.Email]*emailRow
	err := m.store.read(ctx, m.Tenant, func(b *pgx.Batch) {
		found = make(map[id.Email]*emailRow, len(ids))
		b.Queue(query, m.Tenant, m.Owner, ids).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				r := &emailRow{}
				if err := rows.Scan(&r.EmailID, &r.ObjectID, &r.ThreadID, &r.Size, &r.Prefix, &r.Meta); err != nil {
					return err
				}
				found[r.EmailID] = r
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read emails: %w", err)
	}
	return found, nil
}
