package lmtpd

import (
	"context"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"mailstead.dev/store"
)

// session is one client's transaction after the other.
type session struct {
	server *Server
	conn   *conn
	begun  bool // by a MAIL
	from   string
	rcpts  []rcpt
}

// rcpt is a recipient as the client named it, and where that leads.
type rcpt struct {
	address string
	to      []store.Recipient
}

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{server: s, conn: c.Conn().(*conn)}, nil
}

func (s *session) Reset()        { s.begun, s.from, s.rcpts = false, "", nil }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	switch {
	case s.begun: // go-smtp would keep the recipients of the one before
		return nested
	case !storable(from):
		return badSender
	}
	s.begun, s.from = true, from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if !storable(to) {
		return noSuchUser
	}
	ctx, span := s.server.span(s.server.ctx, "LMTP RCPT")
	ctx, cancel := context.WithTimeout(ctx, s.server.o.DeliveryTimeout)
	defer cancel()
	recipients, err := s.server.store.ResolveRecipient(ctx, to)
	if err != nil {
		reply := s.server.reply(err)
		if reply != noSuchUser && reply != disabled {
			s.server.o.Logger.WarnContext(ctx, "lmtp: recipient not resolved", "error", err)
		}
		end(span, reply.Code < 500 && reply != disabled, attrReply.Int(reply.Code))
		return reply
	}
	end(span, false, attrReply.Int(250), attrTenant.Int64(int64(recipients[0].User.Tenant)))
	s.rcpts = append(s.rcpts, rcpt{to, recipients})
	return nil
}

// storable reports whether an address can stand in a header field.
func storable(address string) bool {
	return utf8.ValidString(address) &&
		!strings.ContainsFunc(address, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// Data is never called: go-smtp prefers LMTPData.
func (s *session) Data(io.Reader) error { return unavailable }

// LMTPData answers each recipient. What go-smtp would have it read is empty:
// see conn.content.
func (s *session) LMTPData(_ io.Reader, status smtp.StatusCollector) error {
	body := s.conn.content()
	ctx, span := s.server.span(s.server.ctx, "LMTP DATA")
	d := newDelivery(s, body)
	if span != nil {
		defer func() { end(span, d.inDoubt, d.attributes()...) }()
	}
	defer d.close(ctx)
	d.receive(ctx)
	if err := body.skip(); err != nil {
		d.inDoubt = true
		return incomplete // nobody is there to read it, and nothing was delivered
	}
	for _, r := range s.rcpts {
		began := time.Now()
		reply := d.deliver(ctx, r)
		d.replied(replyCode(reply), time.Since(began))
		status.SetStatus(r.address, reply)
	}
	return nil
}
