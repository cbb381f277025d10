package lmtpd

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// wire is a conn whose client has sent text and gone.
func wire(text io.Reader) *conn {
	return newConn(&sent{Reader: text}, New(nil, Options{}))
}

// sent is a connection that is only read.
type sent struct {
	net.Conn
	io.Reader
	written bytes.Buffer
}

func (s *sent) Read(p []byte) (int, error)       { return s.Reader.Read(p) }
func (s *sent) Write(p []byte) (int, error)      { return s.written.Write(p) }
func (s *sent) SetReadDeadline(time.Time) error  { return nil }
func (s *sent) SetWriteDeadline(time.Time) error { return nil }
func (s *sent) Close() error                     { return nil }

// Lines end in CR LF alone, so only CR LF . CR LF ends a message; everything
// else is kept octet by octet, but for the dots that were added.
func TestContent(t *testing.T) {
	long := strings.Repeat("x", inputBuffer)
	for _, test := range []struct {
		sent, want, rest string
	}{
		{".\r\n", "", ""},
		{"a\r\n.\r\nQUIT\r\n", "a\r\n", "QUIT\r\n"},
		{"a\r\n..\r\n.\r\n", "a\r\n.\r\n", ""},
		{"a\r\n...b\r\n..c\r\n.\r\n", "a\r\n..b\r\n.c\r\n", ""},
		{".d\r\n.\r\n", "d\r\n", ""}, // RFC 5321 section 4.5.2: the first dot goes, whoever put it there
		{"a\n.\nb\r\n.\r\n", "a\n.\nb\r\n", ""},
		{"a\n.\r\nb\r\n.\r\n", "a\n.\r\nb\r\n", ""},
		{"a\r\n.\nb\r\n.\r\n", "a\r\n\nb\r\n", ""},
		{"a\r.\r\nb\r\n.\r\n", "a\r.\r\nb\r\n", ""},
		{"a\r.\rb\r\n.\r\n", "a\r.\rb\r\n", ""},
		{"a\r\n.\rb\r\n.\r\n", "a\r\n\rb\r\n", ""},
		{"a\r\r\n.\r\n", "a\r\r\n", ""}, // go-smtp waits for ever here
		{"a\r\r\n..b\r\r\n.\r\n", "a\r\r\n.b\r\r\n", ""},
		{"a\r\n.\r\r\nb\r\n.\r\n", "a\r\n\r\r\nb\r\n", ""},
		{"\r\n.\r\n", "\r\n", ""},
		{"\x00\xff\r\n.\r\n", "\x00\xff\r\n", ""},
		{long + "\r\n.\r\n", long + "\r\n", ""},
		{long[1:] + "\r\n.\r\n", long[1:] + "\r\n", ""}, // the line end falls on the end of the buffer
		{long[2:] + "\r\n.\r\n", long[2:] + "\r\n", ""},
		{"." + long + "\r\n.\r\n", long + "\r\n", ""},
		{long + long + "\n.\r\n\r\n.\r\n", long + long + "\n.\r\n\r\n", ""},
	} {
		for _, r := range []io.Reader{strings.NewReader(test.sent), iotest.OneByteReader(strings.NewReader(test.sent)), iotest.HalfReader(strings.NewReader(test.sent))} {
			c := wire(r)
			got, err := io.ReadAll(c.content())
			if err != nil || string(got) != test.want {
				t.Errorf("%.60q: %.60q, %v; want %.60q", test.sent, got, err, test.want)
				continue
			}
			end := make([]byte, 3)
			if _, err := io.ReadFull(c, end); err != nil || string(end) != ".\r\n" {
				t.Errorf("%.60q: go-smtp sees %q, %v after it", test.sent, end, err)
			}
			if rest, _ := io.ReadAll(c); string(rest) != test.rest {
				t.Errorf("%.60q: %q after it, want %q", test.sent, rest, test.rest)
			}
		}
	}
}

// A message that is cut off is no message, and what is left of it no command.
func TestContentCutOff(t *testing.T) {
	for _, sent := range []string{"", "a", "a\r\n", "a\r\n.", "a\r\n.\r", "a\r\n.\n", "a\n.\r\n", "MAIL FROM:<>\r\nDATA\r\n"} {
		c := wire(strings.NewReader(sent))
		if got, err := io.ReadAll(c.content()); err != io.ErrUnexpectedEOF {
			t.Errorf("%q: %q, %v; want %v", sent, got, err, io.ErrUnexpectedEOF)
		}
		rest, err := io.ReadAll(c)
		if string(rest) != ".\r\n" || err != nil {
			t.Errorf("%q: commands %q, %v after it", sent, rest, err)
		}
	}
}

// A Read gives no more than one command line, so that go-smtp has nothing of the next in its buffer.
func TestConnReadsLineByLine(t *testing.T) {
	c := wire(strings.NewReader("LHLO x\r\nMAIL FROM:<a@b>\r\nNOOP\nbad\x01line\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n"))
	p := make([]byte, 4096)
	for _, want := range []string{"LHLO x\r\n", "MAIL FROM:<a@b>\r\n", "NOOP\n", "?\r\n", "DATA\r\n"} {
		n, err := c.Read(p)
		if err != nil || string(p[:n]) != want {
			t.Fatalf("Read = %q, %v; want %q", p[:n], err, want)
		}
	}
	if got, err := io.ReadAll(c.content()); string(got) != "hello\r\n" || err != nil {
		t.Errorf("content = %q, %v", got, err)
	}
	if rest, err := io.ReadAll(c); string(rest) != ".\r\nQUIT\r\n" || err != nil {
		t.Errorf("then %q, %v", rest, err)
	}
}

func FuzzContent(f *testing.F) {
	f.Add([]byte("a\r\n.b\r\n\r.\n.\r\n"), 3)
	f.Fuzz(func(t *testing.T, message []byte, chunk int) {
		message = append(message, "\r\n"...)
		stuffed := bytes.ReplaceAll(append([]byte("\r\n"), message...), []byte("\r\n."), []byte("\r\n.."))[2:]
		text := append(stuffed, ".\r\nQUIT\r\n"...)
		c := wire(&chunks{text, max(1, chunk%100)})
		got, err := io.ReadAll(c.content())
		if err != nil || !bytes.Equal(got, message) {
			t.Fatalf("%q came as %q, %v", message, got, err)
		}
		if rest, _ := io.ReadAll(c); string(rest) != ".\r\nQUIT\r\n" {
			t.Fatalf("%q is left after it", rest)
		}
	})
}

// chunks gives n octets a Read.
type chunks struct {
	text []byte
	n    int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.text) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.n)], c.text)
	c.text = c.text[n:]
	return n, nil
}

func BenchmarkContent(b *testing.B) {
	text := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 1000) + ".\r\n")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, wire(bytes.NewReader(text)).content()); err != nil {
			b.Fatal(err)
		}
	}
}

func TestPath(t *testing.T) {
	for address, want := range map[string]string{
		"":             "",
		"a@b.test":     "a@b.test",
		"a.b+c@b.test": "a.b+c@b.test",
		"é@b.test":     "é@b.test",
		"a b@b.test":   `"a b"@b.test`,
		"a..b@b.test":  `"a..b"@b.test`,
		`a"b\@b.test`:  `"a\"b\\"@b.test`,
		"a@b@c.test":   `"a@b"@c.test`,
		"<>@c.test":    `"<>"@c.test`,
	} {
		if got := path(address); got != want {
			t.Errorf("path(%q) = %q, want %q", address, got, want)
		}
	}
}
