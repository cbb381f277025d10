package imapd

// EXPUNGE and UID EXPUNGE.
//
// RFC 3501 section 6.4.3, RFC 4315 section 2.1. VANISHED and HIGHESTMODSEQ
// (RFC 7162 sections 3.2.7 and 3.2.9) come with telling what is gone.

import (
	"context"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/view"
)

// expunger is what these commands need of the mailbox.
type expunger interface {
	Expunge(ctx context.Context, uids *view.UIDSet) (*view.View, view.UIDSet, error)
}

var _ expunger = (*store.Mailbox)(nil)

// expunge = "EXPUNGE"
func readExpunge(d *wire.Decoder) (run, error) {
	return do(func(ctx context.Context, s *session) error { return s.expunge(ctx, nil) }), d.End()
}

// uid-expunge = "UID" SP "EXPUNGE" SP sequence-set
func readUIDExpunge(d *wire.Decoder) (run, error) {
	d.SP()
	set := readMessageSet(d, true)
	return expungeCmd{set}, d.End()
}

type expungeCmd struct{ set messageSet }

func (c expungeCmd) run(ctx context.Context, s *session) error {
	uids, err := c.set.in(s)
	if err != nil || uids.Empty() && !s.selected.examined {
		return err
	}
	return s.expunge(ctx, &uids)
}

// expunge removes messages that are \Deleted, among uids if that is not nil.
func (s *session) expunge(ctx context.Context, uids *view.UIDSet) error {
	if s.selected.examined {
		return errReadOnly
	}
	var v *view.View
	err := s.patiently(func() error {
		return s.permitted(ctx, acl.Expunge, func() (err error) {
			v, _, err = s.selected.Expunge(ctx, uids)
			return err
		})
	})
	if err != nil {
		return ofSelected(err)
	}
	s.see(v)
	s.tell(ctx, v, true)
	return nil
}
