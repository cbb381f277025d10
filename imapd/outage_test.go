package imapd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/blob"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/storetest/testdb"
)

// do runs a command and returns what came before its tagged answer, line by line, and that.
func (c *client) do(command string) (untagged []string, answer string) {
	c.t.Helper()
	const tag = "do.it"
	c.send(tag + " " + command)
	for {
		line := c.line()
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			return untagged, rest
		}
		untagged = append(untagged, line)
	}
}

// want runs a command and demands how its answer begins.
func (c *client) want(command, answer string) (untagged []string) {
	c.t.Helper()
	untagged, got := c.do(command)
	if !strings.HasPrefix(got, answer) {
		c.t.Errorf("%.100q is answered %.1000s %q, want %q", command, fmt.Sprintf("%.100q", untagged), got, answer)
	}
	return untagged
}

// bad demands a BAD, and that the next command is answered as ever.
func (c *client) bad(command string) {
	c.t.Helper()
	if untagged := c.want(command, "BAD [CLIENTBUG] "); len(untagged) > 0 {
		c.t.Errorf("%.100q gives %.100q", command, untagged)
	}
	c.want("NOOP", "OK ")
}

// appendText is an APPEND that the server does not have to ask for.
func appendText(mailbox, text string) string {
	return fmt.Sprintf("APPEND %s {%d+}\r\n%s", mailbox, len(text), text)
}

// withoutDatabase are the commands of who has logged in that need no database.
var withoutDatabase = []string{"CAPABILITY", "ID", "ENABLE", "NAMESPACE", "COMPRESS", "UNSELECT", "IDLE", "UNAUTHENTICATE", "LOGOUT", "COMPARATOR", "CANCELUPDATE"}

// While the database is away every command that needs it says so, and the
// connection stays: once it is back all goes on, and nothing was half done.
func TestDatabaseAway(t *testing.T) {
	cluster := storetest.Config(t)
	s := storetest.Open(t, cluster)
	connect := serveStore(t, s, nil)
	storetest.Account(t, s, "a@away.test")
	c, idling, leaving := connect(t), connect(t), connect(t)
	for _, c := range []*client{c, idling, leaving} {
		enter(c, "a@away.test")
	}
	c.want(appendText("INBOX", "Subject: one\r\n\r\nbody"), "OK [APPENDUID ")
	for _, c := range []*client{c, idling} {
		c.want("SELECT INBOX", "OK [READ-WRITE]")
	}
	idling.send("i IDLE")
	idling.expect("+ Idling")
	c.want("SEARCH RETURN (SAVE) ALL", "OK ")

	cluster.SetAway(t, true)
	const away = "NO [UNAVAILABLE] Temporarily unavailable, try again later"
	other := connect(t)
	other.expect("* OK ...")
	other.want("LOGIN a@away.test pass", away)
	for range 20 { // until no connection to the database is left that is broken, and could be while a change is written
		c.want("CHECK", away)
	}
	for name, cmd := range commands {
		switch {
		case cmd.states&loggedIn == 0 || slices.Contains(withoutDatabase, name):
		case name == "SELECT" || name == "EXAMINE": // which leave what was selected
			leaving.want(name+rightArguments[name], away)
		default:
			c.want(name+rightArguments[name], away)
		}
	}
	for _, command := range []string{
		"UID FETCH 1:* BODY[]", "SEARCH TEXT body", "SEARCH RETURN (SAVE) ALL", "UID STORE 1 FLAGS ($New)", `LIST "" * RETURN (STATUS (MESSAGES))`, "STATUS INBOX (RECENT)",
		"APPEND INBOX {5}", appendText("INBOX", "second"), appendText("INBOX", strings.Repeat("large\r\n", 100_000)),
		"APPEND INBOX {5+}\r\nfirst {6+}\r\nsecond", "UID REPLACE 1 INBOX {5}",
	} {
		c.want(command, away)
	}
	for _, command := range []string{"CAPABILITY", "ID NIL", "NAMESPACE", "ENABLE CONDSTORE"} {
		c.want(command, "OK ")
	}

	cluster.SetAway(t, false)
	c.want("NOOP", "OK ")
	// A search that could not be saved is not taken for the one before (RFC 5182 section 2.1).
	if got := c.want("SEARCH RETURN (COUNT) $", "OK "); got[len(got)-1] != `* ESEARCH (TAG "do.it") COUNT 0` {
		t.Errorf("after a search that failed %q is saved", got)
	}
	other.want("LOGIN a@away.test pass", "OK ")
	other.want("SELECT Archive", "OK [READ-WRITE]")
	got := c.want("FETCH 1:* (UID FLAGS BODY.PEEK[])", "OK ")
	if want := "* 1 FETCH (UID 1 FLAGS (\\Recent) BODY[] {20} Subject: one  body)"; strings.Join(got, " ") != want {
		t.Errorf("afterwards there is %q, want %q", got, want)
	}
	var names []string
	for _, line := range c.want(`LIST "" *`, "OK ") {
		names = append(names, line[strings.LastIndexByte(line, ' ')+1:])
	}
	if got, want := strings.Join(names, " "), `"Archive" "Drafts" "INBOX" "Junk" "Sent" "Trash"`; got != want {
		t.Errorf("afterwards there are %s", got)
	}
	if got := c.want("STATUS Archive (MESSAGES UIDNEXT)", "OK "); got[0] != `* STATUS "Archive" (MESSAGES 0 UIDNEXT 1)` {
		t.Errorf("afterwards there is %q", got)
	}
	c.want(appendText("INBOX", "second"), "OK [APPENDUID ")
	idling.expect("* 2 EXISTS")
	if got := idling.line(); !strings.HasSuffix(got, " RECENT") { // in whichever session was first
		t.Errorf("IDLE tells %q", got)
	}
	idling.send("DONE")
	idling.expect("i OK ...")
	// The CLOSE that failed left the mailbox selected.
	c.want("STORE 1 +FLAGS.SILENT (\\Deleted)", "OK ")
	c.want("CLOSE", "OK ")
	c.want("CHECK", "BAD ")
}

