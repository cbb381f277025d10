package message

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const nested = `From: a@example.org
Subject: outer
X-Other: not kept by name
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

one
--b
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/alternative; boundary=c

--c

two-one
--c
Content-Type: text/html

two-two
--c--
--b
Content-Type: message/rfc822

Subject: simple

three
--b--
`

func TestSection(t *testing.T) {
	in := crlf(nested)
	single := crlf("Subject: x\n\nbody\n")
	alone := crlf("Content-Type: message/rfc822\n\nSubject: y\n\ninner\n")
	tests := []struct {
		in   string
		path []int
		kind string
		want string // "-" for none
	}{
		{in, nil, "", in},
		{in, nil, "HEADER", in[:strings.Index(in, "--b")]},
		{in, nil, "TEXT", in[strings.Index(in, "--b"):]},
		{in, nil, "MIME", "-"},
		{in, []int{1}, "", "one"},
		{in, []int{1}, "MIME", "Content-Type: text/plain\r\n\r\n"},
		{in, []int{1}, "HEADER", "-"},
		{in, []int{1, 1}, "", "-"},
		{in, []int{2}, "HEADER", "Subject: inner\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n"},
		{in, []int{2}, "TEXT", "--c\r\n\r\ntwo-one\r\n--c\r\nContent-Type: text/html\r\n\r\ntwo-two\r\n--c--"},
		{in, []int{2, 1}, "", "two-one"},
		{in, []int{2, 1}, "MIME", "\r\n"},
		{in, []int{2, 2}, "", "two-two"},
		{in, []int{2, 3}, "", "-"},
		{in, []int{3}, "", "Subject: simple\r\n\r\nthree"},
		{in, []int{3, 1}, "", "three"},
		{in, []int{3, 1}, "MIME", "Subject: simple\r\n\r\n"},
		{in, []int{3, 2}, "", "-"},
		{in, []int{4}, "", "-"},
		{in, []int{0}, "", "-"},
		{in, []int{-1}, "", "-"},
		{single, []int{1}, "", "body\r\n"},
		{single, []int{1}, "MIME", "Subject: x\r\n\r\n"},
		{single, []int{1}, "TEXT", "-"},
		{single, []int{2}, "", "-"},
		{single, []int{1, 1}, "", "-"},
		{alone, []int{1}, "", "Subject: y\r\n\r\ninner\r\n"},
		{alone, []int{1}, "TEXT", "inner\r\n"},
		{alone, []int{1, 1}, "", "inner\r\n"},
		{alone, []int{1, 1, 1}, "", "-"},
	}
	for _, test := range tests {
		m := mustParse(t, test.in, Limits{})
		got := "-"
		if r, ok := m.Section(test.path, test.kind); ok {
			got = test.in[r.Off:r.End()]
		}
		if got != test.want {
			t.Errorf("%v %s: %q, want %q", test.path, test.kind, got, test.want)
		}
		prefix := "Return-Path: <x@example.org>\r\n"
		if r, ok := m.WithPrefix([]byte(prefix)).Section(test.path, test.kind); ok {
			moved := prefix + test.in
			want := test.want
			if r.Off == 0 {
				want = prefix + want
			}
			if got := moved[r.Off:r.End()]; got != want {
				t.Errorf("with a prefix, %v %s: %q, want %q", test.path, test.kind, got, want)
			}
		}
	}
}

