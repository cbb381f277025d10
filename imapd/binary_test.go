package imapd

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/quotedprintable"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailstead.dev/store/storetest"
)

// binaryParts are data that parts have, and what encodes them, other than ours.
func binaryParts(t testing.TB) (parts [][]byte, text []byte) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var out bytes.Buffer
	out.WriteString("Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n")
	add := func(encoding string, data []byte, encoded string) {
		parts = append(parts, data)
		fmt.Fprintf(&out, "--b\r\nContent-Type: text/x-test\r\nContent-Transfer-Encoding: %s\r\n\r\n%s\r\n", encoding, encoded)
	}
	for _, size := range []int{0, 1, 1000, inlineSize - 1, inlineSize, inlineSize + 1, 300_000} {
		octets := make([]byte, size)
		for i := range octets {
			octets[i] = byte(rnd.Uint32())
		}
		var lines strings.Builder
		for rest := base64.StdEncoding.EncodeToString(octets); rest != ""; rest = rest[min(76, len(rest)):] {
			lines.WriteString(rest[:min(76, len(rest))] + "\r\n")
		}
		add("base64", octets, lines.String())

		letters := []byte(strings.Repeat("grüne Bäume = trees\r\n", size/10+1)[:size])
		letters = bytes.TrimRight(letters, "\r")
		var quoted bytes.Buffer
		w := quotedprintable.NewWriter(&quoted)
		if _, err := w.Write(letters); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		add("quoted-printable", letters, quoted.String())
		add("8bit", letters, string(letters))
	}
	out.WriteString("--b--\r\n")
	return parts, out.Bytes()
}

// What is fetched by BINARY is what others have encoded, whatever its size.
func TestBinaryThroughClient(t *testing.T) {
	s := storetest.New(t)
	c := imapClient(t, s, "user@binary.test")
	if !c.Caps().Has(imap.CapBinary) {
		t.Error("BINARY is not announced")
	}
	parts, text := binaryParts(t)
	uid := appendMail(t, c, "INBOX", text, nil)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	options := &imap.FetchOptions{}
	for i := range parts {
		options.BinarySection = append(options.BinarySection, &imap.FetchItemBinarySection{Part: []int{i + 1}, Peek: true})
		options.BinarySectionSize = append(options.BinarySectionSize, &imap.FetchItemBinarySectionSize{Part: []int{i + 1}})
	}
	got := fetchOne(t, c, uid, options)
	for i, want := range parts {
		if data := got.FindBinarySection(options.BinarySection[i]); !bytes.Equal(data, want) {
			t.Errorf("part %d has %d octets, want %d, or others", i+1, len(data), len(want))
		}
		if size, ok := got.FindBinarySectionSize([]int{i + 1}); !ok || int(size) != len(want) {
			t.Errorf("the size of part %d is %d, want %d", i+1, size, len(want))
		}
	}
}

// Parts of mail of all shapes come decoded, as long as BINARY.SIZE says.
func TestBinaryOfMail(t *testing.T) {
	s := storetest.New(t)
	c := imapClient(t, s, "mail@binary.test")
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	for name, text := range testMail(t) {
		uid := appendMail(t, c, "INBOX", text, nil)
		t.Run(name, func(t *testing.T) { checkBinary(t, c, uid, text) })
	}
}

// Mail that has NULs, in its header, in a small part and in a large one, is answered with none of them but by BINARY, and as long as it is.
func TestNULsAreHidden(t *testing.T) {
	const login = "nul@binary.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	c := serveStore(t, s, nil)(t)
	enter(c, login)
	for _, size := range []int{1, 100_000} {
		header, body := "Subject: a\x00b\r\nX-Other: \x00\r\n\r\n", strings.Repeat("c\x00", size)
		text := header + body
		c.want("CREATE of"+fmt.Sprint(size), "OK ")
		c.want(appendText("of"+fmt.Sprint(size), text), "OK ")
		c.want("SELECT of"+fmt.Sprint(size), "OK ")
		hidden := func(section, text string) string {
			return fmt.Sprintf("%s {%d}\r\n%s", section, len(text), strings.ReplaceAll(text, "\x00", "\x80"))
		}
		for item, want := range map[string]string{
			"BODY.PEEK[]":                        hidden("BODY[]", text),
			"BODY.PEEK[]<8.20>":                  hidden("BODY[]<8>", text[8:28]),
			"BODY.PEEK[HEADER]":                  hidden("BODY[HEADER]", header),
			"BODY.PEEK[TEXT]":                    hidden("BODY[TEXT]", body),
			"BODY.PEEK[1]":                       hidden("BODY[1]", body),
			"BODY.PEEK[HEADER.FIELDS (SUBJECT)]": hidden("BODY[HEADER.FIELDS (SUBJECT)]", "Subject: a\x00b\r\n\r\n"),
			"RFC822.HEADER":                      hidden("RFC822.HEADER", header),
			"RFC822.SIZE":                        fmt.Sprintf("RFC822.SIZE %d", len(text)),
			"BINARY.PEEK[]":                      fmt.Sprintf("BINARY[] ~{%d}\r\n%s", len(text), text),
			"BINARY.PEEK[1]":                     fmt.Sprintf("BINARY[1] ~{%d}\r\n%s", len(body), body),
		} {
			got := strings.Join(c.want("FETCH 1 ("+item+")", "OK "), "\r\n")
			if want = "* 1 FETCH (" + want + ")"; got != want {
				t.Errorf("%s of %d octets is %.200q, want %.200q", item, size, got, want)
			}
		}
		if got := strings.Join(c.want("FETCH 1 (ENVELOPE BODYSTRUCTURE PREVIEW)", "OK "), ""); strings.Contains(got, "\x00") {
			t.Errorf("a NUL is in %.200q", got)
		}
	}
}

