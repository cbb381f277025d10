package message

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func texts(t testing.TB, m *Meta, content []byte) []Text {
	t.Helper()
	var list []Text
	err := m.Texts(context.Background(), memory(content), func(text Text) bool {
		list = append(list, text)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestTexts(t *testing.T) {
	in := crlf(`Subject: =?utf-8?Q?gr=C3=BC=C3=9Fe?=
	folded
Content-Type: multipart/mixed; boundary=b

preamble
--b
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

caf=E9 soft=
 break =ZZ
--b
Content-Type: text/html; charset=utf-8

<p>Hello <b>wor</b>ld &amp; all<br>next <a href="https://example.org/?a=1&amp;b=2">here</a><style>p{}</style>
--b
Content-Type: application/pdf
Content-Disposition: attachment; filename*=utf-8''%C3%BC.pdf
Content-Transfer-Encoding: base64

aGVsbG8=
--b
Content-Type: message/rfc822

Subject: inside

inner body
--b
Content-Type: message/global
Content-Transfer-Encoding: base64

U3ViamVjdDogaGlkZGVuDQoNCmRlZXAgdGV4dA0K
--b--
`)
	want := `subject "grüße folded"
content-type "multipart/mixed; boundary=b"
P content-type "text/plain; charset=iso-8859-1"
P content-transfer-encoding "quoted-printable"
B "café soft break =ZZ"
P content-type "text/html; charset=utf-8"
B "Hello world & all\nnext here"
B "https://example.org/?a=1&b=2"
P content-type "application/pdf"
P content-disposition "attachment; filename*=utf-8''%C3%BC.pdf"
P content-transfer-encoding "base64"
P content-disposition "ü.pdf"
P content-type "message/rfc822"
PB subject "inside"
B "inner body"
P content-type "message/global"
P content-transfer-encoding "base64"
PB subject "hidden"
PB "deep text\r\n"
`
	var got strings.Builder
	for _, x := range texts(t, mustParse(t, in, Limits{}), []byte(in)) {
		marks := map[bool]string{true: "P"}[x.Part] + map[bool]string{true: "B"}[x.Body]
		fmt.Fprintf(&got, "%s %s %q\n", marks, x.Header, x.Value)
	}
	squeeze := func(s string) string {
		return strings.TrimSpace(strings.NewReplacer("  ", " ", "\n ", "\n").Replace(s))
	}
	if squeeze(got.String()) != squeeze(want) {
		t.Errorf("got\n%s\nwant\n%s", squeeze(got.String()), want)
	}
}

// A text longer than a piece comes in pieces; what lies at a cut is whole in one of them.
func TestTextsOverlap(t *testing.T) {
	line := "0123456789 übung 0123456789\r\n"
	in := []byte("\r\n" + strings.Repeat(line, 4*textPiece/len(line)))
	var needles []string
	for off := textPiece - 100; off < len(in)-300; off += textPiece / 7 {
		in = append(in[:off], append([]byte(fmt.Sprintf("<needle %d>", off)), in[off:]...)...)
		needles = append(needles, fmt.Sprintf("<needle %d>", off))
	}
	m, err := Parse(bytes.NewReader(in), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	list := texts(t, m, in)
	if len(list) < 4 {
		t.Errorf("%d pieces", len(list))
	}
	for _, needle := range needles {
		found := false
		for _, x := range list {
			found = found || strings.Contains(x.Value, needle)
			if len(x.Value) > 2*textPiece {
				t.Fatalf("a piece of %d octets", len(x.Value))
			}
		}
		if !found {
			t.Errorf("%s is in no piece", needle)
		}
	}
}

// counter counts how often and how much is read.
type counter struct {
	memory
	opens int
	bytes int64
}

func (c *counter) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	c.opens++
	c.bytes += n
	return c.memory.Open(ctx, off, n)
}

func TestTextsReadLittle(t *testing.T) {
	in := []byte(crlf("Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n--b\nContent-Type: image/png\n\n" +
		strings.Repeat("x\n", 1<<20) + "\n--b\n\nthree\n--b--\n"))
	m, err := Parse(bytes.NewReader(in), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{memory: in}
	if err := m.Texts(t.Context(), c, func(Text) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if c.opens != 2 || c.bytes > 1000 {
		t.Errorf("%d opens, %d octets", c.opens, c.bytes)
	}
}

func TestTextsStop(t *testing.T) {
	in := []byte(crlf(nested))
	m, err := Parse(bytes.NewReader(in), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	all := len(texts(t, m, in))
	for stop := 1; stop <= all; stop++ {
		n := 0
		if err := m.Texts(t.Context(), memory(in), func(Text) bool { n++; return n < stop }); err != nil || n != stop {
			t.Errorf("stopped at %d: %d, %v", stop, n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Texts(ctx, memory(in), func(Text) bool { t.Error("a text after the end"); return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// Content that ends before its description says is an error, not an end.
	if err := m.Texts(t.Context(), memory(in[:len(in)-60]), func(Text) bool { return true }); err == nil {
		t.Error("no error where content is missing")
	}
}

func TestTransferDecoding(t *testing.T) {
	tests := []struct{ encoding, in, want string }{
		{"7bit", "a=20b", "a=20b"},
		{"base64", "aGVsbG8=", "hello"},
		{"base64", "aGVs\r\nbG8", "hello"},
		{"base64", "aGVsbG8=aGVsbG8=", "hellohello"},
		{"base64", "a G!V*s-b_G8=", "hello"},
		{"base64", "", ""},
		{"quoted-printable", "a=20b=\r\nc \t\r\nd=0", "a bc\r\nd=0"},
		{"quoted-printable", "a= \r\nb", "ab"},
		{"quoted-printable", "=c3=bc=", "ü"},
		{"quoted-printable", strings.Repeat("=41 =4", 10_000), strings.Repeat("A =4", 10_000)},
		{"quoted-printable", strings.Repeat("=", 20_000), strings.Repeat("=", 19_999)},
	}
	for _, test := range tests {
		got, err := io.ReadAll(transferReader(test.encoding, strings.NewReader(test.in)))
		if err != nil || string(got) != test.want {
			t.Errorf("%s %.40q: %.40q, %v, want %.40q", test.encoding, test.in, got, err, test.want)
		}
	}
}

func FuzzTransferDecoding(f *testing.F) {
	f.Add([]byte("a=20b=\r\nc"))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, encoding := range []string{"base64", "quoted-printable"} {
			out, err := io.ReadAll(transferReader(encoding, bytes.NewReader(in)))
			if err != nil || len(out) > len(in) {
				t.Fatalf("%s: %d octets of %d, %v", encoding, len(out), len(in), err)
			}
		}
	})
}

func BenchmarkTexts(b *testing.B) {
	var mail [][]byte
	var metas []*Meta
	size := 0
	eachMail(b, func(_ string, content []byte) {
		m, err := Parse(bytes.NewReader(content), Limits{})
		if err != nil {
			b.Fatal(err)
		}
		mail, metas = append(mail, content), append(metas, m)
		size += len(content)
	})
	b.SetBytes(int64(size / len(mail)))
	for i := 0; b.Loop(); i++ {
		k := i % len(mail)
		err := metas[k].Texts(b.Context(), memory(mail[k]), func(t Text) bool { Normalize(t.Value); return true })
		if err != nil {
			b.Fatal(err)
		}
	}
}
