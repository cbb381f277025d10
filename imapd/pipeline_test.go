package imapd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailstead.dev/auth"
	"mailstead.dev/store"
	"mailstead.dev/store/blob"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/storetest/testdb"
)

// Which commands have come, so that they can be read without waiting for anybody.
func TestLineAhead(t *testing.T) {
	for input, want := range map[string]bool{
		"":                                   false,
		"a STATUS x (MESSAGES)":              false,
		"a STATUS x (MESSAGES)\r":            false,
		"a STATUS x (MESSAGES)\r\n":          true,
		"a STATUS x (MESSAGES)\n":            true,
		"a STATUS {3+}\r\nx y (SIZE)\r\n":    false,
		"a STATUS {3}\nx y (SIZE)\n":         false,
		"a STATUS x (SIZE)\r\nb STATUS {3+}": true,
		"\r\n":                               true,
	} {
		c := &conn{buffers: &buffers{br: bufio.NewReader(strings.NewReader(input))}}
		c.br.Peek(len(input))
		if got := c.lineAhead(); got != want {
			t.Errorf("%q: %v, want %v", input, got, want)
		}
	}
}

// gate is a bucket whose reads wait while it is shut.
type gate struct {
	blob.Bucket
	shut atomic.Bool
	came chan struct{} // a read, to the gate
	open chan struct{}
}

func newGate(b blob.Bucket) *gate {
	return &gate{Bucket: b, came: make(chan struct{}, 100), open: make(chan struct{})}
}

