package imapd

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"mailstead.dev/auth"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// staged puts another cell in the place of the one that is known by a name, of which every connection says what the script answers to each line, once
// it has let everybody in; nothing where that is "". It tells how many connections there have been.
func staged(t *testing.T, at, other *cell, script func(line string) string) (connections func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	accepted := make(chan struct{}, 100)
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- struct{}{}
			go act(tls.Server(nc, other.server.o.TLS), script)
		}
	}()
	to := at.server.o.Cells[other.name]
	to.Address = l.Addr().String()
	at.server.o.Cells[other.name] = to
	return func() int { return len(accepted) }
}

// hangUp, at the end of what a script says, ends the connection.
const hangUp = "\x00"

// act ends with the connection, whose other end says what is wrong.
func act(nc net.Conn, script func(line string) string) {
	defer nc.Close()
	if _, err := nc.Write([]byte("* OK ready\r\n")); err != nil {
		return
	}
	for lines := bufio.NewScanner(nc); lines.Scan(); {
		answer := script(lines.Text())
		if answer == "" && strings.HasPrefix(lines.Text(), "a AUTHENTICATE ") {
			answer = "a OK in\r\n"
		}
		answer, last := strings.CutSuffix(answer, hangUp)
		if _, err := nc.Write([]byte(answer)); err != nil || last {
			return
		}
	}
}

// lists is a script of a cell that has these mailboxes of the owner's, and answers a line with what otherwise says.
func lists(names []string, otherwise func(line string) string) func(line string) string {
	return func(line string) string {
		tag, command, _ := strings.Cut(line, " ")
		var all strings.Builder
		switch {
		case strings.HasPrefix(command, "LIST (SUBSCRIBED)"):
		case strings.HasPrefix(command, "LIST "):
			for _, name := range names {
				all.WriteString(`* LIST () "/" "` + ownersName + name + "\"\r\n* MYRIGHTS \"" + ownersName + name + "\" lr\r\n")
			}
		default:
			return otherwise(line)
		}
		return all.String() + tag + " OK listed\r\n"
	}
}

// What is not known of a mailbox of another cell is not told as that it were gone.
func TestFarStatusIsUnknown(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	answers := map[string]string{
		"Here": "* STATUS %s (MESSAGES 1)\r\na OK done", "Gone": "a NO [NONEXISTENT] gone", "Closed": "a NO [NOPERM] closed", "Busy": "a NO [UNAVAILABLE] later",
	}
	var names []string
	script := func(line string) string {
		for name, answer := range answers {
			if quoted := `"` + ownersName + name + `"`; strings.HasPrefix(line, "a STATUS "+quoted) {
				return strings.ReplaceAll(answer, "%s", quoted) + "\r\n"
			}
		}
		return ""
	}
	staged(t, west, east, func(line string) string { return lists(names, script)(line) })
	c := west.visitor(t)
	list := func(want string) string {
		t.Helper()
		return strings.Join(c.want(`LIST "" * RETURN (STATUS (MESSAGES))`, want), "\n") + "\n"
	}
	told := func(attributes, name string) string {
		return `* LIST (` + attributes + `) "/" "` + ownersName + name + "\"\n"
	}
	names = []string{"Closed", "Gone", "Here"}
	all := list("OK ")
	for _, want := range []string{told(`\HasNoChildren`, "Closed"), told(`\NonExistent \HasNoChildren`, "Gone"), told(`\HasNoChildren`, "Here") + `* STATUS "` + ownersName + `Here" (MESSAGES 1)`} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not told: %s", want, all)
		}
	}
	names = []string{"Busy", "Here"}
	all = list("NO [UNAVAILABLE] ")
	for _, want := range []string{told(`\HasNoChildren`, "Busy"), `* STATUS "` + ownersName + `Here" (MESSAGES 1)`, `"/" "INBOX"`} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not told: %s", want, all)
		}
	}
	answers["Busy"] = "* BYE away" // it goes away between the two
	if all = list("NO [UNAVAILABLE] "); !strings.Contains(all, told(`\HasNoChildren`, "Busy")) || !strings.Contains(all, `"/" "INBOX"`) {
		t.Errorf("where it goes away is told %s", all)
	}
}

// A cell that does not believe this one has not said that nothing is shared there.
func TestVisitIsNotBelieved(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	var answer string
	staged(t, west, east, func(string) string { return answer + "\r\n" })
	for _, answer = range []string{"a NO [AUTHENTICATIONFAILED] Wrong login or password", "a NO [CANNOT] Introduced by no cell that is believed here", "a NO [LIMIT] Too many"} {
		c := west.visitor(t)
		c.want(`LIST "" *`, "NO [UNAVAILABLE] ")
		c.want(`SELECT "`+ownersName+`Plans"`, "NO [UNAVAILABLE] ")
	}
}

