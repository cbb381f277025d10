package imapd

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// northsName is ownersName of the owner whose mailboxes are in a third cell.
const northsName = "Other Users/user@north.test/"

// thirdCell has the guest's home visit one more cell, which is to be staged.
func thirdCell(t *testing.T, west, east *cell) *cell {
	t.Helper()
	north := &cell{name: "north", server: east.server}
	west.server.o.Cells[north.name] = west.server.o.Cells[east.name]
	if err := west.store.SetRemoteDomain(t.Context(), "north.test", north.name); err != nil {
		t.Fatal(err)
	}
	if err := west.store.AddVisit(t.Context(), mustAccount(t, west.store, guestHome), store.Visit{Cell: north.name, Login: "guest@north.test"}); err != nil {
		t.Fatal(err)
	}
	return north
}

// inNorth is a script of the third cell, where one of the second says the same of the mailboxes there.
func inNorth(script func(line string) string) func(line string) string {
	return func(line string) string { return strings.ReplaceAll(script(line), ownersName, northsName) }
}

// saysOK is a script of a cell that answers all with OK and its name.
func saysOK(name string) func(line string) string {
	return func(line string) string {
		tag, _, _ := strings.Cut(line, " ")
		return tag + " OK at " + name + "\r\n"
	}
}

// Cells that are listed are asked at the same time, and where one of them is away what the other has is told.
func TestCellsAreListedTogether(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	north := thirdCell(t, west, east)
	west.server.elsewhere = 5 * time.Second
	var asked sync.WaitGroup
	asked.Add(2)
	meets := func(name, first string) func(line string) string {
		script := lists([]string{"Plans"}, saysOK(name))
		return func(line string) string {
			if strings.HasPrefix(line, `a LIST "" `) { // it is answered when both have been asked
				asked.Done()
				asked.Wait()
				return first + script(line)
			}
			return script(line)
		}
	}
	staged(t, west, east, meets("east", "* 7 EXISTS\r\n"))
	staged(t, west, north, inNorth(meets("north", "* 9 EXISTS\r\n")))
	c := west.visitor(t)
	c.want(`SELECT "`+ownersName+`Plans"`, "OK at east")
	got := c.want(`LIST "" *`, "OK ")
	if names := othersIn(got); !slices.Contains(names, ownersName+"Plans") || !slices.Contains(names, northsName+"Plans") {
		t.Errorf("listed are %q", names)
	}
	if !slices.Contains(got, "* 7 EXISTS") || slices.Contains(got, "* 9 EXISTS") {
		t.Errorf("of what is selected is told %q", got)
	}

	asked.Add(2) // one of which goes away
	staged(t, west, north, func(line string) string {
		if strings.HasPrefix(line, `a LIST "" `) {
			asked.Done()
			asked.Wait()
			return "* BYE away\r\n" + hangUp
		}
		return ""
	})
	c = west.visitor(t)
	got = c.want(`LIST "" *`, "NO [UNAVAILABLE] ")
	if names := othersIn(got); !slices.Contains(names, ownersName+"Plans") || slices.Contains(names, northsName+"Plans") {
		t.Errorf("where one is away are listed %q", names)
	}
}

// What is selected in one cell is left for a mailbox of another, and no command has to do with both.
func TestFromCellToCell(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	north := thirdCell(t, west, east)
	staged(t, west, east, saysOK("east"))
	staged(t, west, north, saysOK("north"))
	const plans, letters = `"` + ownersName + `Plans"`, `"` + northsName + `Letters"`
	c := west.visitor(t)
	for _, to := range []struct{ box, other, name string }{{plans, letters, "east"}, {letters, plans, "north"}, {plans, letters, "east"}} {
		c.want("SELECT "+to.box, "OK at "+to.name)
		c.want("NOOP", "OK at "+to.name)
		c.want("STATUS "+to.other+" (MESSAGES)", "OK at ")
		c.want("COPY 1 "+to.box, "OK at "+to.name)
		for _, command := range []string{"COPY 1 %s", "UID COPY 1 %s", "MOVE 1 %s", "RENAME %s " + to.box, "ESEARCH IN (mailboxes (%s " + to.box + ")) ALL", "ESEARCH IN (selected mailboxes %s) ALL"} {
			c.want(fmt.Sprintf(command, to.other), "NO [CANNOT] These mailboxes are on different servers")
		}
	}
	c.want("SELECT INBOX", "OK [READ-WRITE] ")
}

