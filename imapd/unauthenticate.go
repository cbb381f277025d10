package imapd

// UNAUTHENTICATE.
//
// RFC 8437. What goes is all of the session: user, mailbox, saved search, what
// was enabled, compression. What stays is TLS, and how many logins have failed:
// who guesses passwords gets no new guesses by it.

import (
	"context"
	"time"

	"mailstead.dev/imapd/wire"
)

// unauthenticate = "UNAUTHENTICATE"
func readUnauthenticate(d *wire.Decoder) (run, error) { return runUnauthenticate, d.End() }

// runUnauthenticate never fails, for clients may send the next login along (RFC 8437 section 3).
func runUnauthenticate(_ context.Context, s *session) error {
	s.logout()
	s.log.Info("logged out")
	fresh := newSession(s.server, s.conn)
	fresh.tag, fresh.failed = s.tag, s.failed
	*s = *fresh
	s.useUTF8(false)
	s.loginBy = time.Now().Add(s.server.o.LoginTimeout)
	s.ok("CAPABILITY "+s.capabilityList(), "Logged out")
	return nil
}
