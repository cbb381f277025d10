package imapd

import (
	"bufio"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mailstead.dev/imapd/wire"
)

// Each capability names its RFC, is announced at some time, and what it
// promises is in the command table.
func TestCapabilities(t *testing.T) {
	promised := map[string][]string{
		"IMAP4rev1": {"CAPABILITY", "NOOP", "LOGOUT", "LOGIN", "AUTHENTICATE", "SELECT", "EXAMINE", "CREATE", "DELETE", "RENAME", "SUBSCRIBE",
			"UNSUBSCRIBE", "LIST", "LSUB", "STATUS", "APPEND", "CHECK", "CLOSE", "EXPUNGE", "SEARCH", "FETCH", "STORE", "COPY",
			"UID SEARCH", "UID FETCH", "UID STORE", "UID COPY"},
		"IMAP4":     {"PARTIAL", "FIND"},
		"STARTTLS":  {"STARTTLS"},
		"ID":        {"ID"},
		"ENABLE":    {"ENABLE"},
		"IDLE":      {"IDLE"},
		"NAMESPACE": {"NAMESPACE"},
		"UIDPLUS":   {"UID EXPUNGE"},
		"UNSELECT":  {"UNSELECT"},
		"MOVE":      {"MOVE", "UID MOVE"},
		"CONDSTORE": {"ENABLE"},
		"QRESYNC":   {"ENABLE"},
		"SORT":      {"SORT", "UID SORT"},

		"MULTISEARCH":       {"ESEARCH"},
		"CONTEXT=SEARCH":    {"CANCELUPDATE"},
		"I18NLEVEL=2":       {"COMPARATOR"},
		"THREAD=REFERENCES": {"THREAD", "UID THREAD"},

		"MAILBOX-REFERRALS": {"RLIST", "RLSUB"},

		"UNAUTHENTICATE":   {"UNAUTHENTICATE"},
		"COMPRESS=DEFLATE": {"COMPRESS"},
		"REPLACE":          {"REPLACE", "UID REPLACE"},
		"UIDONLY":          {"ENABLE"},
		"METADATA":         {"GETMETADATA", "SETMETADATA"},
		"METADATA-SERVER":  {"GETMETADATA", "SETMETADATA"},
		"QUOTA":            {"GETQUOTA", "GETQUOTAROOT"},
		"QUOTASET":         {"SETQUOTA"},
		"ACL":              {"GETACL", "SETACL", "DELETEACL", "LISTRIGHTS", "MYRIGHTS"},
	}
	rfc := regexp.MustCompile(`^(RFC [0-9]+|draft-[a-z0-9-]+)( section [0-9.]+)?$`)
	var needed []string
	for _, c := range capabilities {
		if !rfc.MatchString(c.rfc) {
			t.Errorf("%s stands for %q", c.name, c.rfc)
		}
		for _, name := range promised[c.name] {
			needed = append(needed, name)
			if commands[name].read == nil {
				t.Errorf("%s is announced without %s", c.name, name)
			}
		}
	}
	for name := range commands {
		if !slices.Contains(needed, name) {
			t.Errorf("%s is a command that no capability announces", name)
		}
	}
}

