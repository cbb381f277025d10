package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Repair is Fsck that repairs what can be: counters that the mail itself
// refutes, the owner's rights, content and objects that are about to be removed though they are needed, staged rows that nothing
// refers to. It removes nothing that might be mail, and makes up nothing: what is missing or damaged stays a
// finding. Findings that it has repaired say so. Those who change the same mailboxes meanwhile wait.
func (s *Store) Repair(ctx context.Context, t id.Tenant, report func(Finding)) (Checked, error) {
	err := s.transact(ctx, t, func(tx pgx.Tx) error { return audit(ctx, tx, t, Act{Action: "fsck.repair"}) })
	if err != nil {
		return Checked{}, err
	}
	f := &fsck{store: s, tenant: t, report: report, repairer: true}
	checked, err := f.run(ctx)
	if err != nil {
		return checked, err
	}
	return checked, f.dropStaged(ctx)
}

// repairAccount checks an account, repairs it where something is found, and
// tells by checking it once more what that has mended.
func (f *fsck) repairAccount(ctx context.Context, account id.Account) error {
	found, err := f.collect(ctx, account)
	if err != nil || len(found) == 0 {
		return err
	}
	if err := f.store.repairAccount(ctx, f.tenant, account); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	counted := f.Checked
	left, err := f.collect(ctx, account)
	f.Checked = counted
	if err != nil {
		return err
	}
	for _, one := range found {
		if !slices.Contains(left, one) {
			one.Repaired = true
			f.report(one)
		}
	}
	for _, one := range left {
		f.report(one)
	}
	return nil
}

// collect returns what is found in an account.
func (f *fsck) collect(ctx context.Context, account id.Account) (found []Finding, err error) {
	report := f.report
	defer func() { f.report = report }()
	f.report = func(one Finding) { found = append(found, one) }
	return found, f.look(ctx, account)
}

// repairAccount recounts an account and its mailboxes, under their locks, reckons what their owner may do, and
// keeps contents that its emails name. Locks: mailboxes, account.
func (s *Store) repairAccount(ctx context.Context, t id.Tenant, account id.Account) error {
	const revive = `
		UPDATE blob b SET dying = false
		WHERE b.tenant_id = $1 AND b.dying AND EXISTS (
			SELECT FROM email e WHERE e.tenant_id = $1 AND e.account_id = $2 AND e.digest = b.digest)`

	err := s.transact(ctx, t, func(tx pgx.Tx) error {
		r := &recounting{Store: s, tenant: t, account: account}
		return r.run(ctx, tx)
	})
	if err != nil {
		return err
	}
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, revive, t, account)
		return err
	})
}

// recounting repairs the counters of an account. One that says more than there
// is may be all that tells of rows that were lost, and keeps a sweep from what those named: it is
// lowered only where nothing else speaks for it.
type recounting struct {
	*Store
	tenant  id.Tenant
	account id.Account

	counted  view.Counts // what the account counts, of messages and octets,
	held     view.Counts // and what its mailboxes hold
	complete bool        // no row is known to be missing
}

// recount is what a mailbox holds.
type recount struct {
	row    mailboxRow
	count  view.Counts
	log    int64 // octets
	proven bool  // nothing but counters is wrong with it
}

func (r *recounting) run(ctx context.Context, tx pgx.Tx) error {
	const (
		mailboxes = selectMailboxRow + `
			WHERE tenant_id = $1 AND account_id = $2 AND NOT purging
			ORDER BY mailbox_id
			FOR NO KEY UPDATE`

		state = `
			SELECT messages, bytes
			FROM account_state
			WHERE tenant_id = $1 AND account_id = $2
			FOR NO KEY UPDATE`

		// What was wrong until now was used until now: the ledger goes on from here.
		meter = `SELECT charge_account($1, $2, 0, 0, 0)`

		// A statement of its own behind the lock: it sees what those have counted who had it before.
		sum = `
			UPDATE account_state s
			SET messages = m.messages, bytes = m.bytes, mailboxes = m.mailboxes, annotations = d.octets
			FROM (
				SELECT coalesce(sum(messages), 0) AS messages, coalesce(sum(bytes), 0) AS bytes, count(*) AS mailboxes
				FROM mailbox
				WHERE tenant_id = $1 AND account_id = $2 AND deleted_at IS NULL
			) m, (
				SELECT coalesce(sum(octet_length(entry) + octet_length(value)), 0) AS octets
				FROM metadata n
				WHERE n.tenant_id = $1 AND (n.mailbox_id = 0 AND n.account_id = $2 OR n.mailbox IN (
					SELECT mailbox_id FROM mailbox WHERE tenant_id = $1 AND account_id = $2 AND deleted_at IS NULL))
			) d
			WHERE s.tenant_id = $1 AND s.account_id = $2 AND (m.messages >= s.messages OR $3)`
	)
	if _, err := tx.Exec(ctx, unhurried); err != nil {
		return err
	}
	rows, _ := tx.Query(ctx, mailboxes, r.tenant, r.account) // CollectRows reports the error
	boxes, err := pgx.CollectRows(rows, pgx.RowToStructByName[mailboxRow])
	if err != nil {
		return err
	}
	wrong, err := wrongRights(ctx, tx, r.tenant, boxes)
	if err != nil {
		return err
	}
	if err := settleRights(ctx, tx, r.tenant, wrong...); err != nil {
		return err
	}
	err = tx.QueryRow(ctx, state, r.tenant, r.account).Scan(&r.counted.Messages, &r.counted.Bytes)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // which is a finding of its own
	}
	if err != nil {
		return err
	}
	var all []recount
	for _, row := range boxes {
		m := &mailboxRows{row: row}
		if err := m.read(ctx, tx, r.tenant); err != nil {
			return err
		}
		all = append(all, r.recount(m))
	}
	if err := r.look(ctx, tx); err != nil {
		return err
	}
	for _, c := range all {
		if err := r.repair(ctx, tx, c); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, meter, r.tenant, r.account); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, sum, r.tenant, r.account, r.complete)
	return err
}