// Connections to other cells are counted, and given back however they end.
func TestVisitsAreBounded(t *testing.T) {
	west, _, _ := sharingCells(t, nil)
	west.server.visiting = newBudget(4) // of which an account has a quarter
	const plans = `"` + ownersName + `Plans"`
	free := func() {
		t.Helper()
		await(t, func() bool { return west.server.visiting.taken() == 0 })
	}
	first, second := west.visitor(t), west.visitor(t)
	first.want("SELECT "+plans, "OK ")
	first.want("STATUS "+plans+" (MESSAGES)", "OK ")
	if got := second.want(`LIST "" *`, "NO [UNAVAILABLE] "); !slices.Contains(got, `* LIST (\HasNoChildren) "/" "INBOX"`) {
		t.Errorf("at home is listed %q", got)
	}
	second.want("SELECT "+plans, "NO [UNAVAILABLE] ")
	first.want("LOGOUT", "OK ")
	free()

	const many = 10
	west.server.visiting = newBudget(many * accountShare)
	var running sync.WaitGroup
	for n := range many {
		c := west.visitor(t)
		running.Go(func() {
			for _, command := range []string{`LIST "" *`, "STATUS " + plans + " (MESSAGES)", "EXAMINE " + plans} {
				if _, got := c.do(command); !strings.HasPrefix(got, "OK ") {
					t.Errorf("%s is answered %s", command, got)
				}
			}
			if n%2 == 0 {
				c.nc.Close()
			} else {
				c.do("LOGOUT")
			}
		})
	}
	running.Wait()
	free()
	if n := len(west.server.visiting.of); n > 0 {
		t.Errorf("%d accounts have some", n)
	}
}

// Nothing is lost with a mailbox that is left in a cell that has gone, or does not leave it.
func TestSelectedIsLeft(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	var answer string
	connections := staged(t, west, east, func(line string) string {
		if strings.HasPrefix(line, "a UNSELECT") {
			return answer
		}
		if strings.HasPrefix(line, "a ") {
			return ""
		}
		return saysOK("east")(line)
	})
	const plans = `"` + ownersName + `Plans"`
	c := west.visitor(t)
	for n, answers := range []string{"a OK left\r\n", "* BYE gone\r\n" + hangUp, "a NO not now\r\n", "* BYE gone\r\n" + hangUp} {
		answer = answers
		c.want("SELECT "+plans, "OK at east")
		if got := c.want("SELECT INBOX", "OK [READ-WRITE] "); !slices.Contains(got, "* OK [CLOSED] Previous mailbox is closed") {
			t.Errorf("after %q is told %q", answer, got)
		}
		if got := connections(); got != max(1, n) {
			t.Errorf("after %q there have been %d connections", answer, got)
		}
	}
	c.want("NOOP", "OK NOOP ") // which is at home
}

// A connection that breaks while messages are copied is the other cell's fault.
func TestCopyIsCutOff(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	staged(t, west, east, func(line string) string {
		if strings.HasSuffix(line, "}") {
			return "+ go\r\n" + hangUp
		}
		return ""
	})
	c := west.visitor(t)
	c.want(appendText("INBOX", noise(4<<20)), "OK ")
	c.want("SELECT INBOX", "OK ")
	c.want(`COPY 1 "`+ownersName+`Letters"`, "NO [UNAVAILABLE] ")
	c.want("FETCH 1 UID", "OK ")
}

// Who copies between cells hears that it is under way.
func TestCopyBetweenCellsIsUnderWay(t *testing.T) {
	west, _, _ := sharingCells(t, func(o *Options) { o.ProgressInterval = time.Nanosecond })
	const letters = `"` + ownersName + `Letters"`
	c := west.visitor(t)
	for n := range 3 {
		c.want(appendText("INBOX", fmt.Sprintf("Subject: %d\r\n\r\n", n)), "OK ")
	}
	told := func(command string) (all []string) {
		t.Helper()
		for _, line := range c.want(command, "OK [COPYUID ") {
			if strings.HasPrefix(line, "* OK [INPROGRESS ") {
				all = append(all, line)
			}
		}
		return all
	}
	c.want("SELECT INBOX", "OK ")
	if got, want := told("COPY 1:3 "+letters), []string{`* OK [INPROGRESS ("do.it" 1 3)] Still at it`, `* OK [INPROGRESS ("do.it" 2 3)] Still at it`}; !slices.Equal(got, want) {
		t.Errorf("of a COPY to the other cell is told %q, want %q", got, want)
	}
	c.want("SELECT "+letters, "OK ")
	if got := told("COPY 2:4 INBOX"); len(got) != 3 || got[0] != `* OK [INPROGRESS ("do.it" NIL NIL)] Still at it` {
		t.Errorf("of a COPY from there is told %q", got)
	}
}

