package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Replace adds a message to a mailbox and removes one from m, both or neither;
// it is the difference that an account is charged, of two each its own. ErrExpunged where there is
// no such message: of two who replace the same one, one does.
func (m *Mailbox) Replace(ctx context.Context, uid id.UID, to *Mailbox, with Incoming) (Appended, error) {
	if m.Tenant != to.Tenant {
		return Appended{}, errOtherTenant
	}
	a, err := newAppending(to, []Incoming{with})
	if err != nil {
		return Appended{}, err
	}
	a.replaced = &replaced{mailbox: m, uid: uid}
	done, err := a.mailboxes().takeTurns(ctx)
	if err != nil {
		return Appended{}, err
	}
	defer done()
	if err := a.run(ctx); err != nil {
		return Appended{}, changeError(err)
	}
	a.replaced.publish()
	a.publish()
	return a.result(), nil
}

// replaced is the message whose place one that is appended takes.
type replaced struct {
	mailbox *Mailbox
	uid     id.UID

	// Of the last attempt:
	after *view.View
	freed view.Counts
	log   int64 // octets
}

// queue queues the removal from a mailbox that is locked in the state before.
func (r *replaced) queue(b *pgx.Batch, before *view.View) error {
	const query = `SELECT remove_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

	before = before.Base()
	msg, ok := before.Find(r.uid)
	if !ok {
		return ErrExpunged
	}
	record := view.Record{view.Expunge{Messages: []view.Message{msg}}}
	after, err := before.Apply(before.ModSeq()+1, record)
	if err != nil {
		return err
	}
	was, is := before.Counts(), after.Counts()
	r.after = after
	r.freed = view.Counts{
		Messages: was.Messages - is.Messages, Unseen: was.Unseen - is.Unseen, Deleted: was.Deleted - is.Deleted,
		Bytes: was.Bytes - is.Bytes, DeletedBytes: was.DeletedBytes - is.DeletedBytes,
	}
	base := before.UIDNext() - 1
	m := r.mailbox
	b.Queue(query, m.Tenant, m.Owner, m.ID, before.ModSeq(), record.Encode(base, 0), base,
		-r.freed.Messages, -r.freed.Unseen, -r.freed.Deleted, -r.freed.Bytes, -r.freed.DeletedBytes).QueryRow(func(row pgx.Row) error {
		return row.Scan(&r.log)
	})
	return nil
}

// publish tells everyone who waits for it, after the commit.
func (r *replaced) publish() {
	m := r.mailbox
	m.store.views.put(m.key().owners(), r.after)
	m.store.changed(m.key(), r.after.ModSeq(), r.log)
}
