package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Undelete says which expunged messages are to come back.
type Undelete struct {
	// UIDs that they had; nil: all that are in no mailbox of the account any more. That leaves out what was moved,
	// which to its old mailbox looks the same.
	UIDs *view.UIDSet
	// Since is when they were expunged at the earliest; zero: at any time.
	Since time.Time
}

// Undeleted pairs the UIDs that messages had with those that they have now, by position.
type Undeleted struct {
	UIDValidity uint32
	From, To    []id.UID
	ModSeq      id.ModSeq // of the change; 0: nothing came back
	Elsewhere   int       // messages that were left out, being in another mailbox
}

// Undelete brings messages back that were expunged before it was called, for
// as long as Retention says, or none of them: with the flags, keywords and dates that they had
// but for \Deleted, which would let the next EXPUNGE take them again, and with new UIDs. They are charged like new
// ones. What has come back cannot come back once more.
func (m *Mailbox) Undelete(ctx context.Context, which Undelete) (Undeleted, error) {
	v, err := m.View(ctx)
	if err != nil {
		return Undeleted{}, err
	}
	u := &undeleting{mailbox: m, Undelete: which, until: v.ModSeq()}
	if which.UIDs == nil {
		// In one snapshot, behind until: what moves on and on meanwhile is somewhere in it.
		all, err := m.store.mark(ctx, m.Tenant, m.Owner, nil)
		if err != nil {
			return Undeleted{}, fmt.Errorf("undelete: %w", changeError(err))
		}
		u.elsewhere = &all.there
	}
	c := &changing{store: m.store, tenant: m.Tenant, targets: []target{m.target()}}
	done, err := c.takeTurns(ctx)
	if err != nil {
		return Undeleted{}, err
	}
	defer done()
	for attempt := 1; ; attempt++ {
		// What was expunged stands in the records that folding keeps, where messages can be taken from it.
		if err := m.Fold(ctx); err != nil {
			return Undeleted{}, err
		}
		err = m.store.transact(ctx, m.Tenant, func(tx pgx.Tx) error {
			c.compute = func(views []*view.View) ([]view.Record, error) { return u.record(ctx, tx, views[0]) }
			c.written = false
			if err := c.within(ctx, tx); err != nil {
				return err
			}
			if err := u.takeFromRecords(ctx, tx); err != nil || !c.written {
				return err
			}
			return audit(ctx, tx, m.Tenant, Act{Action: "message.undelete", Object: m.user.Login + "/" + m.Name, Detail: map[string]int{"messages": len(u.to)}})
		})
		if !errors.Is(err, errMovedOn) || attempt == attempts || !pause(ctx, attempt) {
			break
		}
	}
	if err != nil {
		return Undeleted{}, fmt.Errorf("undelete: %w", changeError(err))
	}
	c.publish()
	back := Undeleted{UIDValidity: m.UIDValidity, From: u.from, To: u.to, Elsewhere: u.left}
	if c.written {
		back.ModSeq = c.after[0].ModSeq()
	}
	return back, nil
}

// undeleting computes the record of an undelete, and keeps what the last computation found.
type undeleting struct {
	Undelete
	mailbox   *Mailbox
	until     id.ModSeq // what is expunged later stays so
	elsewhere *emailSet // nil: it does not matter

	from, to []id.UID
	left     int
	changed  []expungeRecord // as they are without what comes back
}

// record makes the record of the messages that come back. The mailbox is locked.
func (u *undeleting) record(ctx context.Context, tx pgx.Tx, v *view.View) ([]view.Record, error) {
	const (
		folded = `SELECT folded_modseq FROM mailbox WHERE tenant_id = $1 AND mailbox_id = $2`

		records = `
			SELECT mailbox_id, modseq, record
			FROM mailbox_expunged
			WHERE tenant_id = $1 AND mailbox_id = $2 AND modseq <= $3 AND at >= $4 AND NOT bare
			ORDER BY modseq`
	)
	u.from, u.to, u.left, u.changed = nil, nil, 0, nil
	var at id.ModSeq
	if err := tx.QueryRow(ctx, folded, u.mailbox.Tenant, u.mailbox.ID).Scan(&at); err != nil {
		return nil, err
	}
	if at < u.until {
		return nil, errMovedOn // another folded, but not as far
	}
	rows, _ := tx.Query(ctx, records, u.mailbox.Tenant, u.mailbox.ID, u.until, u.Since) // CollectRows reports the error
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[expungeRecord])
	if err != nil {
		return nil, err
	}
	var messages []view.Message
	for _, r := range found {
		back, err := u.take(r)
		if err != nil {
			return nil, fmt.Errorf("expunge record %d: %w", r.ModSeq, err)
		}
		messages = append(messages, back...)
	}
	if len(messages) == 0 {
		return make([]view.Record, 1), nil
	}
	if uint64(v.UIDNext())+uint64(len(messages)) > maxUIDNext {
		return nil, ErrFull
	}
	slices.SortFunc(messages, func(a, b view.Message) int { return cmp.Compare(a.UID, b.UID) })
	for i := range messages {
		u.from = append(u.from, messages[i].UID)
		messages[i].UID = v.UIDNext() + id.UID(i)
		messages[i].Flags &^= view.Deleted
		u.to = append(u.to, messages[i].UID)
	}
	if err := u.holdEmails(ctx, tx, messages); err != nil {
		return nil, err
	}
	return []view.Record{{view.Append{Messages: messages}}}, nil
}