// What is answered at once is not waited for as long as what may take its time.
func TestSilentCellIsGivenUp(t *testing.T) {
	const search = 20 * time.Second
	west, east, _ := sharingCells(t, func(o *Options) { o.TurnTimeout, o.SearchTimeout = 100*time.Millisecond, search })
	west.server.elsewhere = 500 * time.Millisecond
	quick := west.server.o.TurnTimeout + west.server.elsewhere
	staged(t, west, east, func(line string) string {
		tag, command, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(command, "SELECT"):
			return tag + " OK selected\r\n"
		case strings.HasPrefix(command, "SEARCH"):
			time.Sleep(2 * quick)
			return tag + " OK found\r\n"
		}
		return ""
	})
	const plans = `"` + ownersName + `Plans"`
	c := west.visitor(t)
	c.want("SELECT "+plans, "OK ")
	c.want("SEARCH ALL", "OK found")
	soon := func(command string, began time.Time) {
		t.Helper()
		if took := time.Since(began); took > search/2 {
			t.Fatalf("%.20q takes %v", command, took)
		}
	}
	for _, command := range []string{"NOOP", "IDLE"} {
		c := west.visitor(t)
		c.want("SELECT "+plans, "OK ")
		began := time.Now()
		c.send("a " + command)
		c.expect("* BYE [UNAVAILABLE] The connection to the server of the selected mailbox is lost")
		soon(command, began)
	}
	for _, command := range []string{"EXAMINE " + plans, "STATUS " + plans + " (MESSAGES)", "GETACL " + plans, "APPEND " + plans + " {1}", "APPEND " + plans + " {1+}\r\nx"} {
		c := west.visitor(t)
		began := time.Now()
		c.want(command, "NO [UNAVAILABLE] ")
		soon(command, began)
		c.want("NOOP", "OK ")
	}
}

// LOGOUT is answered whatever is away.
func TestLogoutOfSilentCell(t *testing.T) {
	const idle = 2 * time.Second
	west, east, _ := sharingCells(t, func(o *Options) { o.IdleTimeout = idle })
	west.server.elsewhere = 100 * time.Millisecond
	staged(t, west, east, func(line string) string {
		if tag, command, _ := strings.Cut(line, " "); strings.HasPrefix(command, "SELECT") {
			return tag + " OK selected\r\n"
		}
		return ""
	})
	c := west.visitor(t)
	c.want(`SELECT "`+ownersName+`Plans"`, "OK ")
	time.Sleep(idle/2 + idle/10) // it would be asked whether it is there
	c.want("LOGOUT", "OK ")
}

// Who waits for another cell to greet goes when its server does.
func TestCellDoesNotGreet(t *testing.T) {
	west, east := twoCells(t, nil)
	l, err := tls.Listen("tcp", "127.0.0.1:0", east.server.o.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connected := make(chan net.Conn, 1)
	go func() {
		nc, err := l.Accept()
		if err == nil {
			err = nc.(*tls.Conn).Handshake()
		}
		if err != nil {
			t.Error(err)
			close(connected)
			return
		}
		connected <- nc
	}()
	to := west.server.o.Cells[east.name]
	to.Address = l.Addr().String()
	west.server.o.Cells[east.name] = to
	c := west.connect(t)
	c.send("a LOGIN user@east.test " + storetest.Password)
	if nc := <-connected; nc != nil {
		defer nc.Close()
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond) // after which what is under way is ended
	defer cancel()
	if err := west.server.Shutdown(ctx); err == nil {
		t.Error("nothing was under way")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it takes %v", took)
	}
}
