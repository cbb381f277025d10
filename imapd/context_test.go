package imapd

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailstead.dev/auth"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// resultList is what a client makes of a search that it is kept up to date of.
type resultList []int

var (
	updateLine = regexp.MustCompile(`^\* ESEARCH \(TAG "([a-z]+)"\) UID (.*)$`)
	updateItem = regexp.MustCompile(`(ADDTO|REMOVEFROM) \(([^)]*)\)`)
)

// numbersIn returns what a set stands for, in its order.
func numbersIn(t *testing.T, set string) (all []int) {
	t.Helper()
	for part := range strings.SplitSeq(set, ",") {
		first, last, isRange := strings.Cut(part, ":")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil || from > to {
			t.Fatalf("%q is no set", set)
		}
		for n := from; n <= to; n++ {
			all = append(all, n)
		}
	}
	return all
}

// update applies a response (RFC 5267 sections 4.3.3 and 4.3.4).
func (l *resultList) update(t *testing.T, data string) {
	t.Helper()
	for _, item := range updateItem.FindAllStringSubmatch(data, -1) {
		fields := strings.Fields(item[2])
		for i := 0; i+1 < len(fields); i += 2 {
			at, err := strconv.Atoi(fields[i])
			if err != nil {
				t.Fatal(data)
			}
			uids := numbersIn(t, fields[i+1])
			switch {
			case item[1] == "ADDTO" && at == 0:
				*l = append(*l, uids...)
				slices.Sort(*l)
			case item[1] == "ADDTO":
				*l = slices.Insert(*l, at-1, uids...)
			case at == 0:
				*l = slices.DeleteFunc(*l, func(uid int) bool { return slices.Contains(uids, uid) })
			default:
				if at-1+len(uids) > len(*l) || !slices.Equal((*l)[at-1:at-1+len(uids)], uids) {
					t.Fatalf("%v: %s is not there", *l, item[0])
				}
				*l = slices.Delete(*l, at-1, at-1+len(uids))
			}
		}
	}
}

// Whatever is changed by way of another front end, a client that knows nothing but the updates has the result of a new search.
func TestContexts(t *testing.T) {
	const login = "a@context.test"
	cluster := storetest.Config(t)
	s := storetest.Open(t, cluster)
	storetest.Account(t, s, login)
	watcher, changer := serveStore(t, s, nil)(t), serveStore(t, storetest.Open(t, cluster), nil)(t)
	enter(watcher, login)
	enter(changer, login)
	r := rand.New(rand.NewPCG(52, 67))
	add := func() {
		changer.want(appendText("INBOX", fmt.Sprintf("Subject: %c\r\nDate: %d Jan 2026 12:00:00 +0000\r\n\r\nbody %d\r\n", 'a'+r.IntN(6), 1+r.IntN(28), r.IntN(3))), "OK ")
	}
	for range 20 {
		add()
	}
	watcher.want("SELECT INBOX", "OK ")
	changer.want("SELECT INBOX", "OK ")
	searches := map[string]string{
		"flags":   "UID SEARCH RETURN (%s) FLAGGED UNSEEN",
		"texts":   "UID SEARCH RETURN (%s) OR BODY {6+}\r\nbody 1 NOT SUBJECT b",
		"sort":    "UID SORT RETURN (%s) (SUBJECT REVERSE DATE) UTF-8 UNDELETED",
		"last":    "UID SEARCH RETURN (%s) OR UID * UID 15:*",
		"others":  "UID SEARCH RETURN (%s) NOT UID * UID 30:2 UNFLAGGED",
		"reverse": "UID SORT RETURN (%s) (REVERSE ARRIVAL DISPLAYFROM) UTF-8 OR FLAGGED KEYWORD key",
	}
	results := make(map[string]*resultList)
	found := func(c *client, tag, command string) (l resultList) {
		c.send(tag + " " + command)
		lines, last := c.upTo(tag)
		if !strings.HasPrefix(last, tag+" OK ") {
			t.Fatal(command, last)
		}
		for _, line := range lines {
			if _, set, ok := strings.Cut(line, " UID ALL "); ok {
				l = numbersIn(t, set)
			}
		}
		return l
	}
	for tag, command := range searches {
		l := found(watcher, tag, fmt.Sprintf(command, "UPDATE ALL"))
		results[tag] = &l
	}
	for step := range 60 {
		set := fmt.Sprintf("%d:%d", 1+r.IntN(30), 1+r.IntN(30))
		switch r.IntN(6) {
		case 0:
			for range 1 + r.IntN(3) {
				add()
			}
		case 1:
			changer.want("UID STORE "+set+` +FLAGS (\Deleted)`, "OK ")
		case 2:
			changer.want("UID EXPUNGE "+set, "OK ")
		default:
			changer.want("UID STORE "+set+" "+[]string{"+", "-"}[r.IntN(2)]+"FLAGS ("+[]string{`\Flagged`, `\Seen`, "key", `\Deleted`}[r.IntN(4)]+")", "OK ")
		}
		if step%3 > 0 {
			continue // so that there are several changes at a time
		}
		for _, line := range watcher.want("NOOP", "OK ") {
			if m := updateLine.FindStringSubmatch(line); m != nil {
				results[m[1]].update(t, m[2])
			}
		}
		for tag, command := range searches {
			if want := found(changer, "x", fmt.Sprintf(command, "ALL")); !slices.Equal(*results[tag], want) {
				t.Fatalf("step %d, %s: the client has %v, a search finds %v", step, tag, *results[tag], want)
			}
		}
	}
}

