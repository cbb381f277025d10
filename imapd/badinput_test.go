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

// rightArguments are such that each command is right with them in a mailbox of one
// message, and wrong with fewer.
var rightArguments = map[string]string{
	"CAPABILITY": "", "NOOP": "", "CHECK": "", "LOGOUT": "", "ID": " NIL", "ENABLE": " CONDSTORE",
	"STARTTLS": "", "LOGIN": " a@bad.test pass", "AUTHENTICATE": " PLAIN", "COMPRESS": " DEFLATE", "UNAUTHENTICATE": "",
	"CREATE": " new", "DELETE": " Junk", "RENAME": " Drafts renamed", "SUBSCRIBE": " new", "UNSUBSCRIBE": " Sent", "NAMESPACE": "",
	"LIST": ` "" *`, "LSUB": ` "" *`, "RLIST": ` "" *`, "RLSUB": ` "" *`, "STATUS": " INBOX (MESSAGES)", "FIND": " MAILBOXES *",
	"SELECT": " INBOX", "EXAMINE": " INBOX", "CLOSE": "", "UNSELECT": "", "IDLE": "",
	"APPEND": " INBOX {1+}\r\nx", "REPLACE": " 1 INBOX {1+}\r\nx", "UID REPLACE": " 1 INBOX {1+}\r\nx",
	"FETCH": " 1 BODY[]", "UID FETCH": " 1 BODY[]", "PARTIAL": " 1 RFC822 1 1", "SEARCH": " ALL", "UID SEARCH": " ALL",
	"SORT": " (DATE) UTF-8 ALL", "UID SORT": " (DATE) UTF-8 ALL", "THREAD": " REFERENCES UTF-8 ALL", "UID THREAD": " ORDEREDSUBJECT UTF-8 ALL",
	"ESEARCH": " IN (PERSONAL) ALL", "CANCELUPDATE": ` "x"`, "COMPARATOR": "",
	"STORE": " 1 +FLAGS (\\Deleted)", "UID STORE": " 1 +FLAGS (\\Deleted)", "EXPUNGE": "", "UID EXPUNGE": " 1",
	"COPY": " 1 INBOX", "UID COPY": " 1 INBOX", "MOVE": " 1 INBOX", "UID MOVE": " 1 INBOX",
	"GETMETADATA": " INBOX /private/comment", "SETMETADATA": " INBOX (/private/comment {1+}\r\nx)",
	"GETQUOTA": " tenant:bad.test", "GETQUOTAROOT": " INBOX", "SETQUOTA": " tenant:bad.test ()",
	"GETACL": " INBOX", "SETACL": " INBOX anyone lr", "DELETEACL": " INBOX anyone", "LISTRIGHTS": " INBOX anyone", "MYRIGHTS": " INBOX",
}

// beginnings returns the arguments of a command up to each of them, from none to all,
// and from which on a literal would be right behind them.
func beginnings(arguments string) (all []string, literals int) {
	before, literal, takes := strings.Cut(arguments, " {")
	for i, c := range before {
		if c == ' ' {
			all = append(all, before[:i])
		}
	}
	all = append(all, before)
	literals = len(all)
	if takes {
		all, literals = append(all, before+" {"+literal), len(all)-1
	}
	return all, literals
}

