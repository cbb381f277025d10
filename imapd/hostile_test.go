package imapd

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/auth"
	"mailstead.dev/store/storetest"
)

// What no honest client sends: absurd in size, depth or number, but well-formed.
// Each is answered in bounded time and memory, and the server goes on for others.

// hostileMail is stored and described as well as possible, like all mail.
var hostileMail = map[string]string{
	"multiparts a thousand deep":       nestedMultiparts(1000),
	"messages a thousand deep":         strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 1000) + "Subject: last\r\n\r\nend\r\n",
	"a hundred thousand parts":         "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 100_000) + "--b--\r\n",
	"a hundred thousand fields":        strings.Repeat("X-Field: value\r\n", 100_000) + "\r\nbody\r\n",
	"a hundred thousand known fields":  strings.Repeat("To: a@hostile.test\r\n", 100_000) + "\r\nbody\r\n",
	"a field of a megabyte":            "Subject: " + strings.Repeat("x", 1<<20) + "\r\n\r\nbody\r\n",
	"a field folded into a megabyte":   "Subject: x\r\n" + strings.Repeat(" folded\r\n", 1<<17) + "\r\nbody\r\n",
	"a hundred thousand addresses":     "To: " + strings.Repeat("a@hostile.test,\r\n ", 100_000) + "b@hostile.test\r\n\r\nbody\r\n",
	"a hundred thousand encoded words": "Subject: " + strings.Repeat("=?utf-8?q?=C3=BC?= ", 100_000) + "\r\n\r\nbody\r\n",
	"a hundred thousand references":    "References: " + strings.Repeat("<a@hostile.test>\r\n ", 100_000) + "\r\n\r\nbody\r\n",
	"a hundred thousand parameters":    "Content-Type: text/plain" + strings.Repeat("; a=b", 100_000) + "\r\n\r\nbody\r\n",
	"comments in comments":             "To: " + strings.Repeat("(", 500_000) + "\r\nDate: " + strings.Repeat("(", 500_000) + "\r\n\r\nbody\r\n",
}

// nestedMultiparts is a multipart in a multipart and so on, each with a boundary of its own.
func nestedMultiparts(depth int) string {
	var b strings.Builder
	for i := range depth {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	b.WriteString("\r\nend\r\n")
	for i := depth - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "--b%d--\r\n", i)
	}
	return b.String()
}

func TestHostileMail(t *testing.T) {
	const login = "a@hostile.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	o := testOptions(t)
	o.Store, o.Authenticator = s, auth.New(s, auth.Options{})
	server := New(o)
	addr := listen(t, server, server.Serve)
	c := clientOf(t, addr, login)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	for _, name := range slices.Sorted(maps.Keys(hostileMail)) {
		t.Run(name, func(t *testing.T) {
			text := []byte(hostileMail[name])
			defer within(t, time.Minute, 256<<20)()
			uid := appendMail(t, c, "INBOX", text, nil)
			got := fetchOne(t, c, uid, &imap.FetchOptions{RFC822Size: true, BodySection: []*imap.FetchItemBodySection{whole,
				{Peek: true, Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"Subject", "X-Field"}},
				{Peek: true, Part: []int{1}, Specifier: imap.PartSpecifierMIME}}})
			if got.RFC822Size != int64(len(text)) || !bytes.Equal(got.FindBodySection(whole), text) {
				t.Errorf("came back as %d octets of %d, or others", got.RFC822Size, len(text))
			}
		})
	}

	// What describes them may be too much for go-imap's client, and is only read to its end.
	d := dial(t, addr)
	enter(d, login)
	d.want("SELECT INBOX", "OK ")
	for _, command := range []string{"FETCH 1:* ENVELOPE", "FETCH 1:* BODYSTRUCTURE", "FETCH 1:* BODY", "FETCH 1:* PREVIEW",
		"FETCH 1:* (BODY.PEEK[1.1.1.1.1.1.1.1.1.1.1.1.1.1] BODY.PEEK[99999] BODY.PEEK[]<99999999.10>)",
		"SEARCH TEXT nowhere", "SEARCH OR TO nowhere SUBJECT nowhere", "SEARCH HEADER X-Field nowhere"} {
		t.Run(command, func(t *testing.T) {
			defer within(t, time.Minute, 256<<20)()
			if err := d.nc.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
				t.Fatal(err)
			}
			d.want(command, "OK ")
		})
	}
}

