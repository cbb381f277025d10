package imapd

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailstead.dev/auth"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// Whole mail through go-imap's client, as a second opinion on the wire.

// imapClient logs in to an account of its own.
func imapClient(t testing.TB, s *store.Store, login string) *imapclient.Client {
	t.Helper()
	storetest.Account(t, s, login)
	o := testOptions(t)
	o.Store = s
	o.Authenticator = auth.New(s, auth.Options{})
	server := New(o)
	return clientOf(t, listen(t, server, server.Serve), login)
}

func clientOf(t testing.TB, addr, login string) *imapclient.Client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := imapclient.New(nc, nil)
	t.Cleanup(func() { c.Close() })
	if err := c.Login(login, storetest.Password).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

// appendMail appends a message and returns its UID.
func appendMail(t testing.TB, c *imapclient.Client, mailbox string, text []byte, options *imap.AppendOptions) imap.UID {
	t.Helper()
	cmd := c.Append(mailbox, int64(len(text)), options)
	if _, err := cmd.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return data.UID
}

// brokenMail is mail as no program should write it; line ends are yet to be made CRLF.
var brokenMail = map[string]string{
	"only a line end":            "\n",
	"only line ends":             "\n\n\n",
	"no header":                  "just\ntext\n",
	"lines that are no fields":   "From x y\n: no name\nno colon\n \n\t\nSubject : a space\n\nbody\n",
	"a fold first":               " folded\nSubject: x\n\nbody\n",
	"CR alone":                   "Subject: a\rb\r\rFrom: c\r\n\nbo\rdy\r",
	"no line end at the end":     "Subject: x\n\nbody",
	"ends in the header":         "Content-Type: multipart/mixed; boundary=b",
	"ends in a part's header":    "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/pla",
	"ends behind a boundary":     "Content-Type: multipart/mixed; boundary=b\n\n--b",
	"only the last boundary":     "Content-Type: multipart/mixed; boundary=b\n\n--b--\nepilogue\n",
	"a boundary in the header":   "Content-Type: multipart/mixed; boundary=b\n--b\n\nbody\n--b--\n",
	"an empty boundary":          "Content-Type: multipart/mixed; boundary=\"\"\n\n--\n\nbody\n----\n",
	"a boundary of spaces":       "Content-Type: multipart/mixed; boundary=\"  \"\n\n--  \n\nbody\n",
	"a boundary with NUL":        "Content-Type: multipart/mixed; boundary=\"a\x00b\"\n\n--a\x00b\n\nbody\n--ab--\n",
	"a boundary of another":      "Content-Type: multipart/mixed; boundary=b\n\n--bb\n\nno part\n--b \t\n\npart\n--b-\n--b--\n",
	"boundaries alike":           "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\n--b\n\ny\n--b--\n",
	"an outer boundary inside":   "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\nx\n--o\n\ny\n--i--\n--o--\n",
	"parts without a body":       "Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\n--b\nContent-Type: text/html\n--b\n\n\n--b--",
	"types that are none":        "Content-Type: multipart\nContent-Transfer-Encoding: ;;\nContent-Disposition: =\n\nbody\n",
	"a type that is none":        "Content-Type: ///; ==; a=\"b; c\n\nbody\n",
	"parameters without end":     "Content-Type: text/plain; " + strings.Repeat("a=b; ", 5000) + "\n\nbody\n",
	"comments without end":       "Content-Type: text/plain " + strings.Repeat("(", 5000) + "\nTo: " + strings.Repeat("(", 5000) + "\n\nbody\n",
	"fields twice":               "Subject: a\nSubject: b\nFrom: a@x\nFrom: b@x\nContent-Type: text/html\nContent-Type: multipart/mixed; boundary=b\nMessage-ID:\nMessage-ID: <b>\n\n--b\n\nx\n--b--\n",
	"empty fields":               "Subject:\nFrom:\nTo:\nCc: ,,;\nDate:\nMessage-ID:\nIn-Reply-To:\nReferences:\nContent-Type:\nContent-Transfer-Encoding:\nContent-ID:\n\nbody\n",
	"addresses":                  "From: <\nTo: a: b: c;, <@@>, \"x, y <z@\nCc: @, @x, a@, <>, (only), a b c@d e\nBcc: =?utf-8?q?a,b?= <\xe4\xf6@\xfc.test>, group:;\nSender: ;;;\nReply-To: \"\\\n\nbody\n",
	"encoded words":              "Subject: =?x?y?z?= =?utf-8?b?####?= =?utf-8?q?=?= =?=?= =?utf-8?q?" + strings.Repeat("=FF", 300) + "?=\n\nbody\n",
	"a date of no time":          "Date: Foo, 99 Bar 99999 99:99:99 +9999\n\nbody\n",
	"base64 that is none":        "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n====\n!!!\nYQ\n=\n",
	"quoted-printable":           "Content-Type: text/html; charset=\"\\\"\"\nContent-Transfer-Encoding: quoted-printable\n\n=\n==\n=X=4\n<a href=3D\"=\n<!--<scr=\n",
	"a charset that is none":     "Content-Type: text/plain; charset=" + strings.Repeat("x", 1000) + "\n\n\xff\xfe\n",
	"UTF-16":                     "Content-Type: text/plain; charset=utf-16\n\n\xff\xfea\x00\xd8\n",
	"a message that is encoded":  "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogeAoKYm9keQo=\n",
	"a message without anything": "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\n--b\nContent-Type: message/rfc822\n--b--\n",
	"a digest":                   "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: in it\n\nbody\n--b\n\n--b--\n",
	"multiparts in multiparts":   strings.Repeat("Content-Type: multipart/mixed; boundary=b\n\n--b\n", 300) + "end\n",
	"many parts":                 "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", 300) + "--b--\n",
	"a long name":                strings.Repeat("X", 100_000) + ": x\n\nbody\n",
	"a long boundary":            "Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", 70_000) + "\n\n--" + strings.Repeat("b", 70_000) + "\n\nx\n",
	"octets of all kinds":        "Subject: x\n\n" + everyOctet + everyOctet + "\n",
	"a header of all octets":     "Subject: " + everyOctet + "\nX-" + everyOctet + ": x\n\nbody\n",
}