func (g *gate) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if g.shut.Load() {
		g.came <- struct{}{}
		select {
		case <-g.open:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return g.Bucket.Get(ctx, key, off, n)
}

// waitFor waits until so many reads have come.
func (g *gate) waitFor(t *testing.T, reads int) {
	t.Helper()
	for n := range reads {
		select {
		case <-g.came:
		case <-time.After(20 * time.Second):
			t.Fatalf("%d reads of %d have come", n, reads)
		}
	}
}

// letGo opens the gate for good.
func (g *gate) letGo() {
	g.shut.Store(false)
	close(g.open)
}

// gated makes an account with messages in its INBOX, and returns how to connect to a front end that has read none of
// them, and the gate before its bucket.
func gated(t *testing.T, login string, messages []string, change func(*Options)) (func(testing.TB) *client, *gate) {
	t.Helper()
	return gatedFrontEnd(t, filled(t, login, messages), change)
}

// filled makes an account with messages in its INBOX, which are in the bucket.
func filled(t *testing.T, login string, messages []string) *testdb.Cluster {
	t.Helper()
	cluster := storetest.Config(t)
	near := storetest.Open(t, cluster, func(o *store.Options) { o.NoStaging = true })
	storetest.Account(t, near, login)
	c := serveStore(t, near, nil)(t)
	enter(c, login)
	for _, text := range messages {
		c.want(appendText("INBOX", text), "OK [APPENDUID ")
	}
	return cluster
}

func gatedFrontEnd(t *testing.T, cluster *testdb.Cluster, change func(*Options)) (func(testing.TB) *client, *gate) {
	t.Helper()
	var g *gate
	far := storetest.Open(t, cluster, func(o *store.Options) {
		g = newGate(o.Bucket)
		o.Bucket = g
	})
	return serveStore(t, far, change), g
}

// numbered are messages that can be told apart, and do not lie with their headers.
func numbered(n, size int) (messages []string) {
	for i := range n {
		messages = append(messages, fmt.Sprintf("Subject: message %d\r\n\r\n%s", i+1, noise(size)))
	}
	return messages
}

// answers reads until each of the tags is answered.
func (c *client) answers(tags ...string) (lines []string) {
	c.t.Helper()
	for left := slices.Clone(tags); len(left) > 0; {
		line := c.line()
		lines = append(lines, line)
		left = slices.DeleteFunc(left, func(tag string) bool { return strings.HasPrefix(line, tag+" ") })
	}
	return lines
}

// What commands that came together wait for is waited for once, each response comes
// whole, and what is cheap does not wait for what is not.
func TestCommandsAtTheSameTime(t *testing.T) {
	const login = "a@pipeline.test"
	messages := append(numbered(3, 5000), numbered(4, 700_000)[3], "Subject: small\r\n\r\nbody\r\n")
	connect, g := gated(t, login, messages, nil)
	c := connect(t)
	enter(c, login)
	c.want("SELECT INBOX", "OK ")
	g.shut.Store(true)
	c.send("a UID FETCH 1 BODY.PEEK[]\r\nb FETCH 3 (BODY.PEEK[] UID)\r\nc UID FETCH 4 BODY.PEEK[]\r\n" +
		"d UID FETCH 5 (FLAGS)\r\ne STATUS Sent (MESSAGES)\r\nf LIST \"\" S*\r\ng UID SEARCH 5\r\nh STATUS Junk (MESSAGES)")
	g.waitFor(t, 3)
	cheap := c.answers("d", "e", "f", "g", "h")
	for _, want := range []string{`* 5 FETCH (UID 5 FLAGS (\Recent))`, `* STATUS "Sent" (MESSAGES 0)`, `* LIST (\HasNoChildren \Sent) "/" "Sent"`, "* SEARCH 5", `* STATUS "Junk" (MESSAGES 0)`} {
		if !slices.Contains(cheap, want) {
			t.Errorf("%s is missing in %q", want, cheap)
		}
	}
	if len(cheap) != 10 {
		t.Errorf("cheap commands are answered %q", cheap)
	}
	g.letGo()
	got := strings.Join(c.answers("a", "b", "c"), "\r\n") + "\r\n"
	for i, want := range []string{
		fmt.Sprintf("* 1 FETCH (UID 1 BODY[] {%d}\r\n%s)\r\n", len(messages[0]), messages[0]),
		fmt.Sprintf("* 3 FETCH (BODY[] {%d}\r\n%s UID 3)\r\n", len(messages[2]), messages[2]),
		fmt.Sprintf("* 4 FETCH (UID 4 BODY[] {%d}\r\n%s)\r\n", len(messages[3]), messages[3]),
	} {
		data, answer := strings.Index(got, want), strings.Index(got, "\n"+string("abc"[i])+" OK ")
		if data < 0 || answer < data {
			t.Errorf("answer %d is at %d, its data at %d of %d octets", i, answer, data, len(got))
		}
	}
	c.want("NOOP", "OK ")
}

// No more commands run at the same time than may, of a connection and of all together.
func TestCommandsAtOnceAreLimited(t *testing.T) {
	const login = "b@pipeline.test"
	for _, test := range []struct {
		change func(*Options)
		want   int
	}{
		{func(o *Options) { o.MaxAtOnce = 1 }, 1},
		{func(o *Options) { o.MaxAtOnce = 3 }, 3},
		{func(o *Options) { o.MaxBeside = 1 }, 2},
	} {
		connect, g := gated(t, login, numbered(5, 5000), test.change)
		c := connect(t)
		enter(c, login)
		c.want("SELECT INBOX", "OK ")
		g.shut.Store(true)
		c.send("a UID FETCH 1 BODY.PEEK[]\r\nb UID FETCH 2 BODY.PEEK[]\r\nc UID FETCH 3 BODY.PEEK[]\r\nd UID FETCH 4 BODY.PEEK[]\r\ne UID FETCH 5 BODY.PEEK[]")
		g.waitFor(t, test.want)
		select {
		case <-g.came:
			t.Errorf("more than %d run at the same time", test.want)
		case <-time.After(200 * time.Millisecond):
		}
		g.letGo()
		c.answers("a", "b", "c", "d", "e")
	}
}

// Where the order of commands matters, it is theirs; and so where their answers could be taken for each other's.
func TestAmbiguousPipelines(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "c@pipeline.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "c@pipeline.test")
	for range 3 {
		c.want(appendText("INBOX", "Subject: x\r\n\r\nbody\r\n"), "OK ")
	}
	c.want(appendText("Sent", "Subject: x\r\n\r\nbody\r\n"), "OK ")
	c.want("SELECT INBOX", "OK ")
	c.want("STORE 1:* FLAGS.SILENT ()", "OK ")
	c.send(strings.Join([]string{
		"a FETCH 1 (FLAGS)", `b STORE 1 +FLAGS (\Flagged)`, "c FETCH 1 (FLAGS)", "d FETCH 1 (UID)", "dd NOOP", "e SEARCH FLAGGED", "f SEARCH UNFLAGGED", "g UID SEARCH ALL",
		`h STORE 2 +FLAGS.SILENT (\Deleted)`, "i SEARCH DELETED", "j EXPUNGE", "k FETCH 2 (UID)", "l SEARCH RETURN (SAVE) UID 3", "m FETCH $ (UID)",
		"n FETCH 1 BODY[TEXT]", "o FETCH 1 FLAGS", "p FETCH 9 BODY[]", "q SELECT Sent", "r FETCH 1:* (UID)", "s LOGOUT",
	}, "\r\n"))
	for _, want := range []string{
		`* 1 FETCH (FLAGS (\Recent))`, "a OK ...", `* 1 FETCH (FLAGS (\Flagged \Recent))`, "b OK ...", `* 1 FETCH (FLAGS (\Flagged \Recent))`, "c OK ...", "* 1 FETCH (UID 1)",
		"d OK ...", "dd OK ...", "* SEARCH 1", "e OK ...", "* SEARCH 2 3", "f OK ...", "* SEARCH 1 2 3", "g OK ...", "h OK ...", "* SEARCH 2", "i OK ...", "* 2 EXPUNGE", "j OK ...",
		"* 2 FETCH (UID 3)", "k OK ...", "l OK ...", "* 2 FETCH (UID 3)", "m OK ...", `* 1 FETCH (FLAGS (\Flagged \Seen \Recent) BODY[TEXT] {6}`, "body", ")", "n OK ...",
		`* 1 FETCH (FLAGS (\Flagged \Seen \Recent))`, "o OK ...", "p BAD [CLIENTBUG] ...",
	} {
		if got := c.line(); !matches(got, want) {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
	}
	got := c.answers("q", "r", "s")
	if n := len(got); n < 5 || got[n-4] != "* 1 FETCH (UID 1)" || !strings.HasPrefix(got[n-3], "r OK") {
		t.Errorf("after SELECT: %q", got)
	}
}

// What another session does while commands run is told behind them, and what it did before them
// at once, where all of them allow it.
func TestNothingMovesDuringPipeline(t *testing.T) {
	const login = "d@pipeline.test"
	connect, g := gated(t, login, numbered(5, 5000), nil)
	c, other := connect(t), connect(t)
	enter(c, login)
	enter(other, login)
	c.want("SELECT INBOX (CONDSTORE)", "OK ")
	other.want("SELECT INBOX", "OK ")

	g.shut.Store(true)
	c.send("a FETCH 1 (BODY.PEEK[])\r\nb FETCH 5 (BODY.PEEK[])\r\nc UID SEARCH ALL")
	g.waitFor(t, 2)
	other.want(`STORE 3 +FLAGS.SILENT (\Deleted)`, "OK ")
	other.want("EXPUNGE", "OK ")
	other.want(`STORE 3 +FLAGS.SILENT (\Flagged)`, "OK ") // UID 4
	g.letGo()
	for _, line := range c.answers("a", "b", "c") {
		if strings.HasSuffix(line, " EXPUNGE") || strings.Contains(line, "FLAGS") {
			t.Errorf("told during the commands: %s", line)
		}
	}
	// The EXPUNGE is withheld, and so each answer says up to where all is told.
	c.send("d FETCH 4 (UID)\r\ne UID FETCH 1 (UID)")
	got := c.answers("d", "e")
	slices.Sort(got)
	if len(got) != 5 || !strings.HasPrefix(got[0], "* 1 FETCH (UID 1)") || !strings.HasPrefix(got[1], `* 4 FETCH (UID 4 FLAGS (\Flagged`) || got[2] != "* 4 FETCH (UID 4)" ||
		!strings.HasPrefix(got[3], "d OK [HIGHESTMODSEQ 6] ") || !strings.HasPrefix(got[4], "e OK [HIGHESTMODSEQ 6] ") {
		t.Errorf("with an EXPUNGE withheld: %q", got)
	}
	c.send("f UID FETCH 4 (UID)\r\ng UID FETCH 1 (UID)")
	got = c.answers("f", "g")
	if got[0] != "* 3 EXPUNGE" || !slices.Contains(got, "* 3 FETCH (UID 4)") || !slices.Contains(got, "* 1 FETCH (UID 1)") || len(got) != 5 {
		t.Errorf("by UID: %q", got)
	}
	// VANISHED has no MODSEQ, which the answers then have.
	c.want("ENABLE QRESYNC", "OK ")
	other.want(`STORE 1 +FLAGS.SILENT (\Deleted)`, "OK ")
	other.want("EXPUNGE", "OK ")
	c.send("h UID FETCH 4 (UID)\r\ni UID FETCH 5 (UID)")
	got = c.answers("h", "i")
	if got[0] != "* VANISHED 1" || !slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, "h OK [HIGHESTMODSEQ ") }) ||
		!slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, "i OK [HIGHESTMODSEQ ") }) {
		t.Errorf("with QRESYNC: %q", got)
	}
}

