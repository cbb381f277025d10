package state

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

func readAll(text string) (Header, []Record, int64, error) {
	r, err := NewReader(strings.NewReader(text))
	if err != nil {
		return Header{}, nil, 0, err
	}
	var records []Record
	for {
		var rec Record
		if err := r.Next(&rec); err == io.EOF {
			return r.Header, records, r.Offset, nil
		} else if err != nil {
			return r.Header, records, r.Offset, err
		}
		records = append(records, rec)
	}
}

func sample() (Header, []Record) {
	date := time.Date(2026, 11, 26, 3, 33, 4, 0, time.FixedZone("", -5*3600))
	return Header{Mailbox: "Odd 50%\n\x7fname ", Delimiter: '/', Format: "mbox", UIDValidity: 1<<32 - 1, Synced: Synced{1 << 63, 7, 3}}, []Record{
		{Kind: Message, UID: 1, Length: 100, Size: 80, Sum: [32]byte{1, 2}, Date: date, MessageID: "<a b@c>", Flags: []imap.Flag{`$Forwarded`, `\Seen`}},
		{Kind: Gone, UID: 2, Place: 100, Length: 1, Date: date, MessageID: "-\u0085\xff"},
		{Kind: Append, Place: 101},
		{Kind: Swap},
		{Kind: Reflag, UID: 1<<32 - 1, Place: 1 << 40, Date: date},
		{Kind: Drop, UID: 4, Date: date, Flags: []imap.Flag{"-"}},
	}
}

func write(h Header, records []Record) string {
	b := h.Append(nil)
	for i := range records {
		b = records[i].Append(b)
	}
	return string(b)
}

func TestRoundTrip(t *testing.T) {
	header, records := sample()
	text := write(header, records)
	gotHeader, got, offset, err := readAll(text)
	if err != nil || offset != int64(len(text)) || gotHeader != header || len(got) != len(records) {
		t.Fatalf("%+v, %+v, %d: %v", gotHeader, got, offset, err)
	}
	for i := range got {
		if again, want := string(got[i].Append(nil)), string(records[i].Append(nil)); again != want {
			t.Errorf("%q, want %q", again, want)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "From ") {
			t.Errorf("%q", line)
		}
	}
}

// A line that a crash cut off does not count, wherever it was cut.
func TestCutOff(t *testing.T) {
	header, records := sample()
	whole := write(header, records[:1])
	all := write(header, records[:2])
	for n := len(whole); n < len(all); n++ {
		if _, got, offset, err := readAll(all[:n]); err != nil || len(got) != 1 || offset != int64(len(whole)) {
			t.Errorf("cut at %d: %d records to %d, %v", n, len(got), offset, err)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	header, records := sample()
	whole := write(header, records)
	for _, c := range [][2]string{
		{"imap-backup 1", "imap-backup 2"}, {"delimiter /", "delimiter //"}, {"uidvalidity ", "uidvalidity -"},
		{"synced 9", "synced x"}, {"\n\nmessage", "\nmessage"}, {"message 1 0", "message 1"}, {"message 1", "massage 1"},
		{"gone 2", "gone 4294967296"}, {"0102", "01"}, {"0102", "xx02"}, {"2026-11", "2026-13"}, {"<a%20b", "<a%2xb"},
		{"$Forwarded", "$For\x00warded"}, {"$Forwarded", "$For\x7fwarded"},
		{"append 101", "append"}, {"swap", "swap 1"}, {"50%25", "50%"},
	} {
		damaged := strings.Replace(whole, c[0], c[1], 1)
		var syntax *SyntaxError
		if _, _, _, err := readAll(damaged); damaged == whole || !errors.As(err, &syntax) {
			t.Errorf("%q for %q: %v", c[1], c[0], err)
		}
	}
}

// What is right reaches up to the line that is wrong.
func TestOffset(t *testing.T) {
	header, records := sample()
	whole := write(header, records[:1])
	for _, wrong := range []string{"rubbish\n", "message 2 \x00\x00\x00\n"} {
		if _, _, offset, err := readAll(whole + wrong + "swap\n"); err == nil || offset != int64(len(whole)) {
			t.Errorf("%q: %d, want %d; %v", wrong, offset, len(whole), err)
		}
	}
}

func TestFlags(t *testing.T) {
	got := Flags([]imap.Flag{`\Seen`, `\Recent`, "b", "a", `\Seen`, ""})
	if want := []imap.Flag{`\Seen`, "a", "b"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// What is read is written again as it was, and nothing makes the reader panic.
func FuzzReader(f *testing.F) {
	header, records := sample()
	f.Add(write(header, records))
	f.Add(write(Header{Mailbox: "INBOX", Format: "eml"}, nil))
	f.Fuzz(func(t *testing.T, text string) {
		header, records, _, err := readAll(text)
		if err != nil {
			return
		}
		again := write(header, records)
		header2, records2, offset, err := readAll(again)
		if err != nil || offset != int64(len(again)) || write(header2, records2) != again || header2 != header {
			t.Fatalf("%q became %q: %v", text, again, err)
		}
	})
}
