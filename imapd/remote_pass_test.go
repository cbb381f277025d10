package imapd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailstead.dev/store/storetest"
)

// A client that knows of no referrals sees the mailboxes of the other cell among its own, and does there what the guest may.
func TestMailboxPassedOn(t *testing.T) {
	west, _, owner := sharingCells(t, nil)
	told := make(chan uint32, 10)
	c := imapclient.New(dial(t, west.plain).nc, &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(data *imapclient.UnilateralDataMailbox) {
			if data.NumMessages != nil {
				told <- *data.NumMessages
			}
		},
	}})
	defer c.Close()
	if err := c.Login(guestHome, storetest.Password).Wait(); err != nil {
		t.Fatal(err)
	}
	listed, err := c.List("", "*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true}}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range listed {
		if strings.HasPrefix(l.Mailbox, "Other Users") {
			names = append(names, l.Mailbox)
			if readable := strings.HasPrefix(l.Mailbox, ownersName); readable != (l.Status != nil && *l.Status.NumMessages == 1) {
				t.Errorf("of %s is listed %+v", l.Mailbox, l.Status)
			}
		}
	}
	if want := []string{"Other Users", "Other Users/" + ownerLogin, ownersName + "Letters", ownersName + "Plans", ownersName + "Plans/2026"}; !slices.Equal(names, want) {
		t.Errorf("listed are %q, want %q", names, want)
	}
	status, err := c.Status(ownersName+"Plans", &imap.StatusOptions{NumMessages: true}).Wait()
	if err != nil || *status.NumMessages != 1 {
		t.Errorf("STATUS: %+v, %v", status, err)
	}
	if s, err := c.Select(ownersName+"Letters", nil).Wait(); err != nil || s.NumMessages != 1 {
		t.Fatalf("SELECT: %+v, %v", s, err)
	}
	if got := bodyOf(t, c, 1); !strings.Contains(got, "It is of Letters.") {
		t.Errorf("the message is %q", got)
	}
	stored, err := c.Store(imap.SeqSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}}, nil).Collect()
	if err != nil || len(stored) != 1 || !slices.Contains(stored[0].Flags, imap.FlagFlagged) {
		t.Errorf("STORE: %+v, %v", stored, err)
	}
	large := "Subject: large\r\n\r\n" + noise(1<<20) + "\r\n"
	if uid := appendMail(t, c, ownersName+"Letters", []byte(large), nil); uid != 2 {
		t.Errorf("APPEND: UID %d", uid)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "large"}}}, nil).Wait()
	if err != nil || !slices.Equal(found.AllUIDs(), []imap.UID{2}) {
		t.Errorf("SEARCH: %+v, %v", found, err)
	}
	if got := bodyOf(t, c, 2); got != large {
		t.Errorf("the large message comes back as %d octets, want %d", len(got), len(large))
	}
	for len(told) > 0 {
		<-told
	}
	idle, err := c.Idle()
	if err != nil {
		t.Fatal(err)
	}
	owner.want(appendText("Letters", "Subject: third\r\n\r\n"), "OK ")
	select {
	case n := <-told:
		if n != 3 {
			t.Errorf("IDLE tells of %d messages", n)
		}
	case <-time.After(20 * time.Second):
		t.Error("IDLE tells nothing")
	}
	if err := idle.Close(); err != nil {
		t.Fatal(err)
	}
	if err := idle.Wait(); err != nil {
		t.Error(err)
	}
	if copied, err := c.Copy(imap.UIDSetNum(3), ownersName+"Letters").Wait(); err != nil || !slices.Equal(copied.DestUIDs, imap.UIDSetNum(4)) {
		t.Errorf("COPY: %+v, %v", copied, err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Error(err)
	}
	if err := c.Logout().Wait(); err != nil {
		t.Error(err)
	}
}