// noise is a message that does not become smaller.
func noise(size int) string {
	var text strings.Builder
	text.WriteString("Subject: noise\r\n\r\n")
	for text.Len() < size {
		fmt.Fprintf(&text, "%016x%016x%016x%016x\r\n", rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64())
	}
	return text.String()
}

// relayed makes a store that reaches object storage by a relay.
func relayed(t *testing.T, c *testdb.Cluster, r *testdb.Relay) func(*store.Options) {
	bucket, err := blob.NewS3(blob.S3Options{
		Endpoint: "http://" + r.Endpoint, Region: c.Region, Bucket: c.Bucket, Access: c.Access, Secret: c.Secret, PathStyle: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(o *store.Options) { o.Bucket = bucket }
}

// While object storage is away small mail is taken until staging is full, what
// lies in PostgreSQL is there, what does not is unavailable and not half stored; then all goes on.
func TestObjectStorageAway(t *testing.T) {
	cluster := storetest.Config(t)
	relay := cluster.Relay(t)
	reach := relayed(t, cluster, relay)
	options := func(o *store.Options) {
		reach(o)
		o.StagingBound, o.PackAge, o.PackInterval = 100_000, time.Nanosecond, 20*time.Millisecond
	}
	s := storetest.Open(t, cluster, options)
	u := storetest.Account(t, s, "a@away.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "a@away.test")
	large := noise(1 << 20)
	c.want(appendText("INBOX", large), "OK [APPENDUID ")

	// Another front end, whose cache has nothing of it.
	far := serveStore(t, storetest.Open(t, cluster, options), nil)(t)
	enter(far, "a@away.test")
	far.want("SELECT INBOX", "OK ")

	relay.SetAway(true)
	messages := 1
	for ; messages < 100; messages++ {
		_, answer := c.do(appendText("INBOX", noise(5000)))
		if strings.HasPrefix(answer, "NO [UNAVAILABLE] ") {
			break
		}
		if !strings.HasPrefix(answer, "OK [APPENDUID ") {
			t.Fatalf("APPEND is answered %q", answer)
		}
	}
	if messages < 5 || messages > 50 {
		t.Errorf("%d messages were taken into staging of 100 kB", messages-1)
	}
	c.want(appendText("INBOX", large[:len(large)-2]), "NO [UNAVAILABLE] ")
	c.want(appendText("INBOX", noise(6000)+"z LOGOUT\r\n"), "NO [UNAVAILABLE] ")
	c.want("NOOP", "OK ")

	far.want("NOOP", "OK ")
	far.want("FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER])", "OK ")
	if got := far.want("FETCH 2 BODY.PEEK[]", "OK "); len(got) < 50 {
		t.Errorf("a small message has %d lines", len(got))
	}
	for _, command := range []string{"FETCH 1 BODY.PEEK[]", "UID FETCH 1 BODY.PEEK[TEXT]<500000.10>", "FETCH 1 BINARY.PEEK[1]", "PARTIAL 1 RFC822.PEEK 500000 10", "SEARCH TEXT zzz"} {
		if got := far.want(command, "NO [UNAVAILABLE] "); len(got) > 0 {
			t.Errorf("%s gives %.100q", command, got)
		}
	}
	if got := far.want("FETCH 1 BODY[]", "NO [UNAVAILABLE] "); len(got) != 1 || !strings.HasPrefix(got[0], `* 1 FETCH (FLAGS (`) || strings.Contains(got[0], `\Seen`) {
		t.Errorf("what could not be given is told to be %.100q", got)
	}
	far.want(strings.Replace(appendText("INBOX", large), "APPEND", "REPLACE 2", 1), "NO [UNAVAILABLE] ")
	far.want("STORE 1:* +FLAGS.SILENT (\\Flagged)", "OK ")
	far.want("COPY 1 Archive", "OK [COPYUID ")

	relay.SetAway(false)
	if got := strings.Join(far.want("FETCH 1 BODY.PEEK[]", "OK "), "\r\n"); got != fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n%s)", len(large), large) {
		t.Errorf("the large message has %d octets afterwards, or others", len(got))
	}
	maintenance, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Maintain(maintenance) }()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, answer := c.do(appendText("INBOX", "small"))
		if strings.HasPrefix(answer, "OK ") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("staging is not emptied: %s", answer)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Maintain: %v", err)
	}
	want := fmt.Sprintf(`* STATUS "INBOX" (MESSAGES %d UIDNEXT %d)`, messages+1, messages+2)
	if got := c.want("STATUS INBOX (MESSAGES UIDNEXT)", "OK "); got[0] != want {
		t.Errorf("%s, want %s", got[0], want)
	}
	_, err := s.Fsck(t.Context(), u.Tenant, func(f store.Finding) {
		if f.Kind != store.FoundObject { // one that was not put, which is collected in a day
			t.Error(f)
		}
	})
	if err != nil {
		t.Errorf("Fsck: %v", err)
	}
}