// within demands that what runs until the function returned is called takes no longer
// than a time, and that the heap does not grow by more than some octets meanwhile.
func within(t *testing.T, most time.Duration, growth int64) func() {
	t.Helper()
	heap := func() int64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return int64(s[0].Value.Uint64())
	}
	runtime.GC()
	begin, before, largest := time.Now(), heap(), int64(0)
	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			largest = max(largest, heap())
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		t.Helper()
		close(done)
		<-watched
		if took := time.Since(begin); took > most {
			t.Errorf("took %v, more than %v", took, most)
		}
		if grown := largest - before; grown > growth {
			t.Errorf("took %d MiB of memory, more than %d", grown>>20, growth>>20)
		}
	}
}

// hostileCommands are answered with what their answer begins with, and change nothing.
var hostileCommands = map[string][2]string{
	"NOT ten thousand deep":         {"SEARCH " + strings.Repeat("NOT ", 10_000) + "SEEN", "BAD [LIMIT] Nested too deeply: "},
	"OR ten thousand deep":          {"SEARCH " + strings.Repeat("OR SEEN ", 7000) + "SEEN", "BAD [LIMIT] Nested too deeply: "},
	"parentheses ten thousand deep": {"SEARCH " + strings.Repeat("(", 10_000) + "SEEN" + strings.Repeat(")", 10_000), "BAD [LIMIT] Parentheses are nested too deeply: "},
	"many keys":                     {"SEARCH" + strings.Repeat(" SEEN", 10_000), "BAD [LIMIT] Too many search keys: "},
	"many strings":                  {"SEARCH" + strings.Repeat(" SUBJECT x", 201), "BAD [LIMIT] Too many strings to search for: "},
	"many strings to be like":       {"SEARCH" + strings.Repeat(" FUZZY SUBJECT x", 21), "BAD [LIMIT] Too many strings to search for with FUZZY: "},
	"scores without FUZZY":          {"SEARCH RETURN (RELEVANCY) SUBJECT x", "BAD [CLIENTBUG] RELEVANCY takes a FUZZY key"},
	"an identifier that is long":    {"SEARCH EMAILID " + strings.Repeat("M", 256), "BAD [CLIENTBUG] Object identifier longer than "},
	"a set of many ranges":          {"FETCH " + strings.Repeat("1,", 100_000) + "1 FLAGS", "BAD [LIMIT] The set has too many ranges: "},
	"a set in descending order":     {"UID FETCH " + descending(10_000) + " FLAGS", "OK "},
	"a set with a number too large": {"FETCH 1:4294967297 FLAGS", "BAD "},
	"a partial past the end":        {"FETCH 1 BODY.PEEK[]<4294967295.1>", "OK "},
	"a section deep down":           {"FETCH 1 BODY.PEEK[" + strings.Repeat("1.", 5000) + "1]", "BAD [LIMIT] Part number too deep: "},
	"many sections":                 {"FETCH 1 (" + manySections(4000) + "FLAGS)", "BAD [LIMIT] Too many sections: "},
	"many fields":                   {"FETCH 1 BODY.PEEK[HEADER.FIELDS (" + strings.Repeat("a ", 20_000) + "b)]", "BAD [LIMIT] Too many header fields: "},
	"a name of many levels":         {"CREATE " + strings.Repeat("a/", 10_000) + "a", "NO [CANNOT] "},
	"a long name":                   {"CREATE " + strings.Repeat("a", 20_000), "NO [CANNOT] "},
	"a name with a level of none":   {"CREATE a//b", "NO [CANNOT] "},
	"a name with CR":                {"CREATE {3+}\r\na\rb", "BAD "},
	"a name in modified UTF-7":      {"CREATE &####-", "BAD "},
	"a name half in modified UTF-7": {"CREATE a&", "BAD "},
	"a pattern of many wildcards":   {`LIST "" "` + strings.Repeat("*%", 900) + `x"`, "OK "},
	"a pattern that is long":        {`LIST "" ` + strings.Repeat("x", 2001), "OK "},
	"an old pattern that is long":   {"FIND MAILBOXES " + strings.Repeat("x", 2001), "OK "},
	"many patterns":                 {`LIST "" (` + strings.Repeat("%* ", 9000) + "x)", "BAD [LIMIT] Mailbox patterns longer than "},
	"many flags":                    {"STORE 1 +FLAGS (" + manyWords(9000) + ")", "NO [LIMIT] Too many keywords in this mailbox"},
	"a long flag":                   {"STORE 1 +FLAGS (" + strings.Repeat("x", 20_000) + ")", "BAD [LIMIT] Keyword longer than "},
	"many status items":             {"STATUS INBOX (" + strings.Repeat("MESSAGES ", 5000) + "UNSEEN)", "OK "},
	"many ENABLEs":                  {"ENABLE" + strings.Repeat(" X", 20_000), "OK "},
	"a login without end":           {"CREATE " + strings.Repeat("x", 1_000_000), "BAD [LIMIT] Command line too long: "},
}

