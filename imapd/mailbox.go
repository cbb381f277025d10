package imapd

import (
	"context"
	"errors"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
)

// CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE and NAMESPACE.
//
// RFC 3501 sections 6.3.3 to 6.3.7; NAMESPACE: RFC 2342; MAILBOXID: RFC 8474 section 4.1.

// delimiter separates the levels of mailbox names.
const delimiter = "/"

// naming is what these commands need of the store.
type naming interface {
	Create(ctx context.Context, u store.User, name string, specialUse []string) (*store.Mailbox, error)
	Delete(ctx context.Context, u store.User, name string) error
	Rename(ctx context.Context, u store.User, from, to string) error
	Subscribe(ctx context.Context, u store.User, name string) error
	Unsubscribe(ctx context.Context, u store.User, name string) error
}

var _ naming = (*store.Store)(nil)

// create = "CREATE" SP mailbox
//
// A delimiter at the end says that mailboxes will be created below it, which
// they can be below each (RFC 3501 section 6.3.3).
func readCreate(d *wire.Decoder) (run, error) {
	d.SP()
	name := d.Mailbox()
	return func(ctx context.Context, s *session) error {
		m, err := s.store.Create(ctx, s.user, name, nil)
		if err != nil {
			return err
		}
		s.ok(mailboxID(m), "")
		return nil
	}, d.End()
}

// mailboxID is the response code with the identifier of a mailbox.
func mailboxID(m *store.Mailbox) string { return "MAILBOXID (" + string(m.ObjectID) + ")" }

// delete = "DELETE" SP mailbox
func readDelete(d *wire.Decoder) (run, error) {
	d.SP()
	name := d.Mailbox()
	return func(ctx context.Context, s *session) error {
		if err := s.store.Delete(ctx, s.user, name); err != nil {
			return err
		}
		s.leaveDeleted(ctx)
		return nil
	}, d.End()
}

// leaveDeleted leaves the selected mailbox if it is what this client has just deleted.
func (s *session) leaveDeleted(ctx context.Context) {
	if s.selected == nil {
		return
	}
	_, err := s.selected.View(ctx)
	switch {
	case errors.Is(err, store.ErrNotExist):
		s.deselect()
	case err != nil: // the next command finds out
		s.log.Warn("looking for the selected mailbox failed", "err", err)
	}
}

// rename = "RENAME" SP mailbox SP mailbox
func readRename(d *wire.Decoder) (run, error) {
	d.SP()
	from := d.Mailbox()
	d.SP()
	to := d.Mailbox()
	return func(ctx context.Context, s *session) error {
		return s.store.Rename(ctx, s.user, from, to)
	}, d.End()
}

// subscribe = "SUBSCRIBE" SP mailbox
func readSubscribe(d *wire.Decoder) (run, error) {
	d.SP()
	name := d.Mailbox()
	return func(ctx context.Context, s *session) error {
		return s.store.Subscribe(ctx, s.user, name)
	}, d.End()
}

// unsubscribe = "UNSUBSCRIBE" SP mailbox
func readUnsubscribe(d *wire.Decoder) (run, error) {
	d.SP()
	name := d.Mailbox()
	return func(ctx context.Context, s *session) error {
		return s.store.Unsubscribe(ctx, s.user, name)
	}, d.End()
}

// namespace = "NAMESPACE"
func readNamespace(d *wire.Decoder) (run, error) {
	return func(_ context.Context, s *session) error {
		s.enc.Raw(`* NAMESPACE (("" "` + delimiter + `")) NIL NIL`).CRLF()
		return nil
	}, d.End()
}
