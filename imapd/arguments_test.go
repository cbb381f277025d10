package imapd

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/store/storetest"
)

// place is where an argument stands in a command that is right, %s, with a value there. What a
// string may stand for is right in each form that a string has (RFC 9051 section 4.3), and what is no string in none;
// a literal8 is a string only where the grammar says so. A value by which something would begin that ends the
// session has no form: it is only tried in those that are wrong.
type place struct {
	command, value string
	forms          string // of formNames, those that are right
}

const (
	bare        = "b"
	quoted      = "q"
	stringForms = "qls"
	astring     = "bqls"
)

// arguments are the places of each command of the table. Where there is none, what follows is wrong in each form.
var arguments = map[string][]place{
	"CAPABILITY":     {{"CAPABILITY %s", "x", ""}},
	"NOOP":           {{"NOOP %s", "x", ""}},
	"CHECK":          {{"CHECK %s", "x", ""}},
	"LOGOUT":         {{"LOGOUT %s", "x", ""}},
	"STARTTLS":       {{"STARTTLS %s", "x", ""}},
	"NAMESPACE":      {{"NAMESPACE %s", "x", ""}},
	"UNAUTHENTICATE": {{"UNAUTHENTICATE %s", "x", ""}},
	"CLOSE":          {{"CLOSE %s", "x", ""}},
	"UNSELECT":       {{"UNSELECT %s", "x", ""}},
	"EXPUNGE":        {{"EXPUNGE %s", "x", ""}},
	"IDLE":           {{"IDLE %s", "x", ""}},
	"COMPRESS":       {{"COMPRESS %s", "DEFLATE", ""}},
	"ID":             {{"ID %s", "NIL", bare}, {"ID (%s NIL)", "name", stringForms}, {`ID ("name" %s)`, "x", stringForms}, {`ID ("name" %s)`, "NIL", astring}},
	"ENABLE":         {{"ENABLE %s", "X-NOTHING", bare}, {"ENABLE X-NOTHING %s", "X-NOTHING", bare}},
	"LOGIN":          {{"LOGIN %s nobody", "nobody@bad.test", astring}, {"LOGIN nobody@bad.test %s", "nobody", astring}},
	"AUTHENTICATE":   {{"AUTHENTICATE %s", "NOTHING", bare}, {"AUTHENTICATE NOTHING %s", "eA==", bare}},

	"CREATE":      {{"CREATE %s", "made/", astring}, {"CREATE INBOX %s", "x", ""}, {"CREATE INBOX (USE (%s))", `\Junk`, bare}, {"CREATE INBOX (%s ())", "USE", bare}},
	"DELETE":      {{"DELETE %s", "nowhere", astring}},
	"RENAME":      {{"RENAME %s else", "nowhere", astring}, {"RENAME nowhere %s", "else", astring}},
	"SUBSCRIBE":   {{"SUBSCRIBE %s", "INBOX", astring}},
	"UNSUBSCRIBE": {{"UNSUBSCRIBE %s", "nowhere", astring}},
	"LIST": {{"LIST %s *", "INBOX", astring}, {`LIST "" %s`, "INBOX%*", astring}, {`LIST "" (%s x)`, "INBOX", astring}, {`LIST (%s) "" x`, "REMOTE", bare},
		{`LIST "" x RETURN (%s)`, "CHILDREN", bare}, {`LIST "" x %s (CHILDREN)`, "RETURN", bare}, {`LIST "" x RETURN (STATUS (%s))`, "MESSAGES", bare}, {`LIST "" x RETURN (%s)`, "MYRIGHTS", bare}},
	"LSUB":    {{"LSUB %s *", "INBOX", astring}, {`LSUB "" %s`, "INBOX%*", astring}},
	"RLIST":   {{"RLIST %s *", "INBOX", astring}, {`RLIST "" %s`, "INBOX%*", astring}},
	"RLSUB":   {{"RLSUB %s *", "INBOX", astring}, {`RLSUB "" %s`, "INBOX%*", astring}},
	"FIND":    {{"FIND %s INBOX", "MAILBOXES", bare}, {"FIND ALL.MAILBOXES %s", "INBOX", astring}},
	"STATUS":  {{"STATUS %s (MESSAGES)", "INBOX", astring}, {"STATUS INBOX (%s)", "MESSAGES", bare}},
	"SELECT":  {{"SELECT %s", "INBOX", astring}, {"SELECT INBOX (%s)", "CONDSTORE", bare}, {"SELECT INBOX (QRESYNC (%s 1))", "1", bare}, {"SELECT INBOX (QRESYNC (1 %s))", "1", bare}},
	"EXAMINE": {{"EXAMINE %s", "INBOX", astring}, {"EXAMINE INBOX (%s)", "CONDSTORE", bare}},
	"APPEND": {{"APPEND %s {1+}\r\nx", "nowhere", astring}, {"APPEND nowhere %s", "x", "l8s"}, {"APPEND nowhere (%s) {1+}\r\nx", "k", bare},
		{"APPEND nowhere %s {1+}\r\nx", "01-Jan-2026 00:00:00 +0000", "ql8s"}, {"APPEND nowhere %s (~{1+}\r\nx)", "UTF8", "bl8s"}}, // a literal is the message
	"REPLACE": {{"REPLACE %s nowhere {1+}\r\nx", "1", bare}, {"REPLACE 1 %s {1+}\r\nx", "nowhere", astring}, {"REPLACE 1 nowhere %s", "x", "l8s"},
		{"REPLACE 1 nowhere (%s) {1+}\r\nx", "k", bare}},
	"UID REPLACE": {{"UID REPLACE %s nowhere {1+}\r\nx", "1", bare}, {"UID REPLACE 1 %s {1+}\r\nx", "nowhere", astring}, {"UID REPLACE 1 nowhere %s", "x", "l8s"}},
	"FETCH": {{"FETCH %s FLAGS", "1", bare}, {"FETCH 1 %s", "FLAGS", bare}, {"FETCH 1 (FLAGS %s)", "UID", bare}, {"FETCH 1 BODY.PEEK[%s]", "1", bare},
		{"FETCH 1 BODY.PEEK[HEADER.FIELDS (%s)]", "Subject", astring}, {"FETCH 1 BODY.PEEK[HEADER.FIELDS.NOT (a %s)]", "Subject", astring},
		{"FETCH 1 BODY.PEEK[]<0.%s>", "1", bare}, {"FETCH 1 FLAGS (CHANGEDSINCE %s)", "1", bare}, {"FETCH 1 FLAGS (%s 1)", "CHANGEDSINCE", bare},
		{"FETCH 1 BINARY.PEEK[%s]", "1", bare}, {"FETCH 1 RFC822.HEADER.LINES (%s)", "Subject", astring}},
	"UID FETCH": {{"UID FETCH %s FLAGS", "1", bare}, {"UID FETCH 1 %s", "FLAGS", bare}, {"UID FETCH 1 BODY.PEEK[HEADER.FIELDS (%s)]", "Subject", astring},
		{"UID FETCH 1 FLAGS (PARTIAL %s)", "1:1", bare}},
	"PARTIAL": {{"PARTIAL %s RFC822.PEEK 1 1", "1", bare}, {"PARTIAL 1 %s 1 1", "RFC822.PEEK", bare}, {"PARTIAL 1 RFC822.PEEK %s 1", "1", bare}, {"PARTIAL 1 RFC822.PEEK 1 %s", "1", bare}},
	"STORE": {{"STORE %s +FLAGS (k)", "1", bare}, {"STORE 1 %s (k)", "+FLAGS", bare}, {"STORE 1 +FLAGS (%s)", "k", bare}, {"STORE 1 +FLAGS %s", "k", bare},
		{"STORE 1 (UNCHANGEDSINCE %s) +FLAGS (k)", "1", bare}},
	"UID STORE":   {{"UID STORE %s +FLAGS (k)", "1", bare}, {"UID STORE 1 %s (k)", "+FLAGS", bare}, {"UID STORE 1 +FLAGS (%s)", "k", bare}},
	"COPY":        {{"COPY %s nowhere", "1", bare}, {"COPY 1 %s", "nowhere", astring}},
	"UID COPY":    {{"UID COPY %s nowhere", "1", bare}, {"UID COPY 1 %s", "nowhere", astring}},
	"MOVE":        {{"MOVE %s nowhere", "1", bare}, {"MOVE 1 %s", "nowhere", astring}},
	"UID MOVE":    {{"UID MOVE %s nowhere", "1", bare}, {"UID MOVE 1 %s", "nowhere", astring}},
	"UID EXPUNGE": {{"UID EXPUNGE %s", "1", bare}},
	"SEARCH":      slices.Concat(searchPlaces("SEARCH"), []place{{"SEARCH %s", "1", bare}}),
	"UID SEARCH":  searchPlaces("UID SEARCH"),
	"SORT":        sortPlaces("SORT"),
	"UID SORT":    sortPlaces("UID SORT"),
	"THREAD":      {{"THREAD %s UTF-8 ALL", "REFERENCES", bare}, {"THREAD REFERENCES %s ALL", "UTF-8", astring}, {"THREAD REFERENCES UTF-8 %s", "ALL", bare}, {"THREAD REFERENCES UTF-8 SUBJECT %s", "x", astring}},
	"UID THREAD":  {{"UID THREAD %s UTF-8 ALL", "REFERENCES", bare}, {"UID THREAD ORDEREDSUBJECT %s ALL", "UTF-8", astring}, {"UID THREAD ORDEREDSUBJECT UTF-8 TEXT %s", "x", astring}},
	"ESEARCH": {{"ESEARCH %s", "ALL", bare}, {"ESEARCH IN (%s) ALL", "PERSONAL", bare}, {"ESEARCH IN (MAILBOXES %s) ALL", "INBOX", astring}, {"ESEARCH IN (SUBTREE (INBOX %s)) ALL", "nowhere", astring},
		{"ESEARCH IN (SUBTREE-ONE %s SUBSCRIBED) ALL", "nowhere", astring}, {"ESEARCH %s (PERSONAL) ALL", "IN", bare}, {"ESEARCH RETURN (%s) ALL", "COUNT", bare}, {"ESEARCH CHARSET %s ALL", "UTF-8", astring}, {"ESEARCH SUBJECT %s", "x", astring}},
	"CANCELUPDATE": {{"CANCELUPDATE %s", "x", stringForms}, {`CANCELUPDATE "x" %s`, "x", stringForms}},
	"COMPARATOR":   {{"COMPARATOR %s", "default", astring}, {"COMPARATOR i;unicode-casemap %s", "i;octet", astring}},
	"GETMETADATA": {{"GETMETADATA %s /private/a", "INBOX", astring}, {"GETMETADATA INBOX %s", "/private/a", astring}, {"GETMETADATA INBOX (/private/b %s)", "/private/a", astring},
		{"GETMETADATA (MAXSIZE %s) INBOX /private/a", "1", bare}, {"GETMETADATA (%s 1) INBOX /private/a", "DEPTH", bare}},
	"GETQUOTA":     {{"GETQUOTA %s", "tenant:x", astring}},
	"GETQUOTAROOT": {{"GETQUOTAROOT %s", "INBOX", astring}},
	"SETQUOTA":     {{"SETQUOTA %s (STORAGE 1)", "tenant:x", astring}, {"SETQUOTA tenant:x (%s 1)", "STORAGE", bare}, {"SETQUOTA tenant:x (STORAGE %s)", "1", bare}},
	"SETMETADATA": {{"SETMETADATA %s (/private/a NIL)", "INBOX", astring}, {"SETMETADATA INBOX (%s NIL)", "/private/a", astring},
		{"SETMETADATA INBOX (/private/a %s)", "x", "ql8s"}, {"SETMETADATA INBOX (/private/a %s)", "NIL", "bql8s"}},
	"GETACL":     {{"GETACL %s", "INBOX", astring}},
	"SETACL":     {{"SETACL %s anyone lr", "INBOX", astring}, {"SETACL INBOX %s lr", "anyone", astring}, {"SETACL INBOX anyone %s", "+lr", astring}},
	"DELETEACL":  {{"DELETEACL %s anyone", "INBOX", astring}, {"DELETEACL INBOX %s", "anyone", astring}},
	"LISTRIGHTS": {{"LISTRIGHTS %s anyone", "INBOX", astring}, {"LISTRIGHTS INBOX %s", "anyone", astring}},
	"MYRIGHTS":   {{"MYRIGHTS %s", "INBOX", astring}},
}

