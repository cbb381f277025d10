package imapd

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/message"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
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
		"CREATE four":            "NO [LIMIT] Too many mailboxes in this account",
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
	if got := c.want("SEARCH BODY nowhere", "NO [UNAVAILABLE] Took too long, try again later"); len(got) > 0 {
		t.Errorf("it tells %q", got)
	}
}

// What would take an account over its quota is refused as a whole, by each command that adds to it.
func TestQuotaExceeded(t *testing.T) {
	const login = "c@limits.test"
	s := storetest.New(t)
	u := storetest.Account(t, s, login)
	c := serveStore(t, s, nil)(t)
	enter(c, login)
	limit := func(messages, octets *int64) {
		t.Helper()
		if err := s.SetLimits(t.Context(), u, messages, octets); err != nil {
			t.Fatal(err)
		}
	}
	over := func(command string) {
		t.Helper()
		c.want(command, "NO [OVERQUOTA] Quota exceeded")
		c.want("NOOP", "OK ")
	}
	c.want("APPEND INBOX {3+}\r\none {3+}\r\ntwo", "OK ")
	c.want("SELECT INBOX", "OK ")
	three, nine := int64(3), int64(9)
	limit(&three, nil)
	over("APPEND INBOX {1+}\r\na {1+}\r\nb")
	over("COPY 1:2 Sent")
	over("UID COPY 1:* INBOX")
	c.want("COPY 1 Sent", "OK ")
	over("APPEND Sent {1+}\r\na")
	over("COPY 1 Sent")
	// What is moved or replaced is not more than it was.
	c.want("MOVE 1 Archive", "OK ")
	c.want("REPLACE 1 INBOX {3+}\r\nnew", "OK ")
	limit(nil, &nine)
	over("APPEND INBOX {1+}\r\na")
	over("REPLACE 1 INBOX {4+}\r\nlong")
	over("UID COPY 1:* Sent")
	c.want("REPLACE 1 INBOX {2+}\r\nab", "OK ")
	c.want("APPEND Sent {1+}\r\na", "OK ")
	for mailbox, want := range map[string]string{"INBOX": "(MESSAGES 1 SIZE 2)", "Sent": "(MESSAGES 2 SIZE 4)", "Archive": "(MESSAGES 1 SIZE 3)"} {
		if got := c.want("STATUS "+mailbox+" (MESSAGES SIZE)", "OK "); !strings.HasSuffix(got[0], want) {
			t.Errorf("%s, want %s", got[0], want)
		}
	}
}

// A mailbox has room for so many keywords, and says by \* whether there is any left.
func TestKeywordLimit(t *testing.T) {
	const login = "d@limits.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	c := serveStore(t, s, nil)(t)
	enter(c, login)
	c.want("APPEND INBOX {1+}\r\na {1+}\r\nb", "OK ")
	c.want("APPEND Sent ($New) {1+}\r\na", "OK ")
	c.want("SELECT INBOX", "OK ")
	names := make([]string, view.MaxKeywords)
	for i := range names {
		names[i] = fmt.Sprintf("k%d", i)
	}
	wild := func(lines []string) bool {
		return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, `\*)]`) })
	}
	if got := c.want("STORE 1 FLAGS ("+strings.Join(names[1:], " ")+")", "OK "); !wild(got) {
		t.Errorf("there is room for one more, and not told: %.500q", got)
	}
	if got := c.want("STORE 2 FLAGS ("+names[0]+")", "OK "); wild(got) {
		t.Errorf("there is no room for more, and told: %.500q", got)
	}
	const full = "NO [LIMIT] Too many keywords in this mailbox"
	c.want("STORE 1:2 FLAGS ($New)", full)
	c.want("UID STORE 2 (UNCHANGEDSINCE 100) +FLAGS ($New)", full)
	c.want("APPEND INBOX {1+}\r\na ($New) {1+}\r\na", full)
	c.want("REPLACE 1 INBOX ($New) {1+}\r\na", full)
	c.want("STORE 2 -FLAGS ($New)", "OK ") // which it does not have
	c.want("EXAMINE Sent", "OK ")
	c.want("COPY 1 INBOX", full)
	c.want("SELECT Sent", "OK ")
	c.want("MOVE 1 INBOX", full)
	if got := c.want("STATUS INBOX (MESSAGES)", "OK "); got[0] != `* STATUS "INBOX" (MESSAGES 2)` {
		t.Errorf("afterwards there is %q", got)
	}
}

// The last UID is never given out; before it, all that adds messages says that there is none left.
func TestLastUID(t *testing.T) {
	const login = "e@limits.test"
	config := storetest.Config(t)
	s := storetest.Open(t, config)
	storetest.Account(t, s, login)
	owner, err := pgx.Connect(t.Context(), config.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(t.Context())
	if _, err := owner.Exec(t.Context(), `UPDATE mailbox SET uidnext = 4294967294, folded_uidnext = 4294967294 WHERE name = 'INBOX'`); err != nil {
		t.Fatal(err)
	}
	c := serveStore(t, s, nil)(t)
	enter(c, login)
	c.want("APPEND Sent {1+}\r\na", "OK ")
	c.want("APPEND INBOX {1+}\r\na", "OK [APPENDUID ")
	c.want("SELECT INBOX", "OK ")
	const full = "NO [LIMIT] The mailbox has no UID left: create another"
	for _, command := range []string{"APPEND INBOX {1+}\r\nb", "COPY 1 INBOX", "UID MOVE 4294967294 INBOX", "REPLACE 1 INBOX {1+}\r\nb"} {
		c.want(command, full)
	}
	if got := c.want("UID FETCH 4294967294:* (UID)", "OK "); !slices.Equal(got, []string{"* 1 FETCH (UID 4294967294)"}) {
		t.Errorf("afterwards there is %q", got)
	}
	c.want("MOVE 1 Sent", "OK ")
}