// There are so many at a time, whose memory is given back.
func TestContextsAreBounded(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@context.test")
	connect := serveStore(t, s, func(options *Options) { options.MaxContexts = 2 })
	c := connect(t)
	enter(c, "a@context.test")
	c.want("SELECT INBOX", "OK ")
	for i, told := range []string{"* ESEARCH", "* ESEARCH", `* NO [NOUPDATE "t2"] Too many searches are kept up to date`} {
		c.send(fmt.Sprintf("t%d UID SEARCH RETURN (UPDATE COUNT) ALL", i))
		lines, last := c.upTo(fmt.Sprintf("t%d", i))
		if !strings.HasPrefix(last, fmt.Sprintf("t%d OK ", i)) || !strings.HasPrefix(lines[len(lines)-1], told) {
			t.Errorf("%q, %s", lines, last)
		}
	}
	c.want(`CANCELUPDATE "t0"`, "OK ")
	c.send("t3 UID SEARCH RETURN (UPDATE COUNT) ALL")
	if lines, _ := c.upTo("t3"); len(lines) != 1 {
		t.Errorf("%q", lines)
	}
	// Where there is no memory for it.
	tight := serveStore(t, s, func(options *Options) { options.MaxContextMemory = 4000 })(t)
	enter(tight, "a@context.test")
	tight.want("SELECT INBOX", "OK ")
	if got := tight.want("UID SEARCH RETURN (UPDATE COUNT) ALL", "OK "); got[1] != `* NO [NOUPDATE "do.it"] The result is too large to be kept up to date` {
		t.Errorf("%q", got)
	}
}

// contextServer serves a store, and returns the server as well.
func contextServer(t *testing.T, s *store.Store, change func(*Options)) (*Server, func() *client) {
	o := testOptions(t)
	o.Store, o.Authenticator = s, auth.New(s, auth.Options{})
	change(&o)
	server := New(o)
	addr := listen(t, server, server.Serve)
	return server, func() *client {
		c := dial(t, addr)
		enter(c, "a@context.test")
		c.want("SELECT INBOX", "OK ")
		return c
	}
}

// What contexts keep counts for a budget of their own, with what they ask, and as it grows.
func TestContextMemory(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@context.test")
	server, connect := contextServer(t, s, func(o *Options) { o.MaxContextMemory = accountShare * 5000 })
	c, other := connect(), connect()
	kept := func(command string) bool {
		t.Helper()
		lines := c.want(command, "OK ")
		c.want(`CANCELUPDATE "do.it"`, "OK ")
		if left := server.kept.taken(); left > 0 {
			t.Errorf("%.50s: %d octets are left", command, left)
		}
		return !slices.Contains(lines, `* NO [NOUPDATE "do.it"] `+tooLarge)
	}
	if !kept("UID SEARCH RETURN (UPDATE COUNT) SUBJECT x") {
		t.Error("a small search is not kept up to date")
	}
	if kept(fmt.Sprintf("UID SEARCH RETURN (UPDATE COUNT) SUBJECT {3000+}\r\n%03000d", 0)) {
		t.Error("what a search asks counts for nothing")
	}
	if kept("UID SEARCH RETURN (UPDATE COUNT) OR 1:2 OR 1:2 OR 1:2 OR 1:2 OR 1:2 OR 1:2 OR 1:2 OR 1:2 1:2") {
		t.Error("keys count for nothing")
	}
	c.want("UID SORT RETURN (UPDATE COUNT) (ARRIVAL) UTF-8 ALL", "OK ")
	if took := server.kept.taken(); took == 0 || server.budget.taken() > 0 {
		t.Errorf("a context takes %d octets, and %d of the memory for commands", took, server.budget.taken())
	}
	other.want("APPEND INBOX"+strings.Repeat(" {5+}\r\nhello", 400), "OK ")
	lines := c.want("NOOP", "OK ")
	if last := lines[len(lines)-1]; last != `* NO [NOUPDATE "do.it"] `+tooLarge || server.kept.taken() > 0 {
		t.Errorf("it grows, and the client is told %.100q; it takes %d octets", last, server.kept.taken())
	}
	c.want("UID SEARCH RETURN (UPDATE COUNT) ALL", "OK ")
	c.want("LOGOUT", "OK ")
	await(t, func() bool { return server.kept.taken() == 0 })
}

