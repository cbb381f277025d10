package imapd

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// Where sorting would take more memory than there is, it is refused, unless the mailbox itself tells the order.
func TestSortMemory(t *testing.T) {
	s := storetest.New(t, func(o *store.Options) { o.OrderCacheBytes = 1000 })
	storetest.Account(t, s, "a@sort.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "a@sort.test")
	c.want(appendText("INBOX", "Subject: x\r\n\r\nbody\r\n"), "OK ")
	c.want("SELECT INBOX", "OK ")
	for _, command := range []string{"SORT (DATE) UTF-8 ALL", "UID THREAD REFERENCES UTF-8 ALL"} {
		c.want(command, "NO [LIMIT] Too much mail to be sorted or threaded at once")
	}
	if got := c.want("SORT (ARRIVAL SIZE) UTF-8 ALL", "OK "); got[0] != "* SORT 1" {
		t.Error(got)
	}
}

// Sorting tells how far it has come.
func TestSortTellsItsProgress(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@sort.test")
	c := serveStore(t, s, func(o *Options) { o.ProgressInterval = time.Nanosecond })(t)
	enter(c, "a@sort.test")
	const n = 1030 // more than are read at a time
	c.want("APPEND INBOX"+strings.Repeat(" {5+}\r\nhello", n), "OK ")
	c.want("SELECT INBOX", "OK ")
	got := c.want("SORT (SUBJECT) UTF-8 ALL", "OK ")
	if !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, `* OK [INPROGRESS ("do.it" 1024 1030)] `) }) {
		t.Errorf("it tells nothing, but %.200q", got)
	}
}

// Whatever References and subjects say, each message is in the answer once, in bounded time.
func TestHostileReferences(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@sort.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "a@sort.test")
	r := rand.New(rand.NewPCG(5, 256))
	const n = 60
	for i := range n {
		var refs strings.Builder
		switch i % 4 {
		case 0: // ten thousand that are not there
			for k := range 10_000 {
				fmt.Fprintf(&refs, "\r\n <%d.%d@x>", i, k)
			}
		case 1: // the same everywhere
			refs.WriteString(strings.Repeat("\r\n <same@x>", 2000))
		case 2: // rings
			for range 50 {
				fmt.Fprintf(&refs, "\r\n <%d@x>", r.IntN(n))
			}
		}
		id := fmt.Sprintf("<%d@x>", i)
		if i%5 == 0 {
			id = "<same@x>"
		}
		c.want(appendText("INBOX", fmt.Sprintf("Message-ID: %s\r\nSubject: %s\r\nReferences:%s\r\n\r\nbody\r\n", id, strings.Repeat("[Fwd: ", i), refs.String())), "OK ")
	}
	c.want("SELECT INBOX", "OK ")
	for _, command := range []string{"THREAD REFERENCES UTF-8 ALL", "THREAD ORDEREDSUBJECT UTF-8 ALL", "SORT (SUBJECT DATE FROM TO CC SIZE ARRIVAL DISPLAYFROM DISPLAYTO) UTF-8 ALL"} {
		began := time.Now()
		got := c.want(command, "OK ")
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s took %s", command, took)
		}
		seen := make(map[string]bool)
		for _, number := range regexp.MustCompile("[0-9]+").FindAllString(got[len(got)-1], -1) {
			if seen[number] {
				t.Errorf("%s: %s is there twice", command, number)
			}
			seen[number] = true
		}
		if len(seen) != n || strings.Count(got[len(got)-1], "(") != strings.Count(got[len(got)-1], ")") {
			t.Errorf("%s: %d messages in %.200s", command, len(seen), got[len(got)-1])
		}
	}
}
