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
	dest, openErr := s.store.Open(ctx, s.user, c.dest, acl.Insert)
	r, _ := s.dec.Literal(func(size int64) error {
		switch {
		case openErr != nil:
			return tryCreate(openErr)
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
	flags := c.flags.allowed(dest.Rights)
	appended, err := dest.Append(ctx, store.Incoming{
		Content: content, Flags: flags.system, Keywords: flags.keywords, InternalDate: c.date,
	})
	if err != nil {
		return tryCreate(err) // deleted while the message came
	}
	s.ok("APPENDUID "+strconv.FormatUint(uint64(appended.UIDValidity), 10)+" "+appended.UIDs.String(), "Appended")
	return s.arrived(ctx, dest)
}
