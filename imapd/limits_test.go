package imapd

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
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
		o.MaxNameBytes, o.MaxNameLevels, o.MaxKeywords = 30, 3, 2
	})
	storetest.Account(t, s, login)
	connect := serveStore(t, s, func(o *Options) {
		o.MaxLine, o.MaxLiteral, o.MaxNesting = 10_000, 2000, 5
		o.MaxRanges, o.MaxLevels = 10, 3
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
		"RENAME three " + strings.Repeat("x", 30),
		"RENAME " + strings.Repeat("x", 30) + " three",
		"FETCH 1,1,1,1,1,1,1,1,1,1 (FLAGS BODY.PEEK[1.1.1])",
		"STORE 1 +FLAGS (k1 K2)",
		"STATUS INBOX (MESSAGES)",
	} {
		c.want(right, "OK ")
	}
	for wrong, answer := range map[string]string{
		"SEARCH SUBJECT " + strings.Repeat("x", 10_000):                                "BAD [LIMIT] Command line too long",
		"SEARCH SUBJECT {2001}":                                                        "BAD [TOOBIG] ",
		"SEARCH" + strings.Repeat(" SUBJECT {2000+}\r\n"+strings.Repeat("x", 2000), 5): "BAD [TOOBIG] ",
		"SEARCH " + strings.Repeat("(", 6) + "SEEN" + strings.Repeat(")", 6):           "BAD [LIMIT] ",
		"FETCH 1,1,1,1,1,1,1,1,1,1,1 FLAGS":                                            "BAD [LIMIT] ",
		"UID SEARCH UID 1,2,3,4,5,6,7,8,9,10,11":                                       "BAD [LIMIT] ",
		"FETCH 1 BODY.PEEK[1.1.1.1]":                                                   "BAD [LIMIT] Part number too deep: ",
		"STORE 1 +FLAGS (k2 k3)":                                                       "NO [LIMIT] ",
		appendText("INBOX (k1 k3)", "x"):                                               "NO [LIMIT] ",
		"CREATE " + strings.Repeat("x", 31):                                            "NO [CANNOT] ",
		"SUBSCRIBE " + strings.Repeat("x", 31):                                         "NO [CANNOT] ",
		"RENAME three " + strings.Repeat("x", 31):                                      "NO [CANNOT] ",
		"CREATE 1/2/3/4":                                                               "NO [CANNOT] ",
		"RENAME one 1/2/3":                                                             "NO [CANNOT] ", // for one/two would be a level deeper
		"CREATE four":                                                                  "NO [LIMIT] Too many mailboxes in this account",
		"RENAME three four/five":                                                       "NO [LIMIT] ",
		"APPEND INBOX {100001}":                                                        "NO [TOOBIG] ",
	} {
		c.want(wrong, answer)
		c.want("NOOP", "OK ")
	}
	c.want("RENAME three four", "OK ")
	c.want("DELETE four", "OK ")
	c.want("CREATE four", "OK ")

	// No more names than mailboxes can be subscribed to, those that are already can be once more.
	refused := ""
	for i := range 10 {
		if _, answer := c.do(fmt.Sprintf("SUBSCRIBE subscribed%d", i)); !strings.HasPrefix(answer, "OK ") {
			refused = answer
			break
		}
	}
	if n := len(c.want(`LSUB "" *`, "OK ")); n != 9 || refused != "NO [LIMIT] Too many subscriptions of this account" {
		t.Errorf("%d names are subscribed to, then the answer is %q", n, refused)
	}
	c.want("SUBSCRIBE subscribed0", "OK ")
	c.want("UNSUBSCRIBE subscribed0", "OK ")
	c.want("SUBSCRIBE instead", "OK ")

	// An item is told once.
	if got := c.want("STATUS INBOX (MESSAGES UNSEEN MESSAGES)", "OK "); got[0] != `* STATUS "INBOX" (MESSAGES 1 UNSEEN 1)` {
		t.Errorf("STATUS tells %q", got)
	}

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

// A search whose result is too much to be kept saves nothing (RFC 5182 section 2.5).
func TestSavedRanges(t *testing.T) {
	const login = "c@limits.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	c := serveStore(t, s, func(o *Options) { o.MaxRanges = 2 })(t)
	enter(c, login)
	for range 5 {
		c.want(appendText("INBOX", "x"), "OK ")
	}
	c.want("SELECT INBOX", "OK ")
	c.want("STORE 1,3 +FLAGS.SILENT (\\Flagged)", "OK ")
	c.want("SEARCH RETURN (SAVE) FLAGGED", "OK ")
	if got := c.want("SEARCH RETURN (COUNT) $", "OK "); got[0] != `* ESEARCH (TAG "do.it") COUNT 2` {
		t.Errorf("saved are %q", got)
	}
	c.want("STORE 5 +FLAGS.SILENT (\\Flagged)", "OK ")
	if got := c.want("SEARCH RETURN (SAVE COUNT) FLAGGED", "NO [NOTSAVED] The result has too many ranges to be saved"); len(got) > 0 {
		t.Errorf("it tells %q", got)
	}
	if got := c.want("SEARCH RETURN (COUNT) $", "OK "); got[0] != `* ESEARCH (TAG "do.it") COUNT 0` {
		t.Errorf("saved are %q", got)
	}
	if got := c.want("SEARCH RETURN (COUNT) FLAGGED", "OK "); got[0] != `* ESEARCH (TAG "do.it") COUNT 3` {
		t.Errorf("without saving it tells %q", got)
	}
}

// What the flags of the messages of an APPEND take is counted with the messages.
func TestAppendedFlags(t *testing.T) {
	const login = "d@limits.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	c := serveStore(t, s, func(o *Options) { o.MaxAppend = 1 << 20 })(t)
	enter(c, login)
	flags := ""
	for i := range 40 {
		flags += fmt.Sprintf(" %0250d", i)
	}
	message := " (" + flags[1:] + ") {1+}\r\nx"
	c.want("APPEND INBOX"+strings.Repeat(message, 50), "OK ")
	c.want("APPEND INBOX"+strings.Repeat(message, 150), "NO [LIMIT] ")
}

// The memory for commands is bounded: all of them, and those of one account, or of all who have not logged in. What
// has none is refused, nothing of it is run, and what is done is given back.
func TestCommandMemory(t *testing.T) {
	o := testOptions(t)
	users := logins{}
	o.Authenticator = authenticate(users)
	for i, tenant := range []id.Tenant{1, 1, 1, 2, 2, 2, 1} {
		users[fmt.Sprint("user", i)] = store.User{Tenant: tenant, Account: id.Account(i + 1)}
	}
	o.MaxCommands = 4 << 20
	s, connect := start(t, o)
	user := func(i int) *client {
		c := connect()
		c.expect("* OK ...")
		c.send(fmt.Sprintf("a LOGIN user%d pass", i))
		c.expect("a OK ...")
		return c
	}
	// hold sends the most of a command that is large, and waits until it has what it takes.
	var held []*client
	hold := func(c *client, large string, takes int64) {
		t.Helper()
		before := s.budget.taken()
		if _, err := c.nc.Write([]byte("b CREATE " + large)); err != nil {
			t.Fatal(err)
		}
		await(t, func() bool { return s.budget.taken() == before+takes })
		held = append(held, c)
	}
	line := strings.Repeat("x", 20_000)
	refusal := func(c *client, answer string) {
		t.Helper()
		c.send("c CREATE " + line + line + line)
		c.expect("c " + answer)
		c.send("d CREATE {60000}")
		c.expect("d " + answer)
		c.send("e CREATE {60000+}\r\n" + strings.Repeat("z LOGOUT\r\n", 6000))
		c.expect("e " + answer)
		c.send("f NOOP") // small commands need none
		c.expect("f OK ...")
	}
	free := s.budget.taken()
	for i := range 4 {
		if i == 3 { // of the first three's tenant: 3 MiB, less those 2880 KiB
			hold(user(6), fmt.Sprintf("{60000+}\r\n%s", line[:5000]), 120_000)
			refusal(user(6), "NO [LIMIT] Too many large commands of this tenant at once")
		}
		for range 3 {
			hold(user(i), line, 5*4096*16) // 960 KiB together; a quarter is 1024
		}
	}
	refusal(user(0), "NO [LIMIT] Too many large commands of this account at once")
	for _, n := range []int{60_000, 10_000} { // of 138 KiB that are left
		hold(user(4), fmt.Sprintf("{%d+}\r\n%s", n, line[:5000]), int64(2*n))
	}
	refusal(user(5), "NO [UNAVAILABLE] Too many large commands at once, try again later")
	stranger := connect()
	stranger.expect("* OK ...")
	stranger.send("a LOGIN user5 {4000}")
	stranger.expect("a NO [UNAVAILABLE] ...")
	stranger.send("a LOGIN user5 pass")
	stranger.expect("a OK ...")

	for i, c := range held {
		if i%2 == 0 {
			c.nc.Close()
			continue
		}
		c.send(strings.Repeat("x", 60_000)) // a line becomes too long, and a literal is followed by what is wrong
		if got := c.line(); !matches(got, "b NO ...") && !matches(got, "b BAD ...") {
			t.Errorf("a large command that is wrong is answered %q", got)
		}
	}
	await(t, func() bool { return s.budget.taken() == free })
	if len(s.budget.of)+len(s.budget.ofTenant) > 0 {
		t.Errorf("%v have something, %v of tenants", s.budget.of, s.budget.ofTenant)
	}
}

// What a command has found counts for that memory as well.
func TestAnswerMemory(t *testing.T) {
	const login = "f@limits.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	c := serveStore(t, s, func(o *Options) { o.MaxCommands = 4 * 20_000 })(t)
	enter(c, login)
	name := strings.Repeat("x", 999)
	for i := range 9 {
		c.want(fmt.Sprintf("CREATE %d%s", i, name), "OK ")
	}
	c.want(fmt.Sprintf("SETMETADATA INBOX (/private/a {8000+}\r\n%08000d /private/b {8000+}\r\n%08000d)", 1, 2), "OK ")
	c.want("GETMETADATA INBOX (/private/a /private/b)", "OK ")
	c.want(fmt.Sprintf("SETMETADATA INBOX (/private/c {8000+}\r\n%08000d)", 3), "OK ")
	for _, command := range []string{`LIST "" INBOX`, `LSUB "" INBOX`, "FIND MAILBOXES INBOX", "GETMETADATA INBOX (DEPTH infinity) /private"} {
		if got := c.want(command, "NO [LIMIT] Too many large commands of this account at once"); len(got) > 0 {
			t.Errorf("%s tells %.100q", command, got)
		}
	}
	c.want("DELETE 0"+name, "OK ")
	c.want("DELETE 1"+name, "OK ")
	for _, command := range []string{`LIST "" INBOX`, `LSUB "" INBOX`, "FIND MAILBOXES INBOX"} {
		c.want(command, "OK ")
	}
}

// A header that is not kept with the parsed message counts for the account as long as the response with its fields is not written.
func TestHeaderMemory(t *testing.T) {
	const login = "h@limits.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	share := int64(3 << 20)
	connect := serveStore(t, s, func(o *Options) { o.MaxCommands = accountShare * share })
	c := connect(t)
	enter(c, login)
	header := strings.Repeat("X-Field: value of it\r\n", 40_000)
	for range 5 {
		c.want(appendText("INBOX", "Content-Type: message/rfc822\r\n\r\n"+header+"\r\nbody\r\n"), "OK ")
	}
	c.want("SELECT INBOX", "OK ")
	const fields = "BODY.PEEK[1.HEADER.FIELDS.NOT (y)]"
	got := c.want("FETCH 1:* ("+fields+")", "OK ") // each has its time
	if size := len(strings.Join(got, "\r\n")); size < 5*len(header) {
		t.Errorf("5 headers of %d octets are %d", len(header), size)
	}
	if got := c.want("FETCH 1 ("+fields+" BODY.PEEK[1.HEADER.FIELDS.NOT (z)])", "NO [LIMIT] Too many large commands of this account at once"); len(got) > 0 {
		t.Errorf("it tells %.100q", got)
	}
	c.want("FETCH 1 (BODY.PEEK[1.HEADER.FIELDS (Y)] BODY.PEEK[1.HEADER.FIELDS (Z)] BODY.PEEK[1.HEADER.FIELDS (A)])", "OK ") // of which nothing stays
}

// await waits until something has come about.
func await(t *testing.T, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it has not come about")
		}
	}
}
