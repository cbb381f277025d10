package imapd

import (
	"strings"
	"testing"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/message"
	"mailstead.dev/store/storetest"
)

// Each limit that an operator sets is the one that counts, and is told in the
// protocol's terms. Those of time are in TestTimeouts.
func TestLimits(t *testing.T) {
	const login = "a@limits.test"
	s := storetest.New(t, func(o *store.Options) {
		o.MaxMailboxes = 9 // with INBOX and the five that an account begins with
		o.Describe = message.Limits{Depth: 2, Parts: 4, HeaderBytes: 16 << 10}
		o.MaxMessage = 100_000
	})
	storetest.Account(t, s, login)
	connect := serveStore(t, s, func(o *Options) {
		o.MaxLine, o.MaxLiteral, o.MaxNesting = 10_000, 2000, 5
		o.MaxBad, o.MaxLoginFailures = 3, 2
	})
	c := connect(t)
	enter(c, login)
	multipart := "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\ndeep\r\n--c--\r\n--b--\r\n--a\r\n\r\nlast\r\n--a--\r\n"
	c.want(appendText("INBOX", multipart), "OK ")
	c.want("SELECT INBOX", "OK ")

	for _, right := range []string{
		"SEARCH " + strings.Repeat("SEEN ", 1900) + "SEEN",
		"SEARCH SUBJECT {2000+}\r\n" + strings.Repeat("x", 2000),
		"SEARCH " + strings.Repeat("(", 5) + "SEEN" + strings.Repeat(")", 5),
		"CREATE one/two",
		"CREATE three",
	} {
		c.want(right, "OK ")
	}
	for wrong, answer := range map[string]string{
		"SEARCH SUBJECT " + strings.Repeat("x", 10_000):                                "BAD [CLIENTBUG] Command line too long",
		"SEARCH SUBJECT {2001}":                                                        "BAD [TOOBIG] ",
		"SEARCH" + strings.Repeat(" SUBJECT {2000+}\r\n"+strings.Repeat("x", 2000), 5): "BAD [TOOBIG] ",
		"SEARCH " + strings.Repeat("(", 6) + "SEEN" + strings.Repeat(")", 6):           "BAD [CLIENTBUG] ",
		"CREATE four":            "NO [LIMIT] ",
		"RENAME three four/five": "NO [LIMIT] ",
		"APPEND INBOX {100001}":  "NO [TOOBIG] ",
	} {
		c.want(wrong, answer)
		c.want("NOOP", "OK ")
	}
	c.want("RENAME three four", "OK ")
	c.want("DELETE four", "OK ")
	c.want("CREATE four", "OK ")

	// What lies deeper is part of the last that is described.
	got := c.want("FETCH 1 BODYSTRUCTURE", "OK ")
	if n := strings.Count(strings.ToUpper(got[0]), `"MIXED"`); n != 1 {
		t.Errorf("%d multiparts are described in %s", n, got[0])
	}

	for range 3 {
		c.want("FROB", "BAD ")
	}
	c.expect("* BYE Too many wrong commands")
	c = connect(t)
	c.expect("* OK ...")
	c.want("LOGIN "+login+" wrong", "NO [AUTHENTICATIONFAILED] ")
	c.send("x LOGIN " + login + " wrong")
	for !strings.HasPrefix(c.line(), "* BYE ") {
	}
	c.expectClosed()
}

// A SEARCH that takes too long is refused, and tells no part of its result.
func TestSearchTime(t *testing.T) {
	const login = "b@limits.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	c := serveStore(t, s, func(o *Options) { o.SearchTimeout = time.Nanosecond })(t)
	enter(c, login)
	c.want(appendText("INBOX", "Subject: x\r\n\r\nbody\r\n"), "OK ")
	c.want("SELECT INBOX", "OK ")
	if got := c.want("SEARCH BODY nowhere", "NO [UNAVAILABLE] "); len(got) > 0 {
		t.Errorf("it tells %q", got)
	}
}
