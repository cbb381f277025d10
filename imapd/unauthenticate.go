package imapd

// UNAUTHENTICATE.
//
// RFC 8437. What goes is all of the session: user, mailbox, saved search, what
// was enabled, compression. What stays is TLS, and how many logins have failed:
// who guesses passwords gets no new guesses by it.

import (
	"context"

	"mailstead.dev/imapd/wire"
)

// unauthenticate = "UNAUTHENTICATE"
func readUnauthenticate(d *wire.Decoder) (run, error) { return do(runUnauthenticate), d.End() }

// runUnauthenticate never fails, for clients may send the next login along (RFC 8437 section 3).
func runUnauthenticate(ctx context.Context, s *session) error {
	if s.introduced { // who comes next would be taken for the front end that passes it on
		return bad("UNAUTHENTICATE is not available")
	}
	if s.inflatedMore() { // RFC 8437 section 4.1: the client's compression ends with the command
		return &errBye{"", "Compression ends with UNAUTHENTICATE"}
	}
	s.logout()
	s.log.InfoContext(ctx, "logged out")
	fresh := newSession(s.server, s.conn)
	fresh.tag, fresh.failed, fresh.observation = s.tag, s.failed, s.observation
	*s = *fresh
	s.useUTF8(false)
	s.distrust()
	if s.compression == nil {
		s.ok("CAPABILITY "+s.capabilityList(), "Logged out")
		return nil
	}
	s.writeTagged("OK", "", "Logged out, and no longer compressed")
	s.answered = true
	return s.stopCompression()
}
