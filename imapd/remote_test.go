package imapd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailstead.dev/imapd/imapurl"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// Of two cells: an owner in east shares with a guest, whose home is in west.
const (
	ownerLogin = "user@east.test"
	ownersName = "Other Users/" + ownerLogin + "/"
)

// sharingCells are two cells, and the owner, who has shared Plans with the guest, Letters with all rights, and not Secret.
func sharingCells(t *testing.T, change func(*Options)) (west, east *cell, owner *client) {
	west, east = twoCells(t, change)
	if _, err := east.store.CreateGuest(t.Context(), guestLogin, guestHome); err != nil {
		t.Fatal(err)
	}
	home, err := west.store.LookupLogin(t.Context(), guestHome)
	if err != nil {
		t.Fatal(err)
	}
	if err := west.store.AddVisit(t.Context(), home.User, store.Visit{Cell: "east", Login: guestLogin}); err != nil {
		t.Fatal(err)
	}
	owner = dial(t, east.plain)
	enter(owner, ownerLogin)
	for _, name := range []string{"Plans", "Plans/2026", "Letters", "Secret"} {
		owner.want("CREATE "+name, "OK ")
		owner.want(appendText(name, "Subject: of "+name+"\r\n\r\nIt is of "+name+".\r\n"), "OK ")
	}
	for _, command := range []string{"SETACL Plans " + guestLogin + " lr", "SETACL Plans/2026 " + guestLogin + " lr", "SETACL Letters " + guestLogin + " lrswipkxtea"} {
		owner.want(command, "OK ")
	}
	return west, east, owner
}

// visitor logs in to the cell of the guest's home.
func (c *cell) visitor(t *testing.T) *client {
	t.Helper()
	conn := dial(t, c.plain)
	enter(conn, guestHome)
	return conn
}

// names returns the mailboxes of LIST or LSUB responses, as far as they are of other users.
func othersIn(lines []string) (names []string) {
	for _, line := range lines {
		if _, name, ok := strings.Cut(line, `"/" "`); ok && strings.HasPrefix(name, "Other Users") {
			names = append(names, strings.TrimSuffix(name, `"`))
		}
	}
	return names
}

