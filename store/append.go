package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/quota"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
	"mailstead.dev/store/view"
)

// Incoming is a message on its way in.
type Incoming struct {
	Content      *Content // from Receive
	Prefix       []byte   // header lines put before the content (LMTP's Return-Path and Delivered-To), whole fields with CRLF
	Flags        view.Flags
	Keywords     []string
	InternalDate time.Time // zero: now
	Delivered    bool      // by a mail server; of messages that come together that of the first counts
}

// Appended tells where messages went. UIDs are ascending, in the order given.
type Appended struct {
	UIDValidity uint32
	UIDs        view.UIDSet
	ModSeq      id.ModSeq
	Replaced    id.ModSeq   // after a Replace: at which the other message went, in its mailbox
	OverSoft    quota.Level // whose soft limit is exceeded by it; "": nobody's
}

// Append adds all messages or none, in one transaction. Once it returns nil, they are durable.
//
// It needs to know nothing of the mailbox but the bits of the keywords, which
// never change, and so takes one round trip; only keywords that the mailbox may
// not know yet make it go the way of the other changes.
func (m *Mailbox) Append(ctx context.Context, messages ...Incoming) (Appended, error) {
	if len(messages) == 0 {
		return Appended{UIDValidity: m.UIDValidity}, nil
	}
	a, err := newAppending(m, messages)
	if err != nil {
		return Appended{}, err
	}
	done, err := m.store.appenders.take(ctx, m.key())
	if err != nil {
		return Appended{}, err
	}
	defer done()
	err = changeError(a.run(ctx))
	if errors.Is(err, ErrRightsChanged) {
		err = ErrNotExist // as the other way of it says, which does not tell name and rights apart
	}
	if err != nil {
		return Appended{}, err
	}
	a.publish()
	return a.result(), nil
}

// appending is an APPEND under way.
type appending struct {
	mailbox  *Mailbox
	messages []Incoming
	contents []*Content     // each once, by ascending digest
	emails   []view.Message // UIDs and emails counted from 1
	sum      view.Counts
	seen     []int // those of emails that who appends has seen for themself alone
	emailIDs []id.Object
	replaced *replaced // what goes for it, nil: nothing

	define view.Record // keywords that the record defines
	with   bool        // the contents are sent along even if they are known to be there
	try    trial

	// What the database answered.
	validity  uint32
	modSeq    id.ModSeq
	uidBase   id.UID
	emailBase id.Email
	logBytes  int64
	overSoft  quota.Level
}

func newAppending(m *Mailbox, messages []Incoming) (*appending, error) {
	a := &appending{mailbox: m, messages: messages}
	now := time.Now().UTC().Truncate(time.Second)
	for i, in := range messages {
		if in.Content.tenant != m.Tenant {
			return nil, fmt.Errorf("content of tenant %d for a mailbox of tenant %d", in.Content.tenant, m.Tenant)
		}
		date := in.InternalDate.Truncate(time.Second)
		if in.InternalDate.IsZero() {
			date = now
		}
		size := in.Content.Size + int64(len(in.Prefix))
		flags := in.Flags
		if m.ownSeen() && flags&view.Seen != 0 {
			flags &^= view.Seen
			a.seen = append(a.seen, i)
		}
		a.emails = append(a.emails, view.Message{
			UID: id.UID(i + 1), Email: id.Email(i + 1), Flags: flags, InternalDate: date, SaveDate: now, Size: size,
		})
		a.emailIDs = append(a.emailIDs, newObject("M"))
		a.contents = append(a.contents, in.Content)
		a.count(flags, size)
	}
	slices.SortFunc(a.contents, func(x, y *Content) int { return bytes.Compare(x.digest[:], y.digest[:]) })
	a.contents = slices.CompactFunc(a.contents, func(x, y *Content) bool { return x.digest == y.digest })
	return a, nil
}

func (a *appending) count(flags view.Flags, size int64) {
	a.sum.Messages++
	a.sum.Bytes += size
	if flags&view.Seen == 0 {
		a.sum.Unseen++
	}
	if flags&view.Deleted != 0 {
		a.sum.Deleted++
		a.sum.DeletedBytes += size
	}
}

