package imapd

// Rights on the selected mailbox, which others change while it is selected.
//
// RFC 4314 section 5.1.1: they are checked with each command, and who loses the right to read gets
// a BYE: there is no answer of less to a client that believes it has a mailbox. That says the same
// where the mailbox was deleted, for to who may not look it up it does not exist (section 6).

import (
	"context"
	"errors"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/view"
)

// renewer is what it takes of the mailbox.
type renewer interface {
	Renew(ctx context.Context) (*store.Mailbox, error)
}

var _ renewer = (*store.Mailbox)(nil)

// errLeft ends a session whose selected mailbox it cannot have any more.
var errLeft = &errBye{"", "The selected mailbox was deleted, or is not shared any more"}

// renew finds out what the user may do in the selected mailbox now.
func (s *session) renew(ctx context.Context) error {
	m, err := s.selected.Renew(ctx)
	if err != nil {
		return ofSelected(err)
	}
	if !m.Rights.Has(acl.Lookup | acl.Read) {
		return errLeft
	}
	s.selected.Mailbox = m
	return nil
}

// maxRenewals is how often a command finds that the rights have changed once more.
const maxRenewals = 10

// withRights does what goes by rights on the selected mailbox. What the session knows of them may be
// old, so they are asked for before any of them is taken to be missing, and where they have changed meanwhile.
func (s *session) withRights(ctx context.Context, want acl.Rights, do func() error) error {
	err := store.ErrRightsChanged
	if s.selected.Rights.Has(want) {
		err = do()
	}
	for attempt := 1; errors.Is(err, store.ErrRightsChanged) && attempt <= maxRenewals; attempt++ {
		if err := s.renew(ctx); err != nil {
			return err
		}
		err = do()
	}
	return err
}

// permitted does what takes rights on the selected mailbox.
func (s *session) permitted(ctx context.Context, need acl.Rights, do func() error) error {
	return s.withRights(ctx, need, func() error {
		if missing := need &^ s.selected.Rights; missing != 0 {
			return &acl.DeniedError{Missing: missing}
		}
		return do()
	})
}

// readOnly tells whether the client cannot change anything that others see (RFC 4314 section 5.2).
func (m *selected) readOnly() bool { return m.examined || !m.writes() }

// writes tells whether some of the rights changes what others see. \Seen is a shared flag where all have one.
func (m *selected) writes() bool {
	shared := acl.Insert | acl.Expunge | acl.DeleteMessages | acl.Write
	if m.SharedSeen {
		shared |= acl.Seen
	}
	return m.Rights.Any(shared)
}

// tellRights tells what follows from rights that are not those that the client knows of.
func (s *session) tellRights(v *view.View) {
	m := s.selected
	if m.rights != m.Rights {
		m.rights = m.Rights
		s.writeFlagsDefined(v.Keywords())
	}
	was, now := m.writable, m.writes()
	switch m.writable = now; {
	case m.examined || now == was:
	case now:
		s.enc.Raw("* OK [READ-WRITE] The mailbox can be changed now").CRLF()
	default:
		s.enc.Raw("* OK [READ-ONLY] The mailbox cannot be changed any more").CRLF()
	}
}
