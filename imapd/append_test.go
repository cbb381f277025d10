package imapd

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// What the messages of one APPEND take together is bounded, in memory and
// elsewhere; what is refused for that leaves nothing.
func TestAppendTooMuch(t *testing.T) {
	s := storetest.New(t, func(o *store.Options) { o.MaxMessage = 100_000 })
	storetest.Account(t, s, "a@append.test")
	c := serveStore(t, s, func(o *Options) { o.MaxAppend = 50_000 })(t)
	enter(c, "a@append.test")
	several := func(n int, text string) string {
		return "APPEND INBOX" + strings.Repeat(fmt.Sprintf(" {%d+}\r\n%s", len(text), text), n)
	}
	messages := func() string {
		t.Helper()
		return c.want("STATUS INBOX (MESSAGES)", "OK ")[0]
	}
	random := []byte("Subject: x\r\n\r\n")
	for range 30_000 {
		random = append(random, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/"[rand.IntN(64)])
	}
	short, large := "Subject: x\r\n\r\n", "Subject: x\r\n\r\n"+strings.Repeat("text text\r\n", 8000)

	c.want(several(5, string(random)), "NO [LIMIT] Too much for one command: append fewer messages at once")
	c.want(several(5, large), "NO [LIMIT] ")
	keywords := make([]string, 100)
	for i := range keywords {
		keywords[i] = fmt.Sprintf("%0200d", i)
	}
	c.want(strings.ReplaceAll(several(5, short), " {", " ("+strings.Join(keywords, " ")+") {"), "NO [LIMIT] Too much for one command")
	if got := messages(); got != `* STATUS "INBOX" (MESSAGES 0)` {
		t.Errorf("afterwards there is %q", got)
	}
	c.want(several(2, string(random)), "OK [APPENDUID ")
	c.want(several(4, large), "OK [APPENDUID ")
	c.want(several(10, short), "OK [APPENDUID ")
	if got := messages(); got != `* STATUS "INBOX" (MESSAGES 16)` {
		t.Errorf("afterwards there is %q", got)
	}
}

// Where LITERAL- is announced, a client that does not wait with a large literal is
// told so (RFC 7888 section 5), and nothing of the literal is run.
func TestLiteralMinus(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@append.test")
	c := serveStore(t, s, func(o *Options) { o.LiteralMinus = true })(t)
	c.expect("* OK [CAPABILITY IMAP4 IMAP4rev1 IMAP4rev2 LITERAL- SASL-IR ...")
	c.want("LOGIN {13+}\r\na@append.test "+storetest.Password, "OK [CAPABILITY IMAP4 IMAP4rev1 IMAP4rev2 LITERAL- ID ")
	text := strings.Repeat("z LOGOUT\r\n", 1000)
	for _, command := range []string{"APPEND INBOX {4097+}\r\n%.4097s", "APPEND Nowhere {4097+}\r\n%.4097s", "SUBSCRIBE {10000+}\r\n%s", "FROB {10000+}\r\n%s"} {
		want := "BAD [TOOBIG] A literal of more than 4096 octets has to be waited with"
		if strings.HasPrefix(command, "FROB") {
			want = "BAD [CLIENTBUG] "
		}
		c.want(fmt.Sprintf(command, text), want)
		c.want("NOOP", "OK ")
	}
	c.want(fmt.Sprintf("APPEND INBOX {4096+}\r\n%.4096s", text), "OK [APPENDUID ")
	c.send("a APPEND INBOX {4097}")
	c.expect("+ ...")
	c.send(text[:4097])
	c.expect("a OK [APPENDUID ...")
}