// run writes the messages. Content that was stored before is first taken to be
// there still, and sent only where that is not so.
func (a *appending) run(ctx context.Context) error {
	for {
		err := a.once(ctx)
		if isState(err, stateNotFresh) && !a.with {
			a.with = true
			continue
		}
		if err == nil {
			for _, c := range a.contents {
				c.kept.Store(true)
			}
		}
		if !a.try.again(ctx, err) {
			return err
		}
	}
}

func (a *appending) once(ctx context.Context) error {
	a.define = nil
	if a.replaced == nil && a.knowsKeywords() {
		return a.mailbox.store.batchOf(ctx, written{a.mailbox.Tenant, []id.Mailbox{a.mailbox.ID}}, func(b *pgx.Batch) { a.queue(b, nil) })
	}
	return a.locked(ctx)
}

// knowsKeywords gives the messages the bits of their keywords, if the mailbox is known to have them all.
func (a *appending) knowsKeywords() bool {
	if !slices.ContainsFunc(a.messages, func(in Incoming) bool { return len(in.Keywords) > 0 }) {
		return true
	}
	_, v := a.mailbox.cached()
	return v != nil && len(a.setKeywords(v.Keywords())) == 0
}

// setKeywords gives the messages the bits of their keywords, and returns those that the table lacks.
func (a *appending) setKeywords(table []string) []string {
	var missing []string
	for i, in := range a.messages {
		set, more := keywordSet(table, in.Keywords)
		a.emails[i].Keywords = set
		for _, name := range more {
			if keywordIndex(missing, name) < 0 {
				missing = append(missing, name)
			}
		}
	}
	return missing
}

// mailboxes are what is locked for it, that which the messages go to first. Where a message is replaced in its own mailbox, that
// was opened twice: as it is locked the rights must be those by which the message may go, as it is written those by which one may come.
func (a *appending) mailboxes() *changing {
	m := a.mailbox
	targets := []target{m.target()}
	switch r := a.replaced; {
	case r == nil:
	case r.mailbox.ID == m.ID:
		targets[0] = r.mailbox.target()
	default:
		targets = append(targets, r.mailbox.target())
	}
	return &changing{store: m.store, tenant: m.Tenant, targets: targets, try: a.try, before: make([]*view.View, len(targets))}
}

// locked appends with keywords that the mailbox may not know yet: it is locked
// first, and the keywords are defined in the same record. So it is where a message is replaced,
// which goes by a record of its own, before.
func (a *appending) locked(ctx context.Context) error {
	m := a.mailbox
	conn, err := m.store.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // closes a connection whose transaction was not ended
	c := a.mailboxes()
	if err := c.lock(ctx, conn); err != nil {
		return m.store.failed(ctx, conn, err)
	}
	v := c.before[0]
	define, table, err := defineKeywords(v.Keywords(), a.setKeywords(v.Keywords()), m.store.options.MaxKeywords)
	if err != nil {
		return errors.Join(err, m.store.giveUp(ctx, conn))
	}
	a.define = define
	a.setKeywords(table)
	m.store.views.put(m.viewer(), v)
	b := &pgx.Batch{}
	modSeq := v.ModSeq()
	if a.replaced != nil {
		if err := a.replaced.queue(b, c.before[len(c.before)-1]); err != nil {
			return errors.Join(err, m.store.giveUp(ctx, conn))
		}
		if len(c.before) == 1 {
			modSeq++
		}
	}
	a.queue(b, &modSeq)
	b.Queue(commitBlock)
	return m.store.commit(ctx, conn, c.writes(), b)
}

