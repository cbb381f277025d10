package imapd

// COPY, MOVE and their UID forms.
//
// RFC 3501 section 6.4.7; MOVE: RFC 6851; COPYUID: RFC 4315 section 3; of
// messages that are gone: RFC 2180 section 4.4.1. A COPY is all or nothing, and so is a MOVE.

import (
	"context"
	"errors"
	"strconv"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// copier is what these commands need of the mailbox.
type copier interface {
	Copy(ctx context.Context, uids view.UIDSet, to *store.Mailbox) (store.Copied, error)
	CopyAll(ctx context.Context, uids view.UIDSet, to *store.Mailbox) (store.Copied, error)
	Move(ctx context.Context, uids view.UIDSet, to *store.Mailbox) (store.Copied, error)
	MoveAll(ctx context.Context, uids view.UIDSet, to *store.Mailbox) (store.Copied, error)
}

var _ copier = (*store.Mailbox)(nil)

type copyCmd struct {
	set  messageSet
	dest string
}

// copy = "COPY" SP sequence-set SP mailbox
// move = "MOVE" SP sequence-set SP mailbox
func readCopyCmd(d *wire.Decoder, uid bool) copyCmd {
	d.SP()
	set := readMessageSet(d, uid)
	d.SP()
	return copyCmd{set, d.Mailbox()}
}

func readCopy(d *wire.Decoder) (run, error)    { return copyRun{readCopyCmd(d, false)}, d.End() }
func readUIDCopy(d *wire.Decoder) (run, error) { return copyRun{readCopyCmd(d, true)}, d.End() }
func readMove(d *wire.Decoder) (run, error)    { return do(readCopyCmd(d, false).move), d.End() }
func readUIDMove(d *wire.Decoder) (run, error) { return do(readCopyCmd(d, true).move), d.End() }

func (c copyCmd) copy(ctx context.Context, s *session) error {
	copied, dest, err := c.do(ctx, s, 0, (*store.Mailbox).Copy, (*store.Mailbox).CopyAll)
	if err != nil || len(copied.From) == 0 {
		return err
	}
	s.tellOverSoft(copied.OverSoft)
	s.ok(copyUID(copied, dest), "Copied")
	return s.arrived(ctx, dest)
}

func (c copyCmd) move(ctx context.Context, s *session) error {
	if s.selected.examined {
		return errReadOnly
	}
	copied, dest, err := c.do(ctx, s, acl.DeleteMessages|acl.Expunge, (*store.Mailbox).Move, (*store.Mailbox).MoveAll)
	if err != nil || len(copied.From) == 0 { // another was quicker, who has the COPYUID
		return err
	}
	s.tellOverSoft(copied.OverSoft)
	// Before the EXPUNGE responses (RFC 6851 section 4.3).
	s.enc.Raw("* OK ").Raw(coded(copyUID(copied, dest))).Raw("Moved").CRLF()
	s.see(copied.SourceView)
	s.tell(ctx, copied.SourceView, true)
	return nil
}

// transfer is a method of copier.
type transfer func(*store.Mailbox, context.Context, view.UIDSet, *store.Mailbox) (store.Copied, error)

// do copies or moves the messages, with the rights that takes here: by UID some, those that are there, by number all or none.
func (c copyCmd) do(ctx context.Context, s *session, need acl.Rights, some, all transfer) (copied store.Copied, dest *store.Mailbox, err error) {
	uids, err := c.set.in(s)
	if err != nil {
		return copied, nil, err
	}
	do := all
	if c.set.uid {
		do = some
	}
	err = s.patiently(func() error {
		return s.permitted(ctx, need, func() (err error) {
			dest, err = s.store.Open(ctx, s.user, c.dest, acl.Insert)
			if err != nil || uids.Empty() {
				return tryCreate(err)
			}
			copied, err = do(s.selected.Mailbox, ctx, uids, dest)
			return err
		})
	})
	if err != nil {
		return copied, dest, s.notCopied(ctx, err)
	}
	return copied, dest, nil
}

// notCopied returns what to answer where nothing was copied. By number, a
// message that is gone is a failure of all, which comes with its EXPUNGE. Of
// two mailboxes, the one that does not exist may be the selected one.
func (s *session) notCopied(ctx context.Context, err error) error {
	if !isExpunged(err) && !errors.Is(err, store.ErrNotExist) {
		return err
	}
	if err := s.sync(ctx, true); err != nil {
		return err
	}
	return tryCreate(err)
}

// arrived tells of new messages if they went to the selected mailbox.
func (s *session) arrived(ctx context.Context, dest *store.Mailbox) error {
	if s.selected == nil || s.selected.ID != dest.ID {
		return nil
	}
	return s.tellDone(ctx)
}

// tellDone tells of a change that was made.
func (s *session) tellDone(ctx context.Context) error {
	s.unpin() // what was seen is older
	if err := s.sync(ctx, true); err != nil {
		if fatal(err) {
			return err
		}
		// It was made, and that is what the answer says.
		s.log.WarnContext(ctx, "telling of a change failed", "err", err)
	}
	return nil
}

// copyUID is the response code with the UIDs before and after, which pair up
// because both ascend (RFC 4315 section 3); "" as with appendUID.
func copyUID(c store.Copied, dest *store.Mailbox) string {
	if !dest.Rights.Has(acl.Read) {
		return ""
	}
	b := append([]byte("COPYUID "), strconv.FormatUint(uint64(c.UIDValidity), 10)...)
	b = appendUIDs(append(b, ' '), c.From)
	return string(appendUIDs(append(b, ' '), c.To))
}

// appendUIDs appends a uid-set of UIDs in the order given.
func appendUIDs(b []byte, uids []id.UID) []byte {
	for i := 0; i < len(uids); {
		n := 1
		for i+n < len(uids) && uids[i+n] == uids[i]+id.UID(n) {
			n++
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(uids[i]), 10)
		if n > 1 {
			b = append(b, ':')
			b = strconv.AppendUint(b, uint64(uids[i+n-1]), 10)
		}
		i += n
	}
	return b
}
