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
		emails, err := m.emails(ctx, some)
		if err != nil {
			return err
		}
		for _, e := range emails {
			if e.Meta == nil {
				continue
			}
			if err := yield(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// emails returns the emails ids, in the same order, without Meta where there is none.
func (m *Mailbox) emails(ctx context.Context, ids []id.Email) ([]Email, error) {
	emails := make([]Email, len(ids))
	var unknown []id.Email
	var at []int // in ids
	for i, email := range ids {
		e, ok := m.store.emails.emails.GetIfPresent(emailKey{m.Tenant, m.Owner, email})
		if emails[i] = e; !ok {
			unknown, at = append(unknown, email), append(at, i)
		}
	}
	if len(unknown) == 0 {
		return emails, nil
	}
	rows, err := m.emailRows(ctx, unknown)
	if err != nil {
		return nil, err
	}
	for k, row := range rows {
		if row == nil {
			continue
		}
		e, err := row.email()
		if err != nil {
			return nil, fmt.Errorf("email %d of account %d: %w", unknown[k], m.Owner, err)
		}
		m.store.emails.emails.Set(emailKey{m.Tenant, m.Owner, unknown[k]}, e)
		emails[at[k]] = e
	}
	return emails, nil
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

// emailRows returns the rows of ids, in the same order, nil where there is none.
func (m *Mailbox) emailRows(ctx context.Context, ids []id.Email) ([]*emailRow, error) {
	rows := make([]*emailRow, len(ids))
	var unknown []id.Email
	for i, email := range ids {
		row, ok := m.store.emails.rows.GetIfPresent(emailKey{m.Tenant, m.Owner, email})
		if !ok {
			unknown = append(unknown, email)
		}
		rows[i] = row
	}
	if len(unknown) == 0 {
		return rows, nil
	}
	found, err := m.readEmailRows(ctx, unknown)
	if err != nil {
		return nil, err
	}
	for i, email := range ids {
		if row := found[email]; row != nil {
			m.store.emails.rows.Set(emailKey{m.Tenant, m.Owner, email}, row)
			rows[i] = row
		}
	}
	return rows, nil
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
