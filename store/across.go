package store

import (
	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// across is the writing of a COPY or MOVE from a mailbox of one account to one of another: there the
// messages are emails of their own, on the same contents and with the same EMAILID and THREADID, that the
// other account is charged. It is made under the locks of both mailboxes, and all or nothing.
type across struct {
	sources []id.Email // in the order of the copies
	first   id.Email   // the number below theirs, as it was given out
}

// compute is that of a transfer, whose copies are numbered from 1: the database gives the numbers out.
func (a *across) compute(t *transfer) computation {
	return func(views []*view.View) ([]view.Record, error) {
		records, err := t.between(views)
		a.sources = nil
		for _, m := range copies(records) {
			a.sources = append(a.sources, m.Email)
			m.Email = id.Email(len(a.sources))
		}
		return records, err
	}
}

// copies returns the messages that the records of a transfer add, to be changed in place.
func copies(records []view.Record) []*view.Message {
	var all []*view.Message
	if len(records) < 2 {
		return nil
	}
	for _, op := range records[1] {
		if op, ok := op.(view.Append); ok {
			for i := range op.Messages {
				all = append(all, &op.Messages[i])
			}
		}
	}
	return all
}

// queue queues the writing of what was planned. The locks are had.
func (a *across) queue(b *pgx.Batch, c *changing) {
	const query = `
		SELECT emails, source_log, dest_log, crossed_soft()
		FROM transfer_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)`

	source, dest := c.delta(0), c.delta(1)
	b.Queue(query, c.tenant,
		c.targets[0].owner, c.targets[0].mailbox, source.expected, source.record, source.base,
		source.counts.Messages, source.counts.Unseen, source.counts.Deleted, source.counts.Bytes, source.counts.DeletedBytes,
		c.targets[1].owner, c.targets[1].mailbox, dest.expected, dest.record, dest.base,
		dest.counts.Unseen, dest.counts.Deleted, dest.counts.Bytes, dest.counts.DeletedBytes,
		a.sources).QueryRow(func(row pgx.Row) error {
		c.logs = make([]int64, 2)
		return row.Scan(&a.first, &c.logs[0], &c.logs[1], &c.overSoft)
	})
}

// numbered gives the copies their numbers, after the commit.
func (a *across) numbered(c *changing) (err error) {
	for _, m := range copies(c.records) {
		m.Email += a.first
	}
	c.after[1], err = c.before[1].Apply(c.before[1].ModSeq()+1, c.records[1])
	return err
}
