package wire

import (
	"bufio"
	"io"
	"slices"
	"strings"
	"testing"
)

// words reads a command of a tag, a word, a mailbox and strings.
func words(d *Decoder) (words []string, err error) {
	words = append(words, d.Tag())
	d.SP()
	words = append(words, d.Keyword())
	d.SP()
	words = append(words, d.Mailbox())
	for d.TrySP() {
		words = append(words, d.AString())
	}
	return words, d.End()
}

// What is kept of a command says what the command does, is all of one command, and waits for nothing.
func FuzzKept(f *testing.F) {
	for _, text := range []string{"a B c\r\n", "a B {3}\r\nx\ry {0+}\r\n \"{5+}\"\r\nmore", "a B {4+}\r\n{2+} x\r\n", "a B \"{1}\" {1}\r\n}\r\n", "a B &A {x}\r\n", "a B \"\xc3\xbc\" {1}\r\n\r\r\n"} {
		f.Add(text, false)
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, text string, utf8 bool) {
		d := NewDecoder(bufio.NewReader(strings.NewReader(text)), DecoderOptions{Keep: true, UTF8: utf8})
		want, err := words(d)
		kept, mailboxes := d.Kept()
		if err != nil {
			return
		}
		if !slices.Equal(mailboxes, []string{want[2]}) && !strings.EqualFold(mailboxes[0], want[2]) {
			t.Errorf("the mailbox %q is kept as %q", want[2], mailboxes)
		}
		waited := false
		r := bufio.NewReader(strings.NewReader(string(kept) + "\r\n"))
		again := NewDecoder(r, DecoderOptions{UTF8: utf8, Continue: func() error { waited = true; return nil }})
		got, err := words(again)
		if err != nil || waited || !slices.Equal(got, want) {
			t.Errorf("%q is kept as %q, which is %q, %v; want %q", text, kept, got, err, want)
		}
		if rest, _ := io.ReadAll(r); len(rest) > 0 {
			t.Errorf("%q is kept as %q, behind which %q is left", text, kept, rest)
		}
	})
}

// What streams is kept without its octets, but its head; and nothing is where commands are not kept.
func TestKept(t *testing.T) {
	const text = "a APPEND x {3}\r\nabc {2+}\r\nde\r\n"
	d := NewDecoder(bufio.NewReader(strings.NewReader(text+text)), DecoderOptions{Keep: true})
	read := func() (parts []string) {
		for _, more := range []bool{true, true, false} {
			if len(parts) == 0 {
				d.Tag()
				d.SP()
				d.Keyword()
				d.SP()
				d.Mailbox()
			}
			if more {
				d.SP()
				r, _ := d.Literal(func(int64, bool) error { return nil })
				if _, err := io.Copy(io.Discard, r); err != nil {
					t.Fatal(err)
				}
			}
			kept, _ := d.Kept()
			parts = append(parts, string(kept))
		}
		if err := d.End(); err != nil {
			t.Fatal(err)
		}
		return parts
	}
	if got, want := read(), []string{"a APPEND x {3+}\r\n", " {2+}\r\n", ""}; !slices.Equal(got, want) {
		t.Errorf("kept is %q, want %q", got, want)
	}
	d.UseKeep(false)
	if got := read(); strings.Join(got, "") != "" {
		t.Errorf("kept is %q", got)
	}
}
