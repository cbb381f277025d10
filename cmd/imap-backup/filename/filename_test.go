package filename

import (
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// decode shows that the name of a file tells its mailbox. It reports false for what
// Encode does not return, and for names that it cut.
func decode(name string, delimiter rune) (mailbox string, ok bool) {
	var b strings.Builder
	for rest := name; rest != ""; {
		switch {
		case rest[0] == '.':
			if delimiter == 0 {
				return "", false
			}
			b.WriteRune(delimiter)
			rest = rest[1:]
		case rest[0] == '%' && name != "%":
			if len(rest) < 3 {
				return "", false
			}
			octet, err := hex.DecodeString(rest[1:3])
			if err != nil {
				return "", false
			}
			b.Write(octet)
			rest = rest[3:]
		case name == "%":
			rest = ""
		default:
			_, size := utf8.DecodeRuneInString(rest)
			b.WriteString(rest[:size])
			rest = rest[size:]
		}
	}
	return b.String(), Encode(b.String(), delimiter) == name
}

func TestEncode(t *testing.T) {
	for _, c := range []struct {
		mailbox   string
		delimiter rune
		want      string
	}{
		{"INBOX", '/', "INBOX"},
		{"Archive/2024/May", '/', "Archive.2024.May"},
		{"INBOX.Sent Items", '.', "INBOX.Sent Items"},
		{"v1.2", '/', "v1%2E2"},
		{"../../etc/passwd", '/', "%2E%2E.%2E%2E.etc.passwd"},
		{"..", '.', "%2E%2E"},
		{"/etc/passwd", '/', "%2Fetc.passwd"},
		{"a/b", 0, "a%2Fb"},
		{"trailing/", '/', "trailing%2F"},
		{"trailing ", '/', "trailing%20"},
		{"-rf", '/', "%2Drf"},
		{"~root", '/', "%7Eroot"},
		{"50%", '/', "50%25"},
		{"NUL\x00here", '/', "NUL%00here"},
		{"new\nline", '/', "new%0Aline"},
		{"Entwürfe/日本語", '/', "Entwürfe.日本語"},
		{"right\u202eleft", '/', "right%E2%80%AEleft"},
		{"\xff", '/', "%FF"},
		{`C:\con`, '\\', "C%3A.con"},
		{"", '/', "%"},
	} {
		got := Encode(c.mailbox, c.delimiter)
		if got != c.want {
			t.Errorf("Encode(%q, %q) = %q, want %q", c.mailbox, c.delimiter, got, c.want)
		}
		if back, ok := decode(got, c.delimiter); !ok || back != c.mailbox {
			t.Errorf("decode(%q, %q) = %q, %v, want %q", got, c.delimiter, back, ok, c.mailbox)
		}
	}
}

func TestLongNames(t *testing.T) {
	deep := strings.Repeat("level/", 4000)
	a, b := Encode(deep+"a", '/'), Encode(deep+"b", '/')
	if len(a) > longest || a == b {
		t.Errorf("%q and %q (%d octets)", a, b, len(a))
	}
	if _, ok := decode(a, '/'); ok {
		t.Error("a name that was cut is said to tell its mailbox")
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, name := range []string{"a/b", "%2", "%zz", "%41", ".hidden", "-x", "a.", "%2e", "a:b"} {
		if mailbox, ok := decode(name, '/'); ok {
			t.Errorf("decode(%q) = %q", name, mailbox)
		}
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("Archive/2024", '/')
	f.Add("..\x00%", '.')
	f.Add(strings.Repeat("é/", 200), '/')
	f.Fuzz(func(t *testing.T, mailbox string, delimiter rune) {
		if delimiter < 0 || delimiter == '%' || delimiter == 0xFFFD || string(delimiter) == "\uFFFD" {
			delimiter = '/'
		}
		name := Encode(mailbox, delimiter)
		if name == "" || len(name) > longest || name[0] == '.' || name[0] == '-' || !filepath.IsLocal(name) || strings.ContainsAny(name, "/\\\x00") {
			t.Fatalf("Encode(%q, %q) = %q", mailbox, delimiter, name)
		}
		if back, ok := decode(name, delimiter); !strings.Contains(name, digestMark) && (!ok || back != mailbox) {
			t.Fatalf("decode(Encode(%q, %q)) = %q, %v", mailbox, delimiter, back, ok)
		}
	})
}
