package message

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// fuzzSeeds are messages to begin with, of many shapes.
func fuzzSeeds(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(newGenerator(seed).message())
	}
	for _, text := range []string{
		"",
		"Subject: x",
		"\n\nbody",
		"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\nContent-Type: message/rfc822\n\nSubject: in it\n\nx\n--b--\nend",
		"Content-Type: multipart/digest; boundary=\"b b\"\n\n--b b\n\nSubject: x\n\ny\n--b b--",
		"Content-Type: message/rfc822\n\nContent-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=b\n\n--b\n--b--",
		"From: a: b@c, d;, =?utf-8?q?x?= <@e:f@g>\nTo: (c) \"x\\\"y\" <z>\nDate: Mon, 5 Jan 2026 10:00:00 +0100\nReferences: <a@b> <c@d>\n\n",
		"Content-Type: text/html; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n<a href=3D\"x\">=E4</a>=\n",
		"Content-Transfer-Encoding: base64\n\nR3LDvMOfZQ==\n",
	} {
		f.Add([]byte(text))
		f.Add([]byte(strings.ReplaceAll(text, "\n", "\r\n")))
	}
}

// FuzzParse: whatever comes is described, the same however it comes in and once
// it has been stored; what is described lies inside the message.
func FuzzParse(f *testing.F) {
	fuzzSeeds(f)
	limits := Limits{Depth: 8, Parts: 40, HeaderBytes: 4096}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(bytes.NewReader(text), limits)
		if err != nil {
			t.Fatal(err)
		}
		if m.Size != int64(len(text)) {
			t.Fatalf("Size is %d of %d", m.Size, len(text))
		}
		checkPart(t, m.Root, text, Range{0, m.Size}, 0)
		if slow, err := Parse(iotest.OneByteReader(bytes.NewReader(text)), limits); err != nil || !reflect.DeepEqual(slow, m) {
			t.Fatalf("octet by octet it is %+v, %v, and was %+v", slow, err, m)
		}
		stored, err := DecodeMeta(m.Encode())
		if err != nil || !reflect.DeepEqual(stored, m) {
			t.Fatalf("stored it is %+v, %v, and was %+v", stored, err, m)
		}
		header := text[m.Root.Header.Off:m.Root.Header.End()]
		if block, ok := m.HeaderBlock(); ok && !bytes.Equal(block, header) {
			t.Errorf("the header kept is %q, and was %q", block, header)
		}
		for _, not := range []bool{false, true} {
			names := []string{"Subject", "x-y", "RECEIVED"}
			if kept, ok := m.HeaderFields(names, not); ok && !bytes.Equal(kept, SelectFields(header, names, not)) {
				t.Errorf("fields kept (not: %v): %q, in the header %q", not, kept, SelectFields(header, names, not))
			}
		}
		if n := utf8.RuneCountInString(m.Preview); n > 200 || !utf8.ValidString(m.Preview) {
			t.Errorf("the preview is %q, of %d characters", m.Preview, n)
		}
		texts := 0
		if err := m.Texts(t.Context(), memory(text), nil, func(x Text) bool {
			if !utf8.ValidString(x.Value) {
				t.Errorf("a text of %q is %q", x.Header, x.Value)
			}
			texts++
			return texts < 10_000
		}); err != nil {
			t.Errorf("texts: %v", err)
		}
	})
}

// checkPart demands that a part lies where it can.
func checkPart(t *testing.T, p *Part, text []byte, within Range, depth int) {
	t.Helper()
	if depth > 50 {
		t.Fatal("described deeper than the limit")
	}
	for _, r := range []Range{p.Header, p.Body} {
		if r.Len < 0 || r.Off < within.Off || r.End() > within.End() {
			t.Fatalf("%s/%s lies at %v, outside of %v", p.Type, p.Subtype, r, within)
		}
	}
	if p.Header.End() > p.Body.Off {
		t.Fatalf("the header lies at %v, the body at %v", p.Header, p.Body)
	}
	if n := int64(bytes.Count(text[p.Body.Off:p.Body.End()], []byte("\n"))); p.Lines != n {
		t.Fatalf("%s/%s has %d lines, not %d", p.Type, p.Subtype, n, p.Lines)
	}
	if (p.Inner == nil) != (p.Envelope == nil) {
		t.Fatal("a message has its envelope and its parts, or neither")
	}
	if p.Inner != nil {
		checkPart(t, p.Inner, text, p.Body, depth+1)
	}
	end := p.Body.Off
	for _, c := range p.Parts {
		if c.Header.Off < end {
			t.Fatalf("a part begins at %d, before the end of the one before it, %d", c.Header.Off, end)
		}
		checkPart(t, c, text, p.Body, depth+1)
		end = c.Body.End()
	}
}

// FuzzDecodeMeta: what is damaged is an error, and what is none is what it says.
func FuzzDecodeMeta(f *testing.F) {
	for seed := range uint64(4) {
		m, err := Parse(bytes.NewReader(newGenerator(seed).message()), Limits{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Encode())
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeMeta(data)
		if err != nil {
			return
		}
		if again, err := DecodeMeta(m.Encode()); err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("decoded it is %+v, and stored again %+v, %v", m, again, err)
		}
	})
}

// FuzzDecodeHeader: encoded words of all kinds become text.
func FuzzDecodeHeader(f *testing.F) {
	for _, s := range []string{"plain", "=?utf-8?q?gr=C3=BCn?= =?iso-8859-1?b?5Q==?=", "=?utf-8?q??=", "=?x?b?=?=", "\xff =?utf-8*de?Q?a_b?="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		decoded := DecodeHeader(s)
		if !utf8.ValidString(decoded) {
			t.Errorf("%q is decoded to %q", s, decoded)
		}
		// What is found in a text is found wherever it stands in it. (Not that a text stays as it is when it is
		// normalised again: U+01C7 becomes "Lj", by section 2 of RFC 5051.)
		whole, parts := Normalize(decoded), []byte(nil)
		for _, r := range decoded {
			parts = append(parts, Normalize(string(r))...)
		}
		if whole != string(parts) || !utf8.ValidString(whole) {
			t.Errorf("%q is normalised to %q, and each of its characters to %q", decoded, whole, parts)
		}
	})
}
