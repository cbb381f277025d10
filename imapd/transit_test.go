package imapd

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// While the memory for messages on their way is taken, who wants some waits a while and is refused; others are not
// concerned. However a message or an answer ends, its room is free for the next.
func TestTransitFull(t *testing.T) {
	const login, stranger, wait, patience = "a@one.test", "b@two.test", time.Second, 6 * time.Second
	s := storetest.New(t, func(o *store.Options) { o.TransitBytes, o.TransitWait = 1, wait }) // room for four of one tenant
	storetest.Account(t, s, login)
	storetest.Account(t, s, stranger)
	connect := serveStore(t, s, func(o *Options) { o.ReadTimeout, o.WriteTimeout = patience, patience })
	c, other := connect(t), connect(t)
	for _, long := range []*client{c, other} {
		long.nc.SetDeadline(time.Now().Add(5 * time.Minute))
	}
	enter(c, login)
	enter(other, stranger)
	large := noise(16 << 20)
	c.want(appendText("Archive", large), "OK ")
	c.want(appendText("INBOX", "x"), "OK ")
	c.want("SELECT Archive", "OK ")
	other.want(appendText("INBOX", "x"), "OK ")
	other.want("SELECT INBOX", "OK ")

	const rest = 1000
	whole := strings.Repeat("x", rest)
	for _, way := range []struct {
		name, begin string
		end         func(c *client)
	}{
		{"it comes", "APPEND INBOX {100000+}", func(c *client) { c.send(whole); c.expect("w OK ...") }},
		{"the connection is lost", "APPEND INBOX {100000+}", func(c *client) { c.nc.Close() }},
		{"something is behind it", "APPEND INBOX {100000+}", func(c *client) { c.send(whole + " x"); c.expect("w BAD ...") }},
		{"another is refused", "APPEND INBOX {100000+}", func(c *client) { c.send(whole + " {99999999}"); c.expect("w NO [TOOBIG] ...") }},
		{"it has a NUL", "APPEND INBOX ~{100000+}", func(c *client) { c.send(whole[1:] + "\x00"); c.expect("w NO [UNKNOWN-CTE] ...") }},
		{"nothing more comes", "APPEND INBOX {100000+}", func(c *client) { c.expect("* BYE ...") }},
		{"a reader stops", "FETCH 1 BODY.PEEK[]", func(c *client) { drain(t, c, patience) }},
		{"a reader goes", "FETCH 1 BODY.PEEK[]", func(c *client) { c.nc.Close() }},
		{"all is as before", "APPEND INBOX {100000+}", func(c *client) { c.send(whole); c.expect("w OK ...") }},
	} {
		t.Run(way.name, func(t *testing.T) {
			var held []*client
			for range 4 {
				w := connect(t)
				w.nc.(*net.TCPConn).SetReadBuffer(4096)
				enter(w, login)
				w.send("s SELECT Archive")
				for !strings.HasPrefix(w.line(), "s OK ") {
				}
				w.send("w " + way.begin)
				if strings.HasPrefix(way.begin, "FETCH") {
					w.expect(fmt.Sprintf("* 1 FETCH (BODY[] {%d}", len(large)))
				} else if _, err := w.nc.Write([]byte(strings.Repeat("x", 100_000-rest))); err != nil {
					t.Fatal(err)
				}
				held = append(held, w)
			}
			c.t, other.t = t, t
			for _, command := range []string{appendText("INBOX", "x"), "FETCH 1 BODY.PEEK[]<0.10>"} {
				var answer string
				began := time.Now()
				for tries := 0; tries < 100; tries++ { // until those that were sent first have come
					began = time.Now()
					if _, answer = c.do(command); !strings.HasPrefix(answer, "OK ") {
						break
					}
				}
				if took := time.Since(began); !strings.HasPrefix(answer, "NO [UNAVAILABLE] ") || took < wait || took > 20*wait {
					t.Errorf("%.30q is answered %q after %v", command, answer, took)
				}
			}
			other.want(appendText("INBOX", "x"), "OK ")
			other.want("FETCH 1 BODY.PEEK[]", "OK ")
			for _, w := range held {
				w.t = t
				way.end(w)
			}
		})
	}
}

// drain reads to the end of a connection that the server ends because nothing was read for too long.
func drain(t *testing.T, c *client, patience time.Duration) {
	t.Helper()
	time.Sleep(patience + time.Second)
	read, err := io.Copy(io.Discard, c.r)
	if read > 15<<20 {
		t.Errorf("all of it came after all: %d octets, then %v", read, err)
	}
}
