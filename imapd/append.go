package imapd

// APPEND.
//
// RFC 3501 section 6.3.11; several messages: RFC 3502; APPENDUID and TRYCREATE: RFC 4315
// section 3; literal8: RFC 3516 section 4.4, in append_binary.go; UTF8: RFC 6855 section 4, in utf8.go.
//
// Literals stream into the store while they come. What is refused is refused
// before it is sent, or passed over; nothing is added before the command was
// read to its end, and then all messages or none.

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
	"mailstead.dev/store/message"
)

// appender is what APPEND needs of the store.
type appender interface {
	Open(ctx context.Context, u store.User, name string, want acl.Rights) (*store.Mailbox, error)
	Receive(ctx context.Context, t id.Tenant, r io.Reader) (*store.Content, error)
	Received(c *store.Content) message.Reader
	MaxMessage() int64
}

var _ appender = (*store.Store)(nil)

type appendCmd struct {
	dest  string
	first appendMessage
}

// appendMessage is what stands before the literal of a message.
type appendMessage struct {
	flags flagSet
	date  time.Time
	utf8  bool // the literal stands in UTF8 (...)
}

// append = "APPEND" SP mailbox 1*append-message
//
// It reads up to the first literal, and run reads the rest.
func readAppend(d *wire.Decoder) (run, error) {
	var c appendCmd
	d.SP()
	c.dest = d.Mailbox()
	d.SP()
	c.first = readAppendMessage(d)
	return c, d.Err()
}

// append-message = SP [flag-list SP] [date-time SP] (literal / literal8 / utf8-literal)
//
// It begins behind the first space, and ends before the literal.
func readAppendMessage(d *wire.Decoder) (m appendMessage) {
	if d.Peek() == '(' {
		m.flags = readFlags(d, d.FlagList())
		d.SP()
	}
	if d.Peek() == '"' {
		m.date = d.DateTime()
		d.SP()
	}
	m.utf8 = tryUTF8(d)
	return m
}

func (c appendCmd) run(ctx context.Context, s *session) error {
	in := arriving{s: s, name: c.dest}
	defer in.close(ctx)
	for m := c.first; ; m = readAppendMessage(s.dec) {
		if err := in.receive(ctx, m); err != nil {
			return err
		}
		if !s.dec.TrySP() {
			break
		}
	}
	appended, err := in.add(ctx, func() (store.Appended, error) { return in.dest.Append(ctx, in.incoming()...) })
	if err != nil {
		return tryCreate(err)
	}
	s.tellOverSoft(appended.OverSoft)
	s.ok(appendUID(appended, in.dest), "Appended")
	return s.arrived(ctx, in.dest)
}

// appendUID is the response code with the UIDs of new messages (RFC 4315 section 3); "" where the user may
// not read the mailbox, of which it would tell them something.
func appendUID(a store.Appended, dest *store.Mailbox) string {
	if !dest.Rights.Has(acl.Read) {
		return ""
	}
	return "APPENDUID " + strconv.FormatUint(uint64(a.UIDValidity), 10) + " " + a.UIDs.String()
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

// arriving are the messages of one APPEND, as they come.
type arriving struct {
	s        *session
	name     string
	dest     *store.Mailbox // from the first literal on
	messages []received
	size     int64 // octets of all, wherever they are
	weight   int64 // octets in memory
}

type received struct {
	appendMessage
	content *store.Content
}

// maxAppendSize is how many times as large as the largest message those of one APPEND can be together.
const maxAppendSize = 4

// receive reads a message.
func (in *arriving) receive(ctx context.Context, m appendMessage) error {
	d := in.s.dec
	receive := in.text
	switch {
	case d.Peek() == '~':
		receive = in.binary
	case m.utf8:
		d.Fail("Expected a literal8 in UTF8 (...)")
	}
	literal, size := d.Literal(func(size int64, waits bool) error { return in.accept(ctx, size, waits) })
	if err := d.Err(); err != nil {
		return err
	}
	header := in.lookAtHeader(m, literal)
	content, err := receive(ctx, header)
	if err != nil {
		return err
	}
	in.messages = append(in.messages, received{m, content})
	in.size += size
	in.weight += content.Weight() + m.flags.weight()
	if m.utf8 {
		d.Special(')')
	}
	if err := d.Err(); err != nil {
		return err
	}
	return header.refused()
}

// text receives a message of a literal.
func (in *arriving) text(ctx context.Context, literal io.Reader) (*store.Content, error) {
	return in.s.store.Receive(ctx, in.dest.Tenant, literal)
}

// accept tells whether a message of the size is taken. An empty one cancels the
// command (RFC 3502 section 6.3.11).
func (in *arriving) accept(ctx context.Context, size int64, waits bool) (err error) {
	if in.dest == nil {
		if waits {
			in.s.appendTo = nil // what would be refused in the end is refused now
		}
		if in.dest, err = in.s.openForAppend(ctx, in.name); err != nil {
			return tryCreate(err)
		}
	}
	largest := in.s.store.MaxMessage()
	switch {
	case size > largest:
		return store.ErrTooBig
	case size == 0:
		return no("", "The message is empty")
	case in.weight >= in.s.server.o.MaxAppend, in.size+size > maxAppendSize*largest:
		return no("LIMIT", "Too much for one command: append fewer messages at once")
	}
	return nil
}

// add adds the messages by what do does, once the command has come to its end.
func (in *arriving) add(ctx context.Context, do func() (store.Appended, error)) (store.Appended, error) {
	d := in.s.dec
	if d.Peek() != 0 {
		d.Fail("Expected the end of the line behind the message")
	}
	if err := d.Err(); err != nil {
		return store.Appended{}, err
	}
	appended, err := do()
	if errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrRightsChanged) { // it has been deleted, renamed or shared otherwise
		in.s.appendTo = nil
		if in.dest, err = in.s.openForAppend(ctx, in.name); err == nil {
			appended, err = do()
		}
	}
	return appended, err
}

// incoming are the messages as the store takes them.
func (in *arriving) incoming() []store.Incoming {
	var messages []store.Incoming
	for _, m := range in.messages {
		flags := m.flags.allowed(in.dest.Rights)
		messages = append(messages, store.Incoming{
			Content: m.content, Flags: flags.system, Keywords: flags.keywords, InternalDate: m.date,
		})
	}
	return messages
}

func (in *arriving) close(ctx context.Context) {
	for _, m := range in.messages {
		if err := m.content.Close(); err != nil {
			in.s.log.WarnContext(ctx, "closing a received message failed", "err", err)
		}
	}
}