var everyOctet = func() string {
	octets := make([]byte, 256)
	for i := range octets {
		octets[i] = byte(i)
	}
	return string(octets)
}()

// testMail is mail of all shapes: generated, and real where there is a folder of it.
func testMail(t testing.TB) map[string][]byte {
	mail := map[string][]byte{
		"nested":        []byte(nested),
		"one line":      []byte("x"),
		"only a header": []byte("Subject: x\r\n"),
		"empty header":  []byte("\r\nbody\r\n"),
		"NUL":           []byte("Subject: a\x00b\r\n\r\nc\x00d\r\n"),
		"8 bit":         []byte("Subject: gr\xfcn\r\n\r\n\xff\xfe\r\n"),
		"bare LF":       []byte("Subject: x\nTo: y\n\nbody\n"),
		"long header":   []byte("Subject: " + strings.Repeat("x", 100_000) + "\r\n\r\nbody\r\n"),
		"many fields":   []byte(strings.Repeat("X-Field: value\r\n", 5000) + "\r\nbody\r\n"),
		"long line":     []byte("Subject: x\r\n\r\n" + strings.Repeat("y", 300_000) + "\r\n"),
		"deep":          []byte(strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 150) + "end\r\n"),
		"no boundary":   []byte("Content-Type: multipart/mixed\r\n\r\n--x\r\n\r\nbody\r\n"),
	}
	for name, text := range brokenMail {
		mail[name] = []byte(strings.ReplaceAll(text, "\n", "\r\n"))
	}
	dir := os.Getenv("MAIL_DIR")
	if dir == "" {
		dir = "../../shared/mail"
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Logf("no folder of real mail at %s: generated mail only", dir)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 0 {
			mail[filepath.Base(file)] = text
		}
	}
	return mail
}

func TestMailThroughClient(t *testing.T) {
	s := storetest.New(t)
	c := imapClient(t, s, "mail@client.test")
	mail := testMail(t)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	for name, text := range mail {
		uid := appendMail(t, c, "INBOX", text, nil)
		t.Run(name, func(t *testing.T) { checkMail(t, c, uid, text) })
	}
	checkAll(t, c, mail)
}