// Each capability is used in a transcript, by a line such as this. What needs
// another server than that of the transcripts has tests of its own.
func TestCapabilitiesAreUsed(t *testing.T) {
	uses := map[string]string{
		"STARTTLS": "", "LOGINDISABLED": "", // server_test.go
		"INPROGRESS":        "", // progress_test.go
		"LOGIN-REFERRALS":   "", // cells_test.go
		"MAILBOX-REFERRALS": "", // remote_test.go
		"LITERAL-":          "", // append_test.go

		"IMAP4rev1": ` LSUB `, "LITERAL+": `\{[0-9]+\+\}$`, "SASL-IR": ` AUTHENTICATE PLAIN \w+`, "AUTH=": ` AUTHENTICATE PLAIN `,
		"ID": ` ID `, "ENABLE": ` ENABLE `, "IDLE": ` IDLE$`, "NAMESPACE": ` NAMESPACE$`, "CHILDREN": ` LIST "" `,
		"SPECIAL-USE": ` LIST \(SPECIAL-USE\)`, "UIDPLUS": ` UID EXPUNGE `, "UNSELECT": ` UNSELECT$`, "MOVE": ` MOVE `,
		"CONDSTORE": `\(UNCHANGEDSINCE `, "QRESYNC": `\(QRESYNC \(`, "ESEARCH": ` SEARCH RETURN \(`, "SORT": ` SORT \(`, "SORT=DISPLAY": ` SORT \(DISPLAYFROM`, "ESORT": ` SORT RETURN \(`,
		"CONTEXT=SEARCH": ` SEARCH RETURN \(UPDATE`, "CONTEXT=SORT": ` SORT RETURN \(UPDATE`, "MULTISEARCH": ` ESEARCH IN \(`,
		"FILTERS": ` FILTER `, "I18NLEVEL=2": ` COMPARATOR`, "THREAD=ORDEREDSUBJECT": ` THREAD ORDEREDSUBJECT`, "THREAD=REFERENCES": ` THREAD REFERENCES`, "THREAD=REFS": ` THREAD REFS`, "SEARCH=FUZZY": ` SEARCH FUZZY `, "SEARCHRES": ` RETURN \(SAVE\)`,
		"LIST-EXTENDED": ` LIST \(SUBSCRIBED\)`, "LIST-STATUS": ` RETURN \(STATUS \(`, "STATUS=SIZE": ` STATUS \w+ \(SIZE`,
		"MULTIAPPEND": `^C: five \{3\+\}$`, "OBJECTID": ` FETCH .*EMAILID`, "APPENDLIMIT=": ` STATUS \w+ \(APPENDLIMIT`,
		"SAVEDATE": ` SAVEDATE`, "WITHIN": ` YOUNGER `, "CREATE-SPECIAL-USE": ` CREATE \w+ \(USE `, "PREVIEW": ` FETCH .*PREVIEW`,
		"UNAUTHENTICATE": ` UNAUTHENTICATE$`, "COMPRESS=DEFLATE": ` COMPRESS DEFLATE$`,
		"PARTIAL": ` SEARCH RETURN \(PARTIAL `, "REPLACE": ` UID REPLACE `, "UIDONLY": ` ENABLE UIDONLY`,
		"METADATA": ` SETMETADATA INBOX `, "METADATA-SERVER": ` SETMETADATA "" `,
		"QUOTA": ` GETQUOTA `, "QUOTASET": ` SETQUOTA `, "QUOTA=RES-STORAGE": ` STATUS \w+ \(.*DELETED-STORAGE`, "QUOTA=RES-MESSAGE": ` STATUS \w+ \(.*DELETED `,
		"QUOTA=RES-MAILBOX": ` GETQUOTAROOT `, "QUOTA=RES-ANNOTATION-STORAGE": ` GETQUOTAROOT `,
		"BINARY": ` FETCH .*BINARY`, "UTF8=ACCEPT": ` UTF8 \(~\{`, "IMAP4rev2": ` ENABLE IMAP4rev2$`, "IMAP4": ` PARTIAL 1 `,
		"ACL": ` SETACL `, "RIGHTS=texk": ` SETACL \S+ \S+ lrset$`, "LIST-MYRIGHTS": ` RETURN \(MYRIGHTS`,
	}
	sent := transcriptLines(t, 'C')
	for _, c := range capabilities {
		use, ok := uses[c.name]
		if !ok || use != "" && !slices.ContainsFunc(sent, regexp.MustCompile(use).MatchString) {
			t.Errorf("%s is announced, and no transcript uses it", c.name)
		}
	}
}

