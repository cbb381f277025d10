package imapd

import (
	"bufio"
	"errors"
	"strings"
	"testing"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store/message"
)

// decoderOf stands at what follows the name of a command.
func decoderOf(line string) *wire.Decoder {
	return wire.NewDecoder(bufio.NewReader(strings.NewReader(line+"\r\n")), wire.DecoderOptions{})
}

// describeFetch is what was read, in short.
func describeFetch(c fetchCmd) string {
	names := map[itemKind]string{
		itemUID: "UID", itemFlags: "FLAGS", itemInternalDate: "INTERNALDATE", itemSize: "SIZE",
		itemModSeq: "MODSEQ", itemEnvelope: "ENVELOPE", itemBody: "BODY", itemBodyStructure: "BODYSTRUCTURE", itemEmailID: "EMAILID", itemThreadID: "THREADID", itemSaveDate: "SAVEDATE", itemPreview: "PREVIEW",
	}
	var words []string
	for _, item := range c.items {
		if item.kind != itemSection {
			words = append(words, names[item.kind])
			continue
		}
		word := item.section.label
		if item.section.peek {
			word += " peek"
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func TestReadFetch(t *testing.T) {
	tests := []struct {
		uid        bool
		line, want string
	}{
		{false, " 1:* ALL", "FLAGS, INTERNALDATE, SIZE, ENVELOPE"},
		{false, " 1:* fast", "FLAGS, INTERNALDATE, SIZE"},
		{false, " 1 FULL", "FLAGS, INTERNALDATE, SIZE, ENVELOPE, BODY"},
		{false, " 1 FLAGS", "FLAGS"},
		{false, " 1 (flags Flags UID)", "FLAGS, UID"},
		{true, " 1 (FLAGS UID)", "FLAGS, UID"},
		{true, " 1 FLAGS", "UID, FLAGS"},
		{false, " 1 (BODY BODYSTRUCTURE)", "BODY, BODYSTRUCTURE"},
		{false, " 1 (emailid ThreadID EMAILID)", "EMAILID, THREADID"},
		{false, " 1 SAVEDATE", "SAVEDATE"},
		{false, " 1 PREVIEW", "PREVIEW"},
		{false, " 1 preview (lazy)", "PREVIEW"},
		{false, " 1 (PREVIEW (LAZY LAZY) FLAGS)", "PREVIEW, FLAGS"},
		{false, " 1 (FLAGS PREVIEW)", "FLAGS, PREVIEW"},
		{false, " 1 (PREVIEW FLAGS PREVIEW (LAZY))", "PREVIEW, FLAGS"},
		{false, " 1 PREVIEW (CHANGEDSINCE 5)", "PREVIEW, MODSEQ"},
		{false, " 1 PREVIEW (LAZY) (CHANGEDSINCE 5)", "PREVIEW, MODSEQ"},
		{true, " 1 (PREVIEW (LAZY)) (CHANGEDSINCE 5)", "UID, PREVIEW, MODSEQ"},
		{false, " 1 BODY[]", "BODY[]"},
		{false, " 1 BODY.PEEK[]", "BODY[] peek"},
		{false, " 1 (BODY[] BODY.PEEK[])", "BODY[]"},
		{false, " 1 (BODY.PEEK[] BODY[])", "BODY[]"},
		{false, " 1 BODY[1.2.3]", "BODY[1.2.3]"},
		{false, " 1 BODY[1.2.mime]<0.10>", "BODY[1.2.MIME]<0>"},
		{false, " 1 BODY[HEADER]", "BODY[HEADER]"},
		{false, " 1 BODY[TEXT]<5.7>", "BODY[TEXT]<5>"},
		{false, " 1 BODY[4.header]", "BODY[4.HEADER]"},
		{false, ` 1 BODY.PEEK[HEADER.FIELDS (From "To")]`, "BODY[HEADER.FIELDS (From To)] peek"},
		{false, ` 1 BODY.PEEK[header.fields.not ("a b" {3+}` + "\r\nfoo" + `)]`, `BODY[HEADER.FIELDS.NOT ("a b" foo)] peek`},
		{false, " 1 BODY[2.HEADER.FIELDS (DATE)]<0.1>", "BODY[2.HEADER.FIELDS (DATE)]<0>"},
		{false, " 1 (RFC822 RFC822.HEADER RFC822.TEXT RFC822.SIZE)", "RFC822, RFC822.HEADER peek, RFC822.TEXT, SIZE"},
		{false, " 1 (BODY[]<0.10> BODY[]<0.20> BODY[]<0.10>)", "BODY[]<0>, BODY[]<0>"},
		{true, " 1:* (FLAGS) (CHANGEDSINCE 12345)", "UID, FLAGS, MODSEQ"},
		{true, " 1:* (FLAGS MODSEQ) (CHANGEDSINCE 12345 VANISHED)", "UID, FLAGS, MODSEQ"},
		{true, " 1:* FLAGS (vanished changedsince 0)", "UID, FLAGS, MODSEQ"},
		{false, " 1 BODY[]<4294967296.4294967296>", "BODY[]<4294967296>"},
		{false, " 1 (BODY[0] BODY.PEEK[2.0] BODY[0]<0.5>)", "BODY[0], BODY[2.0] peek, BODY[0]<0>"},
		{false, " 1 (RFC822.PEEK RFC822.TEXT.PEEK)", "RFC822 peek, RFC822.TEXT peek"},
		{false, " 1 (RFC822.PEEK RFC822 RFC822.TEXT.PEEK RFC822.TEXT)", "RFC822, RFC822.TEXT"},
		{false, ` 1 RFC822.HEADER.LINES (Date "From")`, "RFC822.HEADER peek"},
		{false, " 1 (RFC822.HEADER.LINES (a) RFC822.HEADER.LINES.NOT (a) RFC822.HEADER RFC822.HEADER.LINES (b) RFC822.HEADER.LINES (a))",
			"RFC822.HEADER peek, RFC822.HEADER peek, RFC822.HEADER peek, RFC822.HEADER peek"},
		{false, " 1 BINARY[]", "BINARY[]"},
		{false, " 1 binary.peek[1.2]<3.4>", "BINARY[1.2]<3> peek"},
		{false, " 1 (BINARY[1] BINARY.SIZE[1] BINARY.PEEK[1] BODY[1])", "BINARY[1], BINARY.SIZE[1] peek, BODY[1]"},

		{false, "", "BAD"},
		{false, " 1", "BAD"},
		{false, " 1 ", "BAD"},
		{false, " 1 ()", "BAD"},
		{false, " 0 FLAGS", "BAD"},
		{false, " 4294967296 FLAGS", "BAD"},
		{false, " 1 (ALL)", "BAD"},
		{false, " 1 (FLAGS", "BAD"},
		{false, " 1 FLAGS UID", "BAD"},
		{false, " 1 FLAGS  ", "BAD"},
		{false, " 1 BODYSTRUCTURE[]", "BAD"},
		{false, " 1 BODY.PEEK", "BAD"},
		{false, " 1 BODY[", "BAD"},
		{false, " 1 BODY[1.]", "BAD"},
		{false, " 1 BODY[0.1]", "BAD"},
		{false, " 1 BODY[0.HEADER]", "BAD"},
		{false, " 1 BODY[1.0.HEADER]", "BAD"},
		{false, " 1 RFC822.HEADER.LINES", "BAD"},
		{false, " 1 RFC822.HEADER.LINES ()", "BAD"},
		{false, " 1 RFC822.HEADER.PEEK", "BAD"},
		{false, " 1 BODY[1..2]", "BAD"},
		{false, " 1 BODY[99999999999]", "BAD"},
		{false, " 1 BODY[MIME]", "BAD"},
		{false, " 1 BODY[FOO]", "BAD"},
		{false, " 1 BODY[1TEXT]", "BAD"},
		{false, " 1 BODY[HEADER.FIELDS]", "BAD"},
		{false, " 1 BODY[HEADER.FIELDS ()]", "BAD"},
		{false, " 1 BODY[]<0.0>", "BAD"},
		{false, " 1 BODY[]<0>", "BAD"},
		{false, " 1 BODY[]<-1.5>", "BAD"},
		{false, " 1 BODY[]<99999999999999999999.1>", "BAD"},
		{false, " 1 BODY[" + strings.Repeat("1.", 200) + "1]", "BAD"},
		{false, " 1 BINARY", "BAD"},
		{false, " 1 BINARY.SIZE", "BAD"},
		{false, " 1 BINARY.FOO[1]", "BAD"},
		{false, " 1 BINARY[0]", "BAD"},
		{false, " 1 BINARY[1.]", "BAD"},
		{false, " 1 BINARY[1.MIME]", "BAD"},
		{false, " 1 BINARY[TEXT]", "BAD"},
		{false, " 1 BINARY[1]<0>", "BAD"},
		{false, " 1 BINARY.SIZE[1]<0.1>", "BAD"},
		{false, " 1 RFC822.FOO", "BAD"},
		{false, " 1 FLAGS (CHANGEDSINCE)", "BAD"},
		{false, " 1 FLAGS (CHANGEDSINCE 1 CHANGEDSINCE 2)", "BAD"},
		{false, " 1 FLAGS (CHANGEDSINCE 99999999999999999999)", "BAD"},
		{false, " 1 FLAGS (FOO 1)", "BAD"},
		{false, " 1 FLAGS (CHANGEDSINCE 1 VANISHED)", "BAD"},
		{true, " 1 FLAGS (VANISHED)", "BAD"},
	}
	for _, test := range tests {
		d := decoderOf(test.line)
		got := describeFetch(readFetchCmd(d, test.uid))
		if err := d.End(); err != nil {
			var syntax *wire.SyntaxError
			if !errors.As(err, &syntax) {
				t.Errorf("FETCH%s: %v", test.line, err)
			}
			got = "BAD"
		}
		if got != test.want {
			t.Errorf("FETCH%s = %s, want %s", test.line, got, test.want)
		}
	}
}

func TestSectionWithin(t *testing.T) {
	tests := []struct {
		off, n, size, wantOff, wantLen int64
	}{
		{0, 10, 100, 0, 10},
		{95, 10, 100, 95, 5},
		{100, 1, 100, 100, 0},
		{1<<63 - 1, 1<<63 - 1, 100, 100, 0},
		{1, 1<<63 - 1, 100, 1, 99},
		{0, 5, 0, 0, 0},
	}
	for _, test := range tests {
		s := section{partial: true, off: test.off, len: test.n}
		got := s.within(message.Range{Off: 1000, Len: test.size})
		if want := (message.Range{Off: 1000 + test.wantOff, Len: test.wantLen}); got != want {
			t.Errorf("<%d.%d> of %d = %v, want %v", test.off, test.n, test.size, got, want)
		}
	}
}

func FuzzReadFetch(f *testing.F) {
	f.Add(" 1:*,5 (FLAGS BODY.PEEK[1.2.HEADER.FIELDS (From {3+}\r\nfoo)]<0.5> RFC822.TEXT) (CHANGEDSINCE 5 VANISHED)")
	f.Add(" 1 ALL")
	f.Add(" 1 (BINARY[1.2]<0.5> BINARY.SIZE[] BINARY.PEEK[3])")
	f.Fuzz(func(t *testing.T, line string) {
		d := decoderOf(line)
		c := readFetchCmd(d, true)
		if d.End() != nil {
			return
		}
		if len(c.items) == 0 {
			t.Fatalf("nothing asked for in %q", line)
		}
		for _, item := range c.items {
			if s := item.section; s != nil && (s.off < 0 || s.len < 0 || s.partial && s.len == 0) {
				t.Fatalf("section %+v of %q", s, line)
			}
		}
	})
}

const nested = "From: \"A \\\"B\\\" C\" <a@example.test>\r\n" +
	"To: team: b@example.test, =?utf-8?q?D?= <d@example.test>;\r\n" +
	"Subject: gr\xc3\xbcn\r\n" +
	"Date: Thu, 1 Jan 2026 10:00:00 +0100\r\n" +
	"Message-ID: <1@example.test>\r\n" +
	"MIME-Version: 1.0\r\n" +
	"Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
	"--b\r\n\r\nhello\r\n" +
	"--b\r\nContent-Type: message/rfc822\r\nContent-Disposition: attachment; filename=x.eml\r\nContent-Language: en, de\r\nContent-Location: there\r\n\r\n" +
	"Subject: inside\r\n\r\ntext\r\n" +
	"--b\r\nContent-Type: image/png; name=\"a\\\\b.png\"\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <i>\r\nContent-MD5: m\r\n\r\nAAAA\r\n" +
	"--b--\r\n"

func parsed(t testing.TB, text string) *message.Meta {
	t.Helper()
	meta, err := message.Parse(strings.NewReader(text), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return meta
}

func TestAppendEnvelope(t *testing.T) {
	const want = `("Thu, 1 Jan 2026 10:00:00 +0100" {5}` + "\r\ngr\xc3\xbcn" +
		` (("A \"B\" C" NIL "a" "example.test")) (("A \"B\" C" NIL "a" "example.test")) (("A \"B\" C" NIL "a" "example.test"))` +
		` ((NIL NIL "team" NIL)(NIL NIL "b" "example.test")("=?utf-8?q?D?=" NIL "d" "example.test")(NIL NIL NIL NIL))` +
		` NIL NIL NIL "<1@example.test>")`
	if got := string(appendEnvelope(nil, &parsed(t, nested).Envelope)); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestAppendBodyStructure(t *testing.T) {
	tests := []struct {
		name, text string
		extended   bool
		want       string
	}{
		{"text", "Subject: x\r\n\r\nhello\r\n", false, `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 7 1)`},
		{"text, extended", "Subject: x\r\n\r\nhello\r\n", true, `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 7 1 NIL NIL NIL NIL)`},
		{"nested", nested, false,
			`(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 0)` +
				`("message" "rfc822" NIL NIL NIL "7bit" 23 (NIL "inside" NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 4 0) 2)` +
				`("image" "png" ("name" "a\\b.png") "<i>" NIL "base64" 4) "mixed")`},
		{"nested, extended", nested, true,
			`(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 0 NIL NIL NIL NIL)` +
				`("message" "rfc822" NIL NIL NIL "7bit" 23 (NIL "inside" NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 4 0 NIL NIL NIL NIL) 2 NIL ("attachment" ("filename" "x.eml")) ("en" "de") "there")` +
				`("image" "png" ("name" "a\\b.png") "<i>" NIL "base64" 4 "m" NIL NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)`},
		{"no parts", "Content-Type: multipart/alternative; boundary=x\r\n\r\nnothing\r\n", false,
			`(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0) "alternative")`},
	}
	for _, test := range tests {
		form := bodyForm(0)
		if test.extended {
			form = bodyExtended
		}
		got := string(appendBodyStructure(nil, parsed(t, test.text).Root, form))
		if got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}