// A client that knows of referrals finds the mailboxes by RLIST and RLSUB, and is told where each is, by each command that names one.
func TestMailboxReferral(t *testing.T) {
	west, east, owner := sharingCells(t, nil)
	owner.want("CREATE "+"\"B&-W &APw-\"", "OK ")
	owner.want("SETACL \"B&-W &APw-\" "+guestLogin+" lr", "OK ")
	c := west.visitor(t)
	if got := c.want("CAPABILITY", "OK "); !strings.Contains(got[0], " MAILBOX-REFERRALS") {
		t.Errorf("capabilities: %s", got)
	}
	there := dial(t, east.plain)
	there.expect("* OK ...")
	there.want("LOGIN "+guestLogin+" "+storetest.Password, "OK ")
	for _, command := range []string{`"" *`, `"" "Other Users/%"`, `"" "Other Users/%/%"`, `"Other Users/" "%"`, `"Other Users/` + ownerLogin + `/Plans" "/%"`, `"" "Other Users/*2026"`,
		`"" "Other Users/nobody@east.test/*"`, `"" "` + ownersName + `Secret"`, `"" "Other Users"`} {
		here, home := othersIn(c.want("RLIST "+command, "OK ")), othersIn(there.want("LIST "+command, "OK "))
		if !slices.Equal(here, home) {
			t.Errorf("RLIST %s tells %q at home, LIST %q there", command, here, home)
		}
	}
	there.want(`SUBSCRIBE "`+ownersName+`Plans/2026"`, "OK ")
	there.want(`SUBSCRIBE "`+ownersName+`Gone"`, "OK ")
	for _, command := range []string{`"" *`, `"" "Other Users/%/%"`} {
		here, home := othersIn(c.want("RLSUB "+command, "OK ")), othersIn(there.want("LSUB "+command, "OK "))
		if !slices.Equal(here, home) || len(here) != 2 {
			t.Errorf("RLSUB %s tells %q at home, LSUB %q there", command, here, home)
		}
	}
	if got := append(othersIn(c.want(`LIST "" *`, "OK ")), othersIn(c.want(`LSUB "" *`, "OK "))...); len(got) > 0 {
		t.Errorf("LIST and LSUB tell of %q", got)
	}
	if got := c.want(`LIST (REMOTE) "" "`+ownersName+`Letters"`, "OK "); len(got) != 1 || !strings.HasPrefix(got[0], `* LIST (\HasNoChildren \Remote) "/" `) {
		t.Errorf("LIST (REMOTE): %q", got)
	}

	const box = `"` + ownersName + `B&-W &APw-"`
	c.want(appendText("INBOX", "x"), "OK ")
	c.want("SELECT INBOX", "OK ")
	for _, command := range []string{"CREATE %s", "DELETE %s", "RENAME %s %[1]s", "SUBSCRIBE %s", "UNSUBSCRIBE %s", "STATUS %s (MESSAGES)", "GETACL %s", "SETACL %s anyone l", "DELETEACL %s anyone",
		"LISTRIGHTS %s anyone", "MYRIGHTS %s", "GETQUOTAROOT %s", "GETMETADATA %s /private/comment", `SETMETADATA %s (/private/comment "x")`, "ESEARCH IN (mailboxes %s) ALL",
		"APPEND %s {1+}\r\nx", "COPY 1 %s", "UID MOVE 1 %s", "REPLACE 1 %s {1+}\r\nx", "EXAMINE %s", "SELECT %s"} {
		command = fmt.Sprintf(command, box)
		_, answer := c.do(command)
		urls, rest, _ := strings.Cut(strings.TrimPrefix(answer, "NO [REFERRAL "), "] ")
		if rest != "The mailbox is on another server" {
			t.Errorf("%s is answered %s", command, answer)
			continue
		}
		for url := range strings.FieldsSeq(urls) {
			u, err := imapurl.Parse(url)
			if err != nil {
				t.Fatalf("%s: %v", url, err)
			}
			if u.User != guestLogin || u.Auth != imapurl.AnyAuth || fmt.Sprintf("%s:%d", u.Host, u.Port) != east.plain || u.Mailbox != ownersName+"B&W ü" {
				t.Errorf("%s refers to %s", command, url)
			}
		}
		if pairs := strings.HasPrefix(command, "RENAME"); pairs != strings.Contains(urls, " ") {
			t.Errorf("%s refers to %s", command, urls)
		}
	}
	follow(t, c, `SELECT "`+ownersName+`Plans/2026"`)
	c.want("FETCH 1 FLAGS", "BAD ") // SELECT that is referred selects nothing
	c.want(`RENAME INBOX `+box, "NO [CANNOT] These mailboxes are on different servers")
	c.want(`ESEARCH IN (mailboxes (INBOX `+box+`)) ALL`, "NO [CANNOT] ")
	c.want(`SELECT "Other Users/user@west.test/x"`, "NO [NONEXISTENT] ") // which is of this cell
	c.want(`SELECT "Other Users/x@nowhere.test/x"`, "NO [NONEXISTENT] ") // and this of none
	c.want("STATUS {17000+}\r\n"+ownersName+strings.Repeat("x", 17000-len(ownersName))+" (MESSAGES)", "NO [CANNOT] Mailbox name not allowed")
}

// follow does what a client does that is referred: it logs in there, with the password that it has, and reads.
func follow(t *testing.T, c *client, command string) {
	t.Helper()
	_, answer := c.do(command)
	url, _, _ := strings.Cut(strings.TrimPrefix(answer, "NO [REFERRAL "), "]")
	u, err := imapurl.Parse(url)
	if err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	nc, err := net.Dial("tcp", net.JoinHostPort(u.Host, fmt.Sprint(u.Port)))
	if err != nil {
		t.Fatal(err)
	}
	there := imapclient.New(nc, nil)
	defer there.Close()
	if err := there.Login(u.User, storetest.Password).Wait(); err != nil {
		t.Fatal(err)
	}
	if selected, err := there.Select(u.Mailbox, nil).Wait(); err != nil || selected.NumMessages != 1 {
		t.Fatalf("SELECT %s: %+v, %v", u.Mailbox, selected, err)
	}
	if got := bodyOf(t, there, 1); !strings.Contains(got, "It is of Plans/2026.") {
		t.Errorf("the message is %q", got)
	}
}

