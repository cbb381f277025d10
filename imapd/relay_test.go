package imapd

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mailstead.dev/store/storetest"
)

// drained shuts a cell down and returns how that has ended.
func drained(c *cell) <-chan error {
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		ended <- c.server.Shutdown(ctx)
	}()
	return ended
}

const goodbye = "* BYE [UNAVAILABLE] Server is shutting down"

// passedThrough logs a client in that is passed through.
func passedThrough(t *testing.T, from *cell, to string) *client {
	t.Helper()
	c := from.connect(t)
	c.want("LOGIN user@"+to+".test "+storetest.Password, "OK [CAPABILITY ")
	return c
}

// A front end that is drained while it passes through lets the command end that is under way, wherever it stands: being sent, with a literal that the client has been asked for
// or sends as it likes, refused, or being answered. No further one is begun, and the BYE stands between two lines.
func TestPassedDrain(t *testing.T) {
	west, east := twoCells(t, nil)
	idle, waiting := passedThrough(t, west, "east"), passedThrough(t, west, "east")
	idle.send("i IDLE")
	idle.expect("+ ...")
	waiting.want("CREATE Large", "OK ")
	cases := []struct {
		before, hears, after, answer string
		c                            *client
	}{
		{before: "a NO", after: "OP\r\n", answer: "a OK "},
		{before: "a APPEND Large {4+}\r\n12", after: "34\r\n", answer: "a OK [APPENDUID "},
		{before: "a APPEND Large {4}\r\n", hears: "+ ", after: "1234\r\n", answer: "a OK [APPENDUID "},
		{before: "a LIST \"\" {1}\r\n", hears: "+ ", after: "x {2+}\r\nyy\r\n", answer: "a BAD "},
		{before: "a IDLE\r\nDO", hears: "+ ", after: "NE\r\n", answer: "a OK "},
	}
	for i := range cases {
		of := &cases[i]
		of.c = passedThrough(t, west, "east")
		if _, err := of.c.nc.Write([]byte("z NOOP\r\n" + of.before)); err != nil { // at once, so that it has been passed on when the first is answered
			t.Fatal(err)
		}
		of.c.expect("z OK ...")
		if of.hears != "" {
			of.c.expect(of.hears + "...")
		}
	}
	fetching := passedThrough(t, west, "east")
	fetching.want(appendText("Large", noise(8<<20)), "OK ")
	fetching.want("SELECT Large", "OK ")
	fetching.send("f FETCH 1 BODY.PEEK[]")
	if line := fetching.line(); !strings.HasPrefix(line, "* 1 FETCH ") {
		t.Fatal(line)
	}
	ended := drained(west)
	for _, c := range []*client{idle, waiting} {
		c.expect(goodbye)
		c.expectClosed()
	}
	for _, of := range cases {
		of.c.send(of.after + "b CREATE Never")
		if line := of.c.line(); !strings.HasPrefix(line, of.answer) {
			t.Errorf("%q %q is answered %q", of.before, of.after, line)
		}
		of.c.expect(goodbye)
		of.c.expectClosed()
	}
	for !strings.HasPrefix(fetching.line(), "f OK ") {
	}
	fetching.expect(goodbye)
	fetching.expectClosed()
	if err := <-ended; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	await(t, func() bool { all, _ := east.server.Connections(); return all == 0 })
	c := east.connect(t)
	c.want("LOGIN user@east.test "+storetest.Password, "OK ")
	if told := c.want("LIST \"\" Never", "OK "); len(told) > 0 {
		t.Errorf("a command behind the last is run: %q", told)
	}
}

