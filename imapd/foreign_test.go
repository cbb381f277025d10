package imapd

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// foreignNames are names, of every kind that there is, of what is another tenant's.
func foreignNames(ids []string) []string {
	return append([]string{
		"Secret", "Secret/*", "Other Users/ann@one.test/Secret", "Shared/Secret", // mailboxes
		"ann@one.test", "-ann@one.test", "group:staff", "one.test", // identifiers, as in ACLs and logins
		"account:ann@one.test", "domain:one.test", "tenant:one.test", // quota roots
		"/shared/comment", // an annotation
		"imap://localhost/Other%20Users/ann@one.test/Secret;UID=1", "1:*", secret,
	}, ids...)
}

var (
	objectID  = regexp.MustCompile(`\b[FMT][A-Za-z0-9_-]{10,}`)
	bigNumber = regexp.MustCompile(`\b1[0-9]{9}\b`) // UIDVALIDITY
	moment    = regexp.MustCompile(`[ 0-3][0-9]-[A-Z][a-z][a-z]-[0-9]{4} [0-9:]{8} [+-][0-9]{4}`)
)

// whatIsTold leaves out of a line what is drawn, or is of the clock.
func whatIsTold(line string) string {
	return moment.ReplaceAllString(bigNumber.ReplaceAllString(objectID.ReplaceAllString(line, "ID"), "N"), "DATE")
}

// Whatever stands in whichever place of whichever command, what a session is told
// is the same whether there is another tenant that has something of that name or not; and that tenant loses and gains nothing.
// The places are those of the command table (arguments), so that no new command is left out.
func TestForeignNamesInEveryCommand(t *testing.T) {
	with, without := storetest.New(t), storetest.New(t)
	connectWith, connectWithout := serveStore(t, with, nil), serveStore(t, without, nil)
	storetest.Account(t, with, "ann@one.test")
	ann := connectWith(t)
	enter(ann, "ann@one.test")
	ann.want("CREATE Secret/Deep", "OK ")
	ann.do("CREATE Secret") // it is there, as a parent
	for _, name := range []string{"INBOX", "Secret", "Secret/Deep"} {
		ann.want(appendText(name, "From: ann@one.test\r\nSubject: "+secret+"\r\n\r\n"+secret+"\r\n"), "OK ")
		ann.want("SUBSCRIBE "+name, "OK ")
		ann.want(fmt.Sprintf(`SETMETADATA %s (/private/comment "%s" /shared/comment "%[2]s")`, name, secret), "OK ")
	}
	ann.want("SELECT Secret", "OK ")
	ids := objectID.FindAllString(strings.Join(append(ann.want("STATUS Secret (MAILBOXID)", "OK "), ann.want("FETCH 1 (EMAILID THREADID)", "OK ")...), " "), -1)
	if len(ids) != 3 {
		t.Fatalf("ids are %q", ids)
	}
	ann.want("UNSELECT", "OK ")
	ann.want("ENABLE CONDSTORE", "OK ")
	before := possessions(ann)

	var sessions [2]*client
	for i, connect := range []func(testing.TB) *client{connectWith, connectWithout} {
		storetest.Account(t, []*store.Store{with, without}[i], "eve@two.test")
		sessions[i] = connect(t)
		enter(sessions[i], "eve@two.test")
		sessions[i].want(appendText("INBOX", "Subject: mine\r\n\r\nmine\r\n"), "OK ")
	}
	tried := 0
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		if commands[name].states == notAuthenticated {
			continue // TestLoginsOfOtherTenants
		}
		for _, p := range arguments[name] {
			if p.forms == "" {
				continue // there is no argument
			}
			for _, c := range sessions {
				c.want("SELECT INBOX", "OK ")
			}
			for _, foreign := range foreignNames(ids) {
				form := byte('s')
				if !strings.Contains(p.forms, "s") {
					form = 'b'
					if strings.ContainsAny(foreign, " ;") {
						continue // it is no atom, in any command
					}
				}
				p.value = foreign
				line, _ := p.in(form)
				tried++
				var told [2]string
				for i, c := range sessions {
					untagged, answer := c.do(line)
					told[i] = whatIsTold(strings.Join(append(untagged, answer), "\n"))
				}
				if told[0] != told[1] {
					t.Errorf("%q tells\n%s\nwhere another tenant has it, and\n%s\nwhere none has", line, told[0], told[1])
				}
			}
		}
	}
	if tried < 1000 {
		t.Errorf("only %d commands were tried", tried)
	}
	t.Logf("%d commands", tried)
	if after := possessions(ann); after != before {
		t.Errorf("Ann has\n%s\nand had\n%s", after, before)
	}
}

// Whatever is asked of a mailbox of another user's that may not be looked up, the answers are those where it is not there: also
// where it is above or below others that may be looked up, and where one has subscribed to it.
func TestHiddenNamesInEveryCommand(t *testing.T) {
	names := []string{"Lone", "Lone/x", "Above", "Above/Seen", "Below", "Below/Hidden", "Below/%", "A*"}
	var sessions [2]*client
	for i := range sessions {
		s := storetest.New(t)
		storetest.Account(t, s, "ann@one.test")
		storetest.Account(t, s, "bob@one.test")
		connect := serveStore(t, s, nil)
		ann := connect(t)
		enter(ann, "ann@one.test")
		ann.wantAll([]string{"CREATE Above", "CREATE Above/Seen", "CREATE Below", "SETACL Above/Seen bob@one.test lr", "SETACL Below bob@one.test lrswite"}, "OK ")
		if i == 0 {
			ann.wantAll([]string{"CREATE Lone", "CREATE Below/Hidden", "DELETEACL Below/Hidden bob@one.test",
				appendText("Lone", "Subject: x\r\n\r\n"), `SETMETADATA Lone (/shared/comment "x")`}, "OK ")
		} else {
			ann.want("DELETE Above", "OK ")
		}
		sessions[i] = connect(t)
		enter(sessions[i], "bob@one.test")
		sessions[i].wantAll([]string{appendText("INBOX", "Subject: mine\r\n\r\n"), `SUBSCRIBE "Other Users/ann@one.test/Above"`}, "OK ")
	}
	tried := 0
	within := []place{{`RENAME %s "Other Users/ann@one.test/else"`, "nowhere", astring}, {`RENAME "Other Users/ann@one.test/Below" %s`, "else", astring}}
	for _, command := range slices.Sorted(maps.Keys(commands)) {
		places := arguments[command]
		if command == "RENAME" {
			places = slices.Concat(places, within)
		}
		for _, p := range places {
			if !strings.Contains(p.forms, "s") || !slices.Contains([]string{"INBOX", "INBOX%*", "nowhere", "else", "made/"}, p.value) {
				continue // no name of a mailbox
			}
			for _, name := range names {
				p.value = "Other Users/ann@one.test/" + name
				line, _ := p.in('s')
				tried++
				var told [2]string
				for i, c := range sessions {
					c.want("SELECT INBOX", "OK ")
					untagged, answer := c.do(line)
					told[i] = whatIsTold(strings.Join(append(untagged, answer), "\n"))
				}
				if told[0] != told[1] {
					t.Errorf("%q tells\n%s\nwhere there is what is hidden, and\n%s\nwhere there is not", line, told[0], told[1])
				}
			}
		}
	}
	if tried < 200 {
		t.Errorf("only %d commands were tried", tried)
	}
}
