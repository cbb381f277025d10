package imapd

// APPEND.
//
// RFC 3501 section 6.3.11; APPENDUID and TRYCREATE: RFC 4315 section 3.
//
// The literal streams into the store while it comes. What is refused is refused
// before it is sent, or passed over; nothing is added before the command was
// read to its end.

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// appender is what APPEND needs of the store.
type appender interface {
	Open(ctx context.Context, u store.User, name string, want acl.Rights) (*store.Mailbox, error)
	Receive(ctx context.Context, t id.Tenant, r io.Reader) (*store.Content, error)
	MaxMessage() int64
}

var _ appender = (*store.Store)(nil)

type appendCmd struct {
	dest  string
	flags flagSet
	date  time.Time
}

// append = "APPEND" SP mailbox [SP flag-list] [SP date-time] SP literal
//
// It reads up to the literal, and run reads the rest.
func readAppend(d *wire.Decoder) (run, error) {
	var c appendCmd
	d.SP()
	c.dest = d.Mailbox()
	d.SP()
	if d.Peek() == '(' {
		c.flags = readFlags(d, d.FlagList())
		d.SP()
	}
	if d.Peek() == '"' {
		c.date = d.DateTime()
		d.SP()
	}
	return c.run, d.Err()
}

func (c appendCmd) run(ctx context.Context, s *session) error {
	var dest *store.Mailbox
	r, _ := s.dec.Literal(func(size int64, waits bool) (err error) {
		if waits {
			s.appendTo = nil // what would be refused in the end is refused now
		}
		switch dest, err = s.openForAppend(ctx, c.dest); {
		case err != nil:
			return tryCreate(err)
		case size > s.store.MaxMessage():
			return store.ErrTooBig
		case size == 0:
			return no("", "The message is empty")
		}
		return nil
	})
	if err := s.dec.Err(); err != nil {
		return err
	}
	content, err := s.store.Receive(ctx, dest.Tenant, r)
	if err != nil {
		return err
	}
	defer func() {
		if err := content.Close(); err != nil {
			s.log.Warn("closing a received message failed", "err", err)
		}
	}()
	if c := s.dec.Peek(); c != 0 {
		s.dec.Fail("Expected the end of the line behind the message")
	}
	if err := s.dec.Err(); err != nil {
		return err
	}
	appended, err := c.append(ctx, dest, content)
	if errors.Is(err, store.ErrNotExist) { // what was opened has been deleted, renamed or shared otherwise
		s.appendTo = nil
		if dest, err = s.openForAppend(ctx, c.dest); err == nil {
			appended, err = c.append(ctx, dest, content)
		}
	}
	if err != nil {
		return tryCreate(err)
	}
	s.ok("APPENDUID "+strconv.FormatUint(uint64(appended.UIDValidity), 10)+" "+appended.UIDs.String(), "Appended")
	return s.arrived(ctx, dest)
}

func (c appendCmd) append(ctx context.Context, dest *store.Mailbox, content *store.Content) (store.Appended, error) {
	flags := c.flags.allowed(dest.Rights)
	return dest.Append(ctx, store.Incoming{
		Content: content, Flags: flags.system, Keywords: flags.keywords, InternalDate: c.date,
	})
}

// openForAppend opens a mailbox, or takes what the last APPEND to the same name
// opened: who files many messages is spared a question for each, since Append
// itself finds out whether name and rights are still those. That holds of the
// user's own mailboxes; elsewhere more than the mailbox decides on the rights.
func (s *session) openForAppend(ctx context.Context, name string) (*store.Mailbox, error) {
	if m := s.appendTo; m != nil && m.Name == name && m.Owner == s.user.Account {
		return m, nil
	}
	m, err := s.store.Open(ctx, s.user, name, acl.Insert)
	s.appendTo = m
	return m, err
}
