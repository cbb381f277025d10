package imapd

import (
	"fmt"
	"strings"
	"testing"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store/storetest"
)

// Of the input, only STATUS commands that are whole and right are answered
// ahead, up to the first other one.
func TestStatusNames(t *testing.T) {
	for input, want := range map[string]string{
		"":                            "",
		"a STATUS x (MESSAGES)":       "",
		"a STATUS x (MESSAGES)\r":     "",
		"a STATUS x (MESSAGES)\r\n":   "x",
		"a status inbox (unseen)\r\n": "INBOX",
		"a STATUS x (MESSAGES)\r\nb STATUS \"y z\" (SIZE)\r\nc NOOP\r\nd STATUS z (SIZE)\r\n": "x,y z",
		"a STATUS x (MESSAGES)\r\nb STATUS y (FROB)\r\nd STATUS z (SIZE)\r\n":                 "x",
		"a STATUS x (MESSAGES)\r\nb STATUS y (SIZE) z\r\nd STATUS z (SIZE)\r\n":               "x",
		"a STATUS {3+}\r\nx y (SIZE)\r\nb STATUS {3+}\r\ny":                                   "x y",
		"a STATUS &AOQ- (SIZE)\r\n\r\nb STATUS y (SIZE)\r\n":                                  "ä",
		"a UID STATUS x (SIZE)\r\n":                                                           "",
		"+ STATUS x (SIZE)\r\n":                                                               "",
		"a STATUS x (SIZE)\n" + strings.Repeat("b STATUS y (SIZE)\n", 3) + "c STATUS z (SI":   "x,y,y,y",
	} {
		names := statusNames([]byte(input), wire.DecoderOptions{})
		if got := strings.Join(names, ","); got != want {
			t.Errorf("STATUS commands ahead in %q: %q, want %q", input, got, want)
		}
	}
}

// Whatever is answered ahead, each STATUS tells what the commands before it have done.
func TestStatusAhead(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@status.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "a@status.test")
	var commands []string
	for i := range 200 {
		if i%50 == 49 {
			commands = append(commands, fmt.Sprintf("t%d APPEND Sent {1+}\r\nx", i))
		} else {
			commands = append(commands, fmt.Sprintf("t%d STATUS %s (MESSAGES)", i, []string{"Sent", "INBOX", "Nowhere"}[i%3]))
		}
	}
	c.send(strings.Join(commands, "\r\n"))
	for i := range commands {
		switch {
		case i%50 == 49:
			c.expect(fmt.Sprintf("t%d OK [APPENDUID ...", i))
			continue
		case i%3 == 2:
			c.expect(fmt.Sprintf("t%d NO [NONEXISTENT] No such mailbox", i))
			continue
		case i%3 == 1:
			c.expect(`* STATUS "INBOX" (MESSAGES 0)`)
		default:
			c.expect(fmt.Sprintf(`* STATUS "Sent" (MESSAGES %d)`, i/50))
		}
		c.expect(fmt.Sprintf("t%d OK STATUS completed", i))
	}
}
