package imapd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// exchange sends a command and returns all that is said up to its tagged line.
func (c *client) exchange(command string) []string {
	c.t.Helper()
	tag, _, _ := strings.Cut(command, " ")
	c.send(command)
	var lines []string
	for {
		line := c.line()
		lines = append(lines, line)
		if strings.HasPrefix(line, tag+" ") {
			return lines
		}
	}
}

// TestGhosts: messages that another session has expunged are fetched by who has
// not been told, for as long as the records of it are kept.
func TestGhosts(t *testing.T) {
	const n = 300 // more than is read at a time
	config := storetest.Config(t)
	s := storetest.Open(t, config)
	u := storetest.Account(t, s, "user@ghosts.test")
	connect := serveStore(t, s, nil)
	m, err := s.Open(t.Context(), u, "INBOX", acl.All)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		content, err := s.Receive(t.Context(), u.Tenant, strings.NewReader(fmt.Sprintf("Subject: message %d\r\n\r\nbody %d", i+1, i+1)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Append(t.Context(), store.Incoming{Content: content}); err != nil {
			t.Fatal(err)
		}
	}
	reader, other := connect(t), connect(t)
	for _, c := range []*client{reader, other} {
		enter(c, "user@ghosts.test")
		c.exchange("a SELECT INBOX")
	}

	// In three pieces, one of which is folded, so that its records lie elsewhere.
	other.exchange(`b STORE 1:100,201:220 +FLAGS.SILENT (\Deleted)`)
	other.exchange("c EXPUNGE")
	if err := m.Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	other.exchange(`d STORE 150 +FLAGS.SILENT (\Deleted)`)
	other.exchange("e EXPUNGE")
	other.exchange("f MOVE 1:3 Archive")

	for _, items := range []string{"(FLAGS)", "(ENVELOPE)", "(BODY.PEEK[])", "(ENVELOPE BODY[TEXT])"} {
		lines := reader.exchange("g FETCH 1:* " + items)
		if got := lines[len(lines)-1]; got != "g OK FETCH completed" {
			t.Fatalf("FETCH 1:* %s: %s", items, got)
		}
		next := 1
		for _, line := range lines {
			switch {
			case strings.HasPrefix(line, fmt.Sprintf("* %d FETCH (", next)):
				next++
			case strings.HasPrefix(line, "* ") && strings.Contains(line, " FETCH ("):
				t.Fatalf("FETCH 1:* %s: %s where message %d comes", items, line, next)
			}
		}
		if next != n+1 {
			t.Errorf("FETCH 1:* %s: %d messages of %d", items, next-1, n)
		}
	}
	reader.send("h FETCH 220 (BODY.PEEK[TEXT])")
	reader.expect("* 220 FETCH (BODY[TEXT] {8}")
	reader.expect("body 220)")
	reader.expect("h OK FETCH completed")

	// Beyond the horizon nobody knows any more: what there is comes first.
	owner, err := pgx.Connect(t.Context(), config.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(t.Context())
	if _, err := owner.Exec(t.Context(), `DELETE FROM mailbox_expunged`); err != nil {
		t.Fatal(err)
	}
	reader.send("i FETCH 100:101,150,219:221 (UID)")
	for _, seq := range []int{101, 150, 221} {
		reader.expect(fmt.Sprintf("* %d FETCH (UID %[1]d)", seq))
	}
	reader.expect("i NO [EXPUNGEISSUED] Some of the messages no longer exist")
	if got := len(reader.exchange("j NOOP")); got != 100+20+1+3+1 {
		t.Errorf("NOOP: %d lines", got)
	}
}
