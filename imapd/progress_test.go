package imapd

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/auth"
	"mailstead.dev/store/storetest"
)

// A search tells how far it has come, which never goes back, and nothing behind its result.
func TestSearchTellsItsProgress(t *testing.T) {
	const n = 40
	s := storetest.New(t)
	storetest.Account(t, s, "a@progress.test")
	c := serveStore(t, s, func(o *Options) { o.ProgressInterval = time.Nanosecond })(t)
	enter(c, "a@progress.test")
	for i := range n {
		c.want(appendText("INBOX", fmt.Sprintf("Subject: %d\r\n\r\nbody %d\r\n", i, i)), "OK ")
	}
	c.want("SELECT INBOX", "OK ")
	told := regexp.MustCompile(`^\* OK \[INPROGRESS \("do\.it" ([0-9]+) ([0-9]+)\)\] `)
	for _, search := range []string{"SEARCH BODY body", "UID SEARCH RETURN (COUNT) OR SUBJECT 7 BODY 7", "SEARCH SENTBEFORE 1-Feb-1994"} {
		got := c.want(search, "OK ")
		before := 0
		for _, line := range got[:len(got)-1] {
			m := told.FindStringSubmatch(line)
			if m == nil {
				t.Fatalf("%s: %s", search, line)
			}
			var done, total int
			fmt.Sscan(m[1], &done)
			fmt.Sscan(m[2], &total)
			if total != n || done < before || done >= n {
				t.Errorf("%s: %d of %d after %d", search, done, total, before)
			}
			before = done
		}
		if len(got) < 2 || !strings.HasPrefix(got[len(got)-1], "* SEARCH") && !strings.HasPrefix(got[len(got)-1], "* ESEARCH") {
			t.Errorf("%s: %q", search, got)
		}
	}
	// A tag that would end the response code is not told.
	c.send("a]b SEARCH BODY body")
	c.expect(fmt.Sprintf("* OK [INPROGRESS (NIL 0 %d)] ...", n))
	for !strings.HasPrefix(c.line(), "a]b OK ") {
	}
}

// What waits for others tells that it does, and then goes on as ever.
func TestChangesTellThatTheyWait(t *testing.T) {
	config := storetest.Config(t)
	s := storetest.Open(t, config)
	storetest.Account(t, s, "a@progress.test")
	c := serveStore(t, s, func(o *Options) {
		o.Authenticator = auth.New(s, auth.Options{})
		o.ProgressInterval = 20 * time.Millisecond
	})(t)
	enter(c, "a@progress.test")
	for range 3 {
		c.want(appendText("INBOX", "Subject: x\r\n\r\n"), "OK ")
	}
	c.want("SELECT INBOX", "OK ")
	c.want(`STORE 1 +FLAGS.SILENT (\Deleted)`, "OK ")
	owner, err := pgx.Connect(t.Context(), config.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(t.Context())
	for _, command := range []string{"COPY 1 Archive", "UID MOVE 2 Archive", "EXPUNGE"} {
		tx, err := owner.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `SELECT FROM mailbox FOR UPDATE`); err != nil {
			t.Fatal(err)
		}
		c.send("a " + command)
		for range 3 {
			c.expect(`* OK [INPROGRESS ("a" NIL NIL)] ...`)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		for {
			line := c.line()
			if strings.HasPrefix(line, "a OK ") {
				break
			}
			if strings.HasPrefix(line, "a ") {
				t.Fatalf("%s: %s", command, line)
			}
		}
	}
}

// A bug in what is done patiently is one of the command.
func TestPanicWhilePatient(t *testing.T) {
	server := New(testOptions(t))
	s := newSession(server, &conn{server: server, raw: loopback{}})
	err := s.patiently(func() error { panic("a bug") })
	if r, known := answer(err); known || r.code != "SERVERBUG" {
		t.Errorf("%v is answered %+v", err, r)
	}
}