// descending is a set of n numbers from the largest to the least, with gaps.
func descending(n int) string {
	var b []byte
	for i := range n {
		b = strconv.AppendInt(b, int64(2*(n-i)), 10)
		b = append(b, ',')
	}
	return string(b) + "1"
}

func manySections(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "BODY.PEEK[]<%d.1> ", i)
	}
	return b.String()
}

func manyWords(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d ", i)
	}
	return b.String() + "k"
}

func TestHostileCommands(t *testing.T) {
	const login = "b@hostile.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	c := serveStore(t, s, nil)(t)
	enter(c, login)
	c.want(appendText("INBOX", "Subject: x\r\n\r\nbody\r\n"), "OK ")
	c.want("SELECT INBOX", "OK ")
	state := func() []string {
		return slices.Concat(c.want(`LIST "" *`, "OK "), c.want("STATUS INBOX (MESSAGES UIDNEXT)", "OK "), c.want("FETCH 1 FLAGS", "OK "))
	}
	before := state()
	for _, name := range slices.Sorted(maps.Keys(hostileCommands)) {
		t.Run(name, func(t *testing.T) {
			defer within(t, 10*time.Second, 64<<20)()
			c.t = t
			c.want(hostileCommands[name][0], hostileCommands[name][1])
			c.want("NOOP", "OK ")
		})
	}
	c.t = t
	if after := state(); !slices.Equal(before, after) {
		t.Errorf("there was %q, and is %q", before, after)
	}
}

// Names of many levels cost no more than they are long, with each pattern.
func TestPatternsOfDeepNames(t *testing.T) {
	const login = "f@hostile.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	c := serveStore(t, s, nil)(t)
	enter(c, login)
	for i := range 200 {
		c.want(fmt.Sprintf("SUBSCRIBE %d%s", i, strings.Repeat("/xxxxxxxxxxxxxx", 62)), "OK ")
	}
	costly := strings.Repeat("*x", 450) + "%q"
	for _, command := range []string{
		`LSUB "" ` + costly, `LIST (SUBSCRIBED) "" (` + strings.Repeat(costly+" ", 8) + `x)`, "FIND MAILBOXES " + costly,
	} {
		t.Run(command[:4], func(t *testing.T) {
			defer within(t, 10*time.Second, 64<<20)()
			c.t = t
			if got := c.want(command, "OK "); len(got) > 0 {
				t.Errorf("it tells %.100q", got)
			}
		})
	}
	c.t = t
	if got := c.want(`LSUB "" 7/%`, "OK "); len(got) != 1 {
		t.Errorf("LSUB of a level tells %.200q", got)
	}
}

// Clients that have not logged in keep others from nothing, whatever they send.
func TestHostileStrangers(t *testing.T) {
	const login = "d@hostile.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	connect := serveStore(t, s, nil)
	defer within(t, time.Minute, 64<<20)()
	shapes := []string{
		"a LOGIN {104857600}\r\n",
		"a LOGIN {104857600+}\r\n" + strings.Repeat("x", 100_000),
		"a APPEND INBOX {104857600+}\r\n" + strings.Repeat("x", 100_000),
		strings.Repeat("x", 1_000_000),
		"a LOGIN \"" + strings.Repeat("x", 1_000_000),
		strings.Repeat("\r\n", 100),
		strings.Repeat("a FROB\r\n", 100),
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", // the beginning of TLS
		"a AUTHENTICATE PLAIN\r\n" + strings.Repeat("x", 1_000_000),
		"a",
		"",
	}
	var strangers []net.Conn
	for i := range 300 {
		c := connect(t)
		c.expect("* OK ...")
		strangers = append(strangers, c.nc)
		// Some are cut off meanwhile, which is what should happen.
		_, _ = c.nc.Write([]byte(shapes[i%len(shapes)]))
	}
	c := connect(t)
	enter(c, login)
	c.want(appendText("INBOX", "x"), "OK ")
	c.want("SELECT INBOX", "OK ")
	for _, stranger := range strangers {
		// None has been told of anything but what was wrong.
		stranger.SetDeadline(time.Now().Add(20 * time.Millisecond))
		said, _ := io.ReadAll(io.LimitReader(stranger, 1<<20)) // up to the deadline, or to where it was cut off
		for line := range strings.Lines(string(said)) {
			if !strings.HasPrefix(line, "* B") && !strings.Contains(line, " BAD ") && !strings.HasPrefix(line, "+ ") {
				t.Fatalf("a stranger is told %q", line)
			}
		}
	}
}