// recount counts what a mailbox holds.
func (r *recounting) recount(m *mailboxRows) recount {
	c := recount{row: m.row, proven: true}
	check := &mailboxCheck{mailboxRows: m, fsck: &fsck{store: r.Store, tenant: r.tenant, report: func(f Finding) {
		c.proven = c.proven && f.Kind == FoundCounter
	}}}
	check.replay()
	c.count = check.recount()
	for _, l := range m.log {
		c.log += int64(len(l.record))
	}
	if m.row.DeletedAt == nil {
		r.held.Messages += c.count.Messages
		r.held.Bytes += c.count.Bytes
	}
	return c
}

// look finds out whether all emails of the account are in a mailbox, or can be
// brought back, and no mailbox of the tenant has lost its row: else rows may be missing.
func (r *recounting) look(ctx context.Context, tx pgx.Tx) error {
	strays, err := strayMailboxes(ctx, tx, r.tenant)
	if err != nil || len(strays) > 0 {
		return err
	}
	m := &marking{tenant: r.tenant, account: r.account}
	if err := m.read(ctx, tx, nil); err != nil {
		return nil // what is wrong was found; the transaction tells if it is broken
	}
	dead := m.dead()
	r.complete = dead.n == 0
	return nil
}

// repair writes the counters of a mailbox anew if nothing else is wrong with
// it, and it has lost nothing: it counts no more than it holds, or the account, which counts for itself, does not either.
func (r *recounting) repair(ctx context.Context, tx pgx.Tx, c recount) error {
	const update = `
		UPDATE mailbox
		SET messages = $3::bigint, unseen = $4::bigint, deleted = $5::bigint, bytes = $6::bigint, deleted_bytes = $7::bigint, log_bytes = $8
		WHERE tenant_id = $1 AND mailbox_id = $2`

	lost := c.count.Messages < c.row.Messages && !(r.complete && r.counted == r.held && c.row.DeletedAt == nil)
	if !c.proven || lost || c.count == c.row.counts() && c.log == c.row.LogBytes {
		return nil
	}
	n := c.count
	_, err := tx.Exec(ctx, update, r.tenant, c.row.MailboxID, n.Messages, n.Unseen, n.Deleted, n.Bytes, n.DeletedBytes, c.log)
	return err
}

// countObject makes an object count in which content lies, if it is there, and
// reports whether it was. No collector takes it meanwhile: it takes none in which content lies.
func (f *fsck) countObject(ctx context.Context, key string) (bool, error) {
	const (
		insert = `
			INSERT INTO object (tenant_id, object_key, bytes)
			SELECT $1, $2, $3
			WHERE EXISTS (SELECT FROM blob WHERE tenant_id = $1 AND object_key = $2)
			ON CONFLICT DO NOTHING`

		forget = `DELETE FROM object_intent WHERE tenant_id = $1 AND object_key = $2`
	)
	o, err := f.store.options.Bucket.Stat(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.store.transact(ctx, f.tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, insert, f.tenant, key, o.Size)
		if err != nil || tag.RowsAffected() == 0 {
			return err // its content has moved: the intent finds it
		}
		_, err = tx.Exec(ctx, forget, f.tenant, key)
		return err
	})
}

// dropIntents keeps the collector from objects that count.
func (f *fsck) dropIntents(ctx context.Context, keys []string) error {
	const query = `
		DELETE FROM object_intent i
		USING object o
		WHERE i.tenant_id = $1 AND i.object_key = ANY ($2) AND o.tenant_id = i.tenant_id AND o.object_key = i.object_key`

	return f.store.transact(ctx, f.tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, query, f.tenant, keys)
		return err
	})
}

// dropStaged removes staged rows that no content refers to.
func (f *fsck) dropStaged(ctx context.Context) error {
	var sum int64
	for {
		var n int64
		err := f.store.transact(ctx, f.tenant, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT drop_leftovers($1)`, f.tenant).Scan(&n)
		})
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		sum += n
	}
	if sum > 0 {
		f.report(Finding{
			Kind: FoundStaged, Tenant: f.tenant, Repaired: true,
			Detail: fmt.Sprintf("%d staged rows that no content refers to", sum),
		})
	}
	return nil
}
