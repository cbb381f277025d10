package imapd

import (
	"testing"

	"mailstead.dev/store/storetest"
)

// What another front end did just before is told by a FETCH that needs to know it: of
// flags, and of messages that the client has not been told of. One that reads content may
// go by what was seen a moment ago, but nothing gets lost by that.
func TestFetchOfRecentView(t *testing.T) {
	config := storetest.Config(t)
	s, other := storetest.Open(t, config), storetest.Open(t, config)
	storetest.Account(t, s, "user@recent.test")
	reader, writer := serveStore(t, s, nil)(t), serveStore(t, other, nil)(t)
	for _, c := range []*client{reader, writer} {
		enter(c, "user@recent.test")
		c.exchange("a SELECT INBOX")
	}
	expect := func(lines ...string) {
		t.Helper()
		for _, line := range lines {
			reader.expect(line)
		}
	}
	put := func(text string) {
		t.Helper()
		writer.send("b APPEND INBOX {5+}")
		writer.send(text)
		for line := writer.line(); ; line = writer.line() {
			if matches(line, "b OK ...") {
				return
			}
		}
	}

	put("first")
	reader.send("c NOOP")
	expect("* 1 EXISTS", "* ...", "c OK ...")
	put("other")
	reader.send("d UID FETCH 2 (BODY.PEEK[])")
	expect("* 2 EXISTS", "* ...", "* 2 FETCH (UID 2 BODY[] {5}", "other)", "d OK ...")
	put("third")
	reader.send("e FETCH 3 (BODY.PEEK[])")
	expect("* 3 EXISTS", "* ...", "* 3 FETCH (BODY[] {5}", "third)", "e OK ...")
	put("forth")
	reader.send("f FETCH 1:* (UID BODY.PEEK[]<0.1>)")
	expect("* 4 EXISTS", "* ...")
	for range 4 {
		expect("* ...", "...")
	}
	expect("f OK ...")

	writer.exchange(`g STORE 1 +FLAGS.SILENT (\Answered)`)
	reader.send("h FETCH 1 (FLAGS)")
	expect("* 1 FETCH (...", "* 1 FETCH (FLAGS (\\Answered...", "h OK ...")

	writer.exchange(`i STORE 1 +FLAGS.SILENT (\Deleted)`)
	writer.exchange("j EXPUNGE")
	reader.send("k UID FETCH 2 (BODY.PEEK[])") // of a moment before the EXPUNGE, or after it
	line := reader.line()
	if line == "* 1 EXPUNGE" {
		expect("* 1 FETCH (UID 2 BODY[] {5}", "other)", "k OK ...")
	} else if line == "* 2 FETCH (UID 2 BODY[] {5}" {
		expect("other)", "k OK ...")
		reader.send("l NOOP")
		expect("* 1 EXPUNGE", "l OK ...")
	} else {
		t.Fatalf("after an EXPUNGE by another: %s", line)
	}
}