// A client that has once sent a literal without waiting for it, after which nobody knows where its commands end, is let go when both are silent.
func TestPassedDrainConfused(t *testing.T) {
	west, _ := twoCells(t, nil)
	c := passedThrough(t, west, "east")
	if _, err := c.nc.Write([]byte("a LIST \"\" {1}\r\nx\r\n")); err != nil { // at once
		t.Fatal(err)
	}
	c.expect("+ ...")
	c.expect("a OK ...")
	ended := drained(west)
	c.expect(goodbye)
	c.expectClosed()
	if err := <-ended; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// A command that never ends is cut when the time for it is over.
func TestPassedDrainEnds(t *testing.T) {
	west, east := twoCells(t, nil)
	c := passedThrough(t, west, "east")
	if _, err := c.nc.Write([]byte("z NOOP\r\na NO")); err != nil {
		t.Fatal(err)
	}
	c.expect("z OK ...")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := west.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	c.expectClosed()
	await(t, func() bool { all, _ := east.server.Connections(); return all == 0 })
}

// A cell that is drained itself answers what is under way, and it is the cell's BYE that is heard.
func TestCellDrains(t *testing.T) {
	west, east := twoCells(t, nil)
	idle, fetching := passedThrough(t, west, "east"), passedThrough(t, west, "east")
	idle.send("i IDLE")
	idle.expect("+ ...")
	fetching.want("CREATE Large", "OK ")
	fetching.want(appendText("Large", noise(8<<20)), "OK ")
	fetching.want("SELECT Large", "OK ")
	fetching.send("f FETCH 1 BODY.PEEK[]")
	if line := fetching.line(); !strings.HasPrefix(line, "* 1 FETCH ") {
		t.Fatal(line)
	}
	ended := drained(east)
	idle.expect(goodbye)
	idle.expectClosed()
	for !strings.HasPrefix(fetching.line(), "f OK ") {
	}
	fetching.expect(goodbye)
	fetching.expectClosed()
	if err := <-ended; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	await(t, func() bool { all, _ := west.server.Connections(); return all == 0 })
}

// A client that is gone leaves nothing behind in either cell, whatever is under way; one that only sends no more gets all that it is owed.
func TestPassedClientLeaves(t *testing.T) {
	west, east := twoCells(t, nil)
	none := func(c *cell) func() bool {
		return func() bool { all, _ := c.server.Connections(); return all == 0 }
	}
	c := passedThrough(t, west, "east")
	c.want("CREATE Large", "OK ")
	c.want(appendText("Large", noise(8<<20)), "OK ")
	c.want("SELECT Large", "OK ")
	c.send("f FETCH 1 BODY.PEEK[]\r\nn NOOP")
	if err := c.nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(c.r)
	if err != nil || !strings.Contains(string(text), "\r\nf OK ") || !strings.Contains(string(text), "\r\nn OK ") {
		t.Errorf("%d octets, of which the last are %q, %v", len(text), text[max(0, len(text)-100):], err)
	}
	await(t, none(west))
	await(t, none(east))
	if n := west.server.Passed(); n != 0 {
		t.Errorf("%d connections are passed through, of none", n)
	}

	for _, under := range []string{"", "a NO", "a APPEND Large {10000}\r\n", "i IDLE\r\n", "s SELECT Large\r\nf FETCH 1 BODY.PEEK[]\r\n"} {
		c := passedThrough(t, west, "east")
		if _, err := c.nc.Write([]byte("z NOOP\r\n" + under)); err != nil {
			t.Fatal(err)
		}
		c.expect("z OK ...")
		c.nc.Close()
		await(t, none(west))
		await(t, none(east))
	}
}

// Who is let in no more in their own cell hears it where they are passed through.
func TestPassedRevoked(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	west, east := twoCells(t, func(o *Options) {
		running.Go(func() { o.Authenticator.Watch(ctx) })
	})
	c := passedThrough(t, west, "east")
	found, err := east.store.LookupLogin(t.Context(), "user@east.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := east.store.DisableAccount(t.Context(), found.User, true); err != nil {
		t.Fatal(err)
	}
	c.expect("* BYE You are logged out: your password or what you may do has changed")
	c.expectClosed()
	await(t, func() bool { all, _ := west.server.Connections(); return all == 0 })
	west.connect(t).want("LOGIN user@east.test "+storetest.Password, "NO [CONTACTADMIN] Account disabled")
}

// A client that is idle for too long is sent away by this front end where that is less patient than the other cell, and that hears of it.
func TestPassedIdle(t *testing.T) {
	idle := 300 * time.Millisecond
	west, east := twoCells(t, func(o *Options) { o.IdleTimeout, idle = idle, 0 }) // of the first, that of the other is as long as ever
	c := passedThrough(t, west, "east")
	c.expect("* BYE Idle for too long")
	c.expectClosed()
	await(t, func() bool { all, _ := east.server.Connections(); return all == 0 })
}