// What keeping a sorted result up to date takes is given back at once, also while the client is in IDLE.
func TestContextsGiveBack(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@context.test")
	server, connect := contextServer(t, s, func(o *Options) {})
	c, other := connect(), connect()
	other.want("APPEND INBOX"+strings.Repeat(" {5+}\r\nhello", 400), "OK ")
	c.want("UID SORT RETURN (UPDATE COUNT) (ARRIVAL) UTF-8 UNFLAGGED", "OK ")
	c.send("i IDLE")
	c.expect("+ ...")
	for range 2 {
		other.want(`UID STORE 1:10 +FLAGS.SILENT (\Flagged)`, "OK ")
		c.expect(`* ESEARCH (TAG "do.it") UID REMOVEFROM (1 1:10)`)
		other.want(`UID STORE 1:10 -FLAGS.SILENT (\Flagged)`, "OK ")
		for c.line() != `* ESEARCH (TAG "do.it") UID ADDTO (1 1:10)` { // flags come before it
		}
		await(t, func() bool { return server.budget.taken() == 0 })
	}
	c.send("DONE")
	c.expect("i OK ...")
}

// A context is evaluated when it is the turn of a search of its account; what is told without looking waits for none.
func TestContextsTakeTurns(t *testing.T) {
	s := storetest.New(t)
	user := storetest.Account(t, s, "a@context.test")
	server, connect := contextServer(t, s, func(o *Options) { o.Account.Searches, o.TurnTimeout = 1, 50*time.Millisecond })
	c, other := connect(), connect()
	other.want("APPEND INBOX"+strings.Repeat(" {5+}\r\nhello", 3), "OK ")
	other.want(`STORE 1 +FLAGS (\Deleted)`, "OK ")
	c.want("UID SEARCH RETURN (UPDATE COUNT) UNFLAGGED", "OK ")

	server.shares.mu.Lock()
	searches := server.shares.accounts[user.Account].searches
	server.shares.mu.Unlock()
	if !searches.TryAcquire(1) {
		t.Fatal("a search that is over has its turn still")
	}
	other.want("EXPUNGE", "OK ")
	if got := c.want("NOOP", "OK "); !slices.Equal(got, []string{`* ESEARCH (TAG "do.it") UID REMOVEFROM (0 1)`, "* 1 EXPUNGE"}) {
		t.Errorf("without a turn it is told %q", got)
	}
	other.want(`STORE 1 +FLAGS (\Flagged)`, "OK ")
	if got := c.want("NOOP", "OK "); got[0] != `* NO [NOUPDATE "do.it"] The result could not be kept up to date` {
		t.Errorf("without a turn it is told %q", got)
	}
	searches.Release(1)
	c.want("UID SEARCH RETURN (UPDATE COUNT) UNFLAGGED", "OK ")
	other.want(`STORE 2 +FLAGS (\Flagged)`, "OK ")
	if got := c.want("NOOP", "OK "); got[0] != `* ESEARCH (TAG "do.it") UID REMOVEFROM (0 3)` {
		t.Errorf("it is told %q", got)
	}
}

// allocations returns how often memory was allocated meanwhile, which is so on any machine.
func allocations(do func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return int(after.Mallocs - before.Mallocs)
}

// Many messages that join a sorted result at once are sorted with it, and not put into it one by one.
func TestManyJoin(t *testing.T) {
	const n = 3000
	s := storetest.New(t)
	storetest.Account(t, s, "a@context.test")
	_, connect := contextServer(t, s, func(*Options) {})
	c := connect()
	for range n / 1000 {
		c.want("APPEND INBOX"+strings.Repeat(" {5+}\r\nhello", 1000), "OK ")
	}
	var odd []string
	for uid := 1; uid < n; uid += 2 {
		odd = append(odd, strconv.Itoa(uid))
	}
	set := strings.Join(odd, ",")
	var lines []string
	unflag := func() { lines = c.want("UID STORE "+set+` -FLAGS.SILENT (\Flagged)`, "OK ") }
	c.want("UID STORE "+set+` +FLAGS.SILENT (\Flagged)`, "OK ")
	without := allocations(unflag)
	c.want("UID SORT RETURN (UPDATE COUNT) (SUBJECT) UTF-8 UNFLAGGED", "OK ")
	c.want("UID STORE "+set+` +FLAGS.SILENT (\Flagged)`, "OK ")
	if with := allocations(unflag); with > without+10*n {
		t.Errorf("that %d messages join %d takes %d allocations, and a STORE %d", n/2, n/2, with-without, without)
	}
	var got, want resultList
	for uid := 2; uid <= n; uid += 2 {
		got = append(got, uid)
	}
	for uid := 1; uid <= n; uid++ {
		want = append(want, uid)
	}
	if got.update(t, lines[0]); !slices.Equal(got, want) {
		t.Errorf("the client has %d messages: %.200q", len(got), lines[0])
	}
}
