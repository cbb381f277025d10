package imapd

import (
	"strings"
	"testing"

	"mailstead.dev/store/storetest"
)

// Who has two connections, to two front ends, reads in one what the other shows as read; to the owner of the mailbox
// and to another reader nothing has happened.
func TestReadersInIdle(t *testing.T) {
	cluster := storetest.Config(t)
	s := storetest.Open(t, cluster)
	fred, mary, carl := storetest.Account(t, s, "fred@seen.test"), storetest.Account(t, s, "mary@seen.test"), storetest.Account(t, s, "carl@seen.test")
	here, there := serveStore(t, s, nil), serveStore(t, storetest.Open(t, cluster), nil)
	owner, reader := here(t), here(t)
	enter(owner, fred.Login)
	owner.wantAll([]string{
		"APPEND INBOX {5+}\r\nhello {5+}\r\nhello", "SETACL INBOX anyone lrsw", "SELECT INBOX",
	}, "OK ")
	const inbox = `SELECT "Other Users/fred@seen.test/INBOX"`
	enter(reader, mary.Login)
	reader.want(inbox, "OK ")
	also, others, beside := there(t), there(t), here(t)
	for c, login := range map[*client]string{also: mary.Login, others: carl.Login, beside: mary.Login} {
		enter(c, login)
		c.want(inbox, "OK ")
		c.send("i IDLE")
		c.expect("+ Idling")
	}
	owner.send("i IDLE")
	owner.expect("+ Idling")
	reader.want("FETCH 1 BODY[]", "OK ")
	for _, c := range []*client{also, beside} {
		c.expect(`* 1 FETCH (FLAGS (\Seen))`)
	}
	reader.want(`STORE 1 -FLAGS (\Seen)`, "OK ")
	for _, c := range []*client{also, beside} {
		c.expect(`* 1 FETCH (FLAGS ())`)
	}
	reader.want(`STORE 2 +FLAGS (\Flagged)`, "OK ")
	for _, c := range []*client{owner, others, also, beside} {
		line := c.line() // the first that the owner and others are told
		if want := `* 2 FETCH (FLAGS (\Flagged`; !strings.HasPrefix(line, want) {
			t.Errorf("told %s, want %s", line, want)
		}
		c.send("DONE")
		c.expect("i OK ...")
	}
	if got := owner.want("STATUS INBOX (UNSEEN)", "OK "); len(got) != 1 || got[0] != `* STATUS "INBOX" (UNSEEN 2)` {
		t.Errorf("the owner is told %q", got)
	}
}