// broken is a bucket that fails, or has a bug.
type broken struct {
	blob.Bucket
	fails, panics atomic.Bool
}

func (b *broken) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	switch {
	case b.fails.Load():
		return nil, blob.ErrUnavailable
	case b.panics.Load():
		panic("a bug")
	}
	return b.Bucket.Get(ctx, key, off, n)
}

// A command that fails does not touch those beside it, and a bug in one ends no more than the connection.
func TestFailureInPipeline(t *testing.T) {
	const login = "e@pipeline.test"
	cluster := storetest.Config(t)
	near := storetest.Open(t, cluster)
	storetest.Account(t, near, login)
	c := serveStore(t, near, nil)(t)
	enter(c, login)
	c.want(appendText("INBOX", noise(1<<20)), "OK ") // larger than what is read ahead, so that it is read by the command
	c.want(appendText("INBOX", "Subject: small\r\n\r\nbody\r\n"), "OK ")
	var bucket *broken
	far := storetest.Open(t, cluster, func(o *store.Options) {
		bucket = &broken{Bucket: o.Bucket}
		o.Bucket = bucket
	})
	connect := serveStore(t, far, nil)
	c = connect(t)
	enter(c, login)
	c.want("SELECT INBOX", "OK ")
	bucket.fails.Store(true)
	const pipeline = "a FETCH 1 BODY.PEEK[]\r\nb FETCH 2 BODY.PEEK[TEXT]\r\nc STATUS Nowhere (MESSAGES)\r\nd FETCH 9 FLAGS\r\ne SEARCH SUBJECT small"
	for range 3 {
		c.send(pipeline)
		got := c.answers("a", "b", "c", "d", "e")
		slices.Sort(got)
		want := []string{")", "* 2 FETCH (BODY[TEXT] {6}", "* SEARCH 2", "a NO [UNAVAILABLE] Temporarily unavailable, try again later", "b OK FETCH completed", "body",
			"c NO [NONEXISTENT] No such mailbox", "d BAD [CLIENTBUG] There are only 2 messages", "e OK SEARCH completed"}
		if !slices.Equal(got, want) {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
	}
	bucket.fails.Store(false)
	bucket.panics.Store(true)
	c.send(pipeline)
	for {
		line, err := c.r.ReadString('\n')
		if err == io.EOF {
			break
		} else if err != nil || strings.HasPrefix(line, "a ") {
			t.Fatalf("after a bug: %q, %v", line, err)
		}
	}
	bucket.panics.Store(false)
	c = connect(t)
	enter(c, login)
	c.want("SELECT INBOX", "OK ")
	c.want("FETCH 1 BODY.PEEK[]", "OK ")
}

// Wrong commands are counted, also side by side.
func TestWrongCommandsInPipeline(t *testing.T) {
	const login = "f@pipeline.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	c := serveStore(t, s, func(o *Options) { o.MaxBad = 3 })(t)
	enter(c, login)
	c.want("SELECT INBOX", "OK ")
	c.send("a FETCH 1 FLAGS\r\nb FETCH 2 FLAGS\r\nc SEARCH ALL\r\nd FETCH 1 FLAGS\r\ne FETCH 2 FLAGS")
	c.answers("a", "b", "c", "d", "e")
	c.send("f FETCH 3 FLAGS")
	c.expect("f BAD ...")
	c.expect("* BYE Too many wrong commands")
	c.expectClosed()
}

// A client that goes away ends all of its commands.
func TestDisconnectInPipeline(t *testing.T) {
	const login = "g@pipeline.test"
	connect, g := gated(t, login, numbered(4, 5000), nil)
	c := connect(t)
	enter(c, login)
	c.want("SELECT INBOX", "OK ")
	g.shut.Store(true)
	c.send("a UID FETCH 1 BODY.PEEK[]\r\nb UID FETCH 2 BODY.PEEK[]\r\nc UID SEARCH BODY nowhere")
	g.waitFor(t, 3)
	c.nc.Close() // and the end of the test waits for the server
}

// A mailbox that is deleted ends the session, and no half response stands before the BYE.
func TestMailboxGoneInPipeline(t *testing.T) {
	const login = "h@pipeline.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	connect := serveStore(t, s, nil)
	c, other := connect(t), connect(t)
	enter(c, login)
	enter(other, login)
	c.want("CREATE Gone", "OK ")
	c.want("SELECT Gone", "OK ")
	other.want("DELETE Gone", "OK ")
	c.send("a STATUS Sent (MESSAGES)\r\nb UID FETCH 1:* (FLAGS)\r\nc LIST \"\" \"\"")
	c.answers("a")
	c.expect("* BYE The selected mailbox was deleted, or is not shared any more")
	c.expectClosed()
}

// What commands have found counts for their account while they tell it, and each gives back its own.
func TestMemoryOfPipeline(t *testing.T) {
	const login = "k@pipeline.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	o := testOptions(t)
	o.Store, o.Authenticator = s, auth.New(s, auth.Options{})
	o.MaxCommands = accountShare * 40_000
	server := New(o)
	c := dial(t, listen(t, server, server.Serve))
	enter(c, login)
	for i := range 7 {
		c.want(fmt.Sprintf("CREATE %d%0999d", i, 0), "OK ")
	}
	if err := server.budget.take(holder{}, server.budget.each); err != nil { // what strangers have
		t.Fatal(err)
	}
	c.send("a LIST \"\" *\r\nb LSUB \"\" *\r\nc LIST \"\" *\r\nd LSUB \"\" *\r\ne LIST \"\" *\r\nf STATUS INBOX (SIZE)\r\ng LIST \"\" *\r\nh NOOP")
	for _, line := range c.answers("a", "b", "c", "d", "e", "f", "g", "h") {
		if !strings.HasPrefix(line, "* ") && !matches(line, line[:1]+" OK ...") {
			t.Errorf("answered %q", line)
		}
	}
	await(t, func() bool { return server.budget.taken() == server.budget.each })
}

// A client that asks and does not listen has no more in memory than its commands may, and loses nothing.
func TestStalledPipeline(t *testing.T) {
	const login, commands, size = "i@pipeline.test", 4000, 20_000
	s := storetest.New(t)
	storetest.Account(t, s, login)
	c := serveStore(t, s, nil)(t)
	enter(c, login)
	text := noise(size)
	for range 8 {
		c.want(appendText("INBOX", text), "OK ")
	}
	c.want("SELECT INBOX", "OK ")
	c.want("FETCH 1:* BODY.PEEK[]", "OK ")
	c.nc.SetDeadline(time.Now().Add(3 * time.Minute))
	bounded := within(t, 3*time.Minute, 48<<20)
	sent := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < commands && err == nil; i++ {
			_, err = fmt.Fprintf(c.nc, "t%d UID FETCH %d BODY.PEEK[]\r\n", i, i%8+1)
		}
		sent <- err
	}()
	time.Sleep(time.Second) // until all that can be is on its way
	bounded()
	seen := make(map[string]bool)
	octets := 0
	for len(seen) < commands {
		line := c.line()
		octets += len(line) + 2
		if strings.HasPrefix(line, "t") && strings.HasSuffix(line, " OK UID FETCH completed") {
			seen[line] = true
		}
	}
	if err := <-sent; err != nil || octets < commands*len(text) {
		t.Errorf("%d octets for %d, %v", octets, commands*len(text), err)
	}
}