// What is selected in the other cell answers the commands of the selected state, and all else is answered at home.
func TestSelectedElsewhere(t *testing.T) {
	west, east, owner := sharingCells(t, nil)
	c := west.visitor(t)
	const letters, plans = `"` + ownersName + `Letters"`, `"` + ownersName + `Plans"`
	c.want(appendText("INBOX", "Subject: home\r\n\r\n"), "OK ")
	c.want("SELECT INBOX", "OK ")
	wantLine := func(lines []string, want string) {
		t.Helper()
		if !slices.ContainsFunc(lines, func(line string) bool { return matches(line, want) }) {
			t.Errorf("%q is not in %q", want, lines)
		}
	}
	wantLine(c.want("SELECT "+plans, "OK [READ-ONLY] "), "* OK [CLOSED] ...")
	c.want("STORE 1 +FLAGS (\\Flagged)", "NO ")
	wantLine(c.want("SELECT "+letters, "OK [READ-WRITE] "), "* OK [CLOSED] ...")
	wantLine(c.want("STATUS INBOX (MESSAGES)", "OK "), `* STATUS "INBOX" (MESSAGES 1)`)
	wantLine(c.want("STATUS "+plans+" (MESSAGES)", "OK "), "* STATUS "+plans+" (MESSAGES 1)")
	owner.want(appendText("Letters", "Subject: news\r\n\r\n"), "OK ")
	wantLine(c.want("NOOP", "OK "), "* 2 EXISTS")
	wantLine(c.want("SEARCH SUBJECT {4}\r\nnews", "OK "), "* SEARCH 2")
	wantLine(c.want("ESEARCH ALL", "OK "), `* ESEARCH (TAG "do.it" MAILBOX `+letters+` ...`)
	wantLine(c.want("UID FETCH 1:* (FLAGS)", "OK "), "* 2 FETCH ...")
	wantLine(c.want("ENABLE CONDSTORE UTF8=ACCEPT", "OK "), "* ENABLED CONDSTORE UTF8=ACCEPT")
	wantLine(c.want("FETCH 1 (FLAGS)", "OK "), "* 1 FETCH (FLAGS ...")
	if got := c.want("STORE 1 +FLAGS (x)", "OK "); !strings.Contains(strings.Join(got, " "), "MODSEQ") {
		t.Errorf("with CONDSTORE a STORE tells %q", got)
	}
	c.want("CREATE "+`"`+ownersName+`Letters/ü"`, "OK ")
	if got := othersIn(c.want(`LIST "" "`+ownersName+`Letters/*"`, "OK ")); !slices.Equal(got, []string{ownersName + "Letters/ü"}) {
		t.Errorf("in UTF-8 is listed %q", got)
	}
	c.want(`RENAME "`+ownersName+`Letters/ü" "`+ownersName+`Letters/u"`, "OK ")
	c.want(`SUBSCRIBE "`+ownersName+`Letters/u"`, "OK ")
	if got := othersIn(c.want(`LSUB "" *`, "OK ")); !slices.Equal(got, []string{ownersName + "Letters/u"}) {
		t.Errorf("subscribed are %q", got)
	}
	wantLine(c.want("MYRIGHTS "+letters, "OK "), "* MYRIGHTS "+letters+" lrswipkxte...")
	wantLine(c.want("GETQUOTAROOT "+letters, "OK "), "* QUOTAROOT ...")
	c.want(`SETMETADATA `+letters+` (/private/comment {5}`+"\r\nhello)", "OK ")
	wantLine(c.want("GETMETADATA "+letters+" /private/comment", "OK "), `* METADATA `+letters+` (/private/comment "hello")`)
	c.want("SELECT "+`"`+ownersName+`Letters/u"`, "OK ")
	wantLine(c.want("DELETE "+`"`+ownersName+`Letters/u"`, "OK "), "* OK [CLOSED] ...")
	c.want("CHECK", "BAD ")
	c.want("SELECT "+letters, "OK [READ-WRITE] ")
	wantLine(c.want("REPLACE 2 "+letters+" {17+}\r\nSubject: again\r\n\r", "OK "), "* 2 EXPUNGE")
	c.want("MOVE 1 "+plans, "NO [NOPERM] ")
	c.want("MOVE 1 INBOX", "NO [CANNOT] These mailboxes are on different servers")
	c.want("RENAME "+letters+" Mine", "NO [CANNOT] ")
	c.want("APPEND "+plans+" {1000}\r\n"+strings.Repeat("x", 1000), "NO [NOPERM] ") // which the literal is not asked for
	c.want("APPEND "+letters+" {1+}\r\nx {1+}\r\ny", "OK [APPENDUID ")
	c.want("APPEND "+letters+" {1+}\r\nx junk", "BAD ")
	c.want("APPEND "+letters+" (", "BAD ")
	wantLine(c.want("STATUS "+letters+" (MESSAGES)", "OK "), "* STATUS "+letters+" (MESSAGES 4)")
	c.want("APPEND INBOX {1+}\r\nx", "OK [APPENDUID ")
	c.want("STATUS "+letters+" (MESSAGES) x", "BAD ")
	c.want("x", "BAD ")
	c.want("LOGIN a b", "BAD ")
	c.send("i IDLE")
	c.expect("+ ...")
	c.send("NONE")
	c.expect("i BAD [CLIENTBUG] Expected DONE")
	c.send("p NOOP\r\nq STATUS INBOX (MESSAGES)\r\nr FETCH 1 UID\r\ns LIST \"\" INBOX") // which come together
	for _, want := range []string{"p OK ...", `* STATUS "INBOX" (MESSAGES 2)`, "q OK ...", "* 1 FETCH (UID 1)", "r OK ...", `* LIST ...`, "s OK ..."} {
		c.expect(want)
	}
	c.want("CLOSE", "OK ")
	c.want("FETCH 1 FLAGS", "BAD ")
	wantLine(c.want("EXAMINE "+letters, "OK [READ-ONLY] "), "* 4 EXISTS")
	wantLine(c.want("SELECT INBOX", "OK [READ-WRITE] "), "* OK [CLOSED] ...")
	wantLine(c.want("FETCH 1 BODY.PEEK[HEADER.FIELDS (Subject)]", "OK "), "Subject: home")
	c.want("MOVE 1 "+letters, "NO [CANNOT] ")
	c.want("SELECT "+`"`+ownersName+`Secret"`, "NO [NONEXISTENT] ")
	c.want("FETCH 1 FLAGS", "BAD ")
	c.send(strings.Repeat("t", maxTag+1) + " SELECT " + letters)
	c.expect(strings.Repeat("t", maxTag+1) + " NO [LIMIT] The tag is too long to be passed on")

	c.want("SELECT "+letters, "OK ")
	for _, at := range connectionsOf(east.server) {
		at.close()
	}
	c.send("a NOOP")
	c.expect("* BYE [UNAVAILABLE] The connection to the server of the selected mailbox is lost")
	c.expectClosed()
	await(t, func() bool { all, _ := west.server.Connections(); return all == 0 })
}

