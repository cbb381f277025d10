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

	c.want(several(5, string(random)), "NO [LIMIT] ")
	c.want(several(5, large), "NO [LIMIT] ")
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
