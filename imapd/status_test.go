package imapd

import (
	"fmt"
	"strings"
	"testing"

	"mailstead.dev/store/storetest"
)

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