// A cell that goes away takes only what is selected there along, and one that comes back is there again.
func TestSelectedCellAway(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	const letters = `"` + ownersName + `Letters"`
	c, idle := west.visitor(t), west.visitor(t)
	c.want("STATUS "+letters+" (MESSAGES)", "OK ")
	idle.want("SELECT "+letters, "OK ")
	idle.send("i IDLE")
	idle.expect("+ ...")
	for _, at := range connectionsOf(east.server) {
		at.close()
	}
	idle.expect("* BYE [UNAVAILABLE] The connection to the server of the selected mailbox is lost")
	idle.expectClosed()
	c.want(`CREATE "`+ownersName+`Letters/new"`, "OK ") // by another connection
	c.want("LIST \"\" *", "OK ")

	// What is not shared any more goes as it does at home.
	owner := dial(t, east.plain)
	enter(owner, ownerLogin)
	c.want("SELECT "+letters, "OK ")
	owner.want("DELETEACL Letters "+guestLogin, "OK ")
	c.send("n NOOP")
	c.expect("* BYE [UNAVAILABLE] ...")
	c.expectClosed()

	// The front end that goes says so, between two responses.
	const plans = `"` + ownersName + `Plans"`
	c, last := west.visitor(t), west.visitor(t)
	c.want("SELECT "+plans, "OK ")
	last.want("SELECT "+plans, "OK ")
	last.send("i IDLE")
	last.expect("+ ...")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := west.server.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	c.expect("* BYE [UNAVAILABLE] Server is shutting down")
	last.expect("* BYE [UNAVAILABLE] Server is shutting down")
	await(t, func() bool { all, _ := east.server.Connections(); return all == 1 }) // the owner's
}