// What a client sends for a command, of any kind, is read to the end of
// the line: what follows is the next command.
func FuzzCommands(f *testing.F) {
	var names []string
	for name := range commands {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, arguments := range []string{
		"", " x", ` "a" "b"`, " {1+}\r\nx {1}\r\ny", " 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (A B)]<0.10>)", " 1 +FLAGS.SILENT (\\Seen)",
		" INBOX (\\Seen) \"01-Feb-2006 15:04:05 +0000\" {3+}\r\nabc", " CHARSET UTF-8 OR (FROM a NOT SINCE 1-Feb-2006) UID 1:*",
		" INBOX (CONDSTORE QRESYNC (1 2 3:4 (5 6)))", ` "" "*"`, " INBOX (MESSAGES UNSEEN)", ` ("name" NIL)`, " PLAIN =", " 1,3:5 Sent",
		" 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)", " 1 (UNCHANGEDSINCE 3) FLAGS a",
		` (SUBSCRIBED RECURSIVEMATCH) "" (a "b*") RETURN (STATUS (SIZE) CHILDREN)`, " RETURN (SAVE MIN) OR $ UID $",
		" (DEPTH 1) INBOX (/private/a /shared/b)", ` "" (/private/a {1+}\r\nx /private/b NIL /private/c ~{1+}\r\n\x00)`, " 4 Drafts (\\Seen) {3+}\r\nabc", " RETURN (PARTIAL -1:-100 MIN) ALL", " 1:* FLAGS (PARTIAL 1:5 CHANGEDSINCE 3)",
		" 1 (BINARY[1.2]<0.5> BINARY.SIZE[] BINARY.PEEK[3])", " INBOX ~{3+}\r\na\x00c {1+}\r\nx",
		" 1 BODY.PEEK[1.0] 1 100", " ALL.MAILBOXES a?b*", " MAILBOX x", " INBOX -group:a +lrd", ` INBOX {1+}\r\nx`,
		" (REVERSE DATE) UTF-8 ALL", " IN (SUBTREE (a b) SELECTED) RETURN (COUNT) FILTER x", ` "a" "b"`, ` "i;*" default`, " RETURN (MIN) (SUBJECT) UTF-8 1:*", " REFERENCES UTF-8 SUBJECT {1+}\r\nx", " INBOX () UTF8 (~{3+}\r\nabc)", ` "grün" "&-"`,
	} {
		for n := range names {
			if (n+i)%3 == 0 {
				f.Add(uint8(n), arguments)
			}
		}
	}
	f.Fuzz(func(t *testing.T, n uint8, arguments string) {
		arguments = oneCommand(arguments)
		name := names[int(n)%len(names)]
		d := wire.NewDecoder(bufio.NewReader(strings.NewReader(arguments+"\r\nnext NOOP\r\n")), wire.DecoderOptions{MaxSkip: 1 << 16})
		run, err := commands[name].read(d)
		if run == nil && err == nil {
			t.Fatal("neither something to run nor an error")
		}
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, wire.ErrFlood) {
			return // a literal took the rest
		}
		if d.Skip(); d.Dead() != nil {
			return
		}
		if literalEnd.MatchString(arguments) {
			return
		}
		if tag := d.Tag(); tag != "next" {
			t.Errorf("%s%q: the next command's tag is %q", name, arguments, tag)
		}
	})
}

// oneCommand takes out the line ends that would end the command: all but those within a literal that is not asked for, and before it.
func oneCommand(arguments string) string {
	var b strings.Builder
	for {
		line, rest, ok := strings.Cut(arguments, "\r\n")
		b.WriteString(strings.NewReplacer("\r", "", "\n", "").Replace(line))
		if !ok {
			return b.String()
		}
		arguments = rest
		m := unasked.FindStringSubmatch(b.String())
		if m == nil {
			continue
		}
		if n, err := strconv.Atoi(m[1]); err == nil && n <= len(rest) {
			b.WriteString("\r\n" + rest[:n])
			arguments = rest[n:]
		}
	}
}

var unasked = regexp.MustCompile(`\{([0-9]+)\+\}$`)

var literalEnd = regexp.MustCompile(`\{[0-9]+\+?\}$`)