// Where object storage goes away in the middle of a literal, nothing that
// could follow on the wire would be true: the connection ends.
func TestObjectStorageGoesAway(t *testing.T) {
	cluster := storetest.Config(t)
	relay := cluster.Relay(t)
	s := storetest.Open(t, cluster, relayed(t, cluster, relay))
	storetest.Account(t, s, "a@away.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "a@away.test")
	large := noise(24 << 20)
	c.want(appendText("INBOX", large), "OK [APPENDUID ")

	far := serveStore(t, storetest.Open(t, cluster, relayed(t, cluster, relay)), nil)(t)
	enter(far, "a@away.test")
	far.want("SELECT INBOX", "OK ")
	far.send("a FETCH 1 BODY[]")
	far.expect(fmt.Sprintf(`* 1 FETCH (FLAGS (\Seen \Recent) BODY[] {%d}`, len(large)))
	relay.SetAway(true)
	got, err := io.ReadAll(far.r)
	if err != nil {
		t.Errorf("the connection ended with %v", err)
	}
	if len(got) >= len(large) || string(got) != large[:len(got)] {
		t.Errorf("%d octets of %d came, or others", len(got), len(large))
	}
	// Nobody has read it.
	c.want("SELECT INBOX", "OK ")
	if got := c.want("FETCH 1 FLAGS", "OK "); !slices.Equal(got, []string{"* 1 FETCH (FLAGS ())"}) {
		t.Errorf("afterwards there is %q", got)
	}
}

// damaging is a bucket that gives back everything that is large with a bit flipped.
type damaging struct{ blob.Bucket }

func (b damaging) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := b.Bucket.Get(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if len(content) > 10_000 {
		content[len(content)/2] ^= 0x10
	}
	return io.NopCloser(bytes.NewReader(content)), err
}

// What is damaged in storage is not given out, and said to be so (RFC 5530 section 3). It
// stays unseen, and other messages are given.
func TestDamagedContent(t *testing.T) {
	s := storetest.New(t, func(o *store.Options) {
		o.NoStaging = true
		o.Bucket = damaging{o.Bucket}
	})
	storetest.Account(t, s, "a@damaged.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "a@damaged.test")
	c.want(appendText("INBOX", "first"), "OK [APPENDUID ")
	c.want(appendText("INBOX", noise(100_000)), "OK [APPENDUID ")
	c.want(appendText("INBOX", "third"), "OK [APPENDUID ")
	c.want("SELECT INBOX", "OK ")
	for _, command := range []string{"FETCH 2 BODY.PEEK[]", "FETCH 2 BODY.PEEK[TEXT]", "SEARCH BODY zzz"} {
		if got := c.want(command, "NO [CORRUPTION] A message is damaged in storage"); len(got) > 0 {
			t.Errorf("%s gives %.100q", command, got)
		}
	}
	fetch := func(command, answer string, want ...string) {
		t.Helper()
		if got := c.want(command, answer); !slices.Equal(got, want) {
			t.Errorf("%s gives %.200q, want %q", command, got, want)
		}
	}
	fetch("FETCH 1:3 BODY[]", "NO [CORRUPTION] ", `* 1 FETCH (FLAGS (\Seen \Recent) BODY[] {5}`, "first)",
		`* 3 FETCH (FLAGS (\Seen \Recent) BODY[] {5}`, "third)", `* 2 FETCH (FLAGS (\Recent))`)
	fetch("FETCH 1:3 FLAGS", "OK ", `* 1 FETCH (FLAGS (\Seen \Recent))`, `* 2 FETCH (FLAGS (\Recent))`, `* 3 FETCH (FLAGS (\Seen \Recent))`)
	fetch("FETCH 2 (MODSEQ)", "OK ", "* OK [HIGHESTMODSEQ 6] CONDSTORE is enabled", "* 2 FETCH (MODSEQ (6))")
	fetch("UID FETCH 2:3 (BODY[TEXT])", "NO [CORRUPTION] ", `* 3 FETCH (UID 3 BODY[TEXT] "")`, `* 2 FETCH (UID 2 FLAGS (\Recent) MODSEQ (8))`)
	if got := c.want("FETCH 2 (FLAGS ENVELOPE)", "OK "); !strings.Contains(got[0], `FLAGS (\Recent)`) {
		t.Errorf("afterwards there is %.100q", got)
	}
}
