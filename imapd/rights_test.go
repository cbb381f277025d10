package imapd

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// rightsRow is a command of testdata/rights.txt, and what comes of it.
type rightsRow struct {
	command  string
	told     string
	cells    map[string]string // by the right that is missing
	selected bool              // it is given with the mailbox selected
}

// noRight is the column of who has all rights.
const noRight = "all"

// ways in which a user can lack a right.
var ways = []string{"owner", "other", "group", "anyone", "negative"}

// sharedRows are those of testdata/rights.txt, and the rights in the order of its columns.
func sharedRows(t *testing.T) (rows []rightsRow, rights []string) {
	t.Helper()
	text, err := os.ReadFile("testdata/rights.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimRight(line, "\n"), "|")
		if strings.HasPrefix(line, "#") || len(fields) == 1 {
			continue
		}
		selected := strings.HasPrefix(line, "  ")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		if rights == nil {
			rights = fields[2:]
			continue
		}
		row := rightsRow{command: fields[0], told: fields[1], cells: make(map[string]string), selected: selected}
		if len(fields) != 2+len(rights) {
			t.Fatalf("testdata/rights.txt: %q has %d columns, not %d", row.command, len(fields), 2+len(rights))
		}
		for i, right := range rights {
			if row.cells[right] = fields[2+i]; row.cells[right] == "." {
				row.cells[right] = row.cells[noRight]
			}
		}
		rows = append(rows, row)
	}
	return rows, rights
}

// rightsGround is where the rows are played: Fred's mailboxes, his session on one front end, and other users' on another.
type rightsGround struct {
	t       *testing.T
	rows    []rightsRow
	fred    *client
	connect func(testing.TB) *client
}

const (
	fredsLogin = "fred@rights.test"
	everyRight = "lrswipkxtea"
	kept       = "lra" // by an owner
)

// The rights matrix: every command, with each right missing in each way, over the wire.
func TestRights(t *testing.T) {
	rows, rights := sharedRows(t)
	cluster := storetest.Config(t)
	s := storetest.Open(t, cluster)
	users := []store.User{storetest.Account(t, s, fredsLogin)}
	for _, login := range append(ways[1:], "zoe") {
		users = append(users, storetest.Account(t, s, login+"@rights.test"))
	}
	makeGroup(t, s, "staff", users[slices.Index(ways, "group")])
	here, there := serveStore(t, s, oneByOne), serveStore(t, storetest.Open(t, cluster), oneByOne)

	cases := 0
	t.Run("ways", func(t *testing.T) {
		for _, way := range ways {
			g := &rightsGround{rows: rows, fred: here(t), connect: there}
			enter(g.fred, fredsLogin)
			g.fred.nc.SetDeadline(time.Now().Add(5 * time.Minute)) // one session for all that the others lack
			cases += len(rows) * len(rights)
			t.Run(way, func(t *testing.T) {
				t.Parallel()
				g.t, g.fred.t = t, t
				for _, right := range rights {
					g.play(way, right)
					if way != "owner" && strings.Contains("lr", right) {
						g.revoke(way, right)
					}
				}
			})
		}
	})
	if cases < 400 {
		t.Errorf("only %d cases", cases)
	}
}

// oneByOne has answers come in the order of the commands.
func oneByOne(o *Options) { o.MaxAtOnce = 1 }

// box makes a mailbox of Fred's on which a right is missing, with what the rows want to find there:
// messages 1 to 10, and some mailboxes below it.
func (g *rightsGround) box(way, right string) string {
	box := "R/" + way + "-" + right
	all := []string{"CREATE " + box}
	if way != "owner" {
		all = append(all, without(way, right, box)...)
	}
	const hello = " {5+}\r\nhello"
	all = append(all, "CREATE "+box+"/first", "CREATE "+box+"/second", "CREATE "+box+"/third", // which inherit the list
		`SETMETADATA `+box+` (/shared/comment "ours")`,
		"APPEND "+box+hello+hello+hello+ // 1 to 3
			` (\Deleted \Flagged)`+hello+` (\Deleted \Flagged)`+hello+ // 4 and 5
			` (\Deleted)`+hello+hello+hello+ // 6 to 8
			` (\Deleted)`+hello+hello, // 9 and 10
		"APPEND "+box+`/third (\Deleted)`+hello)
	if way == "owner" && right != noRight {
		for _, name := range []string{box, box + "/first", box + "/second", box + "/third"} {
			all = append(all, "SETACL "+name+" "+fredsLogin+" -"+right)
		}
	}
	g.fred.wantAll(all, "OK ")
	return box
}

