package imapd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

func TestMetadataLimits(t *testing.T) {
	s := storetest.New(t, func(o *store.Options) { o.MaxMetadata, o.MaxMetadataSize = 10, 1024 })
	storetest.Account(t, s, "a@metadata.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "a@metadata.test")
	set := func(values ...string) string {
		for i := range values {
			values[i] = fmt.Sprintf("/private/n%d %s", i, values[i])
		}
		return "SETMETADATA INBOX (" + strings.Join(values, " ") + ")"
	}
	c.want(set(`"`+strings.Repeat("x", 1024)+`"`), "OK ")
	c.want(set(`"`+strings.Repeat("y", 1025)+`"`, `"z"`), "NO [METADATA MAXSIZE 1024] ")
	c.want(set(`"z"`, "{1025+}\r\n"+strings.Repeat("y", 1025)), "NO [METADATA MAXSIZE 1024] ")
	c.want(set(`"z"`, "~{2000+}\r\n"+strings.Repeat("z NOOP\r\n", 250)), "NO [METADATA MAXSIZE 1024] ")
	c.want(`SETMETADATA INBOX (/private/n0 "z" /private/n1 {99999999999}`, "NO [METADATA MAXSIZE 1024] ")
	if got := c.want("GETMETADATA INBOX (DEPTH 1) /private", "OK "); len(got) != 1 || got[0] != `* METADATA "INBOX" (/private/n0 "`+strings.Repeat("x", 1024)+`")` {
		t.Errorf("it is changed: %q", got)
	}
	eleven := make([]string, 11)
	for i := range eleven {
		eleven[i] = `"x"`
	}
	c.want(set(eleven...), "NO [METADATA TOOMANY] ")
	for i := range eleven {
		eleven[i] = `"x"`
	}
	c.want(set(eleven[:10]...), "OK ")
	c.want(`SETMETADATA INBOX (/private/one.more "x")`, "NO [METADATA TOOMANY] ")
	c.want(`SETMETADATA INBOX (/shared/one.more "x")`, "OK ")
	many := make([]string, 201)
	for i := range many {
		many[i] = "NIL"
	}
	c.want(set(many...), "BAD [LIMIT] Too many annotations: at most 200 can be set at once")
	c.want("GETMETADATA INBOX ("+strings.TrimPrefix(strings.Repeat(" /private/x", 3000), " ")+")", "OK ") // which is one
	var names strings.Builder
	for i := range 201 {
		fmt.Fprintf(&names, " /private/x%d", i)
	}
	c.want("GETMETADATA INBOX"+names.String(), "BAD [LIMIT] Too many annotations: at most 200 can be asked for at once")
	c.want("SETMETADATA INBOX (/private/x {3+}\r\na\x00b)", "BAD [CLIENTBUG] NUL is not allowed in a literal")
	c.want("NOOP", "OK ")
}

// A second opinion: go-imap's client, with values of all kinds.
func TestLibraryClientMetadata(t *testing.T) {
	s := storetest.New(t)
	c := imapClient(t, s, "user@metadata.test")
	if !c.Caps().Has(imap.CapMetadata) || !c.Caps().Has(imap.CapMetadataServer) {
		t.Errorf("capabilities: %v", c.Caps())
	}
	values := map[string][]byte{
		"/private/comment": []byte("a \"comment\"\\"),
		"/shared/comment":  []byte("gr\xc3\xbcn"),
		"/shared/lines":    []byte("one\r\ntwo\r\n"),
		"/private/empty":   {},
		"/private/long":    []byte(strings.Repeat("x", 10_000)),
	}
	for _, mailbox := range []string{"INBOX", "Entwürfe"} {
		if mailbox != "INBOX" {
			if err := c.Create(mailbox, nil).Wait(); err != nil {
				t.Fatal(err)
			}
		}
		set := make(map[string]*[]byte)
		for entry, value := range values {
			set[entry] = &value
		}
		if err := c.SetMetadata(mailbox, set).Wait(); err != nil {
			t.Fatalf("SETMETADATA of %s: %v", mailbox, err)
		}
		got, err := c.GetMetadata(mailbox, []string{"/private", "/shared"}, &imapclient.GetMetadataOptions{Depth: imapclient.GetMetadataDepthInfinity}).Wait()
		if err != nil || got.Mailbox != mailbox || len(got.Entries) != len(values) {
			t.Fatalf("GETMETADATA of %s: %+v, %v", mailbox, got, err)
		}
		for entry, value := range values {
			if v := got.Entries[entry]; v == nil || string(*v) != string(value) {
				t.Errorf("%s of %s is %v", entry, mailbox, v)
			}
		}
	}
	if err := c.SetMetadata("INBOX", map[string]*[]byte{"/shared/lines": nil}).Wait(); err != nil {
		t.Fatal(err)
	}
	size := uint32(100)
	got, err := c.GetMetadata("INBOX", []string{"/private/long", "/shared/lines", "/shared/comment"}, &imapclient.GetMetadataOptions{MaxSize: &size}).Wait()
	if err != nil || len(got.Entries) != 2 || got.Entries["/shared/lines"] != nil || got.Entries["/shared/comment"] == nil {
		t.Errorf("GETMETADATA: %+v, %v", got, err)
	}
}

// Octets that no string can hold come as literal8, both ways.
func TestMetadataOctets(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@metadata.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "a@metadata.test")
	c.want("SETMETADATA \"\" (/private/vendor/test/octets ~{6+}\r\n\x00\xff\r\n\x00x)", "OK ")
	c.send(`a GETMETADATA "" /private/vendor/test/octets`)
	c.expect(`* METADATA "" (/private/vendor/test/octets ~{6}`)
	c.expect("\x00\xff")
	c.expect("\x00x)")
	c.expect("a OK ...")
}

// What is read of values, of any kind, is what the next command begins behind.
func FuzzReadAnnotations(f *testing.F) {
	f.Add(`(/private/a "b" /SHARED/c NIL)`)
	f.Add("(/private/a {3+}\r\nabc /private/b ~{2+}\r\n\x00\xff)")
	f.Add("(/private/a {99+}\r\nabc")
	f.Fuzz(func(t *testing.T, line string) {
		d := decoderOf(line)
		set, err := readAnnotations(d, 10)
		if err != nil {
			return
		}
		for _, a := range set {
			if name, err := store.MetadataEntry(a.Entry); err != nil || name != a.Entry || len(a.Value) > 10 {
				t.Errorf("%q gives %+v", line, a)
			}
		}
	})
}