// searchPlaces are those of both forms of SEARCH.
func searchPlaces(name string) []place {
	places := []place{
		{"RETURN (%s) ALL", "COUNT", bare}, {"RETURN (PARTIAL %s) ALL", "1:1", bare}, {"CHARSET %s ALL", "UTF-8", astring}, {"%s", "ALL", bare}, {"NOT %s", "ALL", bare}, {"(ALL %s)", "ALL", bare},
		{"HEADER %s x", "Subject", astring}, {"HEADER Subject %s", "x", astring}, {"OR SUBJECT %s ALL", "x", astring},
		{"KEYWORD %s", "k", bare}, {"UNKEYWORD %s", "k", bare}, {"UID %s", "1", bare}, {"LARGER %s", "1", bare}, {"SMALLER %s", "1", bare}, {"OLDER %s", "1", bare}, {"YOUNGER %s", "1", bare},
		{"MODSEQ %s", "1", bare}, {"MODSEQ %s all 1", `/flags/x`, quoted}, {`MODSEQ "/flags/x" %s 1`, "all", bare}, {"FILTER %s", "nothing", bare}, {"EMAILID %s", "M1", bare}, {"THREADID %s", "T1", bare},
	}
	for key := range textKeys {
		places = append(places, place{key + " %s", "x", astring})
	}
	for key := range dateKeys {
		places = append(places, place{key + " %s", "1-Jan-2026", bare + quoted})
	}
	for i := range places {
		places[i].command = name + " " + places[i].command
	}
	return places
}