// One connection with thousands of commands on their way does not keep the database from another.
func TestGreedyPipeline(t *testing.T) {
	const login, commands = "j@pipeline.test", 8000
	s := storetest.New(t, func(o *store.Options) { o.MaxConns = 2 })
	storetest.Account(t, s, login)
	connect := serveStore(t, s, nil)
	greedy, modest := connect(t), connect(t)
	for _, c := range []*client{greedy, modest} {
		enter(c, login)
		c.nc.SetDeadline(time.Now().Add(2 * time.Minute))
	}
	for i := range 50 {
		modest.want(appendText("INBOX", fmt.Sprintf("Subject: %d\r\n\r\nbody\r\n", i)), "OK ")
	}
	greedy.want("SELECT INBOX", "OK ")
	modest.want("SELECT INBOX", "OK ")
	sent := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < commands && err == nil; i++ {
			_, err = fmt.Fprintf(greedy.nc, "t%d %s\r\n", i, []string{"UID FETCH 1:* FLAGS", "LIST \"\" *", "STATUS Sent (MESSAGES)", "SEARCH SUBJECT 7"}[i%4])
		}
		sent <- err
	}()
	var answered atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; n < commands; {
			line, err := greedy.r.ReadString('\n')
			if err != nil {
				return
			}
			if strings.HasPrefix(line, "t") {
				n++
				answered.Add(1)
			}
		}
	}()
	for range 50 {
		began := time.Now()
		modest.want("NOOP", "OK ")
		modest.want("STATUS Sent (MESSAGES)", "OK ")
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("two commands beside a greedy connection took %v", took)
		}
	}
	if n := answered.Load(); n == commands || n == 0 {
		t.Errorf("%d of %d commands of the greedy connection were answered before: nothing is shown", n, commands)
	}
	<-done
	if err := <-sent; err != nil || answered.Load() != commands {
		t.Errorf("%d of %d commands were answered, %v", answered.Load(), commands, err)
	}
}