// without are the commands that give a user all rights on a mailbox but one.
func without(way, right, box string) []string {
	rest := strings.ReplaceAll(everyRight, right, "")
	switch way {
	case "other":
		return []string{"SETACL " + box + " other@rights.test " + rest}
	case "group":
		return []string{"SETACL " + box + " group:staff " + rest}
	case "anyone":
		return []string{"SETACL " + box + " anyone " + rest}
	}
	grant := []string{"SETACL " + box + " negative@rights.test " + everyRight}
	if right != noRight {
		grant = append(grant, "SETACL "+box+" -negative@rights.test "+right)
	}
	return grant
}

// user begins a session of who lacks rights in the way, and returns how they call a mailbox of Fred's.
func (g *rightsGround) user(way string) (c *client, called func(string) string) {
	c = g.connect(g.t)
	if way == "owner" {
		enter(c, fredsLogin)
		return c, func(name string) string { return name }
	}
	enter(c, way+"@rights.test")
	return c, func(name string) string { return "Other Users/" + fredsLogin + "/" + name }
}

// play plays the rows of a column, all of them sent at once.
func (g *rightsGround) play(way, right string) {
	box := g.box(way, right)
	c, called := g.user(way)
	mine := "Mine-" + right
	const message = ` (\Seen \Deleted \Flagged key) {5+}` + "\r\nhello"
	c.wantAll([]string{"CREATE " + mine, "APPEND " + mine + strings.Repeat(message, 3)}, "OK ")
	if way == "owner" && strings.Contains(kept, right) {
		right = noRight
	}
	revoked := way != "owner" && strings.Contains("lr", right)
	var sent []string
	for i, row := range g.rows {
		if !row.selected || !revoked {
			sent = append(sent, fmt.Sprint(i, " ", row.of(called(box), mine)))
		}
	}
	c.send(strings.Join(sent, "\r\n"))
	for i, row := range g.rows {
		if row.selected && revoked {
			continue
		}
		if got, lines := c.outcome(fmt.Sprint(i), row.told, called(box)); got != row.cells[right] {
			g.t.Errorf("%s without %s: %s is answered %q, want %q:\n%s", way, right, row.command, got, row.cells[right], strings.Join(lines, "\n"))
		}
	}
	c.nc.Close()
}

// revoke takes a right from sessions that have selected the mailbox, each of which then gives one command.
func (g *rightsGround) revoke(way, right string) {
	box := "R/" + way + "-lost-" + right
	hello := " {5+}\r\nhello"
	g.fred.wantAll(append([]string{"CREATE " + box, "APPEND " + box + strings.Repeat(hello, 16)}, without(way, noRight, box)...), "OK ")
	var sessions []*client
	var called func(string) string
	for _, row := range g.rows {
		if row.selected {
			var c *client
			c, called = g.user(way)
			c.want(`SELECT "`+called(box)+`"`, "OK ")
			sessions = append(sessions, c)
		}
	}
	g.fred.wantAll(without(way, right, box), "OK ")
	for _, row := range g.rows {
		if !row.selected {
			continue
		}
		c := sessions[0]
		sessions = sessions[1:]
		c.send("x " + row.of(called(box), "Mine-all"))
		if got, lines := c.outcome("x", row.told, called(box)); got != row.cells[right] {
			g.t.Errorf("%s deprived of %s: %s is answered %q, want %q:\n%s", way, right, row.command, got, row.cells[right], strings.Join(lines, "\n"))
		}
		c.nc.Close()
	}
}