// sortPlaces are those of both forms of SORT.
func sortPlaces(name string) []place {
	places := []place{
		{"(%s) UTF-8 ALL", "DATE", bare}, {"(REVERSE %s) UTF-8 ALL", "SUBJECT", bare}, {"(%s DATE) UTF-8 ALL", "REVERSE", bare}, {"(DATE) %s ALL", "UTF-8", astring},
		{"RETURN (%s) (DATE) UTF-8 ALL", "COUNT", bare}, {"%s (COUNT) (DATE) UTF-8 ALL", "RETURN", bare}, {"(DATE) UTF-8 %s", "ALL", bare}, {"(DATE) UTF-8 SUBJECT %s", "x", astring},
	}
	for i := range places {
		places[i].command = name + " " + places[i].command
	}
	return places
}

// formNames are the forms of an argument.
var formNames = map[byte]string{
	'b': "without quotes", 'q': "in quotes", 'l': "as a literal", 's': "as a literal that is not waited for", '8': "as a literal8",
}

// in returns the command with the value in a form, and whether the client waits before it sends what stands behind the literal's size.
func (p place) in(form byte) (before, behind string) {
	size := len(p.value)
	switch form {
	case 'q':
		return fmt.Sprintf(p.command, `"`+strings.ReplaceAll(p.value, `\`, `\\`)+`"`), ""
	case 's':
		return fmt.Sprintf(p.command, fmt.Sprintf("{%d+}\r\n%s", size, p.value)), ""
	case '8':
		return fmt.Sprintf(p.command, fmt.Sprintf("~{%d+}\r\n%s", size, p.value)), ""
	case 'l':
		first, rest, _ := strings.Cut(p.command, "%s")
		return fmt.Sprintf("%s{%d}", first, size), p.value + rest
	}
	return fmt.Sprintf(p.command, p.value), ""
}

// try sends a command in two parts, the second one if it is asked for, and returns its tagged answer.
func (c *client) try(before, behind string) string {
	c.t.Helper()
	c.send("try " + before)
	for {
		line := c.line()
		if answer, ok := strings.CutPrefix(line, "try "); ok {
			return answer
		}
		if strings.HasPrefix(line, "+ ") && behind != "" {
			c.send(behind)
			behind = ""
		}
	}
}

func TestFormsOfArguments(t *testing.T) {
	const login = "c@hostile.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	connect := serveStore(t, s, func(o *Options) { o.MaxLoginFailures = 1000 })
	stranger, c := connect(t), connect(t)
	stranger.expect("* OK ...")
	enter(c, login)
	c.want(appendText("INBOX", "Subject: x\r\n\r\nbody\r\n"), "OK ")
	c.want("ENABLE QRESYNC", "OK ")
	for name := range arguments {
		if _, ok := commands[name]; !ok {
			t.Errorf("there is no command %s", name)
		}
	}
	for name, command := range commands {
		if len(arguments[name]) == 0 {
			t.Errorf("no argument of %s is tried", name)
		}
		who := c
		if command.states == notAuthenticated {
			who = stranger
		}
		for _, p := range arguments[name] {
			for form, described := range formNames {
				right := strings.IndexByte(p.forms, form) >= 0
				if form == 'b' && p.forms == "" && name == "COMPRESS" {
					continue // which it would do
				}
				if who == c {
					c.want("SELECT INBOX", "OK ")
				}
				before, behind := p.in(form)
				answer := who.try(before, behind)
				if strings.HasPrefix(answer, "BAD ") == right {
					t.Errorf("%q %s is answered %q", p.command, described, answer)
				}
				if got := who.want("NOOP", "OK "); len(got) > 0 && !right {
					t.Errorf("%q %s: then comes %q", p.command, described, got)
				}
			}
		}
	}
	// One octet at a time.
	for _, value := range []string{"made", ""} {
		c.send(fmt.Sprintf("a SUBSCRIBE {%d}", len(value)))
		c.expect("+ ...")
		for _, octet := range []byte(value + "\r\n") {
			if _, err := c.nc.Write([]byte{octet}); err != nil {
				t.Fatal(err)
			}
		}
		c.expect(map[string]string{"made": "a OK ...", "": "a NO ..."}[value])
	}
}