// checkMail fetches a message in many ways and compares with its text.
func checkMail(t *testing.T, c *imapclient.Client, uid imap.UID, text []byte) {
	meta := parsed(t, string(text))
	text = told(text)
	whole := &imap.FetchItemBodySection{Peek: true}
	header := &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, Peek: true}
	body := &imap.FetchItemBodySection{Specifier: imap.PartSpecifierText, Peek: true}
	partial := &imap.FetchItemBodySection{Partial: &imap.SectionPartial{Offset: 10, Size: 100}, Peek: true}
	got := fetchOne(t, c, uid, &imap.FetchOptions{
		Envelope: true, RFC822Size: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true},
		BodySection: []*imap.FetchItemBodySection{whole, header, body, partial},
	})
	if got.RFC822Size != int64(len(text)) {
		t.Errorf("RFC822.SIZE is %d, want %d", got.RFC822Size, len(text))
	}
	if !bytes.Equal(got.FindBodySection(whole), text) {
		t.Errorf("BODY[] is not what was appended")
	}
	if both := slices.Concat(got.FindBodySection(header), got.FindBodySection(body)); !bytes.Equal(both, text) {
		t.Errorf("BODY[HEADER] and BODY[TEXT] are not the message: %d and %d octets of %d",
			len(got.FindBodySection(header)), len(got.FindBodySection(body)), len(text))
	}
	if want := text[min(10, len(text)):min(110, len(text))]; !bytes.Equal(got.FindBodySection(partial), want) {
		t.Errorf("BODY[]<10.100> is %q, want %q", got.FindBodySection(partial), want)
	}
	got.BodyStructure.Walk(func(path []int, part imap.BodyStructure) bool {
		single, ok := part.(*imap.BodyStructureSinglePart)
		place, there := meta.Section(path, "")
		if !ok || !there {
			return true
		}
		section := &imap.FetchItemBodySection{Part: path, Peek: true}
		content := fetchOne(t, c, uid, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).FindBodySection(section)
		if !bytes.Equal(content, text[place.Off:place.End()]) || int64(len(content)) != int64(single.Size) {
			t.Errorf("BODY%v has %d octets, want %d; the structure says %d", path, len(content), place.Len, single.Size)
		}
		return true
	})
}

// told is a text as a literal tells it, which can have no NUL.
func told(text []byte) []byte { return bytes.ReplaceAll(text, []byte{0}, []byte{hiddenNUL}) }

func fetchOne(t *testing.T, c *imapclient.Client, uid imap.UID, options *imap.FetchOptions) *imapclient.FetchMessageBuffer {
	t.Helper()
	messages, err := c.Fetch(imap.UIDSetNum(uid), options).Collect()
	if err != nil || len(messages) != 1 {
		t.Fatalf("FETCH of UID %d: %d messages, %v", uid, len(messages), err)
	}
	return messages[0]
}

// checkAll fetches everything at once.
func checkAll(t *testing.T, c *imapclient.Client, mail map[string][]byte) {
	whole := &imap.FetchItemBodySection{}
	messages, err := c.Fetch(imap.SeqSet{{Start: 1}}, &imap.FetchOptions{
		Flags: true, Envelope: true, BodySection: []*imap.FetchItemBodySection{whole},
	}).Collect()
	if err != nil || len(messages) != len(mail) {
		t.Fatalf("FETCH 1:*: %d messages of %d, %v", len(messages), len(mail), err)
	}
	texts := make(map[string]int)
	for _, text := range mail {
		texts[string(told(text))]++
	}
	for _, m := range messages {
		texts[string(m.FindBodySection(whole))]--
		if !slices.Contains(m.Flags, imap.FlagSeen) {
			t.Errorf("message %d is not \\Seen after its FETCH", m.SeqNum)
		}
	}
	for text, n := range texts {
		if n != 0 {
			t.Errorf("a message of %d octets came %d times too seldom", len(text), n)
		}
	}
}

