package imapd

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// What clients send that is wrong, and what is true of it whichever command it
// is in: BAD says what was wrong, the next command is the next line, and no
// octet of what was refused is ever run. How each token and command is read is
// tested beside it; broken mail in mail_test.go, outages in outage_test.go.

// badArguments are wrong behind the name of every command.
var badArguments = map[string]string{
	"a space at the end":          " ",
	"two spaces":                  "  x",
	"a tab":                       "\tx",
	"a control character":         " \x01",
	"octets beyond ASCII":         " \xc3\xbc",
	"NUL":                         " x\x00y",
	"NUL in quotes":               " \"x\x00y\"",
	"NUL in a literal":            " {14+}\r\nz LOGOUT\r\nx\x00y\r",
	"NUL in modified UTF-7":       " &AAA-\x00",
	"quotes that are not closed":  ` "x`,
	"an escape that there is not": ` "\x"`,
	"parentheses left open":       " (x",
	"parentheses never opened":    " )",
	"parentheses without end":     " " + strings.Repeat("(", 1000),
	"a literal without its size":  " {}",
	"a literal of no number":      " {x}",
	"a negative literal":          " {-1}",
	"a literal with something":    " {3+} x",
	"a literal8":                  " ~{10+}\r\nz LOGOUT\r\n",
	"a literal that is too big":   " {70000}",
	"a literal of more than 2^64": " {99999999999999999999}",
	"CR without LF":               " x\ry",
	"a backslash":                 ` \`,
}

// longArguments are wrong as well, and take their time to pass over.
var longArguments = map[string]string{
	"a literal that is too big, and comes": " {70000+}\r\n" + strings.Repeat("z LOGOUT\r\n", 7000),
	"literals that are together":           strings.Repeat(" {60000+}\r\n"+strings.Repeat("z LOGOUT\r\n", 6000), 5),
	"a line without end":                   " " + strings.Repeat("x", 100_000),
	"a line without end in quotes":         ` "` + strings.Repeat("x", 100_000) + `"`,
}

func TestMalformedCommands(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@bad.test")
	connect := serveStore(t, s, nil)
	for _, state := range []string{"not logged in", "logged in", "selected"} {
		t.Run(state, func(t *testing.T) {
			c := connect(t)
			if state == "not logged in" {
				c.expect("* OK ...")
			} else {
				enter(c, "a@bad.test")
			}
			shapes := maps.Clone(badArguments)
			if state == "selected" {
				maps.Copy(shapes, longArguments)
				c.want(appendText("INBOX", "Subject: x\r\n\r\n"), "OK ")
				c.want("SELECT INBOX", "OK ")
			}
			names := slices.Sorted(maps.Keys(commands))
			for _, name := range append(names, "FROB", "UID FROB", "UID") {
				for shape, arguments := range shapes {
					if got, answer := c.do(name + arguments); len(got) > 0 || !strings.HasPrefix(answer, "BAD [") {
						t.Errorf("%s with %s is answered %.200q %q", name, shape, got, answer)
					}
				}
				if got := c.want("NOOP", "OK "); len(got) > 0 {
					t.Errorf("something of %s was run: %q", name, got)
				}
			}
			for _, line := range []string{"", " ", " NOOP", "+ NOOP", "(x) NOOP", "\x00", "\"a\" NOOP", "{1+}\r\nz NOOP", "\xff\xfe\xfd", "GET / HTTP/1.1", "%"} {
				c.send(line)
				c.expect(map[bool]string{true: "GET BAD [CLIENTBUG] ...", false: "* BAD [CLIENTBUG] ..."}[strings.HasPrefix(line, "GET")])
			}
			c.want("NOOP", "OK ")
			// After many in a row it is enough.
			for range 50 {
				c.want("FROB", "BAD ")
			}
			c.expect("* BYE Too many wrong commands")
			c.expectClosed()
		})
	}
}

// Numbers that overflow, and others that are none.
func TestBadNumbers(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@bad.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "a@bad.test")
	c.want(appendText("INBOX", "Subject: x\r\n\r\n"), "OK ")
	c.want("ENABLE QRESYNC", "OK ")
	c.want("SELECT INBOX", "OK ")
	for _, n := range []string{"0", "-1", "+1", "1.5", "0x1", "4294967296", "18446744073709551616", "99999999999999999999999999", "", "**", "1:", ":1", "1:4294967296", "1,", ",1", "1,,2", "1:2:3"} {
		for _, command := range []string{"FETCH %s FLAGS", "UID FETCH %s FLAGS", "STORE %s FLAGS (x)", "UID STORE %s FLAGS (x)", "COPY %s Sent", "UID COPY %s Sent",
			"MOVE %s Sent", "UID MOVE %s Sent", "UID EXPUNGE %s", "SEARCH UID %s", "UID SEARCH NOT %s", "SELECT INBOX (QRESYNC (1 1 %s))", "SELECT INBOX (QRESYNC (1 1 1 (%s 1)))"} {
			c.bad(fmt.Sprintf(command, n))
		}
	}
	for _, n := range []string{"-1", "+1", "1.5", "9223372036854775808", "18446744073709551616", "99999999999999999999999999", "", "*"} {
		for _, command := range []string{"SEARCH LARGER %s", "SEARCH SMALLER %s", "SEARCH MODSEQ %s", "FETCH 1 FLAGS (CHANGEDSINCE %s)", "STORE 1 (UNCHANGEDSINCE %s) FLAGS ()",
			"SELECT INBOX (QRESYNC (1 %s))", "FETCH 1 BODY[]<%s.1>"} {
			c.bad(fmt.Sprintf(command, n))
		}
	}
	for _, n := range []string{"0", "-1", "4294967296", "18446744073709551616", ""} {
		for _, command := range []string{"FETCH 1 BODY[%s]", "FETCH 1 BODY[1.%s]", "FETCH 1 BODY[%s.MIME]", "FETCH 1 BODY[]<0.%s>", "SELECT INBOX (QRESYNC (%s 1))",
			"FETCH 1 BINARY[1.%s]", "FETCH 1 BINARY[]<0.%s>", "PARTIAL %s RFC822 1 1", "PARTIAL 1 RFC822 %s 1"} {
			switch {
			case n == "" && command == "FETCH 1 BODY[%s]", n == "0" && command == "FETCH 1 BODY[%s]", n == "0" && command == "FETCH 1 BODY[1.%s]":
				continue // which are the message, and headers (RFC 1730 section 6.4.5)
			}
			c.bad(fmt.Sprintf(command, n))
		}
	}
	for _, date := range []string{"31-Feb-2026", "0-Jan-2026", "32-Jan-2026", "1-Jan-20266", "1-Jan-6", "1-Jan-126", "1-Jan-", "99999999999-Jan-2026", "1-Foo-2026", "1-13-2026", "-1-Jan-2026"} {
		for _, command := range []string{"SEARCH SINCE %s", "SEARCH SENTON \"%s\"", "APPEND INBOX \"%s 00:00:00 +0000\" {1+}\r\nx"} {
			c.bad(fmt.Sprintf(command, date))
		}
	}
	for _, time := range []string{"24:00:00 +0000", "00:60:00 +0000", "00:00:61 +0000", "00:00:00 +00000", "00:00:00", "00:00:00 UTC", "00:00:00 +9999999"} {
		c.bad(fmt.Sprintf("APPEND INBOX \"01-Jan-2026 %s\" {1+}\r\nx", time))
	}
	// The largest that there are.
	for _, command := range []string{"UID FETCH 4294967295 FLAGS", "UID FETCH 1:4294967295 BODY.PEEK[]<9223372036854775807.4294967295>", "SEARCH LARGER 9223372036854775807",
		"SEARCH UID 4294967295:*", "SEARCH MODSEQ 9223372036854775807", "UID EXPUNGE 1:4294967295", "UID COPY 4294967295 Sent",
		"FETCH 1 FLAGS (CHANGEDSINCE 9223372036854775807)", "SELECT INBOX (QRESYNC (4294967295 9223372036854775807 1:4294967295 (1:4294967295 1:4294967295)))"} {
		c.want(command, "OK ")
	}
	if got := c.want("STATUS INBOX (MESSAGES UIDNEXT)", "OK "); got[0] != `* STATUS "INBOX" (MESSAGES 1 UIDNEXT 2)` {
		t.Errorf("afterwards there is %q", got)
	}
}

// NUL in a name, in each form that a name can have, in each place where one can stand.
func TestNULInNames(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@bad.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "a@bad.test")
	c.want(appendText("INBOX", "Subject: x\r\n\r\n"), "OK ")
	c.want("SELECT INBOX", "OK ")
	before := c.want(`LIST "" *`, "OK ")
	for _, name := range []string{"a\x00b", "\"a\x00b\"", "{3+}\r\na\x00b", "&AAA-", "\"a&AAA-b\"", "&AOQAAA-", "{5+}\r\n&AAA-"} {
		for _, command := range []string{"CREATE %s", "DELETE %s", "RENAME %s x", "RENAME Sent %s", "SELECT %s", "EXAMINE %s", "SUBSCRIBE %s", "UNSUBSCRIBE %s", "LIST %s *",
			`LIST "" %s`, `LSUB "" %s`, "STATUS %s (MESSAGES)", "APPEND %s {1+}\r\nx", "APPEND INBOX (%s) {1+}\r\nx", "COPY 1 %s", "UID MOVE 1 %s"} {
			if strings.Contains(command, "(%s)") && !strings.HasPrefix(name, "a") {
				continue // no keyword in any form
			}
			c.bad(fmt.Sprintf(command, name))
		}
	}
	if after := c.want(`LIST "" *`, "OK "); !slices.Equal(before, after) {
		t.Errorf("there was %q, and is %q", before, after)
	}
}

// A literal that is too big is not asked for; where it comes anyway it is
// passed over or ends the connection, and what is in it is never run.
func TestOversizedLiterals(t *testing.T) {
	const largest = 300_000
	s := storetest.New(t, func(o *store.Options) { o.MaxMessage = largest })
	storetest.Account(t, s, "a@bad.test")
	connect := serveStore(t, s, nil)
	logouts := strings.Repeat("z LOGOUT\r\n", largest/10+1)
	c := connect(t)
	c.expect("* OK ...")
	for _, command := range []string{"LOGIN {70000%s}\r\n%.70000s pass", "LOGIN a@bad.test {70000%s}\r\n%.70000s", "ID (\"name\" {70000%s}\r\n%.70000s)"} {
		c.want(strings.ReplaceAll(strings.Split(command, "\r\n")[0], "%s", ""), "BAD [TOOBIG] ")
		c.want(fmt.Sprintf(command, "+", logouts), "BAD [TOOBIG] ")
	}
	c.want("LOGIN a@bad.test pass", "OK ")
	c.want(appendText("INBOX", "Subject: x\r\n\r\n"), "OK ")
	c.want("SELECT INBOX", "OK ")
	for _, command := range []string{"SELECT {70000%s}\r\n%.70000s", "RENAME Sent {70000%s}\r\n%.70000s", "LIST \"\" {70000%s}\r\n%.70000s", "SEARCH TEXT {70000%s}\r\n%.70000s SEEN",
		"FETCH 1 BODY[HEADER.FIELDS ({70000%s}\r\n%.70000s)]", "COPY 1 {70000%s}\r\n%.70000s", "APPEND {70000%s}\r\n%.70000s {1+}\r\nx"} {
		c.want(strings.ReplaceAll(strings.Split(command, "\r\n")[0], "%s", ""), "BAD [TOOBIG] ")
		c.want(fmt.Sprintf(command, "+", logouts), "BAD [TOOBIG] ")
	}
	c.want("APPEND INBOX {300001}", "NO [TOOBIG] ")
	c.want("APPEND INBOX {300001+}\r\n"+logouts[:300001], "NO [TOOBIG] ")
	c.want("APPEND INBOX {300001+}\r\n"+logouts[:300001]+" {10+}\r\nz LOGOUT\r\n", "NO [TOOBIG] ")
	c.want("APPEND Nowhere {300000+}\r\n"+logouts[:300000], "NO [TRYCREATE] ")
	c.want("APPEND INBOX (\\Foo) {300000+}\r\n"+logouts[:300000], "BAD [CLIENTBUG] ")
	c.want("APPEND INBOX {300000+}\r\n"+logouts[:300000], "OK [APPENDUID ")
	if got := c.want("STATUS INBOX (MESSAGES)", "OK "); got[0] != `* STATUS "INBOX" (MESSAGES 2)` {
		t.Errorf("afterwards there is %q", got)
	}
	for _, command := range []string{"APPEND INBOX {99999999999+}", "SELECT {99999999999999999999+}", "FROB {67108865+}"} {
		c := connect(t)
		enter(c, "a@bad.test")
		c.send("a " + command + "\r\nb LOGOUT\r\nc NOOP")
		if got := c.line(); !matches(got, "a NO [TOOBIG] ...") && !matches(got, "a BAD ...") {
			t.Errorf("%s is answered %q", command, got)
		}
		c.expect("* BYE Command too long")
		c.expectClosed()
	}
}