// bodyOf returns a message.
func bodyOf(t *testing.T, c *imapclient.Client, number uint32) string {
	t.Helper()
	messages, err := c.Fetch(imap.SeqSetNum(number), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
	if err != nil || len(messages) != 1 || len(messages[0].BodySection) != 1 {
		t.Fatalf("FETCH: %+v, %v", messages, err)
	}
	return string(messages[0].BodySection[0].Bytes)
}

// Where the other cell is away, what is at home is told, but not as if it were all.
func TestListOfCellAway(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	c := west.visitor(t)
	east.server.Close()
	for _, command := range []string{`RLIST "" *`, `RLSUB "" *`, `RLIST "" %`} {
		if got := c.want(command, "NO [UNAVAILABLE] Temporarily unavailable"); strings.HasPrefix(command, "RLIST") && !slices.Contains(got, `* LIST (\HasNoChildren) "/" "INBOX"`) {
			t.Errorf("%s tells %q", command, got)
		}
	}
	c.want(`RLIST "" INBOX`, "OK ")
	c.want(`RLIST "" IN%`, "OK ")
	c.want(`SELECT "`+ownersName+`Plans"`, "NO [REFERRAL ")
}

// Who has no visit sees nothing, and neither does a guest who is none any more.
func TestNoVisit(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	storetest.Account(t, west.store, "other@west.test")
	c := dial(t, west.plain)
	enter(c, "other@west.test")
	for _, command := range []string{`RLIST "" *`, `RLSUB "" *`} {
		if got := othersIn(c.want(command, "OK ")); len(got) > 0 {
			t.Errorf("%s tells of %q", command, got)
		}
	}
	c.want(`SELECT "`+ownersName+`Plans"`, "NO [NONEXISTENT] ")

	guest, err := east.store.LookupLogin(t.Context(), guestLogin)
	if err != nil {
		t.Fatal(err)
	}
	if err := east.store.DeleteAccount(t.Context(), guest.User); err != nil {
		t.Fatal(err)
	}
	c = west.visitor(t)
	if got := othersIn(c.want(`RLIST "" *`, "OK ")); len(got) > 0 {
		t.Errorf("a guest who is deleted sees %q", got)
	}
}

// taken returns what is handed on of what a cell sends, as a whole and by responses.
func taken(t *testing.T, text []byte, buffer int) (all []byte, responses [][]byte) {
	t.Helper()
	r := farResponses{br: bufio.NewReaderSize(bytes.NewReader(text), buffer)}
	ended := true
	for {
		p, err := r.next()
		if errors.Is(err, io.EOF) {
			if !ended {
				responses = responses[:len(responses)-1]
			}
			return all, responses
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.begins != ended {
			t.Fatalf("a part begins: %v, and what was before has ended: %v", p.begins, ended)
		}
		if p.begins {
			responses = append(responses, nil)
		}
		ended = p.ends
		all = append(all, p.octets...)
		responses[len(responses)-1] = append(responses[len(responses)-1], p.octets...)
	}
}

// What a cell sends is taken apart in the same way however it comes, and nothing of it is lost.
func FuzzFarResponses(f *testing.F) {
	for _, text := range []string{"* 1 FETCH (BODY[] {3}\r\nabc)\r\na OK done\r\n", "* OK text {5}\r\n* LIST () \"/\" {2+}\r\nxy\r\n", "* 1 FETCH (BINARY[] ~{0}\r\n)\r\n", "+ go {9}\r\n", "{99999999999999999999}\r\n", "* X {-1}\r\n\n",
		"* " + strings.Repeat("x", 40) + "{4}\n\r\n{1\n}\n"} {
		f.Add([]byte(text))
	}
	const short = 32 // are the tag and the kind of a response, which is told by them
	f.Fuzz(func(t *testing.T, text []byte) {
		for line := range bytes.Lines(text) {
			if words := bytes.SplitN(line, []byte(" "), 3); len(words[0]) > short || len(words) > 1 && len(words[1]) > short {
				return
			}
		}
		all, large := taken(t, text, 1<<16)
		rest := text[len(all):]
		if !bytes.HasPrefix(text, all) || bytes.IndexByte(rest, '\n') >= 0 {
			t.Fatalf("of %q is handed on %q", text, all)
		}
		if _, small := taken(t, text, 64); len(text) < 1<<16 && !slices.EqualFunc(small, large, bytes.Equal) {
			t.Errorf("%q is taken apart to %q and, in small parts, to %q", text, large, small)
		}
	})
}