// take takes out of a record the messages that come back.
func (u *undeleting) take(r expungeRecord) (back []view.Message, err error) {
	l := logRow{record: r.Record}
	messages, vanished, err := l.expunged()
	if err != nil {
		return nil, err
	}
	var stay []view.Message
	for _, m := range messages {
		switch {
		case u.UIDs != nil && !u.UIDs.Contains(m.UID):
			stay = append(stay, m)
		case u.elsewhere != nil && u.elsewhere.has(m.Email):
			stay = append(stay, m)
			u.left++
		default:
			back = append(back, m)
		}
	}
	if len(back) == 0 {
		return nil, nil
	}
	var record view.Record
	if len(stay) > 0 {
		record = view.Record{view.Expunge{Messages: stay}}
	}
	record = append(record, view.Vanished{UIDs: vanished.Union(uidsOf(back))})
	r.Record = record.Encode(0, 0)
	u.changed = append(u.changed, r)
	return back, nil
}

// holdEmails makes sure that the emails of messages are there and stay there. A sweep
// removes none that an expunge record names, so that one which is missing is damage, and is said.
func (u *undeleting) holdEmails(ctx context.Context, tx pgx.Tx, messages []view.Message) error {
	const query = `
		SELECT email_id FROM email
		WHERE tenant_id = $1 AND account_id = $2 AND email_id = ANY ($3)
		FOR KEY SHARE`

	var wanted []id.Email
	for _, m := range messages {
		wanted = append(wanted, m.Email)
	}
	rows, _ := tx.Query(ctx, query, u.mailbox.Tenant, u.mailbox.Owner, wanted) // CollectRows reports the error
	found, err := pgx.CollectRows(rows, pgx.RowTo[id.Email])
	if err != nil {
		return err
	}
	there := &emailSet{}
	for _, email := range found {
		there.add(email)
	}
	for _, email := range wanted {
		if !there.has(email) {
			return fmt.Errorf("%w: email %d, which an expunge record names, is missing", ErrExpunged, email)
		}
	}
	return nil
}

// takeFromRecords writes the expunge records without what has come back.
func (u *undeleting) takeFromRecords(ctx context.Context, tx pgx.Tx) error {
	const query = `
		UPDATE mailbox_expunged SET record = $4
		WHERE tenant_id = $1 AND mailbox_id = $2 AND modseq = $3`

	if len(u.changed) == 0 {
		return nil
	}
	b := &pgx.Batch{}
	for _, r := range u.changed {
		b.Queue(query, u.mailbox.Tenant, u.mailbox.ID, r.ModSeq, r.Record)
	}
	return tx.SendBatch(ctx, b).Close()
}

// DeletedMailbox is a mailbox that was deleted and can be brought back.
type DeletedMailbox struct {
	MailboxID id.Mailbox
	Name      string
	DeletedAt time.Time
	Messages  int64
	Bytes     int64
}

// DeletedMailboxes returns the mailboxes of an account that can be brought back, the last that was deleted first.
func (s *Store) DeletedMailboxes(ctx context.Context, u User) ([]DeletedMailbox, error) {
	const query = `
		SELECT mailbox_id, name, deleted_at, messages, bytes
		FROM mailbox
		WHERE tenant_id = $1 AND account_id = $2 AND deleted_at IS NOT NULL AND NOT purging
		ORDER BY deleted_at DESC, mailbox_id DESC`

	var found []DeletedMailbox
	err := s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		b.Queue(query, u.Tenant, u.Account).Query(func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[DeletedMailbox])
			return err
		})
	})
	return found, err
}

