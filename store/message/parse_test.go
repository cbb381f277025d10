package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// crlf makes a message of a Go string.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func mustParse(t testing.TB, s string, l Limits) *Meta {
	t.Helper()
	m, err := Parse(strings.NewReader(s), l)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tree writes what a part is and what its ranges hold, a line each.
func tree(b *strings.Builder, s, indent string, p *Part) {
	fmt.Fprintf(b, "%s%s/%s %q %d\n", indent, p.Type, p.Subtype, s[p.Body.Off:p.Body.End()], p.Lines)
	if p.Inner != nil {
		fmt.Fprintf(b, "%s %q\n", indent, p.Envelope.Subject)
		tree(b, s, indent+" ", p.Inner)
	}
	for _, c := range p.Parts {
		tree(b, s, indent+" ", c)
	}
}

func TestParseStructure(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"empty", "", "text/plain \"\" 0\n"},
		{"only a body", "\nhello\n", `text/plain "hello\r\n" 1` + "\n"},
		{"headers only", "Subject: x\n", "text/plain \"\" 0\n"},
		{"no line end", "Subject: x", "text/plain \"\" 0\n"},
		{"plain", "Subject: x\n\na\nb", `text/plain "a\r\nb" 1` + "\n"},
		{"no subtype", "Content-Type: text\n\na\n", `text/plain "a\r\n" 1` + "\n"},
		{"no semicolon space", "Content-Type:text/html;charset=x\n\na\n", `text/html "a\r\n" 1` + "\n"},
		{"two parts", `Content-Type: multipart/mixed; boundary=b

preamble
--b

one
--b
Content-Type: image/png

two

--b--
epilogue
`, `multipart/mixed "preamble\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: image/png\r\n\r\ntwo\r\n\r\n--b--\r\nepilogue\r\n" 11
 text/plain "one" 0
 image/png "two\r\n" 1
`},
		{"no last boundary", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n", `multipart/mixed "--b\r\n\r\none\r\n" 3
 text/plain "one\r\n" 1
`},
		{"no boundary at all", "Content-Type: multipart/mixed; boundary=b\n\none\n", `multipart/mixed "one\r\n" 1` + "\n"},
		{"no boundary parameter", "Content-Type: multipart/mixed\n\n--b\n\none\n", `multipart/mixed "--b\r\n\r\none\r\n" 3` + "\n"},
		{"part of headers only", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n--b\n--b--\n",
			`multipart/mixed "--b\r\nContent-Type: text/html\r\n--b\r\n--b--\r\n" 4
 text/html "" 0
 text/plain "" 0
`},
		{"white space behind a boundary", "Content-Type: multipart/mixed; boundary=\"b \"\n\n--b \t\n\none\n--b-- \n", `multipart/mixed "--b \t\r\n\r\none\r\n--b-- \r\n" 4
 text/plain "one" 0
`},
		{"boundaries that are prefixes", `Content-Type: multipart/mixed; boundary=x

--x
Content-Type: multipart/mixed; boundary=xy

--xy

one
--xyz
still one
--xy--
--x

two
--x--
`, `multipart/mixed "--x\r\nContent-Type: multipart/mixed; boundary=xy\r\n\r\n--xy\r\n\r\none\r\n--xyz\r\nstill one\r\n--xy--\r\n--x\r\n\r\ntwo\r\n--x--\r\n" 13
 multipart/mixed "--xy\r\n\r\none\r\n--xyz\r\nstill one\r\n--xy--" 5
  text/plain "one\r\n--xyz\r\nstill one" 2
 text/plain "two" 0
`},
		{"an outer boundary ends an inner multipart", "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\none\n--o--\n",
			`multipart/mixed "--o\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\none\r\n--o--\r\n" 7
 multipart/mixed "--i\r\n\r\none" 2
  text/plain "one" 0
`},
		{"empty multipart", "Content-Type: multipart/mixed; boundary=b\n\n--b--\n", `multipart/mixed "--b--\r\n" 1` + "\n"},
		{"message", `Content-Type: message/rfc822

Subject: inner

body
`, `message/rfc822 "Subject: inner\r\n\r\nbody\r\n" 3
 "inner"
 text/plain "body\r\n" 1
`},
		{"message of headers only in a multipart", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nSubject: inner\n\n--b--\n",
			`multipart/mixed "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\n--b--\r\n" 6
 message/rfc822 "Subject: inner\r\n" 1
  "inner"
  text/plain "" 0
`},
		{"digest", "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: one\n\nbody\n--b--\n",
			`multipart/digest "--b\r\n\r\nSubject: one\r\n\r\nbody\r\n--b--\r\n" 6
 message/rfc822 "Subject: one\r\n\r\nbody" 2
  "one"
  text/plain "body" 0
`},
	}
	for _, test := range tests {
		for _, form := range []struct {
			name string
			f    func(string) string
		}{{"CRLF", crlf}, {"LF", func(s string) string { return s }}} {
			in := form.f(test.in)
			m := mustParse(t, in, Limits{})
			var got strings.Builder
			tree(&got, in, "", m.Root)
			want := test.want
			if form.name == "LF" {
				want = strings.ReplaceAll(want, `\r`, "")
			}
			if got.String() != want {
				t.Errorf("%s, %s: got\n%s\nwant\n%s", test.name, form.name, got.String(), want)
			}
			checkInvariants(t, []byte(in), m)
		}
	}
}

func TestParseFields(t *testing.T) {
	in := crlf(`From: A <a@example.org>
Content-Type: TEXT/Plain; Charset="utf-8"; format=flowed
Content-Transfer-Encoding: Quoted-Printable (really)
Content-ID: <id@example.org>
Content-Description: a
 description
Content-MD5: Q2hlY2s=
Content-Location: http://example.org/x
Content-Language: en, de (German)
Content-Disposition: Attachment; filename="a b.txt"; size=10

`)
	p := mustParse(t, in, Limits{}).Root
	want := &Part{
		Type: "text", Subtype: "plain", Params: []Param{{"charset", "utf-8"}, {"format", "flowed"}},
		ID: "<id@example.org>", Description: "a description", Encoding: "quoted-printable",
		MD5: "Q2hlY2s=", Location: "http://example.org/x",
		Disposition: "attachment", DispositionParams: []Param{{"filename", "a b.txt"}, {"size", "10"}},
		Language: []string{"en", "de"},
		Header:   Range{0, int64(len(in))}, Body: Range{int64(len(in)), 0},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got\n%+v\nwant\n%+v", p, want)
	}
}

func TestParams(t *testing.T) {
	tests := []struct {
		in   string
		want []Param
	}{
		{`text/plain`, nil},
		{`text/plain;`, nil},
		{`text/plain; charset=us-ascii (Plain text)`, []Param{{"charset", "us-ascii"}}},
		{`text/plain; name=my file.txt; x=1`, []Param{{"name", "my file.txt"}, {"x", "1"}}},
		{`multipart/mixed; boundary=----=_Part/1`, []Param{{"boundary", "----=_Part/1"}}},
		{`text/plain; name="a;b\"c"; CHARSET = utf-8`, []Param{{"name", `a;b"c`}, {"charset", "utf-8"}}},
		{`text/plain; name="not closed`, []Param{{"name", "not closed"}}},
		{`text/plain; name*0=a; name*1=b`, []Param{{"name*0", "a"}, {"name*1", "b"}}},
		{`text/plain; =x; noname; y=2`, []Param{{"y", "2"}}},
	}
	for _, test := range tests {
		if _, _, got := contentType(test.in); !reflect.DeepEqual(got, test.want) {
			t.Errorf("contentType(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestParseReaderError(t *testing.T) {
	broken := errors.New("broken")
	_, err := Parse(io.MultiReader(strings.NewReader("Subject: x\r\n\r\nbody"), iotest.ErrReader(broken)), Limits{})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

func TestParseLongLines(t *testing.T) {
	long := strings.Repeat("x", 3*readSize)
	in := "Subject: " + long + "\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + long + "\r\n--b\r\n\r\n" + long[:readSize-1] + "\r\n--b--"
	m := mustParse(t, in, Limits{})
	checkInvariants(t, []byte(in), m)
	if len(m.Envelope.Subject) != len(long) || len(m.Root.Parts) != 2 {
		t.Fatalf("subject of %d octets, %d parts", len(m.Envelope.Subject), len(m.Root.Parts))
	}
	for i, want := range []int{len(long), readSize - 1} {
		if got := m.Root.Parts[i].Body.Len; got != int64(want) {
			t.Errorf("part %d has %d octets, want %d", i+1, got, want)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Run("parts", func(t *testing.T) {
		in := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 100_000) + "--b--\r\n"
		m := mustParse(t, in, Limits{Parts: 1000})
		checkInvariants(t, []byte(in), m)
		if len(m.Root.Parts) != 999 {
			t.Errorf("%d parts", len(m.Root.Parts))
		}
		if end := m.Root.Parts[998].Body.End(); end != int64(len(in)-len("\r\n--b--\r\n")) {
			t.Errorf("the last part ends at %d of %d", end, len(in))
		}
	})
	t.Run("depth", func(t *testing.T) {
		for _, kind := range []string{"multipart", "message"} {
			var in strings.Builder
			for i := range 10_000 {
				if kind == "multipart" {
					fmt.Fprintf(&in, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
				} else {
					in.WriteString("Content-Type: message/rfc822\r\n\r\n")
				}
			}
			m := mustParse(t, in.String(), Limits{Depth: 20})
			checkInvariants(t, []byte(in.String()), m)
			depth := 0
			for p := m.Root; p != nil; depth++ {
				if len(p.Parts) > 0 {
					p = p.Parts[0]
				} else {
					if p.Inner == nil && p.Type+"/"+p.Subtype != "application/octet-stream" {
						t.Errorf("%s: innermost is %s/%s", kind, p.Type, p.Subtype)
					}
					p = p.Inner
				}
			}
			if depth > 21 {
				t.Errorf("%s: depth %d", kind, depth)
			}
		}
	})
	t.Run("header", func(t *testing.T) {
		in := "Subject: x\r\nX-Filler: " + strings.Repeat("y", 100_000) + "\r\nTo: a@example.org\r\n\r\nbody\r\n"
		m := mustParse(t, in, Limits{HeaderBytes: 1000})
		checkInvariants(t, []byte(in), m)
		if m.Envelope.Subject != "x" || !m.HeaderCut || m.Cached("Subject") || len(m.Envelope.To) != 0 {
			t.Errorf("%+v", m)
		}
		if _, ok := m.HeaderFields([]string{"Subject"}, false); ok {
			t.Error("fields of a header that was cut")
		}
	})
	t.Run("descriptions", func(t *testing.T) {
		part := "--b\r\nContent-Type: text/plain; name=\"" + strings.Repeat("n", 1000) + "\"\r\n\r\nx\r\n"
		in := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat(part, 5000)
		m := mustParse(t, in, Limits{HeaderBytes: 100_000})
		if n := len(m.Encode()); n > 300_000 {
			t.Errorf("description of %d octets", n)
		}
	})
}

// eachMail calls f with generated mail, and with the real mail of the folder
// that the environment names as MAIL_DIR.
func eachMail(t testing.TB, f func(name string, content []byte)) {
	for seed := range uint64(300) {
		f(fmt.Sprint("seed ", seed), newGenerator(seed).message())
	}
	dir := os.Getenv("MAIL_DIR")
	if dir == "" {
		return
	}
	paths, err := filepath.Glob(filepath.Join(dir, "real", "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no mail in MAIL_DIR=%s: %v", dir, err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f(path, content)
		f(path+" in CRLF", bytes.ReplaceAll(bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n")))
	}
}

func TestInvariants(t *testing.T) {
	eachMail(t, func(name string, content []byte) {
		m, err := Parse(bytes.NewReader(content), Limits{})
		if err != nil {
			t.Fatal(name, err)
		}
		checkInvariants(t, content, m)
	})
}

// checkInvariants checks what holds for a description of any octets.
func checkInvariants(t testing.TB, content []byte, m *Meta) {
	t.Helper()
	if m.Size != int64(len(content)) {
		t.Fatalf("size %d, want %d", m.Size, len(content))
	}
	if m.Root.Header.Off != 0 || m.Root.Body.End() != m.Size {
		t.Fatalf("root is %v %v of %d", m.Root.Header, m.Root.Body, m.Size)
	}
	checkPart(t, content, m.Root, Range{0, m.Size})
	if block, ok := m.HeaderBlock(); ok && !bytes.Equal(block, content[:m.Root.Header.Len]) {
		t.Errorf("header block\n%q\nwant\n%q", block, content[:m.Root.Header.Len])
	}
	for _, f := range m.Fields {
		if !bytes.Contains(content, f.Raw) || !m.Cached(f.Name) && f.Name != "" {
			t.Errorf("field %q", f.Raw)
		}
		names := []string{f.Name}
		if cached, ok := m.HeaderFields(names, false); ok && f.Name != "" {
			if want := SelectFields(content[:m.Root.Header.Len], names, false); !bytes.Equal(cached, want) {
				t.Errorf("%s: cached\n%q\nwant\n%q", f.Name, cached, want)
			}
		}
	}
	if n := len([]rune(m.Preview)); n > previewLen {
		t.Errorf("preview of %d characters", n)
	}
	data := m.Encode()
	decoded, err := DecodeMeta(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(decoded, m) {
		t.Fatalf("decoded\n%+v\nwant\n%+v", decoded, m)
	}
}

func checkPart(t testing.TB, content []byte, p *Part, in Range) {
	t.Helper()
	if p.Header.Off < in.Off || p.Header.Len < 0 || p.Body.Off != p.Header.End() || p.Body.Len < 0 || p.Body.End() > in.End() {
		t.Fatalf("part at %v %v is not inside %v", p.Header, p.Body, in)
	}
	if want := int64(bytes.Count(content[p.Body.Off:p.Body.End()], []byte("\n"))); p.Lines != want {
		t.Fatalf("part at %v has %d lines, want %d", p.Body, p.Lines, want)
	}
	if p.Type == "" || p.Subtype == "" || p.Encoding == "" {
		t.Fatalf("part without a type: %+v", p)
	}
	if (p.Inner == nil) != (p.Envelope == nil) || p.Inner != nil && len(p.Parts) > 0 || len(p.Parts) > 0 && !p.Multipart() {
		t.Fatalf("part of two kinds: %+v", p)
	}
	if p.Inner != nil {
		checkPart(t, content, p.Inner, p.Body)
	}
	rest := p.Body
	for _, c := range p.Parts {
		checkPart(t, content, c, rest)
		rest = Range{c.Body.End(), p.Body.End() - c.Body.End()}
	}
}

func FuzzParse(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(newGenerator(seed).message(), byte(seed))
	}
	f.Add([]byte("Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: message/rfc822\n\n--a--"), byte(0))
	f.Fuzz(func(t *testing.T, content []byte, chunk byte) {
		m, err := Parse(bytes.NewReader(content), Limits{Depth: 8, Parts: 20, HeaderBytes: 2000})
		if err != nil {
			t.Fatal(err)
		}
		checkInvariants(t, content, m)
		// However the octets arrive, the description is the same.
		again, err := Parse(iotest.OneByteReader(bytes.NewReader(content)), Limits{Depth: 8, Parts: 20, HeaderBytes: 2000})
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("read octet by octet: %v\n%+v\nwant\n%+v", err, again, m)
		}
		if err := m.Texts(t.Context(), memory(content), func(Text) bool { return true }); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	var mail [][]byte
	size := 0
	eachMail(b, func(_ string, content []byte) {
		mail = append(mail, content)
		size += len(content)
	})
	b.SetBytes(int64(size / len(mail)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := Parse(bytes.NewReader(mail[i%len(mail)]), Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
