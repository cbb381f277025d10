package imapd

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
)

// A balancer that is trusted tells whose its connections are, and has to; of others it is a wrong command.
func TestProxied(t *testing.T) {
	header := func(version byte, command proxyproto.ProtocolVersionAndCommand) string {
		h := proxyproto.HeaderProxyFromAddrs(version, &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 4711}, &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 143})
		h.Command = command
		text, err := h.Format()
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	o := testOptions(t)
	o.Balancers = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	serverTLS, clientTLS := testTLS(t)
	o.TLS = serverTLS
	s := New(o)
	addr := listen(t, s, s.Serve)
	for name, test := range map[string]struct{ sent, from string }{
		"version 1":              {header(1, proxyproto.PROXY), "2001:db8::7"},
		"version 2":              {header(2, proxyproto.PROXY), "2001:db8::7"},
		"the balancer itself":    {header(2, proxyproto.LOCAL), "127.0.0.2"},
		"what is not known":      {"PROXY UNKNOWN\r\n", "127.0.0.2"},
		"no header":              {"a NOOP\r\n", ""},
		"a header that is wrong": {"PROXY TCP4 x\r\n", ""},
	} {
		c := dialFrom(t, "127.0.0.2", addr)
		c.send(strings.TrimSuffix(test.sent+"b NOOP", "\r\n")) // what is behind the header is the client's
		if test.from == "" {
			c.expectClosed()
			continue
		}
		c.expect("* OK ...")
		c.expect("b OK ...")
		for _, of := range connectionsOf(s) {
			if got := remote(of.raw.RemoteAddr()).String(); got != test.from {
				t.Errorf("%s: it comes from %s, want %s", name, got, test.from)
			}
		}
		c.send("c STARTTLS")
		c.expect("c OK ...")
		c = c.startTLS(clientTLS)
		c.want("LOGOUT", "OK ")
		await(t, func() bool { all, _ := s.Connections(); return all == 0 })
	}
	c := dialFrom(t, "127.0.0.3", addr)
	c.expect("* OK ...")
	c.send("PROXY TCP6 2001:db8::7 2001:db8::1 4711 143")
	c.expect("PROXY BAD ...")
	// Who says nothing does not hold up a shutdown.
	silent := dialFrom(t, "127.0.0.2", addr)
	await(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.arriving) == 1 })
	s.Close()
	silent.expectClosed()
}