// queue queues the append. expected is the MODSEQ of the mailbox where that matters.
func (a *appending) queue(b *pgx.Batch, expected *id.ModSeq) {
	const query = `
		SELECT validity, new_modseq, uids, emails, log, crossed_soft()
		FROM append_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
			$12, $13, $14, $15, $16, $17, $18,
			$19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29)`

	n := len(a.contents)
	var (
		digests, frames, data = make([][]byte, n), make([][]byte, n), make([][]byte, n)
		sizes, lengths        = make([]int64, n), make([]int64, n)
		encodings             = make([]int16, n)
		objects               = make([]*string, n)
	)
	for i, c := range a.contents {
		digests[i], frames[i] = c.digest[:], c.layout.EncodeFrames()
		sizes[i], lengths[i], encodings[i] = c.layout.Size, c.layout.StoredLen(), int16(c.layout.Encoding)
		switch {
		case c.kept.Load() && !a.with:
		case c.objectKey != "":
			objects[i] = &c.objectKey
		default:
			data[i] = present(c.staged)
		}
	}
	e := a.emailRows()
	m := a.mailbox
	var freed view.Counts
	freedOf := m.Owner
	if a.replaced != nil {
		freed, freedOf = a.replaced.freed, a.replaced.mailbox.Owner
	}
	var name *string
	if m.epoch > 0 {
		name = &m.path.name
	}
	b.Queue(query, m.Tenant, m.Owner, m.ID, name, m.epoch, expected, a.record().Encode(0, 0),
		a.sum.Unseen, a.sum.Deleted, a.sum.Bytes, a.sum.DeletedBytes,
		digests, sizes, encodings, frames, lengths, data, objects,
		e.digests, e.prefixes, e.sizes, e.sent, e.emailIDs, e.threadIDs, e.metas,
		freed.Messages, freed.Bytes, freedOf, a.messages[0].Delivered).QueryRow(func(row pgx.Row) error {
		return row.Scan(&a.validity, &a.modSeq, &a.uidBase, &a.emailBase, &a.logBytes, &a.overSoft)
	})
}

// present returns b as a value that is not NULL.
func present(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (a *appending) record() view.Record {
	record := append(slices.Clip(a.define), view.Append{Messages: a.emails})
	if len(a.seen) == 0 {
		return record
	}
	uids := make([]id.UID, len(a.seen))
	for k, i := range a.seen {
		uids[k] = a.emails[i].UID
	}
	return append(record, view.SetSeen{Reader: a.mailbox.reader(), Seen: true, UIDs: view.NewUIDSet(uids...)})
}

// emailRows are the columns of the emails.
type emailRows struct {
	digests, prefixes, metas [][]byte
	sizes                    []int64
	sent                     []*time.Time
	emailIDs, threadIDs      []string
}

func (a *appending) emailRows() emailRows {
	var e emailRows
	for i, in := range a.messages {
		e.digests = append(e.digests, in.Content.digest[:])
		e.prefixes = append(e.prefixes, present(in.Prefix))
		e.metas = append(e.metas, in.Content.encodedMeta())
		e.sizes = append(e.sizes, a.emails[i].Size)
		var sent *time.Time
		if d := in.Content.Meta.SentDate; !d.IsZero() {
			sent = &d
		}
		e.sent = append(e.sent, sent)
		e.emailIDs = append(e.emailIDs, string(a.emailIDs[i]))
		e.threadIDs = append(e.threadIDs, string(threadID(in.Content.Meta, a.emailIDs[i])))
	}
	return e
}

// threadID returns the THREADID of an email (RFC 8474 section 5.3): messages
// of a thread name the same root, and one that names none is a thread of its own.
func threadID(m *message.Meta, email id.Object) id.Object {
	root := m.ThreadRoot()
	if root == "" {
		root = string(email)
	}
	sum := sha256.Sum256([]byte(root))
	return objectOf("T", sum[:15])
}

// publish brings the cached view up to date, if it was so just before, and tells everyone who waits for it.
func (a *appending) publish() {
	m := a.mailbox
	viewer, v := m.cached()
	if v != nil && v.ModSeq() == a.modSeq-1 {
		for i := range a.emails {
			a.emails[i].UID += a.uidBase
			a.emails[i].Email += a.emailBase
		}
		now, err := v.Apply(a.modSeq, a.record())
		if err != nil {
			// The next to look at the mailbox will find the same, and fail.
			m.store.log.Error("appended messages do not fit the cached view", "mailbox", m.ID, "modseq", a.modSeq, "error", err)
			m.store.views.drop(viewer)
		} else {
			m.store.views.put(viewer, now)
		}
	}
	m.store.roots.exceeded(a.overSoft)
	m.store.changed(m.key(), a.modSeq, a.logBytes)
}

func (a *appending) result() Appended {
	first := a.uidBase + 1
	result := Appended{
		UIDValidity: a.validity,
		UIDs:        view.UIDSetOf(view.Range{First: first, Last: a.uidBase + id.UID(len(a.emails))}),
		ModSeq:      a.modSeq,
		OverSoft:    a.overSoft,
	}
	if a.replaced != nil {
		result.Replaced = a.replaced.after.ModSeq()
	}
	return result
}
