package imapd

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"mailstead.dev/auth"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// cellsKnownBy sets up an authenticator that knows cells; where it takes a client to live elsewhere, its store says.
func cellsKnownBy(o *Options, cells auth.Cells) {
	o.Authenticator = auth.New(o.Store, auth.Options{Mechanisms: []string{"PLAIN", "SCRAM-SHA-256"}, Cells: cells})
}

// notCounted demands that nothing has failed that counts.
func notCounted(t *testing.T, cells ...*cell) {
	t.Helper()
	for _, at := range cells {
		if failed, err := at.store.FailedNames(t.Context()); err != nil || len(failed) > 0 {
			t.Errorf("%s has counted %+v, %v", at.name, failed, err)
		}
	}
}

// Cells that do not know each other are no reason to say that a password is wrong, nor to count anything: wrong secrets, another set of cells, and domains of
// which each says that it lives in the other, or that live in a cell that is not known.
func TestCellsDisagree(t *testing.T) {
	const secret, other = "what only cells know", "what only cells knew"
	for name, of := range map[string][2]auth.Cells{
		"secret": {{Name: "west", Secret: secret, Others: []string{"east"}}, {Name: "east", Secret: other, Others: []string{"west"}}},
		"name":   {{Name: "west", Secret: secret, Others: []string{"east"}}, {Name: "north", Secret: secret, Others: []string{"west"}}},
		"others": {{Name: "west", Secret: secret, Others: []string{"east"}}, {Name: "east", Secret: secret, Others: []string{"south"}}},
		"none":   {{Name: "west", Secret: secret, Others: []string{"east"}}, {Name: "east"}},
		"here":   {{Name: "west", Secret: secret, Others: []string{"south"}}, {Name: "east", Secret: secret, Others: []string{"west"}}},
	} {
		t.Run(name, func(t *testing.T) {
			all := of[:]
			west, east := twoCells(t, func(o *Options) {
				cellsKnownBy(o, all[0])
				all = all[1:]
			})
			c := west.connect(t)
			c.want("LOGIN user@east.test "+storetest.Password, "NO [UNAVAILABLE] ")
			if got := scramAs(west.connect(t), "user@east.test", storetest.Password, "n"); !strings.HasPrefix(got, "NO [UNAVAILABLE] ") {
				t.Errorf("SCRAM: %s", got)
			}
			c.want("LOGIN user@west.test "+storetest.Password, "OK ")
			notCounted(t, west, east)
		})
	}
}

// What clients send goes to nobody who has not the certificate of the other cell's host.
func TestCellIsKnown(t *testing.T) {
	west, east := twoCells(t, nil)
	to := west.server.o.Cells["east"]
	to.TLS = to.TLS.Clone()
	to.TLS.ServerName = "other.test"
	west.server.o.Cells["east"] = to
	west.connect(t).want("LOGIN user@east.test "+storetest.Password, "NO [UNAVAILABLE] ")
	notCounted(t, west, east)
}

// A secret is replaced while logins go on: a cell that signs by one is believed by those that have it as their second.
func TestSecretIsReplaced(t *testing.T) {
	const old, new = "what only cells know", "what only cells will know"
	for _, of := range [][2][2]string{ // of west and east, step by step
		{{old, ""}, {old, new}},
		{{old, new}, {old, new}},
		{{new, old}, {old, new}},
		{{new, old}, {new, old}},
		{{new, ""}, {new, old}},
	} {
		names, secrets := []string{"west", "east"}, of[:]
		west, east := twoCells(t, func(o *Options) {
			cellsKnownBy(o, auth.Cells{Name: names[0], Secret: secrets[0][0], Second: secrets[0][1], Others: []string{"west", "east"}})
			names, secrets = names[1:], secrets[1:]
		})
		for _, from := range []*cell{west, east} {
			to := map[string]string{"west": "east", "east": "west"}[from.name]
			from.connect(t).want("LOGIN user@"+to+".test "+storetest.Password, "OK [CAPABILITY ")
		}
	}
}

