package imapd

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/store/storetest"
)

// words are arguments that are right for some command, in some place.
var words = []string{
	"INBOX", "inbox", `""`, "a", "a/b", "A/b/c", `"x y"`, "&AOQ-", "{1+}\r\na", "Sent", "Junk/x", "a/", "/", "*", "%", "a*", `("a" "%")`, `(a)`,
	"1", "2", "1:*", "*", "$", "1,3", "4294967295", "7:9", "0", "-1:-2", "1:2", "UID 1",
	"()", `(\Seen)`, `(\Deleted a)`, `(\Recent)`, "a", "FLAGS", "+FLAGS", "-FLAGS.SILENT", "FLAGS.SILENT", "(UNCHANGEDSINCE 0)", "(UNCHANGEDSINCE 9)",
	"(MESSAGES RECENT HIGHESTMODSEQ)", "(UNSEEN DELETED SIZE MAILBOXID APPENDLIMIT)", "RETURN", "(STATUS (RECENT))", "(SUBSCRIBED CHILDREN)", "(SUBSCRIBED RECURSIVEMATCH)",
	"(MIN MAX COUNT)", "(SAVE ALL)", "(SAVE)", "(PARTIAL 1:2 MODSEQ)", "(PARTIAL -1:-3)", "ALL", "NOT", "OR", "UNSEEN", "DELETED", "KEYWORD", "MODSEQ", "LARGER", "SUBJECT", "TEXT", "HEADER",
	"BEFORE", "1-Jan-2030", "OLDER", "CHARSET", "UTF-8", "EMAILID", "M1", "(SEEN)",
	"FULL", "(FLAGS)", "BODY[]", "(BODY.PEEK[1.2]<3.4>)", "(ENVELOPE BODYSTRUCTURE PREVIEW (LAZY))", "(BINARY[1] BINARY.SIZE[2])", "RFC822.SIZE", "(EMAILID THREADID SAVEDATE MODSEQ)",
	"(CHANGEDSINCE 1)", "(CHANGEDSINCE 1 VANISHED)", "(PARTIAL 1:2)", "(PARTIAL -1:-1 CHANGEDSINCE 3)", "(CONDSTORE)", "(QRESYNC (1 1))", "(QRESYNC (1 1 1:3 (1 1)))",
	"/private/comment", "/shared/comment", "(/private /shared)", "(DEPTH infinity)", "(DEPTH 1 MAXSIZE 1)", `(/private/comment "x")`, "(/shared/comment NIL)", `(/private/specialuse "\\Junk")`, "(/private/comment ~{1+}\r\n\x00)",
	"{12+}\r\nSubject: x\r\n", "~{3+}\r\na\x00b", "(~{1+}\r\nx)", "UTF8", `" 1-Jan-2020 00:00:00 +0000"`, `(USE (\Junk))`, `(USE (\Sent \Trash))`, "(USE ())",
	"MAILBOXES", "ALL.MAILBOXES", "MAILBOX", "RFC822", "CONDSTORE", "QRESYNC", "UIDONLY", "UTF8=ACCEPT", "IMAP4rev2", "NIL",
}

// Whatever words clients put behind a command, it is answered and never by a fault of ours.
func TestRandomCommands(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@random.test")
	connect := serveStore(t, s, nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var names []string
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		switch name {
		case "LOGOUT", "UNAUTHENTICATE", "COMPRESS", "IDLE", "LOGIN", "AUTHENTICATE", "STARTTLS":
		default:
			names = append(names, name)
		}
	}
	clients := make([]*client, 4)
	for i := range clients {
		clients[i] = connect(t)
		enter(clients[i], "a@random.test")
	}
	for range 3000 {
		i := r.IntN(len(clients))
		c := clients[i]
		name := names[r.IntN(len(names))]
		var command strings.Builder
		command.WriteString(name)
		args := strings.Fields(strings.ReplaceAll(rightArguments[name], "{1+}\r\nx", "{1+}_x"))
		for _, arg := range args {
			if r.IntN(3) == 0 {
				arg = words[r.IntN(len(words))]
			}
			command.WriteString(" " + strings.ReplaceAll(arg, "_", "\r\n"))
		}
		for r.IntN(3) == 0 {
			command.WriteString(" " + words[r.IntN(len(words))])
		}
		c.send("t " + command.String())
		for {
			line := c.line()
			if strings.HasPrefix(line, "* BYE The selected mailbox was deleted") || strings.HasPrefix(line, "* BYE Too many wrong") {
				clients[i] = connect(t)
				enter(clients[i], "a@random.test")
				break
			}
			if rest, ok := strings.CutPrefix(line, "t "); ok {
				if strings.Contains(rest, "SERVERBUG") || strings.Contains(rest, "CORRUPTION") || strings.Contains(rest, "UNAVAILABLE") {
					t.Errorf("%q is answered %q", command.String(), rest)
				}
				break
			}
			if strings.HasPrefix(line, "* BYE") {
				t.Fatalf("%q: %s", command.String(), line)
			}
		}
	}
}