// Names that would be something else in a command are what they are in the other cell: there are the mailboxes that there would be if their owner had made them.
func TestHostileNamesPassedOn(t *testing.T) {
	west, _, owner := sharingCells(t, nil)
	c := west.visitor(t)
	made := 0
	for _, name := range []string{"x\r\na LOGOUT", `x" "y`, `x\`, "x {5+}", "{5+}", "x\x00", "ü", "&", "x%y*", "(x)", "x]"} {
		create := func(c *client, before string) bool {
			t.Helper()
			name := before + name
			_, answer := c.do(fmt.Sprintf("CREATE {%d+}\r\n%s", len(name), name))
			c.want("NOOP", "OK ")
			return strings.HasPrefix(answer, "OK ")
		}
		passed, owned := create(c, ownersName+"Letters/p"), create(owner, "Letters/o")
		if passed != owned {
			t.Errorf("%q is created: %v, and by the owner: %v", name, passed, owned)
		}
		name = ownersName + "Letters/p" + name
		if _, got := c.do(fmt.Sprintf("STATUS {%d+}\r\n%s (MESSAGES)", len(name), name)); passed != strings.HasPrefix(got, "OK ") {
			t.Errorf("%q is created: %v, and then %q", name, passed, got)
		}
		if passed {
			made++
		}
	}
	all := func(c *client, before string) string {
		return strings.ReplaceAll(strings.Join(c.want(`LIST "" "`+before+`*"`, "OK "), "\n"), before, "")
	}
	want := all(owner, "Letters/o")
	if got := all(owner, "Letters/p"); got != want || made < 5 {
		t.Errorf("%d are created, of which the owner sees\n%s\nwant\n%s", made, got, want)
	}
	if got := all(c, ownersName+"Letters/p"); got != want {
		t.Errorf("the guest sees\n%s\nwant\n%s", got, want)
	}
}

// A COPY between cells takes messages along as they are, all of them or none.
func TestCopyBetweenCells(t *testing.T) {
	west, _, owner := sharingCells(t, nil)
	const letters, plans = `"` + ownersName + `Letters"`, `"` + ownersName + `Plans"`
	large := "Subject: large\r\n\r\na\x00b" + noise(1<<20) + "\r\n"
	c := west.visitor(t)
	c.want(`APPEND INBOX (\Flagged $Work) "01-Feb-2024 03:04:05 +0200" {`+fmt.Sprint(len(large))+"+}\r\n"+large, "OK ")
	for _, subject := range []string{"second", "third", "fourth"} {
		c.want(appendText("INBOX", "Subject: "+subject+"\r\n\r\nx CREATE \""+ownersName+"Letters/run\"\r\n"), "OK ")
	}
	const items = " (FLAGS INTERNALDATE RFC822.SIZE BINARY.PEEK[])" // which tells NULs
	subjects := func(c *client, box string) (all []string) {
		c.want("EXAMINE "+box, "OK ")
		for _, line := range c.want("FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "OK ") {
			if subject, ok := strings.CutPrefix(line, "Subject: "); ok {
				all = append(all, subject)
			}
		}
		return all
	}
	is := func(c *client, box string, want ...string) {
		t.Helper()
		if got := subjects(c, box); !slices.Equal(got, want) {
			t.Errorf("in %s are %q, want %q", box, got, want)
		}
	}
	c.want("SELECT INBOX", "OK ")
	c.want("STORE 3 +FLAGS (\\Deleted)", "OK ")
	c.want("EXPUNGE", "OK ")
	message := c.want("FETCH 1"+items, "OK ")
	c.want("COPY 1:2 "+plans, "NO [NOPERM] ")
	long := ownersName + "Letters/" + strings.Repeat("x", 5000)
	c.want(fmt.Sprintf("COPY 2 {%d+}\r\n%s", len(long), long), "NO [CANNOT] ")
	c.want(`STATUS "`+ownersName+`Letters/run" (MESSAGES)`, "NO [NONEXISTENT] ") // the text of a message is no command
	c.want(`COPY 1:2 "`+ownersName+`Letters/none"`, "NO [TRYCREATE] ")
	c.want("UID COPY 99 "+letters, "OK ")
	if _, got := c.do("UID COPY 1:* " + letters); !strings.HasPrefix(got, "OK [COPYUID ") || !strings.HasSuffix(got, " 1:2,4 2:4] Copied") {
		t.Errorf("UID COPY is answered %s", got)
	}
	is(owner, "Letters", "of Letters", "large", "second", "fourth")
	if got := owner.want("FETCH 2"+items, "OK "); strings.Join(got, "\n") != strings.Replace(strings.Join(message, "\n"), "* 1 ", "* 2 ", 1) {
		t.Errorf("the copy is %.300q, want %.300q", got, message)
	}
	is(owner, "Plans", "of Plans")

	var keywords []string // which are longer than any buffer
	for i := range 80 {
		keywords = append(keywords, fmt.Sprintf("k%d-%s", i, strings.Repeat("x", 240)))
	}
	owner.want("SELECT Letters", "OK ")
	owner.want("STORE 4 +FLAGS.SILENT ("+strings.Join(keywords, " ")+")", "OK ")
	c.want("CREATE Copies", "OK ")
	c.want("SELECT "+letters, "OK ")
	c.want("COPY 1 Nowhere", "NO [TRYCREATE] ")
	c.want("COPY 1:99 Copies", "BAD ")
	c.want("SEARCH RETURN (SAVE) SUBJECT large", "OK ")
	if _, got := c.do("UID COPY $ Copies"); !strings.HasPrefix(got, "OK [COPYUID ") || !strings.HasSuffix(got, " 2 1] Copied") {
		t.Errorf("UID COPY is answered %s", got)
	}
	if _, got := c.do("COPY 3:4 Copies"); !strings.HasPrefix(got, "OK [COPYUID ") || !strings.HasSuffix(got, " 3:4 2:3] Copied") {
		t.Errorf("COPY is answered %s", got)
	}
	c.want("FETCH 1 UID", "OK ")    // it is selected still
	c.want("EXAMINE Copies", "OK ") // in which they stay recent
	if got := c.want("FETCH 3 FLAGS", "OK "); len(got) != 1 || !strings.Contains(got[0], " "+keywords[79]) {
		t.Errorf("of the copy with many keywords is told %.300q", got)
	}
	is(c, "Copies", "large", "second", "fourth")
	if got := c.want("FETCH 1"+items, "OK "); strings.Join(got, "\n") != strings.Join(message, "\n") {
		t.Errorf("the copy is %.300q, want %.300q", got, message)
	}
}

// Where messages are too large together, none is copied between cells.
func TestTooMuchBetweenCells(t *testing.T) {
	west, _, owner := sharingCells(t, func(o *Options) { o.MaxAppend = 1 })
	const letters = `"` + ownersName + `Letters"`
	owner.want(appendText("Letters", "Subject: more\r\n\r\n"), "OK ")
	c := west.visitor(t)
	for range 3 {
		c.want(appendText("INBOX", "Subject: x\r\n\r\n"), "OK ")
	}
	const refused = "NO [LIMIT] Too much for one command"
	c.want("SELECT INBOX", "OK ")
	c.want("COPY 1:3 "+letters, refused)
	c.want("SELECT "+letters, "OK ")
	c.want("COPY 1:2 INBOX", refused)
	c.want("NOOP", "OK ")
	for box, want := range map[string]string{"INBOX": "(MESSAGES 3)", letters: "(MESSAGES 2)"} {
		if got := c.want("STATUS "+box+" (MESSAGES)", "OK "); len(got) != 1 || !strings.HasSuffix(got[0], want) {
			t.Errorf("%s: %q", box, got)
		}
	}
}

// A client whose commands are answered here is not taken for idle where its mailbox is selected.
func TestSelectedElsewhereIsKept(t *testing.T) {
	const idle = 2 * time.Second
	west, _, _ := sharingCells(t, func(o *Options) { o.IdleTimeout = idle })
	polls := map[string]*client{"STATUS INBOX (MESSAGES)": nil, `LIST "" INBOX`: nil, "ESEARCH IN (inboxes) ALL": nil}
	for command := range polls {
		polls[command] = west.visitor(t)
		polls[command].want(`SELECT "`+ownersName+`Letters"`, "OK ")
	}
	for began := time.Now(); time.Since(began) < 2*idle; time.Sleep(idle / 10) {
		for command, c := range polls {
			c.want(command, "OK ")
		}
	}
	for _, c := range polls {
		c.want("FETCH 1 FLAGS", "OK ")
	}
}