// UndeleteMailbox brings a deleted mailbox back with all that it held, as as
// (or "", the name that it had); of several that had the name, the one that was deleted last.
// It is charged as a whole, keeps its UIDs, and takes a new UIDVALIDITY where the name has had a higher one since. Of its
// special uses it comes back without those that another mailbox has taken: clients file mail there by now, and must not find two.
// ErrNotExist, ErrExists, ErrBadName, ErrMailboxes, *quota.OverError.
func (s *Store) UndeleteMailbox(ctx context.Context, u User, name, as string) (m *Mailbox, taken []string, err error) {
	name, as = canonicalName(name), canonicalName(strings.TrimSuffix(as, separator))
	if as == "" {
		as = name
	}
	switch {
	case checkName(name) != nil:
		return nil, nil, ErrNotExist
	case s.checkNewName(as) != nil || !isPersonal(u, as):
		return nil, nil, ErrBadName
	case as == inbox:
		return nil, nil, ErrExists
	}
	var back id.Mailbox
	err = s.transact(ctx, u.Tenant, func(tx pgx.Tx) (err error) {
		if err := lockNames(ctx, tx, u); err != nil {
			return err
		}
		if back, taken, err = s.undeleteMailbox(ctx, tx, u, name, as); err != nil {
			return err
		}
		return audit(ctx, tx, u.Tenant, Act{Action: "mailbox.undelete", Object: u.Login + "/" + name, Detail: map[string]string{"as": as}})
	})
	if err != nil {
		return nil, nil, fmt.Errorf("undelete mailbox: %w", changeError(err))
	}
	s.watch.changed(viewKey{u.Tenant, back}, 0)
	m, err = s.Open(ctx, u, as, acl.Lookup)
	return m, taken, err
}

// undeleteMailbox finds the mailbox and makes it one of the account again,
// without the special uses that are taken. The names are locked.
func (s *Store) undeleteMailbox(ctx context.Context, tx pgx.Tx, u User, name, as string) (back id.Mailbox, taken []string, err error) {
	const (
		deleted = `
			SELECT mailbox_id, uidvalidity, messages, bytes, special_use
			FROM mailbox
			WHERE tenant_id = $1 AND account_id = $2 AND name = $3 AND deleted_at IS NOT NULL AND NOT purging
			ORDER BY deleted_at DESC, mailbox_id DESC
			LIMIT 1
			FOR NO KEY UPDATE`

		revive = `
			UPDATE mailbox SET deleted_at = NULL, name = $4, uidvalidity = $5, special_use = $6
			WHERE tenant_id = $1 AND account_id = $2 AND mailbox_id = $3 AND deleted_at IS NOT NULL AND NOT purging`

		charge = `SELECT charge_account($1, $2, $3, $4, 0)`
	)
	m := &named{Name: name}
	var messages, octets int64
	var specialUse []string
	err = tx.QueryRow(ctx, deleted, u.Tenant, u.Account, name).Scan(&m.Mailbox, &m.UIDValidity, &messages, &octets, &specialUse)
	if err != nil {
		return 0, nil, err // no row: ErrNotExist, by changeError
	}
	n := names{user: u, owner: u}
	if err := n.hold(ctx, tx, "", parents(as)...); err != nil {
		return 0, nil, err
	}
	there, err := n.existing(ctx, tx, as)
	if err != nil {
		return 0, nil, err
	}
	if len(there) > 0 {
		return 0, nil, ErrExists
	}
	_, more, err := s.insertParents(ctx, tx, n, as, 1)
	if err != nil {
		return 0, nil, err
	}
	if taken, err = takenSpecialUse(ctx, tx, u, specialUse); err != nil {
		return 0, nil, err
	}
	specialUse = slices.DeleteFunc(specialUse, func(use string) bool { return slices.Contains(taken, use) })
	validity, err := validityFor(ctx, tx, u, m, as)
	if err != nil {
		return 0, nil, err
	}
	tag, err := tx.Exec(ctx, revive, u.Tenant, u.Account, m.Mailbox, as, validity, specialUse)
	if err := affected(tag, err, ErrNotExist); err != nil {
		return 0, nil, err
	}
	notes, err := annotationOctets(ctx, tx, u.Tenant, m.Mailbox, u.Account)
	if err != nil {
		return 0, nil, err
	}
	if _, err := tx.Exec(ctx, charge, u.Tenant, u.Account, messages, octets); err != nil {
		return 0, nil, err
	}
	return m.Mailbox, taken, chargeNames(ctx, tx, u, 1+more, notes)
}
