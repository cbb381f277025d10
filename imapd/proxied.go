package imapd

import (
	"bufio"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

// Balancers in front tell which client a connection is of, in a header before all else: the PROXY protocol, versions 1 and 2. It is read from
// those that are trusted, which all have to send it, and from nobody else.

// headerTime is how long a balancer may take for its header, which it has when it connects.
const headerTime = 5 * time.Second

// proxied is a connection that has come by a balancer.
type proxied struct {
	net.Conn
	rest *bufio.Reader // what has come with the header; nil: it has been read
	from net.Addr
}

func (p *proxied) Read(b []byte) (int, error) {
	if p.rest != nil && p.rest.Buffered() > 0 {
		return p.rest.Read(b)
	}
	p.rest = nil
	return p.Conn.Read(b)
}

// RemoteAddr is the client's.
func (p *proxied) RemoteAddr() net.Addr { return p.from }

// tcpOf returns the socket of a connection as accepted, nil if it has none.
func tcpOf(c net.Conn) *net.TCPConn {
	if p, ok := c.(*proxied); ok {
		c = p.Conn
	}
	tcp, _ := c.(*net.TCPConn)
	return tcp
}

// take serves a connection once it is known whose it is.
func (s *Server) take(nc net.Conn, implicitTLS bool) {
	from := remote(nc.RemoteAddr())
	if !from.IsValid() || !slices.ContainsFunc(s.o.Balancers, func(p netip.Prefix) bool { return p.Contains(from) }) {
		s.start(nc, implicitTLS)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.conns)+len(s.arriving) >= s.maxConnections {
		nc.Close()
		return
	}
	s.arriving[nc] = struct{}{}
	s.wg.Go(func() {
		p, err := readHeader(nc)
		s.mu.Lock()
		delete(s.arriving, nc)
		s.mu.Unlock()
		if err != nil {
			s.log.Warn("a balancer has not said whose connection it is", "balancer", nc.RemoteAddr(), "err", err)
			nc.Close()
			return
		}
		s.start(p, implicitTLS)
	})
}

func readHeader(nc net.Conn) (*proxied, error) {
	if err := nc.SetReadDeadline(time.Now().Add(headerTime)); err != nil {
		return nil, err
	}
	p := &proxied{Conn: nc, rest: bufio.NewReader(nc), from: nc.RemoteAddr()}
	header, err := proxyproto.Read(p.rest)
	if err != nil {
		return nil, err
	}
	if source, _, ok := header.TCPAddrs(); ok && header.Command.IsProxy() { // else it is the balancer itself, which looks whether we are there
		p.from = source
	}
	return p, nc.SetReadDeadline(time.Time{})
}