// What an APPEND sends to here is not kept as it comes, however many lines it has.
func TestAppendHereIsNotKept(t *testing.T) {
	west, _, _ := sharingCells(t, nil)
	c := west.visitor(t)
	inUse := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const messages, line = 200, 60 << 10
	flags := []byte(" (" + strings.Repeat(`\Seen `, line/6) + "\\Seen) {1+}\r\nx")
	before := inUse()
	c.send("a APPEND INBOX {1+}")
	c.nc.Write([]byte("x"))
	for range messages {
		if _, err := c.nc.Write(flags); err != nil {
			t.Fatal(err)
		}
	}
	c.send(" {1}")
	c.expect("+ ...")
	if after := inUse(); after > before+messages*line/2 {
		t.Errorf("%d octets are kept of %d", after-before, messages*len(flags))
	}
	c.send("x")
	c.expect("a OK [APPENDUID ...")
}

// A connection that has rested, and has been ended meanwhile, is not what a command is sent by.
func TestRestedConnectionHasEnded(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	script := lists(nil, func(line string) string {
		tag, command, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(command, "SUBSCRIBE"):
			return tag + " OK subscribed\r\n* BYE going away\r\n" // in one record
		case strings.HasPrefix(command, "CREATE"):
			return tag + " OK created\r\n"
		}
		return ""
	})
	connections := staged(t, west, east, script)
	c := west.visitor(t)
	c.want(`SUBSCRIBE "`+ownersName+`x"`, "OK ")
	for _, name := range []string{"y", "z"} {
		c.want(`CREATE "`+ownersName+name+`"`, "OK ")
	}
	if got := connections(); got != 2 {
		t.Errorf("there have been %d connections, want 2", got)
	}
}

// A cell that is silent holds up LIST no longer than it may take for an answer, and the next LIST not at all.
func TestSilentCell(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	west.server.elsewhere = 200 * time.Millisecond
	connections := staged(t, west, east, func(string) string { return "" })
	c := west.visitor(t)
	began := time.Now()
	for range 2 {
		if got := c.want(`LIST "" *`, "NO [UNAVAILABLE] "); !slices.Contains(got, `* LIST (\HasNoChildren) "/" "INBOX"`) {
			t.Errorf("at home is listed %q", got)
		}
	}
	if took := time.Since(began); took > 10*time.Second || connections() != 1 {
		t.Errorf("it took %v, and %d connections", took, connections())
	}
}

// Nor does it hold up DONE, though it may be silent for long before.
func TestSilentCellAfterDone(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	west.server.elsewhere = 200 * time.Millisecond
	staged(t, west, east, func(line string) string {
		tag, command, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(command, "SELECT"):
			return tag + " OK selected\r\n"
		case strings.HasPrefix(command, "IDLE"):
			return "+ idling\r\n"
		}
		return ""
	})
	c := west.visitor(t)
	c.want(`SELECT "`+ownersName+`Plans"`, "OK ")
	c.send("i IDLE")
	c.expect("+ ...")
	c.send("DONE")
	c.expect("* BYE [UNAVAILABLE] The connection to the server of the selected mailbox is lost")
	c.expectClosed()
}

// CONDSTORE is enabled by the commands that enable it, also where another cell answers them, and by no word that stands in one.
func TestRemoteCondstore(t *testing.T) {
	west, _, owner := sharingCells(t, nil)
	const plans = `"` + ownersName + `Plans"`
	owner.want("CREATE Plans/Condstore", "OK ")
	owner.want("SETACL Plans/Condstore "+guestLogin+" lr", "OK ")
	c := west.visitor(t)
	c.want(appendText("INBOX", "x"), "OK ")
	told := func() string {
		t.Helper()
		c.want("SELECT INBOX", "OK ")
		return strings.Join(c.want("STORE 1 +FLAGS (x)", "OK "), "\n")
	}
	c.want(`STATUS "`+ownersName+`Plans/Condstore" (MESSAGES)`, "OK ")
	c.want("SELECT "+plans, "OK ")
	c.want(`SEARCH BODY "modseq changedsince"`, "OK ")
	c.want(`SELECT "`+ownersName+`None" (CONDSTORE)`, "NO ")
	if got := told(); strings.Contains(got, "MODSEQ") {
		t.Errorf("without CONDSTORE is told %s", got)
	}
	if got := c.want("STATUS "+plans+" (HIGHESTMODSEQ)", "OK "); len(got) != 2 || !matches(got[1], "* OK [HIGHESTMODSEQ ...") {
		t.Errorf("STATUS tells %q", got)
	}
	if got := told(); !strings.Contains(got, "MODSEQ") {
		t.Errorf("with CONDSTORE is told %s", got)
	}
	for _, command := range []string{"FETCH 1 MODSEQ", "SEARCH MODSEQ 1", "STORE 1 (UNCHANGEDSINCE 1) FLAGS ()"} {
		c := west.visitor(t)
		c.want(`SELECT "`+ownersName+`Letters"`, "OK ")
		c.want(command, "OK ")
		c.want("SELECT INBOX", "OK ")
		if got := strings.Join(c.want("STORE 1 +FLAGS (x)", "OK "), "\n"); !strings.Contains(got, "MODSEQ") {
			t.Errorf("after %s is told %s", command, got)
		}
	}
}