// Random pipelines do what the same commands do one by one, and tell the same.
func TestRandomPipelines(t *testing.T) {
	s := storetest.New(t)
	connect := serveStore(t, s, nil)
	seed := uint64(time.Now().UnixNano())
	for i := range 50 {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		commands := randomPipeline(r)
		serial, together := fmt.Sprintf("serial%d@pipeline.test", i), fmt.Sprintf("together%d@pipeline.test", i)
		storetest.Account(t, s, serial)
		storetest.Account(t, s, together)
		want := playPipeline(connect(t), serial, commands, false)
		got := playPipeline(connect(t), together, commands, true)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d, %d: pipelined\n%s\nis answered\n%s\nand one by one\n%s", seed, i,
				strings.Join(commands, "\n"), strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func randomPipeline(r *rand.Rand) (commands []string) {
	if r.IntN(3) == 0 {
		commands = append(commands, "ENABLE "+[]string{"CONDSTORE", "QRESYNC", "IMAP4rev2", "UIDONLY"}[r.IntN(4)])
	}
	commands = append(commands, "SELECT INBOX")
	flag := func() string { return []string{`\Seen`, `\Flagged`, `\Deleted`, "$Work"}[r.IntN(4)] }
	number := func() int { return 1 + r.IntN(9) }
	for range 10 + r.IntN(40) {
		var c string
		switch r.IntN(24) {
		case 0:
			c = fmt.Sprintf("STORE %d +FLAGS (%s)", number(), flag())
		case 1:
			c = fmt.Sprintf("UID STORE %d:* -FLAGS.SILENT (%s)", number(), flag())
		case 2:
			c = []string{"EXPUNGE", "NOOP", "CHECK", fmt.Sprintf("UID EXPUNGE %d", number())}[r.IntN(4)]
		case 3:
			c = fmt.Sprintf("UID FETCH %d BODY[TEXT]", number())
		case 4:
			c = fmt.Sprintf("SEARCH RETURN (SAVE) UID %d:*", number())
		case 5:
			c = []string{"UID FETCH $ (FLAGS)", "FETCH $ UID", "UID SEARCH RETURN (COUNT) $"}[r.IntN(3)]
		case 6:
			c = []string{"SELECT Sent", "SELECT INBOX", "EXAMINE INBOX"}[r.IntN(3)]
		case 7:
			c = fmt.Sprintf("UID COPY %d Sent", number())
		case 8:
			c = fmt.Sprintf("UID MOVE %d Sent", number())
		case 9:
			c = fmt.Sprintf("FETCH %d (MODSEQ)", number())
		case 10, 11:
			c = fmt.Sprintf("UID FETCH %d (FLAGS BODY.PEEK[])", number())
		case 12, 13:
			c = fmt.Sprintf("FETCH %d (UID ENVELOPE)", number())
		case 14:
			c = fmt.Sprintf("UID FETCH %d:* (FLAGS)", number())
		case 15:
			c = fmt.Sprintf("SEARCH %d:%d UNSEEN", number(), number())
		case 16, 17:
			c = fmt.Sprintf("UID SEARCH BODY text%d", number())
		case 18:
			c = fmt.Sprintf("UID SEARCH RETURN (MIN MAX COUNT) UNDELETED SUBJECT %d", number())
		case 19, 20:
			c = fmt.Sprintf("STATUS %s (MESSAGES UNSEEN UIDNEXT)", []string{"INBOX", "Sent", "Nowhere"}[r.IntN(3)])
		case 21:
			c = []string{`LIST "" %`, `LIST "" S* RETURN (STATUS (MESSAGES))`, `LSUB "" *`}[r.IntN(3)]
		case 22:
			c = []string{"CAPABILITY", "NAMESPACE", "ID NIL", "GETMETADATA INBOX /private/comment", "MYRIGHTS INBOX", "FROB", "FETCH 1 (NOTHING)"}[r.IntN(7)]
		case 23:
			c = `SETMETADATA INBOX (/private/comment "` + flag()[1:] + `")`
		}
		commands = append(commands, c)
	}
	return commands
}

// playPipeline plays commands, all at once or one by one, and returns what was told up to each of
// them that changes something, in the order of the alphabet, and what is in the mailboxes then.
func playPipeline(c *client, login string, commands []string, pipelined bool) (told []string) {
	enter(c, login)
	for i := range 8 {
		c.want(appendText("INBOX", fmt.Sprintf("Subject: number %d\r\n\r\ntext%d\r\n", i+1, i+1)), "OK ")
	}
	if pipelined {
		var all strings.Builder
		for i, command := range commands {
			fmt.Fprintf(&all, "t%d %s\r\n", i, command)
		}
		if _, err := io.WriteString(c.nc, all.String()); err != nil {
			c.t.Fatal(err)
		}
	}
	var part []string
	end := func() {
		slices.Sort(part)
		told = append(told, part...)
		told = append(told, "--")
		part = nil
	}
	answered := make(map[string]bool)
	for i, command := range commands {
		tag := fmt.Sprintf("t%d", i)
		if !pipelined {
			c.send(tag + " " + command)
		}
		for !answered[tag] {
			line := c.line()
			if t, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(t, "t") && !strings.HasPrefix(t, "text") {
				answered[t] = true
			}
			part = append(part, likened(line))
		}
		if word, _, _ := strings.Cut(strings.TrimPrefix(command, "UID "), " "); !slices.Contains([]string{"FETCH", "SEARCH", "STATUS", "LIST", "LSUB", "CAPABILITY", "NAMESPACE", "ID", "GETMETADATA", "MYRIGHTS"}, word) {
			end()
		}
	}
	end()
	for _, mailbox := range []string{"INBOX", "Sent"} {
		c.want("EXAMINE "+mailbox, "OK ")
		told = append(told, c.want("UID FETCH 1:* (FLAGS MODSEQ)", "OK ")...)
	}
	return told
}

// likened leaves out what differs from account to account.
func likened(line string) string {
	for _, head := range []string{"* OK [UIDVALIDITY ", "* OK [MAILBOXID "} {
		if strings.HasPrefix(line, head) {
			return head
		}
	}
	if before, after, ok := strings.Cut(line, "[COPYUID "); ok {
		_, uids, _ := strings.Cut(after, " ")
		return before + "[COPYUID " + uids
	}
	return line
}

// slow is a bucket at some distance.
type slow struct {
	blob.Bucket
	latency time.Duration
}

func (s slow) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	time.Sleep(s.latency)
	return s.Bucket.Get(ctx, key, off, n)
}

// BenchmarkPipeline fetches 32 messages of 100 kB, none of which is cached, with as many
// commands at once, from a bucket that takes 30 ms for an answer.
func BenchmarkPipeline(b *testing.B) {
	const login, messages = "a@pipeline.test", 32
	cluster := storetest.Config(b)
	near := storetest.Open(b, cluster, func(o *store.Options) { o.NoStaging = true })
	storetest.Account(b, near, login)
	c := serveStore(b, near, nil)(b)
	enter(c, login)
	for range messages {
		c.want(appendText("INBOX", noise(100_000)), "OK ")
	}
	far := storetest.Open(b, cluster, func(o *store.Options) {
		o.Bucket = slow{o.Bucket, 30 * time.Millisecond}
		o.BlobCacheBytes = 1 // nothing is kept
	})
	var commands strings.Builder
	for i := range messages {
		fmt.Fprintf(&commands, "t UID FETCH %d BODY.PEEK[]\r\n", i+1)
	}
	for _, lanes := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("at-once-%d", lanes), func(b *testing.B) {
			server := New(Options{Store: far, Authenticator: auth.New(far, auth.Options{}), PlaintextLogin: true, MaxAtOnce: lanes})
			nc, err := net.Dial("tcp", listen(b, server, server.Serve))
			if err != nil {
				b.Fatal(err)
			}
			c := newClient(b, nc)
			enter(c, login)
			c.want("SELECT INBOX", "OK ")
			for b.Loop() {
				if _, err := io.WriteString(nc, commands.String()); err != nil {
					b.Fatal(err)
				}
				for left := messages; left > 0; {
					line, err := c.r.ReadSlice('\n')
					if err != nil {
						b.Fatal(err)
					}
					if strings.HasPrefix(string(line), "t OK") {
						left--
					}
				}
			}
		})
	}
}
