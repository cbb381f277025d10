package mbox

import (
	"bufio"
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-imap/v2"
)

var date = time.Date(2026, 11, 6, 3, 33, 4, 0, time.FixedZone("", 3600))

// raw reports whether a line of text ends with LF alone.
func raw(text []byte) bool {
	return bytes.Count(text, []byte("\n")) != bytes.Count(text, []byte("\r\n"))
}

func write(t *testing.T, text []byte, flags ...imap.Flag) []byte {
	t.Helper()
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	n, err := Write(w, Message{Size: int64(len(text)), Raw: raw(text), Date: date, Flags: flags}, iotest.OneByteReader(bytes.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if n != int64(b.Len()) {
		t.Errorf("Write says %d octets and wrote %d", n, b.Len())
	}
	return b.Bytes()
}

func TestWrite(t *testing.T) {
	const head = "From imap-backup Fri Nov  6 02:33:04 2026\nStatus: RO\nX-Status:  F\nX-Imap-Backup: "
	for _, c := range []struct{ text, want string }{
		{"A: b\r\n\r\nhi\r\n", "12 crlf\nA: b\n\nhi\n\n"},
		{"A: b\r\n\r\nhi", "10 crlf\nA: b\n\nhi\n\n"},
		{"From x\r\n>From y\r\nFrom\r\n", "23 crlf\n>From x\n>>From y\nFrom\n\n"},
		{"a\nb\r\n", "5 raw\na\nb\r\n\n"},
		{"a\r\r\n\r", "5 crlf\na\r\n\r\n\n"},
		{"", "0 crlf\n\n"},
		{">>>", "3 crlf\n>>>\n\n"},
	} {
		if got := string(write(t, []byte(c.text), imap.FlagSeen, imap.FlagFlagged, imap.FlagDeleted)); got != head+c.want {
			t.Errorf("Write(%q) = %q, want %q", c.text, got, head+c.want)
		}
	}
}

func TestStatusIsInPlace(t *testing.T) {
	entry := write(t, []byte("A: b\r\n\r\n"))
	copy(entry[StatusAt:], Status([]imap.Flag{imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged}))
	if want := write(t, []byte("A: b\r\n\r\n"), imap.FlagFlagged, imap.FlagAnswered, imap.FlagSeen); !bytes.Equal(entry, want) {
		t.Errorf("%q, want %q", entry, want)
	}
}

func TestReadDamaged(t *testing.T) {
	entry := string(write(t, []byte("A: b\r\n\r\nhi\r\n")))
	for _, damaged := range []string{
		"", "From ", entry[1:], entry[:len(entry)-2], entry + "x", entry + entry,
		strings.Replace(entry, "12 crlf", "13 crlf", 1), strings.Replace(entry, "12 crlf", "-1 crlf", 1), strings.Replace(entry, "crlf", "lf", 1),
	} {
		if err := Read(new(bytes.Buffer), strings.NewReader(damaged)); !errors.Is(err, ErrDamaged) {
			t.Errorf("Read(%q): %v", damaged, err)
		}
	}
}

func FuzzEntry(f *testing.F) {
	for _, text := range []string{"", "\n", "\r", "From a\r\n", ">From a\n", "x\r\nFrom ", "\r\n>>>From b", "\r\r\n\n", strings.Repeat(">", 9000) + "From "} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		entry := write(t, text)
		for i, line := range bytes.Split(entry, []byte("\n")) {
			if i > 0 && bytes.HasPrefix(line, []byte(from)) {
				t.Fatalf("%q: line %d begins another entry", entry, i)
			}
		}
		if !bytes.HasSuffix(entry, []byte("\n\n")) && len(text) > 0 && text[len(text)-1] != '\n' {
			t.Fatalf("%q has no empty line at its end", entry)
		}
		var got bytes.Buffer
		if err := Read(&got, iotest.HalfReader(bytes.NewReader(entry))); err != nil || !bytes.Equal(got.Bytes(), text) {
			t.Fatalf("%q came out as %q: %v", text, got.Bytes(), err)
		}
	})
}
