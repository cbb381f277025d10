package imapd

import (
	"io"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/store/storetest"
)

// Of what another cell sends, a literal is no line, and text for people announces none.
func TestFarResponses(t *testing.T) {
	for _, want := range [][]string{
		{"* 1 FETCH (BODY[] {3}\r\nabc)\r\n", "a OK done\r\n"},
		{"* 1 FETCH (BODY[] {13}\r\na OK done\r\n\r\n FLAGS ())\r\n", "a OK done\r\n"},
		{"* LIST () \"/\" {4}\r\n{5}\n\r\n", "* X\r\n"},
		{"* OK text {5}\r\n", "* xy\r\n"},
		{"a NO {5}\r\n", "* BYE {1}\r\n", "+ go {9}\r\n", "* 1 EXISTS\r\n"},
		{"* 1 FETCH (BINARY[] ~{0}\r\n BODY[] {1}\r\n\n)\r\n", "* X {-1}\r\n", "* X {x}\r\n"},
		{"* 1 FETCH (BODY[] {100}\r\n" + strings.Repeat("* OK x {1}", 10) + ")\r\n"},
	} {
		if _, got := taken(t, []byte(strings.Join(want, "")), 64); !slices.EqualFunc(got, want, func(g []byte, w string) bool { return string(g) == w }) {
			t.Errorf("%q is taken apart to %q", want, got)
		}
	}
}

// What is enabled at home is in the other cell as well, and what is told from there is what is told there.
func TestEnabledElsewhere(t *testing.T) {
	west, east, owner := sharingCells(t, nil)
	const letters = `"` + ownersName + `Letters"`
	for _, subject := range []string{"second", "third"} {
		owner.want(appendText("Letters", "Subject: "+subject+"\r\n\r\n"), "OK ")
	}
	owner.want("SELECT Letters", "OK ")
	owner.want("STORE 2 +FLAGS (\\Deleted)", "OK ")
	owner.want("EXPUNGE", "OK ")
	validity := strings.Fields(owner.want("STATUS Letters (UIDVALIDITY)", "OK ")[0])
	resync := "(QRESYNC (" + strings.TrimSuffix(validity[len(validity)-1], ")") + " 1))"
	for enabled, commands := range map[string][]string{
		"QRESYNC":           {"EXAMINE " + letters + " " + resync, "UID FETCH 1:* FLAGS (CHANGEDSINCE 1 VANISHED)", "FETCH 1 FLAGS"},
		"UIDONLY":           {"EXAMINE " + letters, "FETCH 1 FLAGS", "UID FETCH 1:* FLAGS", "UID SEARCH ALL"},
		"IMAP4rev2":         {"EXAMINE " + letters, "FETCH 1 FLAGS", "SEARCH ALL", "STATUS " + letters + " (MESSAGES SIZE)"},
		"UTF8=ACCEPT":       {"EXAMINE " + letters, "SEARCH SUBJECT \"\u00fc\"", `STATUS "` + ownersName + `Letters/ü" (MESSAGES)`},
		"QRESYNC IMAP4rev2": {"EXAMINE " + letters + " " + resync, "SEARCH MODSEQ 1"},
		"UIDONLY CONDSTORE": {"EXAMINE " + letters, "UID FETCH 1:* (MODSEQ) (CHANGEDSINCE 1)"},
	} {
		here, there := west.visitor(t), dial(t, east.plain)
		there.expect("* OK ...")
		there.want("LOGIN "+guestLogin+" "+storetest.Password, "OK ")
		for _, command := range append([]string{"ENABLE " + enabled}, commands...) {
			got, answer := here.do(command)
			want, answered := there.do(command)
			if !slices.Equal(got, want) || answer != answered {
				t.Errorf("with %s, %s tells %q and %s, want %q and %s", enabled, command, got, answer, want, answered)
			}
		}
	}
}

// Where the other cell is lost in the middle of something, nobody takes for done or for refused what may be the other, nor a part of a message for all of it.
func TestLostInTheMiddle(t *testing.T) {
	west, east, _ := sharingCells(t, nil)
	var lost string // the line behind which it goes
	staged(t, west, east, func(line string) string {
		tag, command, _ := strings.Cut(line, " ")
		switch {
		case strings.HasSuffix(line, lost):
			return "* BYE gone\r\n"
		case strings.HasPrefix(command, "SELECT"):
			return tag + " OK selected\r\n"
		case strings.HasPrefix(command, "FETCH"):
			return "* 1 FETCH (BODY[] {100000}\r\n" + strings.Repeat("x", 50_000) + hangUp
		case strings.HasSuffix(line, "{1}"):
			return "+ go\r\n"
		}
		return ""
	})
	const plans = `"` + ownersName + `Plans"`
	for _, test := range []struct{ lost, want string }{
		{"Plans\" {1}", "a NO [UNAVAILABLE] ..."},
		{"x (\\Seen) {1}", "a NO [UNAVAILABLE] ..."}, // behind the first message
		{"y", "* BYE [UNAVAILABLE] The outcome of the command is unknown"},
	} {
		lost = test.lost
		c := west.visitor(t)
		c.send("a APPEND " + plans + " {1+}\r\nx (\\Seen) {1+}\r\ny")
		c.expect(test.want)
		if strings.HasPrefix(test.want, "a ") {
			c.want("NOOP", "OK ")
		}
	}
	lost = "nowhere"
	c := west.visitor(t)
	c.want("SELECT "+plans, "OK ")
	c.send("a FETCH 1 BODY[]")
	c.expect("* 1 FETCH (BODY[] {100000}")
	rest, _ := io.ReadAll(c.r) // it ends as it may
	if x := strings.Repeat("x", len(rest)); string(rest) != x || len(x) > 50_000 {
		t.Errorf("of a message that is cut short is told %.100q", rest)
	}
}