// Whatever is wrong behind the name of a command, or behind any of its arguments.
func TestMalformedCommands(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@bad.test")
	connect := serveStore(t, s, nil)
	for name, state := range map[string]state{"not logged in": notAuthenticated, "logged in": authenticated, "selected": selectedState} {
		t.Run(name, func(t *testing.T) {
			c := connect(t)
			if state == notAuthenticated {
				c.expect("* OK ...")
			} else {
				enter(c, "a@bad.test")
			}
			shapes := maps.Clone(badArguments)
			if state == selectedState {
				maps.Copy(shapes, longArguments)
				c.want(appendText("INBOX", "Subject: x\r\n\r\n"), "OK ")
				c.want("SELECT INBOX", "OK ")
			}
			malformed := func(command string) {
				if got, answer := c.do(command); len(got) > 0 || !strings.HasPrefix(answer, "BAD [") {
					t.Errorf("%.100q is answered %.200q %q", command, got, answer)
				}
			}
			for _, name := range slices.Sorted(maps.Keys(commands)) {
				all, literals := beginnings(rightArguments[name])
				if commands[name].states&state == 0 {
					all = all[:1] // it is not looked at them
				}
				for i, arguments := range all {
					if i+1 < len(all) {
						malformed(name + arguments) // and no more
					}
					for _, shape := range shapes {
						if i > 0 && len(shape) > 1000 || i >= literals && strings.Contains(shape, "{") {
							continue
						}
						if name+arguments+shape == "AUTHENTICATE PLAIN " {
							continue // some clients mean that there is no initial response
						}
						malformed(name + arguments + shape)
					}
					if got := c.want("NOOP", "OK "); len(got) > 0 {
						t.Errorf("something of %s was run: %q", name, got)
					}
				}
			}
			for _, name := range []string{"FROB", "UID FROB", "UID", "UID NOOP"} {
				for _, shape := range shapes {
					malformed(name + shape)
				}
				c.want("NOOP", "OK ")
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

// Each command is right in the states that its row names, and in no other.
func TestCommandsInEachState(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@bad.test")
	connect := serveStore(t, s, nil)
	stranger, guest, reader := connect(t), connect(t), connect(t)
	stranger.expect("* OK ...")
	enter(guest, "a@bad.test")
	enter(reader, "a@bad.test")
	for name, cmd := range commands {
		arguments, ok := rightArguments[name]
		if !ok {
			t.Errorf("%s is not tested", name)
		}
		if cmd.states&notAuthenticated == 0 {
			stranger.want(name+arguments, "BAD [CLIENTBUG] "+name+": log in first")
			stranger.want("NOOP", "OK ")
		}
		if cmd.states&authenticated == 0 {
			want := ": select a mailbox first"
			if cmd.states == notAuthenticated {
				want = ": you are logged in already"
			}
			guest.want(name+arguments, "BAD [CLIENTBUG] "+name+want)
			guest.want("NOOP", "OK ")
		}
	}

	// What changes messages is refused where they were opened for reading only; nothing else is, nor does it change any.
	guest.want(appendText("INBOX", "Subject: x\r\n\r\nbody\r\n"), "OK ")
	guest.want(`SETMETADATA Sent (/private/comment "x")`, "OK ")
	guest.want("ENABLE CONDSTORE", "OK ")
	guest.want("SELECT INBOX", "OK ") // takes \Recent
	guest.want(`STORE 1 +FLAGS (\Deleted)`, "OK ")
	guest.want("UNSELECT", "OK ")
	before := possessions(guest)
	for name, cmd := range commands {
		if cmd.states&loggedIn != selectedState {
			continue
		}
		reader.want("EXAMINE INBOX", "OK [READ-ONLY] ")
		want := "OK "
		switch strings.TrimPrefix(name, "UID ") {
		case "STORE", "EXPUNGE", "MOVE", "REPLACE":
			want = "NO The mailbox is open for reading only"
		case "COPY":
			continue // which changes another mailbox
		}
		reader.want(name+rightArguments[name], want)
		if after := possessions(guest); after != before {
			t.Errorf("%s in EXAMINE: there was\n%s\nand is\n%s", name, before, after)
		}
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
			"SELECT INBOX (QRESYNC (1 %s))", "FETCH 1 BODY[]<%s.1>", "FETCH 1 BODY[]<0.%s>", "FETCH 1 BINARY[]<0.%s>"} {
			c.bad(fmt.Sprintf(command, n))
		}
	}
	for _, n := range []string{"0", "-1", "4294967296", "18446744073709551616", ""} {
		for _, command := range []string{"FETCH 1 BODY[%s]", "FETCH 1 BODY[1.%s]", "FETCH 1 BODY[%s.MIME]", "SELECT INBOX (QRESYNC (%s 1))",
			"FETCH 1 BINARY[1.%s]", "PARTIAL %s RFC822 1 1", "PARTIAL 1 RFC822 %s 1"} {
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
	for _, command := range []string{"UID FETCH 4294967295 FLAGS", "UID FETCH 1:4294967295 BODY.PEEK[]<9223372036854775807.9223372036854775807>", "SEARCH LARGER 9223372036854775807",
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
			if strings.HasSuffix(command, `"" %s`) && strings.Contains(name, "&") { // a pattern that is like no name
				if got := c.want(fmt.Sprintf(command, name), "OK "); len(got) > 0 {
					t.Errorf("%s finds %q", name, got)
				}
				continue
			}
			c.bad(fmt.Sprintf(command, name))
		}
	}
	if after := c.want(`LIST "" *`, "OK "); !slices.Equal(before, after) {
		t.Errorf("there was %q, and is %q", before, after)
	}
}

// What is a wildcard in a pattern is a character like others in a name.
func TestWildcardsInNames(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@bad.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "a@bad.test")
	for _, name := range []string{`"a*b%c"`, "a-b-c", `"a%"`, "a/b", "..", "../..", "a/../b"} {
		c.want("CREATE "+name, "OK ")
	}
	if got := c.want(`LIST "" "a*b%c"`, "OK "); len(got) != 2 {
		t.Errorf("of the pattern are %q", got)
	}
	c.want(`SELECT "a*b%c"`, "OK ")
	c.want(`SELECT "a*"`, "NO [NONEXISTENT] ")
	c.want(`RENAME "a%" "a*"`, "OK ")
	c.want(`DELETE "a*"`, "OK ")
	c.want(`DELETE "a*b%c"`, "OK ")
	c.want("DELETE ..", "OK ")
	for _, name := range []string{"a-b-c", "a/b", "../..", "a/../b"} {
		c.want("STATUS "+name+" (MESSAGES)", "OK ")
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
