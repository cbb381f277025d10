package imapd

import (
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/store/storetest"
)

// go-imap's client with UTF8=ACCEPT enabled. (It takes "&" for the sign of modified UTF-7 also then.)
func TestLibraryClientUTF8(t *testing.T) {
	s := storetest.New(t)
	c := imapClient(t, s, "user@utf8.test")
	if data, err := c.Enable(imap.CapUTF8Accept).Wait(); err != nil || !data.Caps.Has(imap.CapUTF8Accept) {
		t.Fatalf("ENABLE: %+v, %v", data, err)
	}
	const name = "Entwürfe/日本"
	if err := c.Create(name, nil).Wait(); err != nil {
		t.Fatal(err)
	}
	appendMail(t, c, name, []byte("Subject: Straße\r\nFrom: Jürgen <jürgen@exämple.test>\r\n\r\nTür\r\n"), nil)
	list, err := c.List("", "Entw*", nil).Collect()
	if err != nil || len(list) != 2 || list[1].Mailbox != name {
		t.Errorf("LIST: %+v, %v", list, err)
	}
	status, err := c.Status(name, &imap.StatusOptions{NumMessages: true}).Wait()
	if err != nil || status.Mailbox != name || *status.NumMessages != 1 {
		t.Errorf("STATUS: %+v, %v", status, err)
	}
	if err := c.Rename(name, "Größe", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Select("Größe", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	for _, criteria := range []*imap.SearchCriteria{
		{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "STRAßE"}}}, {Body: []string{"TÜR"}}, {Text: []string{"exämple"}},
	} {
		if found, err := c.Search(criteria, nil).Wait(); err != nil || len(found.AllSeqNums()) != 1 {
			t.Errorf("SEARCH %+v: %v, %v", criteria, found.AllSeqNums(), err)
		}
	}
	got := fetchOne(t, c, 1, &imap.FetchOptions{Envelope: true})
	if e := got.Envelope; e.Subject != "Straße" || len(e.From) != 1 || e.From[0].Addr() != "jürgen@exämple.test" || e.From[0].Name != "Jürgen" {
		t.Errorf("ENVELOPE: %+v", e)
	}
}

// Where it is demanded that clients say that they know of UTF-8, others cannot
// append what has it in its header, in whatever form.
func TestRefuse8Bit(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@eight.test")
	connect := serveStore(t, s, func(o *Options) { o.Refuse8Bit = true })
	c := connect(t)
	enter(c, "a@eight.test")
	far := strings.Repeat("X-Field: value\r\n", 20_000)
	refused := []string{"Subject: grün\r\n\r\nbody", "Subject: x\r\n\r\x00: \xff\r\n\r\nbody", far + "Subject: \xff\r\n\r\nbody", "ü"}
	taken := []string{"Subject: x\r\n\r\ngrün", far + "\r\n\xff", "\r\n\xff", "\n\xff", "x"}
	for _, text := range refused {
		c.want(appendText("INBOX", text), "NO The header has 8-bit characters")
	}
	for _, text := range taken {
		c.want(appendText("INBOX", text), "OK [APPENDUID ")
	}
	c.want("APPEND INBOX {1+}\r\nx {2+}\r\n\xff\xff", "NO The header has 8-bit characters")
	if got := c.want("STATUS INBOX (MESSAGES)", "OK "); !slices.Equal(got, []string{`* STATUS "INBOX" (MESSAGES 5)`}) {
		t.Errorf("afterwards there is %q", got)
	}
	c.want("ENABLE UTF8=ACCEPT", "OK ")
	for _, text := range refused {
		c.want(appendText("INBOX", text), "OK [APPENDUID ")
	}
}