// of is the command for the mailbox, and one of the user's own.
func (r rightsRow) of(box, mine string) string {
	return strings.NewReplacer("$BOX", box, "$MINE", mine, "^", "\r\n").Replace(r.command)
}

// wantAll sends commands at once and demands that each is answered so.
func (c *client) wantAll(commands []string, answer string) {
	c.t.Helper()
	c.send("all " + strings.Join(commands, "\r\nall "))
	for _, command := range commands {
		if _, tagged := c.upTo("all"); !strings.HasPrefix(tagged, "all "+answer) {
			c.t.Fatalf("%s: %s", command, tagged)
		}
	}
}

// upTo receives what comes up to a tagged answer, or the end of the session.
func (c *client) upTo(tag string) (lines []string, last string) {
	c.t.Helper()
	for {
		line := c.line()
		if strings.HasPrefix(line, tag+" ") || strings.HasPrefix(line, "* BYE ") {
			return lines, line
		}
		lines = append(lines, line)
	}
}

// refusals are the cells of answers that are not OK.
var refusals = map[string]string{
	"* BYE The selected mailbox was deleted, or is not shared any more": "BYE",
	"NO [NOPERM] Permission denied":                                     "NOPERM",
	"NO [NONEXISTENT] No such mailbox":                                  "NONE",
	"NO [TRYCREATE] No such mailbox":                                    "CREATE",
}

var (
	toldFlags     = regexp.MustCompile(`(?m)\* [0-9]+ FETCH .*(?s:.*)FLAGS \(([^)]*)\)`)
	toldPermanent = regexp.MustCompile(`\[PERMANENTFLAGS \(([^)]*)\)\]`)
	toldRights    = regexp.MustCompile(`(?m)^\* MYRIGHTS ".*" ([a-z]+)$`)
)

// outcome receives the answer to a command and returns the cell that it stands for.
func (c *client) outcome(tag, told, name string) (cell string, lines []string) {
	c.t.Helper()
	lines, last := c.upTo(tag)
	if refusal, ok := refusals[strings.TrimPrefix(last, tag+" ")]; ok {
		return refusal, append(lines, last)
	}
	if !strings.HasPrefix(last, tag+" OK ") {
		return last, append(lines, last)
	}
	all := strings.Join(lines, "\n")
	found := func(told *regexp.Regexp) string {
		if m := told.FindStringSubmatch(all); m != nil {
			return m[1]
		}
		return "-"
	}
	switch told {
	case "":
		cell = "OK"
	case "there":
		cell = yesOrNo(strings.Contains(all, " FETCH (UID "))
	case "searched":
		cell = yesOrNo(strings.Contains(all, ` MAILBOX "`+name+`" `))
	case "status":
		cell = yesOrNo(strings.Contains(all, `* STATUS "`+name+`" (`))
	case "listed":
		cell = listedAs(lines, name)
	case "rights":
		cell = found(toldRights)
	case "permanent":
		cell = letters(found(toldPermanent))
	case "flags":
		if cell = found(toldFlags); cell != "-" {
			cell = letters(cell)
		}
	}
	return cell, append(lines, last)
}

func yesOrNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// listedAs tells whether a name, or what is below it, is listed.
func listedAs(lines []string, name string) string {
	for _, line := range lines {
		if !strings.Contains(line, ` "/" "`+name) {
			continue
		}
		for _, attribute := range []string{`\NonExistent`, `\Noselect`} {
			if strings.Contains(line, attribute) {
				return attribute
			}
		}
		return "yes"
	}
	return "no"
}

// letters are those that stand for flags.
func letters(flags string) string {
	var b strings.Builder
	for _, f := range [][2]string{{`\Answered`, "A"}, {`\Flagged`, "F"}, {`\Deleted`, "D"}, {`\Seen`, "S"}, {`\Draft`, "R"}, {"key", "K"}, {`\*`, "*"}} {
		if slices.Contains(strings.Fields(flags), f[0]) {
			b.WriteString(f[1])
		}
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}
