package imapd

// REPLACE and UID REPLACE: an APPEND and the removal of a message, in one.
//
// RFC 8508. Both or neither, whatever fails. Of two who replace the same message one
// does; the other is told that it is gone, and nothing is appended.

import (
	"context"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// replacer is what these commands need of the mailbox.
type replacer interface {
	Replace(ctx context.Context, uid id.UID, to *store.Mailbox, with store.Incoming) (store.Appended, error)
}

var _ replacer = (*store.Mailbox)(nil)

type replaceCmd struct {
	message messageSet // one
	dest    string
	with    appendMessage
}

func readReplace(d *wire.Decoder) (run, error)    { return readReplaceCmd(d, false) }
func readUIDReplace(d *wire.Decoder) (run, error) { return readReplaceCmd(d, true) }

// replace = "REPLACE" SP seq-number SP mailbox append-message
//
// It reads up to the literal, and run reads the rest.
func readReplaceCmd(d *wire.Decoder, uid bool) (run, error) {
	var c replaceCmd
	d.SP()
	c.message = readMessage(d, uid)
	d.SP()
	c.dest = d.Mailbox()
	d.SP()
	c.with = readAppendMessage(d)
	return c, d.Err()
}

func (c replaceCmd) run(ctx context.Context, s *session) error {
	uid, err := c.find(ctx, s)
	if err != nil {
		return err
	}
	in := arriving{s: s, name: c.dest}
	defer in.close(ctx)
	if err := in.receive(ctx, c.with); err != nil {
		return err
	}
	appended, err := in.add(ctx, func() (a store.Appended, err error) {
		err = s.permitted(ctx, toReplace, func() (err error) {
			a, err = s.selected.Replace(ctx, uid, in.dest, in.incoming()[0])
			return err
		})
		return a, err
	})
	if err != nil {
		return s.notCopied(ctx, err)
	}
	s.tellOverSoft(appended.OverSoft)
	// Before the EXPUNGE response (section 4.3).
	s.enc.Raw("* OK ").Raw(coded(appendUID(appended, in.dest))).Raw("Replacement message ready").CRLF()
	return s.tellDone(ctx)
}

// toReplace are the rights to remove a message (section 4.1).
const toReplace = acl.DeleteMessages | acl.Expunge

// find returns the message to be replaced.
func (c replaceCmd) find(ctx context.Context, s *session) (id.UID, error) {
	if s.selected.examined {
		return 0, errReadOnly
	}
	if err := s.permitted(ctx, toReplace, func() error { return nil }); err != nil {
		return 0, err
	}
	uids, err := c.message.in(s)
	if err == nil && uids.Empty() {
		err = no("NONEXISTENT", "There is no such message")
	}
	return uids.Max(), err
}