// TestLargeMail: what does not fit into a buffer, whole and in parts.
func TestLargeMail(t *testing.T) {
	s := storetest.New(t)
	c := imapClient(t, s, "large@client.test")
	rnd := rand.New(rand.NewPCG(1, 2))
	var text bytes.Buffer
	text.WriteString("Subject: large\r\n\r\n")
	for text.Len() < 12<<20 {
		fmt.Fprintf(&text, "%x\r\n", rnd.Uint64())
	}
	uid := appendMail(t, c, "INBOX", text.Bytes(), &imap.AppendOptions{Time: time.Unix(1_700_000_000, 0)})
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	sections := []*imap.FetchItemBodySection{whole}
	for range 5 {
		sections = append(sections, &imap.FetchItemBodySection{Peek: true, Specifier: imap.PartSpecifierText,
			Partial: &imap.SectionPartial{Offset: rnd.Int64N(12 << 20), Size: 1 + rnd.Int64N(1<<20)}})
	}
	got := fetchOne(t, c, uid, &imap.FetchOptions{InternalDate: true, BodySection: sections})
	if !got.InternalDate.Equal(time.Unix(1_700_000_000, 0)) {
		t.Errorf("INTERNALDATE is %s", got.InternalDate)
	}
	if len(got.BodySection) != len(sections) {
		t.Fatalf("%d sections of %d", len(got.BodySection), len(sections))
	}
	body := text.Bytes()[len("Subject: large\r\n\r\n"):]
	for i, s := range sections {
		want := text.Bytes()
		if s.Partial != nil {
			from := min(s.Partial.Offset, int64(len(body)))
			want = body[from:min(from+s.Partial.Size, int64(len(body)))]
		}
		if !bytes.Equal(got.BodySection[i].Bytes, want) {
			t.Errorf("section %d has %d octets, want %d, or others", i, len(got.BodySection[i].Bytes), len(want))
		}
	}
}

// TestManyThroughClient: sets wider than a batch, and every command on them.
func TestManyThroughClient(t *testing.T) {
	const n = 700
	s := storetest.New(t)
	c := imapClient(t, s, "many@client.test")
	for i := range n {
		flags := []imap.Flag{}
		if i%3 == 0 {
			flags = append(flags, imap.FlagSeen)
		}
		appendMail(t, c, "INBOX", fmt.Appendf(nil, "Subject: message %d\r\nMessage-ID: <%d@x>\r\n\r\nbody %d\r\n", i, i, i%7),
			&imap.AppendOptions{Flags: flags})
	}
	if data, err := c.Select("INBOX", nil).Wait(); err != nil || data.NumMessages != n {
		t.Fatalf("SELECT: %+v, %v", data, err)
	}
	all := imap.SeqSet{{Start: 1}}
	messages, err := c.Fetch(all, &imap.FetchOptions{UID: true, Flags: true, Envelope: true}).Collect()
	if err != nil || len(messages) != n {
		t.Fatalf("FETCH 1:*: %d messages, %v", len(messages), err)
	}
	for i, m := range messages {
		if want := fmt.Sprintf("message %d", i); m.SeqNum != uint32(i+1) || m.Envelope.Subject != want || slices.Contains(m.Flags, imap.FlagSeen) != (i%3 == 0) {
			t.Fatalf("message %d: %+v, subject %q", i+1, m, m.Envelope.Subject)
		}
	}
	search := func(criteria *imap.SearchCriteria) []uint32 {
		t.Helper()
		data, err := c.Search(criteria, nil).Wait()
		if err != nil {
			t.Fatal(err)
		}
		return data.AllSeqNums()
	}
	if got := len(search(&imap.SearchCriteria{NotFlag: []imap.Flag{imap.FlagSeen}})); got != n-(n+2)/3 {
		t.Errorf("%d unseen messages", got)
	}
	if got := search(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Message-ID", Value: "<433@x>"}}}); !slices.Equal(got, []uint32{434}) {
		t.Errorf("Message-ID <433@x> is found at %v", got)
	}
	if got := search(&imap.SearchCriteria{Body: []string{"BODY 3"}, Flag: []imap.Flag{imap.FlagSeen}}); len(got) != 34 {
		t.Errorf("body 3, seen: %d messages", len(got))
	}
	changed, err := c.Store(all, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}}, nil).Collect()
	if err != nil || len(changed) != n {
		t.Fatalf("STORE 1:*: %d messages, %v", len(changed), err)
	}
	copied, err := c.Copy(imap.SeqSet{{Start: 1, Stop: 300}}, "Archive").Wait()
	if err != nil || copied.SourceUIDs.String() != "1:300" || copied.DestUIDs.String() != "1:300" {
		t.Fatalf("COPY: %+v, %v", copied, err)
	}
	moved, err := c.Move(imap.UIDSet{{Start: 301, Stop: 400}}, "Archive").Wait()
	if err != nil || moved.SourceUIDs.(imap.UIDSet).String() != "301:400" || moved.DestUIDs.(imap.UIDSet).String() != "301:400" {
		t.Fatalf("MOVE: %+v, %v", moved, err)
	}
	if _, err := c.Store(imap.SeqSet{{Start: 1, Stop: 500}}, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Collect(); err != nil {
		t.Fatal(err)
	}
	if gone, err := c.Expunge().Collect(); err != nil || len(gone) != 500 {
		t.Fatalf("EXPUNGE: %d messages, %v", len(gone), err)
	}
	left, err := c.Fetch(all, &imap.FetchOptions{UID: true}).Collect()
	if err != nil || len(left) != 100 || left[0].UID != 601 {
		t.Fatalf("left: %d messages, %v", len(left), err)
	}
}