// A search of what may be in other cells as well does not leave that out.
func TestRemoteSearchIsRefused(t *testing.T) {
	west, _, _ := sharingCells(t, nil)
	c := west.visitor(t)
	for _, in := range []string{"subscribed", `subtree "Other Users"`, `subtree-one ("Other Users" INBOX)`, `mailboxes "` + ownersName + `Plans" subscribed`} {
		c.want("ESEARCH IN ("+in+") ALL", "NO [CANNOT] These mailboxes are on different servers")
	}
	c.want(`ESEARCH IN (subtree "Other Users/`+ownerLogin+`") ALL`, "OK ")
	c.want("ESEARCH IN (personal) ALL", "OK ")
	c.want(`RLIST "" INBOX`, "OK ")
	c.want("ESEARCH IN (subscribed) ALL", "OK ") // of which LSUB tells nothing more either
}

// A literal that the client has waited with can be as long in another cell as here.
func TestRemoteLiteralMinus(t *testing.T) {
	west, east, _ := sharingCells(t, func(o *Options) { o.LiteralMinus = true })
	c := west.visitor(t)
	c.want(`SELECT "`+ownersName+`Plans"`, "OK ")
	c.want("SEARCH SUBJECT {5000}\r\n"+strings.Repeat("x", 5000), "OK ")
	c.want("SEARCH SUBJECT {5000+}\r\n"+strings.Repeat("x", 5000), "BAD ")
	c = dial(t, east.plain)
	enter(c, ownerLogin)
	c.want("SELECT Plans", "OK ")
	c.want("SEARCH SUBJECT {5000+}\r\n"+strings.Repeat("x", 5000), "BAD ")
}

// Who visits the other cell no more does not go on to hear what happens there, however much that is.
func TestRemoteVisitEndsInIdle(t *testing.T) {
	west, _, owner := sharingCells(t, nil)
	const often = 2 * time.Second
	west.server.visitsTime = often
	c := west.visitor(t)
	c.want(`SELECT "`+ownersName+`Plans"`, "OK ")
	c.send("i IDLE")
	c.expect("+ ...")
	time.Sleep(often + often/2) // it has been looked at once
	home := mustAccount(t, west.store, guestHome)
	if err := west.store.RemoveVisit(t.Context(), home, "east"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan string)
	go func() {
		line := ""
		for lines := bufio.NewScanner(c.nc); lines.Scan(); {
			line = lines.Text()
		}
		ended <- line
	}()
	for began := time.Now(); time.Since(began) < often; {
		owner.want(appendText("Plans", "Subject: more\r\n\r\n"), "OK ")
		select {
		case line := <-ended:
			if !strings.HasPrefix(line, "* BYE The selected mailbox ") {
				t.Errorf("it ends with %q", line)
			}
			return
		default:
		}
	}
	t.Error("it goes on")
}

// Who comes by another cell's front end visits a cell from where they are, and not from there.
func TestRemoteAddress(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	said := make(chan string, 1)
	staged(t, west, east, func(line string) string {
		if _, token, ok := strings.Cut(line, " AUTHENTICATE "+auth.CellMechanism+" "); ok {
			text, _ := base64.StdEncoding.DecodeString(token) // else it says nothing of what is wanted
			said <- string(text)
		}
		return ""
	})
	frontEnd := auth.New(east.store, auth.Options{Cells: auth.Cells{Name: "east", Secret: "what only cells know", Others: []string{"west"}}})
	c := west.connect(t)
	c.want(cellCommand(frontEnd.Introduce(&auth.ElsewhereError{
		Cell: "west", Mechanism: "PLAIN", Response: []byte("\x00" + guestHome + "\x00" + storetest.Password),
	}, netip.MustParseAddr("192.0.2.7"))), "OK ")
	west.server.elsewhere = 100 * time.Millisecond
	c.want(`LIST "" *`, "NO [UNAVAILABLE] ")
	if got := <-said; !strings.Contains(got, " 192.0.2.7 ") {
		t.Errorf("it is introduced by %q", got)
	}
}

// Nothing is kept of a connection that has rested for long.
func TestRemoteConnectionExpires(t *testing.T) {
	ours, theirs := net.Pipe()
	r := &remotes{server: &Server{visiting: newBudget(minVisiting)}, conns: make(map[string]*remoteConn), rest: 10 * time.Millisecond}
	c := &remoteConn{among: r, visit: store.Visit{Cell: "east"}, up: &upstream{nc: tls.Client(ours, &tls.Config{})}}
	r.server.visiting.take(r.holder, 1)
	r.add(c)
	c.rest()
	if n, err := theirs.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d octets, %v", n, err)
	}
	await(t, func() bool { return r.connection("east") == nil })
	if c.wake() {
		t.Error("it is used again")
	}
	c.leave()
	if n := r.server.visiting.taken(); n != 0 {
		t.Errorf("%d are counted", n)
	}
	if c.rest(); c.expiry != nil {
		t.Error("it is kept when it has been left")
	}
}
