package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"mailstead.dev/acl"
	"mailstead.dev/quota"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Copied pairs source and destination UIDs by position (COPYUID, RFC 4315 section 3).
type Copied struct {
	UIDValidity uint32
	From, To    []id.UID
	ModSeq      id.ModSeq   // of the destination
	SourceView  *view.View  // after a Move; as it was copied from, after a Copy
	OverSoft    quota.Level // whose soft limit is exceeded by it; "": nobody's
}

var errOtherTenant = errors.New("mail does not go from one tenant to another")

// Copy copies those of uids that exist, all or none, with those of their flags that the user may set
// there (RFC 4314 section 4); the copies are the same emails. None existing is no error and an empty Copied.
func (m *Mailbox) Copy(ctx context.Context, uids view.UIDSet, to *Mailbox) (Copied, error) {
	return m.transfer(ctx, transfer{uids: uids}, to)
}

// CopyAll is Copy of messages all of which must exist; ErrExpunged otherwise.
func (m *Mailbox) CopyAll(ctx context.Context, uids view.UIDSet, to *Mailbox) (Copied, error) {
	return m.transfer(ctx, transfer{uids: uids, all: true}, to)
}

// Move is Copy and the removal of what was copied, in one. Of two moves of a
// message one wins: for the other it does not exist.
func (m *Mailbox) Move(ctx context.Context, uids view.UIDSet, to *Mailbox) (Copied, error) {
	return m.transfer(ctx, transfer{uids: uids, move: true}, to)
}

// MoveAll is Move of messages all of which must exist; ErrExpunged otherwise.
func (m *Mailbox) MoveAll(ctx context.Context, uids view.UIDSet, to *Mailbox) (Copied, error) {
	return m.transfer(ctx, transfer{uids: uids, all: true, move: true}, to)
}

func (m *Mailbox) transfer(ctx context.Context, t transfer, to *Mailbox) (Copied, error) {
	if m.Tenant != to.Tenant {
		return Copied{}, errOtherTenant
	}
	t.saved, t.keywords = time.Now().UTC().Truncate(time.Second), m.store.options.MaxKeywords
	t.rights = to.Rights
	c := &changing{store: m.store, tenant: m.Tenant}
	switch {
	case m.ID == to.ID:
		c.targets, c.compute = []target{m.target()}, t.within
	case t.move:
		c.targets, c.compute = []target{m.target(), to.target()}, t.between
	default:
		c.targets, c.compute = []target{m.held(), to.target()}, t.between
	}
	if m.Owner != to.Owner {
		c.across = new(across)
		c.compute = c.across.compute(&t)
	}
	done, err := c.run(ctx)
	if err != nil {
		return Copied{}, err
	}
	to.store.roots.exceeded(done.overSoft)
	result := Copied{UIDValidity: to.UIDValidity, From: t.from, To: t.to, SourceView: done.after[0], OverSoft: done.overSoft}
	if len(t.to) > 0 {
		result.ModSeq = done.after[len(done.after)-1].ModSeq()
	}
	return result, nil
}

// transfer computes the records of a COPY or MOVE, and keeps the UIDs of the last computation.
type transfer struct {
	uids  view.UIDSet
	all   bool // of them must exist
	move  bool
	saved time.Time // SAVEDATE is that of the copy (RFC 8514 section 3)

	keywords int        // the most that a mailbox can have
	rights   acl.Rights // of the user, where the copies go

	from, to []id.UID
}

// between is for two mailboxes: source and destination.
func (t *transfer) between(views []*view.View) ([]view.Record, error) {
	arrive, leave, err := t.records(views[0], views[1])
	if len(arrive) == 0 || err != nil {
		return make([]view.Record, 2), err
	}
	return []view.Record{leave, arrive}, nil
}

// within is for a mailbox that is both.
func (t *transfer) within(views []*view.View) ([]view.Record, error) {
	arrive, leave, err := t.records(views[0], views[0])
	return []view.Record{append(arrive, leave...)}, err
}

func (t *transfer) records(source, dest *view.View) (arrive, leave view.Record, err error) {
	t.from, t.to = nil, nil
	var messages []view.Message
	var used view.Keywords
	for m := range source.In(t.uids) { // as the user sees them
		messages = append(messages, m)
		if t.rights.Has(acl.Write) {
			used = used.Union(m.Keywords)
		}
	}
	switch {
	case t.all && len(messages) < t.uids.Len():
		return nil, nil, ErrExpunged
	case len(messages) == 0:
		return nil, nil, nil
	}
	define, translate, err := translation(source.Keywords(), dest.Keywords(), used, t.keywords)
	if err != nil {
		return nil, nil, err
	}
	copies := make([]view.Message, len(messages))
	var seen []id.UID // by a user who has a \Seen of their own there
	for i, m := range messages {
		t.from = append(t.from, m.UID)
		m.UID = dest.UIDNext() + id.UID(i)
		t.to = append(t.to, m.UID)
		m.Flags, m.Keywords = mayKeep(m.Flags, t.rights), translate(m.Keywords)
		m.SaveDate = t.saved
		if dest.OwnSeen() != 0 && m.Flags&view.Seen != 0 {
			m.Flags &^= view.Seen
			seen = append(seen, m.UID)
		}
		copies[i] = m
	}
	if uint64(dest.UIDNext())+uint64(len(copies)) > maxUIDNext {
		return nil, nil, ErrFull
	}
	arrive = append(define, view.Append{Messages: copies})
	if len(seen) > 0 {
		arrive = append(arrive, view.SetSeen{Reader: dest.OwnSeen(), Seen: true, UIDs: view.NewUIDSet(seen...)})
	}
	if t.move {
		leave = view.Record{view.Expunge{Messages: slices.Collect(source.Base().In(t.uids))}}
	}
	return arrive, leave, nil
}

// mayKeep returns those of flags that a user with the rights may set.
func mayKeep(flags view.Flags, rights acl.Rights) view.Flags {
	keep := view.Flags(0)
	if rights.Has(acl.Seen) {
		keep |= view.Seen
	}
	if rights.Has(acl.DeleteMessages) {
		keep |= view.Deleted
	}
	if rights.Has(acl.Write) {
		keep |= ^(view.Seen | view.Deleted)
	}
	return flags & keep
}

// maxUIDNext is the highest UIDNEXT: there is always a next one.
const maxUIDNext = 1<<32 - 1

// translation maps keywords of one table to those of another, in which those
// that are used and missing are to be defined first, if there are no more than most then.
func translation(from, to []string, used view.Keywords, most int) (view.Record, func(view.Keywords) view.Keywords, error) {
	var names []string
	for i, name := range from {
		if used.Has(i) {
			names = append(names, name)
		}
	}
	_, missing := keywordSet(to, names)
	define, table, err := defineKeywords(to, missing, most)
	if err != nil {
		return nil, nil, err
	}
	var bits [view.MaxKeywords]view.Keywords
	for i, name := range from {
		if used.Has(i) {
			bits[i] = view.KeywordBit(keywordIndex(table, name))
		}
	}
	return define, func(k view.Keywords) view.Keywords {
		var mapped view.Keywords
		for i := range from {
			if k.Has(i) {
				mapped = mapped.Union(bits[i])
			}
		}
		return mapped
	}, nil
}