// TestLargeEnvelopes: what does not fit into a batch together, some of it several times in the mailbox.
func TestLargeEnvelopes(t *testing.T) {
	const n = 12
	s := storetest.New(t)
	c := imapClient(t, s, "envelopes@client.test")
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	subjects := make([]string, n)
	for i := range subjects {
		subjects[i] = strings.Repeat(fmt.Sprintf("subject-%d-", i), 1+(i%3)*30_000)
		appendMail(t, c, "INBOX", []byte("Subject: "+subjects[i]+"\r\n\r\nbody\r\n"), nil)
	}
	if _, err := c.Copy(imap.SeqSet{{Start: 1}}, "INBOX").Wait(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // from the database, and as far as they are kept from memory
		messages, err := c.Fetch(imap.SeqSet{{Start: 1}}, &imap.FetchOptions{Envelope: true}).Collect()
		if err != nil || len(messages) != 2*n {
			t.Fatalf("FETCH 1:*: %d messages, %v", len(messages), err)
		}
		for i, m := range messages {
			if m.SeqNum != uint32(i+1) || m.Envelope.Subject != subjects[i%n] {
				t.Errorf("message %d has number %d and a subject of %d octets, or another", i+1, m.SeqNum, len(m.Envelope.Subject))
			}
		}
	}
	found, err := c.Search(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "subject-5-subject-5"}}}, nil).Wait()
	if err != nil || !slices.Equal(found.AllSeqNums(), []uint32{6, n + 6}) {
		t.Errorf("SEARCH: %v, %v", found, err)
	}
}

// TestManySections: a response that is written before it is complete.
func TestManySections(t *testing.T) {
	s := storetest.New(t)
	c := imapClient(t, s, "sections@client.test")
	var header strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&header, "X-%d: %s\r\n", i, strings.Repeat("x", 80))
	}
	text := header.String() + "\r\n" + strings.Repeat("body\r\n", 50_000)
	uid := appendMail(t, c, "INBOX", []byte(text), nil)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	var sections []*imap.FetchItemBodySection
	for i := range 40 {
		sections = append(sections,
			&imap.FetchItemBodySection{Peek: true, Specifier: imap.PartSpecifierHeader, HeaderFieldsNot: []string{fmt.Sprintf("X-%d", i)}},
			&imap.FetchItemBodySection{Peek: true, Partial: &imap.SectionPartial{Offset: int64(i), Size: 100_000}})
	}
	got := fetchOne(t, c, uid, &imap.FetchOptions{BodySection: sections})
	if len(got.BodySection) != len(sections) {
		t.Fatalf("%d sections of %d", len(got.BodySection), len(sections))
	}
	for i := range 40 {
		field := fmt.Sprintf("X-%d: %s\r\n", i, strings.Repeat("x", 80))
		if want := strings.Replace(header.String(), field, "", 1) + "\r\n"; string(got.BodySection[2*i].Bytes) != want {
			t.Errorf("header without X-%d: %d octets, want %d", i, len(got.BodySection[2*i].Bytes), len(want))
		}
		if want := text[i : i+100_000]; string(got.BodySection[2*i+1].Bytes) != want {
			t.Errorf("BODY[]<%d.100000>: %d octets", i, len(got.BodySection[2*i+1].Bytes))
		}
	}
}

// incoming is a message to append as it is.
func incoming(c *store.Content) store.Incoming { return store.Incoming{Content: c} }
