package imapd

import (
	"net/netip"
	"time"

	"mailstead.dev/store"
)

// Clients that another cell's front end comes for.
//
// Each has a connection of its own from there. Until the front end has said whose it is, that takes one round trip, it counts for the front end, which has a bound of its own;
// from then on for the client's address, as if it had come itself. So one client has no more room here than it would have without the front end, and
// none of the front end's other clients loses any by it.

// frontEndTime is for how long a front end is known that introduces nobody.
const frontEndTime = time.Hour

// maxStrangers is how many connections there may be of an address that have not logged in. It is called with mu locked.
func (s *Server) maxStrangers(from netip.Prefix) int {
	last, known := s.frontEnds[from]
	switch {
	case !known:
		return s.maxPerAddress
	case time.Since(last) > frontEndTime:
		delete(s.frontEnds, from)
		return s.maxPerAddress
	}
	return max(s.maxPerAddress, s.maxConnections/4)
}

// comesFor says for which client a connection has come, before anything is looked up for it.
func (s *session) comesFor(client netip.Addr) error {
	s.introduced, s.client = true, client
	s.log = s.server.log.With("remote", client, "by", s.raw.RemoteAddr())
	return s.server.introduce(s.conn, store.Origin(client))
}

// address is from where the client comes.
func (s *session) address() netip.Addr {
	if s.introduced {
		return s.client
	}
	return remote(s.raw.RemoteAddr())
}

// introduce counts a connection for the client's address.
func (s *Server) introduce(c *conn, client netip.Prefix) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if by := store.Origin(remote(c.raw.RemoteAddr())); by.IsValid() {
		s.frontEnds[by] = time.Now()
	}
	s.acquaint(c)
	c.from = client
	s.estrange(c)
	if s.strangers[client] > s.maxPerAddress && client.IsValid() {
		s.log.Warn("too many connections of an address that have not logged in", "remote", client, "by", c.raw.RemoteAddr(), "limit", s.maxPerAddress)
		return no("LIMIT", tooManyStrangers)
	}
	return nil
}