// Connections that are introduced count for the client that they are for: who holds as many as there may be of an address keeps nobody else out who comes by the same front end, and
// the front end has no more of them than it is about to introduce.
func TestIntroducedCountForTheirClient(t *testing.T) {
	west, east := twoCells(t, nil)
	const most = 2
	east.server.Change(Options{MaxPerAddress: most})
	begin := func(from string) *client {
		c := dialFrom(t, from, west.plain)
		c.expect("* OK ...")
		c.send("s AUTHENTICATE SCRAM-SHA-256 " + base64.StdEncoding.EncodeToString([]byte("n,,n=user@east.test,r=nonce")))
		return c
	}
	const hoarder, other = "127.0.98.1", "127.0.98.2"
	var held []*client
	for range most {
		c := begin(hoarder)
		c.expect("+ ...")
		held = append(held, c)
	}
	begin(hoarder).expect("s NO [LIMIT] Too many connections of your address that have not logged in, try again later")
	for range 2 * most {
		c := dialFrom(t, other, west.plain)
		c.expect("* OK ...")
		c.want("LOGIN user@east.test "+storetest.Password, "OK [CAPABILITY ")
	}
	east.server.mu.Lock()
	strangers, known := east.server.strangers[store.Origin(netip.MustParseAddr("127.0.0.1"))], len(east.server.frontEnds)
	east.server.mu.Unlock()
	if strangers != 0 || known != 1 {
		t.Errorf("the front end has %d connections that have not logged in, and %d are known", strangers, known)
	}
	held[0].nc.Close()
	await(t, func() bool {
		east.server.mu.Lock()
		defer east.server.mu.Unlock()
		return east.server.strangers[store.Origin(netip.MustParseAddr(hoarder))] < most
	})
	begin(hoarder).expect("+ ...")

	// What has not been introduced counts for the front end, which may have more of them than a stranger.
	for range most + 1 {
		east.connect(t)
	}
	c := dialFrom(t, other, west.plain)
	c.expect("* OK ...")
	c.want("LOGIN user@east.test "+storetest.Password, "OK [CAPABILITY ")
	notCounted(t, west, east)
}

// A cell that does not answer holds up neither its own users without end nor others; and no client takes up all that may wait for it.
func TestCellHangs(t *testing.T) {
	west, east := twoCells(t, func(o *Options) { o.MaxElsewhere = 2 })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 3)
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- nc
		}
	}()
	to := west.server.o.Cells["east"]
	to.Address = l.Addr().String()
	west.server.o.Cells["east"] = to

	from := func(n int) *client {
		c := dialFrom(t, fmt.Sprintf("127.0.99.%d", n), west.plain)
		c.expect("* OK ...")
		return c
	}
	login := "LOGIN user@east.test " + storetest.Password
	waiting := []*client{from(1), from(2)}
	var hanging []net.Conn
	for _, c := range waiting {
		c.send("a " + login)
		hanging = append(hanging, <-accepted)
		if len(hanging) == 1 {
			from(1).want(login, "NO [LIMIT] Too many logins of your address at once, try again later")
		}
	}
	from(3).want(login, "NO [UNAVAILABLE] ")
	from(1).want("LOGIN user@west.test "+storetest.Password, "OK ")
	l.Close()
	for _, nc := range hanging {
		nc.Close()
	}
	for _, c := range waiting {
		c.expect("a NO [UNAVAILABLE] ...")
	}
	await(t, func() bool {
		west.server.mu.Lock()
		defer west.server.mu.Unlock()
		return len(west.server.asked) == 0
	})
	notCounted(t, west, east)
}

// Of a client that comes by a balancer, and a front end, it is the client that counts; and so it is with what an account may have.
func TestIntroducedByBalancer(t *testing.T) {
	west, east := twoCells(t, func(o *Options) {
		o.Balancers = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
		o.Account.Connections = 1
	})
	header, err := proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.ParseIP("127.0.97.7"), Port: 4711}, &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 143}).Format()
	if err != nil {
		t.Fatal(err)
	}
	connect := func() *client {
		c := dialFrom(t, "127.0.0.2", west.plain)
		if _, err := c.nc.Write(header); err != nil {
			t.Fatal(err)
		}
		c.expect("* OK ...")
		return c
	}
	connect().want("LOGIN user@east.test guess", "NO [AUTHENTICATIONFAILED] ")
	failed, err := east.store.FailedNames(t.Context())
	if err != nil || !strings.Contains(fmt.Sprint(failed), "address:127.0.97.7/32") {
		t.Errorf("counted are %+v, %v", failed, err)
	}
	first, second := connect(), connect()
	first.want("LOGIN user@east.test "+storetest.Password, "OK ")
	second.want("LOGIN user@east.test "+storetest.Password, "NO [LIMIT] Too many connections of this account")
	first.want("LOGOUT", "OK ")
	await(t, func() bool { all, _ := east.server.Connections(); return all == 0 })
	second.want("LOGIN user@east.test "+storetest.Password, "OK ")
}