// What WithPrefix makes is what Parse makes of the whole.
func TestWithPrefix(t *testing.T) {
	prefix := []byte("Return-Path: <x@example.org>\r\nDelivered-To: y@example.org\r\n")
	eachMail(t, func(name string, content []byte) {
		if len(content) > 0 && (isWSP(content[0]) || bytes.HasPrefix(content, []byte("\ufeff"))) {
			return // its first line would become part of the prefix, or lose its mark
		}
		m, err := Parse(bytes.NewReader(content), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		before := m.Encode()
		want, err := Parse(bytes.NewReader(append(bytes.Clone(prefix), content...)), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got := m.WithPrefix(prefix); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", name, got, want)
		}
		if !bytes.Equal(m.Encode(), before) {
			t.Error("WithPrefix changed what it was called on")
		}
	})
}

func TestSelectFields(t *testing.T) {
	header := []byte(crlf("From x\nA: 1\nb: 2\n  more\nA : 3\nC: 4\n\n"))
	tests := []struct {
		names []string
		not   bool
		want  string
	}{
		{[]string{"a"}, false, "A: 1\nA : 3\n\n"},
		{[]string{"B", "C"}, false, "b: 2\n  more\nC: 4\n\n"},
		{[]string{"X"}, false, "\n"},
		{[]string{"a", "c"}, true, "From x\nb: 2\n  more\n\n"},
	}
	for _, test := range tests {
		if got := string(SelectFields(header, test.names, test.not)); got != crlf(test.want) {
			t.Errorf("%v %v: %q, want %q", test.names, test.not, got, crlf(test.want))
		}
		m := mustParse(t, string(header), Limits{})
		if got, ok := m.HeaderFields(test.names, test.not); !ok || string(got) != crlf(test.want) {
			t.Errorf("cached, %v %v: %q, want %q", test.names, test.not, got, crlf(test.want))
		}
	}
}

func TestCached(t *testing.T) {
	small := mustParse(t, crlf("X-Odd: 1\nSubject: x\n\n"), Limits{})
	if !small.HeaderComplete || !small.Cached("X-Odd") || !small.Cached("X-Absent") {
		t.Errorf("a small header is not kept whole: %+v", small)
	}
	large := mustParse(t, crlf("Received: "+strings.Repeat("x", 600)+"\nX-Odd: 1\nSubject: x\nList-Id: y\n\n"), Limits{})
	if large.HeaderComplete || large.Cached("X-Odd") || !large.Cached("SUBJECT") || !large.Cached("Bcc") || !large.Cached("list-archive") || len(large.Fields) != 2 {
		t.Errorf("%+v", large)
	}
	if _, ok := large.HeaderFields([]string{"Subject", "X-Odd"}, false); ok {
		t.Error("fields that are not kept")
	}
	if _, ok := large.HeaderFields([]string{"Subject"}, true); ok {
		t.Error("all fields but some of a header that is not whole")
	}
	huge := mustParse(t, crlf("To: "+strings.Repeat("a@example.org, ", 10_000)+"\n\n"), Limits{})
	if !huge.HeaderCut || len(huge.Fields) > 0 || huge.Cached("To") || len(huge.Envelope.To) != 10_000 {
		t.Errorf("%d fields, %d recipients", len(huge.Fields), len(huge.Envelope.To))
	}
}

// What was stored once can be read for ever: the files of testdata are never
// written again.
func TestStoredForm(t *testing.T) {
	for version := 1; version <= metaVersion; version++ {
		text, err := os.ReadFile(filepath.Join("testdata", "meta"+string(rune('0'+version))+".hex"))
		if err != nil {
			t.Fatal(err)
		}
		data, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeMeta(data)
		if err != nil {
			t.Fatal(err)
		}
		if want := mustParse(t, crlf(nested), Limits{}); !reflect.DeepEqual(got, want) {
			t.Errorf("version %d: got\n%+v\nwant\n%+v", version, got, want)
		}
	}
}

func TestDecodeMetaHostile(t *testing.T) {
	m := mustParse(t, crlf(nested), Limits{})
	good := m.Encode()
	for i := range good {
		for _, change := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[i] ^= change
			// A bit of zstd's header that says nothing may change.
			if got, err := DecodeMeta(bad); !errors.Is(err, ErrMeta) && !reflect.DeepEqual(got, m) {
				t.Fatalf("octet %d changed by %#x: %v", i, change, err)
			}
		}
		if _, err := DecodeMeta(good[:i]); !errors.Is(err, ErrMeta) {
			t.Fatalf("cut to %d octets: %v", i, err)
		}
	}
	bomb := append([]byte{metaVersion}, sharedEncoder().EncodeAll(make([]byte, maxMeta+1), nil)...)
	if _, err := DecodeMeta(bomb); !errors.Is(err, ErrMeta) {
		t.Errorf("a frame that is too large: %v", err)
	}
}

func FuzzDecodeMeta(f *testing.F) {
	for seed := range uint64(10) {
		m, err := Parse(bytes.NewReader(newGenerator(seed).message()), Limits{})
		if err != nil {
			f.Fatal(err)
		}
		e := metaEncoder{}
		e.meta(m)
		f.Add(e.out)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		m, err := DecodeMeta(append([]byte{metaVersion}, sharedEncoder().EncodeAll(content, nil)...))
		if err != nil {
			return
		}
		again, err := DecodeMeta(m.Encode())
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%v\n%+v\nwant\n%+v", err, again, m)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	metas, size := benchmarkMetas(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		metas[i%len(metas)].Encode()
	}
	b.ReportMetric(size, "B/meta")
}

func BenchmarkDecodeMeta(b *testing.B) {
	metas, size := benchmarkMetas(b)
	var stored [][]byte
	for _, m := range metas {
		stored = append(stored, m.Encode())
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := DecodeMeta(stored[i%len(stored)]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(size, "B/meta")
}

func benchmarkMetas(b *testing.B) (metas []*Meta, size float64) {
	eachMail(b, func(_ string, content []byte) {
		m, err := Parse(bytes.NewReader(content), Limits{})
		if err != nil {
			b.Fatal(err)
		}
		metas = append(metas, m)
		size += float64(len(m.Encode()))
	})
	return metas, size / float64(len(metas))
}
