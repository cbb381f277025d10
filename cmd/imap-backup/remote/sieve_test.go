package remote

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// recorded is a connection on which the server has said all it will.
type recorded struct {
	net.Conn
	io.Reader
}

func (r recorded) Read(p []byte) (int, error)       { return r.Reader.Read(p) }
func (r recorded) SetReadDeadline(time.Time) error  { return nil }
func (r recorded) SetWriteDeadline(time.Time) error { return nil }
func (r recorded) Write(p []byte) (int, error)      { return len(p), nil }
func (r recorded) Close() error                     { return nil }

// sift returns what of a server's responses goes through, and what is reported.
func sift(said string) (through string, reports []string, err error) {
	s := &sieve{Conn: recorded{Reader: iotest.HalfReader(strings.NewReader(said))}, timeout: time.Minute}
	s.report = func(text string) { reports = append(reports, text) }
	s.r = bufio.NewReaderSize(source{s}, 64)
	text, err := io.ReadAll(s)
	return string(text), reports, err
}

func TestSieve(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct{ name, said, want string }{
		{"all that is known", "* OK hi {5}\r\n* 3 EXISTS\r\n* FLAGS (a)\r\nT1 OK done\r\n+ go on\r\n", "same"},
		{"messages are not looked at", "* 1 FETCH (UID 1 BODY[] {19}\r\n* WHAT\r\n* LIST bad\r\n FLAGS ())\r\n", "same"},
		{"two literals", "* 1 FETCH (BODY[HEADER] {5}\r\n* X\r\n BODY[] {4}\r\n* Y\n)\r\n", "same"},
		{"an unknown response", "* WHAT is {7}\r\n* WHO\r\n this\r\n* 1 EXISTS\r\n", "* 1 EXISTS\r\n"},
		{"an unknown long one", "* WHAT " + long + "\r\n* 1 EXISTS\r\n", "* 1 EXISTS\r\n"},
		{"a number too many", "* 1 OK\r\n* EXISTS\r\n* 2 LIST () \"/\" a\r\n* 1 EXISTS\r\n", "* 1 EXISTS\r\n"},
		{"a long line", "* SEARCH " + long + "\r\n", "same"},
		{"as much as there is", "* 200000 EXISTS\r\n" + strings.Repeat("* SEARCH"+strings.Repeat(" 1", longestLine/4)+"\r\nA OK\r\n", 7), "same"},
		{"names in all forms", "* LIST () \"/\" a\r\n* LIST (\\Sent) NIL \"b \\\"c\"\r\n* LIST () \".\" {3}\r\nd e\r\n* STATUS x (MESSAGES 1)\r\n",
			"* LIST () \"/\" \"a\"\r\n* LIST (\\Sent) NIL \"b \\\"c\"\r\n* LIST () \".\" \"d e\"\r\n* STATUS \"x\" (MESSAGES 1)\r\n"},
		{"rev2", "* OK [CAPABILITY IMAP4rev1 IMAP4rev2 IDLE] x\r\nA OK [CAPABILITY IMAP4rev1 IMAP4rev2] x\r\n* CAPABILITY IMAP4rev2\r\n",
			"* OK [CAPABILITY IMAP4rev1 IMAP4rev1 IDLE] x\r\nA OK [CAPABILITY IMAP4rev1 IMAP4rev1] x\r\n* CAPABILITY IMAP4rev2\r\n"},
	} {
		want := c.want
		if want == "same" {
			want = c.said
		}
		if got, reports, err := sift(c.said); got != want || err != nil || len(reports) > 0 {
			t.Errorf("%s: %q, want %q; %q, %v", c.name, got, want, reports, err)
		}
	}
}

func TestSieveReports(t *testing.T) {
	for said, want := range map[string]string{
		"* LIST () \"/\" \"a&b\"\r\n":                                      "not modified UTF-7",
		"* LIST () \"/\" {3}\r\na\x00b\r\n":                                "no IMAP command can name it",
		"* STATUS {3}\r\na\x00b (MESSAGES 1)\r\n":                          "no IMAP command can name it",
		"* LIST rubbish\r\n":                                               "cannot be read",
		"* LIST () \"/\" \"" + strings.Repeat("x", longestName) + "\"\r\n": "was left out",
	} {
		got, reports, err := sift(said + "* 1 EXISTS\r\n")
		if got != "* 1 EXISTS\r\n" || err != nil || len(reports) != 1 || !strings.Contains(reports[0], want) {
			t.Errorf("%.40q: %q, %q, %v; want %q", said, got, reports, err, want)
		}
	}
}

func TestSieveEnds(t *testing.T) {
	for _, said := range []string{
		"* 1 FETCH (ENVELOPE {99999999}\r\n", "* LIST () \"/\" {99999999}\r\n", "* WHAT {99999999}\r\n",
		"* OK " + strings.Repeat("x", longestLine) + "\r\n",
		"* 1 FETCH (FLAGS (" + strings.Repeat("x ", longestFetch/2) + "x))\r\n",
		"* 1 FETCH (ENVELOPE (" + strings.Repeat("{1000}\r\n"+strings.Repeat("x", 1000)+" ", 80) + "x))\r\n",
		"* 2 EXISTS\r\n* SEARCH" + strings.Repeat(" 1", longestLine/2+20) + "\r\n",
		"* 2 EXISTS\r\n" + strings.Repeat("* SEARCH"+strings.Repeat(" 1", longestLine/4)+"\r\n", 3),
	} {
		if _, _, err := sift(said + "* 1 EXISTS\r\n"); err == nil {
			t.Errorf("%.40q goes through", said)
		}
	}
	if _, _, err := sift("* 1 EXISTS"); err != io.ErrUnexpectedEOF {
		t.Errorf("half a line: %v", err)
	}
}

func FuzzSieve(f *testing.F) {
	f.Add("* 1 FETCH (UID 1 BODY[] {3}\r\nabc FLAGS ())\r\n")
	f.Add("* LIST () \"/\" {3}\r\nd e\r\n* STATUS x (MESSAGES 1)\r\n* WHAT {1}\r\nx\r\n")
	f.Fuzz(func(t *testing.T, said string) {
		through, _, _ := sift(said)
		// What goes through is what a second sieve lets through as it is.
		if again, reports, _ := sift(through); again != through || len(reports) > 0 {
			t.Fatalf("%q became %q and then %q (%q)", said, through, again, reports)
		}
	})
}
