package lmtpd

import (
	"context"
	"io"
	"strings"
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
	ctx, cancel := context.WithTimeout(s.server.ctx, s.server.o.DeliveryTimeout)
	defer cancel()
	recipients, err := s.server.store.ResolveRecipient(ctx, to)
	if err != nil {
		reply := s.server.reply(err)
		if reply != noSuchUser && reply != disabled {
			s.server.o.Logger.Warn("lmtp: recipient not resolved", "recipient", to, "error", err)
		}
		return reply
	}
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
	d := newDelivery(s, body)
	defer d.close()
	d.receive()
	if err := body.skip(); err != nil {
		return incomplete // nobody is there to read it, and nothing was delivered
	}
	for _, r := range s.rcpts {
		status.SetStatus(r.address, d.deliver(r))
	}
	return nil
}