func checkBinary(t *testing.T, c *imapclient.Client, uid imap.UID, text []byte) {
	meta := parsed(t, string(text))
	structure := fetchOne(t, c, uid, &imap.FetchOptions{BodyStructure: &imap.FetchItemBodyStructure{}}).BodyStructure
	structure.Walk(func(path []int, part imap.BodyStructure) bool {
		p := meta.Find(path)
		if _, ok := part.(*imap.BodyStructureSinglePart); !ok || p == nil {
			return true
		}
		section := &imap.FetchItemBinarySection{Part: slices.Clone(path), Peek: true}
		options := &imap.FetchOptions{
			BinarySection: []*imap.FetchItemBinarySection{section}, BinarySectionSize: []*imap.FetchItemBinarySectionSize{{Part: section.Part}},
		}
		if !p.Decodable() {
			var refused *imap.Error
			if _, err := c.Fetch(imap.UIDSetNum(uid), options).Collect(); !errors.As(err, &refused) || refused.Code != "UNKNOWN-CTE" {
				t.Errorf("part %v, which is in %q: %v", path, p.Encoding, err)
			}
			return true
		}
		got := fetchOne(t, c, uid, options)
		want, err := io.ReadAll(p.Decode(bytes.NewReader(text[p.Body.Off:p.Body.End()])))
		if err != nil {
			t.Fatal(err)
		}
		if data := got.FindBinarySection(section); !bytes.Equal(data, want) {
			t.Errorf("part %v has %d octets, want %d, or others", path, len(data), len(want))
		}
		if size, _ := got.FindBinarySectionSize(section.Part); int(size) != len(want) {
			t.Errorf("the size of part %v is %d, want %d", path, size, len(want))
		}
		return true
	})
}

// A range of what is too large to be held is found by decoding, and told as a
// literal8 only where there is a NUL in the range itself.
func TestBinaryPartial(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@partial.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "a@partial.test")
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	data[250_000] = 0
	text := "Content-Type: application/x-test\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(data)
	c.want(appendText("INBOX", text), "OK ")
	c.want("SELECT INBOX", "OK ")
	for _, test := range []struct {
		from, n int
		head    string
	}{
		{0, 250_000, "{250000}"}, {0, 250_001, "~{250001}"}, {100, 10, "{10}"}, {249_999, 3, "~{3}"},
		{250_001, 1 << 30, "{249999}"}, {499_999, 5, "{1}"}, {150_000, 200_000, "~{200000}"},
	} {
		c.send(fmt.Sprintf("a FETCH 1 (BINARY.PEEK[1]<%d.%d>)", test.from, test.n))
		c.expect(fmt.Sprintf("* 1 FETCH (BINARY[1]<%d> %s", test.from, test.head))
		want := data[test.from:min(test.from+test.n, len(data))]
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c.r, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("<%d.%d> has other octets", test.from, test.n)
		}
		c.expect(")")
		c.expect("a OK ...")
	}
}

// A binary message that goes to object storage is encoded like one that does not.
func TestAppendLargeBinary(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@literal8.test")
	c := serveStore(t, s, nil)(t)
	enter(c, "a@literal8.test")
	rnd := rand.New(rand.NewPCG(5, 6))
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	text := "Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n" + string(data)
	c.want(fmt.Sprintf("APPEND INBOX ~{%d+}\r\n%s", len(text), text), "OK [APPENDUID ")
	c.want("SELECT INBOX", "OK ")
	c.send("a FETCH 1 (BINARY.PEEK[1])")
	c.expect(fmt.Sprintf("* 1 FETCH (BINARY[1] ~{%d}", len(data)))
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c.r, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Error("other octets come back")
	}
	c.expect(")")
	c.expect("a OK ...")
}
