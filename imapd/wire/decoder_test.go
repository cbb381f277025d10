package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// decode runs read over a command line and returns its error.
func decode(input string, read func(d *Decoder)) error {
	d := NewDecoder(bufio.NewReader(strings.NewReader(input)), DecoderOptions{})
	read(d)
	return d.End()
}

func TestTokens(t *testing.T) {
	day := time.Date(2006, 2, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		input string
		read  func(d *Decoder) any
		want  any // nil: a syntax error
	}{
		{"abc\r\n", func(d *Decoder) any { return d.Atom() }, "abc"},
		{"abc\n", func(d *Decoder) any { return d.Atom() }, "abc"},
		{"abc\rd\r\n", func(d *Decoder) any { return d.Atom() }, nil},
		{"a]\r\n", func(d *Decoder) any { return d.Atom() }, nil},
		{"\r\n", func(d *Decoder) any { return d.Atom() }, nil},
		{"a\x00\r\n", func(d *Decoder) any { return d.Atom() }, nil},
		{"a\x80\r\n", func(d *Decoder) any { return d.Atom() }, nil},
		{"noop\r\n", func(d *Decoder) any { return d.Keyword() }, "NOOP"},
		{"a]\r\n", func(d *Decoder) any { return d.AString() }, "a]"},
		{`"a \" \\"` + "\r\n", func(d *Decoder) any { return d.AString() }, `a " \`},
		{`"a \b"` + "\r\n", func(d *Decoder) any { return d.AString() }, nil},
		{`"a` + "\r\n", func(d *Decoder) any { return d.AString() }, nil},
		{"{3}\r\na b\r\n", func(d *Decoder) any { return d.AString() }, "a b"},
		{"{3+}\r\na b\r\n", func(d *Decoder) any { return d.AString() }, "a b"},
		{"{0}\r\n\r\n", func(d *Decoder) any { return d.AString() }, ""},
		{"{3+}\r\na\x00b\r\n", func(d *Decoder) any { return d.AString() }, nil},
		{"{}\r\n", func(d *Decoder) any { return d.AString() }, nil},
		{"{3-}\r\nabc\r\n", func(d *Decoder) any { return d.AString() }, nil},
		{"{3} \r\nabc\r\n", func(d *Decoder) any { return d.AString() }, nil},
		{"{99999999999999999999}\r\n", func(d *Decoder) any { return d.AString() }, nil},
		{"nil\r\n", func(d *Decoder) any { _, ok := d.NString(); return ok }, false},
		{`""` + "\r\n", func(d *Decoder) any { _, ok := d.NString(); return ok }, true},
		{"nile\r\n", func(d *Decoder) any { _, ok := d.NString(); return ok }, nil},
		{"inBox\r\n", func(d *Decoder) any { return d.Mailbox() }, "INBOX"},
		{"inBox/a/b\r\n", func(d *Decoder) any { return d.Mailbox() }, "INBOX/a/b"},
		{"inBox/\r\n", func(d *Decoder) any { return d.Mailbox() }, "INBOX/"},
		{"inBoxes\r\n", func(d *Decoder) any { return d.Mailbox() }, "inBoxes"},
		{"Entw&APw-rfe\r\n", func(d *Decoder) any { return d.Mailbox() }, "Entwürfe"},
		{"Entw&APw\r\n", func(d *Decoder) any { return d.Mailbox() }, nil},
		{"&AAA-\r\n", func(d *Decoder) any { return d.Mailbox() }, nil},
		{"%/*\r\n", func(d *Decoder) any { p, ok := d.ListMailbox(); return fmt.Sprintf("%s %t", p, ok) }, "%/* true"},
		{`""` + "\r\n", func(d *Decoder) any { p, ok := d.ListMailbox(); return fmt.Sprintf("%s %t", p, ok) }, " true"},
		{"&AAA-\r\n", func(d *Decoder) any { _, ok := d.ListMailbox(); return ok }, false},
		{"18446744073709551616\r\n", func(d *Decoder) any { return d.NZNumber64() }, nil},
		{"0\r\n", func(d *Decoder) any { return d.NZNumber64() }, nil},
		{"9223372036854775807\r\n", func(d *Decoder) any { return d.NZNumber64() }, uint64(1<<63 - 1)},
		{"a lazy dog\r\n", func(d *Decoder) any { d.Atom(); return d.Ahead(" LAZY") && d.Line() == " lazy dog" }, true},
		{"a\r\n", func(d *Decoder) any { d.Atom(); return d.Ahead(" LAZY") }, false},
		{"a la\r\n", func(d *Decoder) any { d.Atom(); return d.Ahead(" LAZY") || d.Line() != " la" }, false},
		{"M-a_9Z\r\n", func(d *Decoder) any { return d.ObjectID() }, "M-a_9Z"},
		{"M.a\r\n", func(d *Decoder) any { return d.ObjectID() }, nil},
		{"\"M\"\r\n", func(d *Decoder) any { return d.ObjectID() }, nil},
		{strings.Repeat("M", 256) + "\r\n", func(d *Decoder) any { return d.ObjectID() }, nil},
		{"4294967295\r\n", func(d *Decoder) any { return d.Number() }, uint32(4294967295)},
		{"4294967296\r\n", func(d *Decoder) any { return d.Number() }, nil},
		{"-1\r\n", func(d *Decoder) any { return d.Number() }, nil},
		{"0\r\n", func(d *Decoder) any { return d.NZNumber() }, nil},
		{"9223372036854775807\r\n", func(d *Decoder) any { return d.Number64() }, uint64(9223372036854775807)},
		{"9223372036854775808\r\n", func(d *Decoder) any { return d.Number64() }, nil},
		{"99999999999999999999999\r\n", func(d *Decoder) any { return d.Number64() }, nil},
		{"5,3:1,9:*,2:4,*\r\n", func(d *Decoder) any { s := d.SequenceSet(); return s.String() }, "1:5,9:*"},
		{"*:4\r\n", func(d *Decoder) any { s := d.UIDSet(); return s.String() }, "4:*"},
		{"*\r\n", func(d *Decoder) any { s := d.UIDSet(); return s.String() }, "*"},
		{"1:*,5:4294967295,*\r\n", func(d *Decoder) any { s := d.UIDSet(); return s.String() }, "1:*"},
		{"4294967295,*\r\n", func(d *Decoder) any { s := d.UIDSet(); return s.String() }, "4294967295,*"},
		{"0\r\n", func(d *Decoder) any { return len(d.UIDSet()) }, nil},
		{"1,\r\n", func(d *Decoder) any { return len(d.UIDSet()) }, nil},
		{"1:4294967296\r\n", func(d *Decoder) any { return len(d.UIDSet()) }, nil},
		{`(\seen $Forwarded \Recent)` + "\r\n", func(d *Decoder) any { return fmt.Sprint(d.FlagList()) }, `[\Seen $Forwarded \Recent]`},
		{"()\r\n", func(d *Decoder) any { return len(d.FlagList()) }, 0},
		{"(a  b)\r\n", func(d *Decoder) any { return len(d.FlagList()) }, nil},
		{`(\)` + "\r\n", func(d *Decoder) any { return len(d.FlagList()) }, nil},
		{`(\*)` + "\r\n", func(d *Decoder) any { return len(d.FlagList()) }, nil},
		{"1-feb-2006\r\n", func(d *Decoder) any { return d.Date() }, day},
		{`"01-Feb-2006"` + "\r\n", func(d *Decoder) any { return d.Date() }, day},
		{"30-Feb-2006\r\n", func(d *Decoder) any { return d.Date() }, nil},
		{`" 1-Feb-2006 00:00:00 +0000"` + "\r\n", func(d *Decoder) any { return d.DateTime().UTC() }, day},
		{`"01-Feb-2006 01:00:00 +0100"` + "\r\n", func(d *Decoder) any { return d.DateTime().UTC() }, day},
		{`"01-Feb-2006"` + "\r\n", func(d *Decoder) any { return d.DateTime() }, nil},
		{"1-Feb-06\r\n", func(d *Decoder) any { return d.Date() }, day.AddDate(-100, 0, 0)},
		{`"1-Feb-06"` + "\r\n", func(d *Decoder) any { return d.Date() }, day.AddDate(-100, 0, 0)},
		{"1-Feb-6\r\n", func(d *Decoder) any { return d.Date() }, nil},
		{"-06\r\n", func(d *Decoder) any { return d.Date() }, nil},
		{`"31-Jan-06 19:00:00-EST"` + "\r\n", func(d *Decoder) any { return d.DateTime().UTC() }, day.AddDate(-100, 0, 0)},
		{`"31-Jan-2006 16:00:00-pst"` + "\r\n", func(d *Decoder) any { return d.DateTime().UTC() }, day},
		{`" 1-Feb-2006 09:00:00-i"` + "\r\n", func(d *Decoder) any { return d.DateTime().UTC() }, day},
		{`"31-Jan-06 16:00:00 -0800"` + "\r\n", func(d *Decoder) any { return d.DateTime().UTC() }, day.AddDate(-100, 0, 0)},
		{`" 1-Feb-2006 09:00:00-J"` + "\r\n", func(d *Decoder) any { return d.DateTime() }, nil},
		{`" 1-Feb-2006 09:00:00-0800"` + "\r\n", func(d *Decoder) any { return d.DateTime() }, nil},
	}
	for _, test := range tests {
		var got any
		err := decode(test.input, func(d *Decoder) { got = test.read(d) })
		if test.want == nil {
			if _, ok := errors.AsType[*SyntaxError](err); !ok {
				t.Errorf("%q: got %v and error %v, want a syntax error", test.input, got, err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: got %#v, %v, want %#v", test.input, got, err, test.want)
		}
	}
}

// The next command is found behind whatever was wrong with one, and nothing
// that was sent as a literal is taken for a command.
func TestResynchronize(t *testing.T) {
	tests := []struct {
		name, wrong string
		read        func(d *Decoder)
	}{
		{"rest of the line", "a ( b c\r\n", func(d *Decoder) { d.Atom(); d.SP(); d.Number() }},
		{"literal behind the error", "a x {4+}\r\nx y\n {5+}\r\n12345 z\r\n", func(d *Decoder) { d.Atom(); d.SP(); d.Number() }},
		{"synchronizing literal behind the error", "a x {400}\r\n", func(d *Decoder) { d.Atom(); d.SP(); d.Number() }},
		{"literal that is too big", "{70000+}\r\n" + strings.Repeat("x LOGOUT\n\r\n\r", 7000)[:70000] + " rest\r\n", func(d *Decoder) { d.AString() }},
		{"literal that the client waits to send", "{70000}\r\n", func(d *Decoder) { d.AString() }},
		{"literal in quotes", "\"abc {3+}\r\nx\r\n\r\n", func(d *Decoder) { d.AString() }},
		{"literal where an atom was wanted", "{3+}\r\nx\r\n\r\n", func(d *Decoder) { d.Atom() }},
		{"literal8", "~{3+}\r\nx\r\n\r\n", func(d *Decoder) { d.Number() }},
		{"literal with NUL", "{3+}\r\n\x00\r\n\r\n", func(d *Decoder) { d.AString() }},
		{"NUL first", "\x00 {3+}\r\nx\r\n\r\n", func(d *Decoder) { d.AString() }},
		{"refused streaming literal", "{3+}\r\nx\r\n rest\r\n", func(d *Decoder) { d.Literal(func(int64, bool) error { return errors.New("no") }) }},
		{"refused literal8", "~{3+}\r\nx\r\n rest\r\n", func(d *Decoder) { d.Literal(func(int64, bool) error { return errors.New("no") }) }},
		{"literal8 that is none", "~ rest\r\n", func(d *Decoder) { d.Literal(func(int64, bool) error { return nil }) }},
		{"literal8 for a string", "~{3+}\r\nx\r\n rest\r\n", func(d *Decoder) { _ = d.String() }},
		{"streaming literal that nobody read", "{3+}\r\nx\r\n rest\r\n", func(d *Decoder) { d.Literal(func(int64, bool) error { return nil }) }},
		{"streaming literal read in part", "{3+}\r\nx\r\n rest\r\n", func(d *Decoder) {
			r, _ := d.Literal(func(int64, bool) error { return nil })
			r.Read(make([]byte, 1))
		}},
		{"long line", strings.Repeat("x ", 40000) + "{3+}\r\nx\r\n\r\n", func(d *Decoder) {
			for d.Err() == nil {
				d.Atom()
				d.SP()
			}
		}},
		{"nested too deeply", strings.Repeat("(", 101) + "\r\n", func(d *Decoder) {
			var item func()
			item = func() { d.List(item) }
			d.List(item)
		}},
		{"open list", "(a\r\n", func(d *Decoder) { d.List(func() { d.Atom() }) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := NewDecoder(bufio.NewReaderSize(strings.NewReader(test.wrong+"next\r\n"), 16), DecoderOptions{})
			test.read(d)
			if err := d.End(); err == nil {
				t.Error("the wrong command was accepted")
			}
			if got, err := d.Atom(), d.End(); got != "next" || err != nil {
				t.Errorf("the next command is %q, %v", got, err)
			}
		})
	}
}

func TestContinue(t *testing.T) {
	asked := 0
	input := "{3}\r\nabc {3+}\r\ndef {5}\r\n12345\r\n"
	d := NewDecoder(bufio.NewReader(strings.NewReader(input)), DecoderOptions{Continue: func() error { asked++; return nil }})
	a := d.AString()
	d.SP()
	b := d.AString()
	d.SP()
	r, size := d.Literal(func(int64, bool) error { return nil })
	c, err := io.ReadAll(r)
	if got := a + b + string(c); got != "abcdef12345" || size != 5 || err != nil || asked != 2 {
		t.Errorf("got %q, size %d, %v, asked %d times", got, size, err, asked)
	}
	if err := d.End(); err != nil {
		t.Error(err)
	}
	if d.Atom(); d.End() != io.EOF {
		t.Error("no io.EOF at the end")
	}
}

func TestCutShort(t *testing.T) {
	for _, input := range []string{"a", "a {5+}\r\nab", "a {5+}", "a \"b"} {
		err := decode(input, func(d *Decoder) { d.Atom(); d.SP(); d.AString() })
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v", input, err)
		}
	}
}

func TestFlood(t *testing.T) {
	for _, input := range []string{
		"a " + strings.Repeat("x", 5000),
		"a {5000+}\r\n",
		"a {99999999999999999999+}\r\n",
		"a {2000+}\r\n" + strings.Repeat("x", 2000) + " {2000+}\r\n",
	} {
		d := NewDecoder(bufio.NewReader(strings.NewReader(input)), DecoderOptions{MaxLine: 1000, MaxLiteral: 1000, MaxSkip: 3000})
		d.Atom()
		d.SP()
		d.AString()
		if err := d.End(); !errors.Is(err, ErrFlood) {
			t.Errorf("%.30q: %v", input, err)
		}
		if err := d.End(); !errors.Is(err, ErrFlood) {
			t.Errorf("%.30q: then %v", input, err)
		}
	}
}

// What a command takes beyond a little is asked for before it is taken, and what is refused is passed over.
func TestReserve(t *testing.T) {
	line := func(octets int) string { return "a " + strings.Repeat("x", octets-2) }
	for _, test := range []struct {
		input string
		asked int64
	}{
		{line(1024), 0},
		{line(1025), 4096 * 16},
		{line(10_000), 3 * 4096 * 16},
		{"a {1000}\r\n" + strings.Repeat("x", 1000), 2000},
		{"a {1000+}\r\n" + strings.Repeat("x", 1000), 2000},
		{"a \"" + strings.Repeat("x", 2000) + "\"", 4096 * 16},
	} {
		for _, room := range []int64{test.asked, test.asked - 1} {
			asked, sent := int64(0), 0
			refused := errors.New("no room")
			d := NewDecoder(bufio.NewReader(strings.NewReader(test.input+"\r\nnext\r\n")), DecoderOptions{
				Continue: func() error { sent++; return nil },
				Reserve: func(octets int64) error {
					if asked += octets; asked > room {
						return refused
					}
					return nil
				},
			})
			d.Atom()
			d.SP()
			d.AString()
			err := d.End()
			if room >= 0 && room < test.asked {
				if err != refused || sent > 0 {
					t.Errorf("%.20q with room for %d of %d: %v, asked for %d literals", test.input, room, test.asked, err, sent)
				}
			} else if err != nil || asked != test.asked {
				t.Errorf("%.20q: asked for %d, %v, want %d", test.input, asked, err, test.asked)
			}
			if strings.Contains(test.input, "}") && !strings.Contains(test.input, "+") && err != nil {
				continue // the client does not send it
			}
			if got, err := d.Atom(), d.End(); got != "next" || err != nil {
				t.Errorf("%.20q: then %q, %v", test.input, got, err)
			}
		}
	}
}

// The lines of a command with many values are one line, for which room is reserved once; those of one with several messages are each one.
func TestLinesOfValues(t *testing.T) {
	quoted := `"` + strings.Repeat("x", 700) + `" `
	take := func(int64, bool) error { return nil }
	read := func(literal func(d *Decoder)) error {
		d := NewDecoder(bufio.NewReader(strings.NewReader(quoted+"{3+}\r\nabc "+quoted+"{3+}\r\nabc\r\n")), DecoderOptions{MaxLine: 1000})
		for range 2 {
			d.AString()
			d.SP()
			literal(d)
			d.TrySpecial(' ')
		}
		return d.End()
	}
	var syntax *SyntaxError
	if err := read(func(d *Decoder) { d.Value(take) }); !errors.As(err, &syntax) || syntax.Code != "LIMIT" {
		t.Errorf("values: %v", err)
	}
	message := func(d *Decoder) {
		r, _ := d.Literal(take)
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
	}
	if err := read(message); err != nil {
		t.Errorf("messages: %v", err)
	}
}

func TestSizesOfSetsAndSections(t *testing.T) {
	for input, read := range map[string]func(d *Decoder){
		"1,2,3:4,5": func(d *Decoder) { d.UIDSet() },
		"1,1,1,1":   func(d *Decoder) { d.SequenceSet() },
		"4":         func(d *Decoder) { d.PartNumber(4) },
	} {
		d := NewDecoder(bufio.NewReader(strings.NewReader(input+"\r\n")), DecoderOptions{MaxRanges: 3, MaxLevels: 3})
		read(d)
		if syntax, ok := errors.AsType[*SyntaxError](d.End()); !ok || syntax.Code != "LIMIT" {
			t.Errorf("%s: %v", input, syntax)
		}
		d = NewDecoder(bufio.NewReader(strings.NewReader(input+"\r\n")), DecoderOptions{MaxRanges: 4, MaxLevels: 4})
		read(d)
		if err := d.End(); err != nil {
			t.Errorf("%s: %v", input, err)
		}
	}
}

// FuzzDecoder reads any input as commands that are mostly wrong: none may
// take forever, and each octet belongs to one command.
func FuzzDecoder(f *testing.F) {
	f.Add("a LOGIN {3+}\r\nabc \"d\"\r\nb FETCH 1:* (FLAGS)\r\n")
	f.Add("a x {4}\r\n(\\Seen a) 1:3,*:4 \"01-Feb-2006 15:04:05 +0000\"\r\n")
	f.Add("\x00{3+}\r\n\"\r\n")
	f.Fuzz(func(t *testing.T, input string) {
		d := NewDecoder(bufio.NewReader(strings.NewReader(input)), DecoderOptions{MaxSkip: 1 << 16})
		reads := []func(){
			func() { d.Tag() }, func() { d.AString() }, func() { d.SequenceSet() }, func() { d.FlagList() },
			func() { d.Mailbox() }, func() { d.ListMailbox() }, func() { d.DateTime() }, func() { d.Date() },
			func() { d.NString() }, func() { d.Number64() },
			func() { r, _ := d.Literal(func(int64, bool) error { return nil }); r.Read(make([]byte, 3)) },
		}
		for commands := 0; ; commands++ {
			if commands > len(input)+1 {
				t.Fatal("more commands than octets")
			}
			for i := range reads {
				reads[(i+commands)%len(reads)]()
				d.TrySP()
			}
			err := d.End()
			if err == nil {
				continue
			}
			if _, ok := errors.AsType[*SyntaxError](err); !ok {
				return
			}
		}
	})
}

// FuzzSequenceSet compares sets with what stands in them, taken range by range.
func FuzzSequenceSet(f *testing.F) {
	for _, s := range []string{"1", "*", "3:1,2", "4294967295:*", "*:5,1:2", "9,8,7,6:6", "1:4294967295,*", "0", "1:", "1,,2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsAny(s, "\r\n") {
			return // the line would end there
		}
		d := NewDecoder(bufio.NewReader(strings.NewReader(s+"\r\n")), DecoderOptions{})
		set := d.SequenceSet()
		if d.End() != nil {
			return
		}
		const largest = 50 // what "*" stands for; beyond it there is nothing, and "70,1:*" is the same as "1:*"
		value := func(text string) uint64 {
			if text == "*" {
				return largest
			}
			n, err := strconv.ParseUint(text, 10, 32)
			if err != nil || n == 0 {
				t.Fatalf("%q is taken as a number", text)
			}
			return n
		}
		want := make(map[uint64]bool)
		for part := range strings.SplitSeq(s, ",") {
			first, last, ok := strings.Cut(part, ":")
			if !ok {
				last = first
			}
			from, to := value(first), value(last)
			for n := min(from, to); n <= min(max(from, to), largest); n++ {
				want[n] = true
			}
		}
		got := make(map[uint64]bool)
		for _, r := range set {
			from, to := uint64(r.Start), uint64(r.Stop)
			if from == 0 {
				from = largest
			}
			if to == 0 {
				to = largest
			}
			for n := min(from, to); n <= min(max(from, to), largest); n++ {
				got[n] = true
			}
		}
		if !maps.Equal(want, got) {
			t.Errorf("%q is %v", s, set)
		}
	})
}

// A name that is taken is in UTF-8, and what it is told as is read as itself, in both forms.
func FuzzMailboxName(f *testing.F) {
	f.Add("x&AOQ-\xc3\xb6&-")
	f.Add("&Jjo")
	f.Add("inbox/\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 1000 {
			return
		}
		for _, asUTF8 := range []bool{false, true} {
			read := func(s string) (string, error) {
				d := NewDecoder(bufio.NewReader(strings.NewReader(s+"\r\n")), DecoderOptions{UTF8: asUTF8})
				return d.Mailbox(), d.End()
			}
			name, err := read(fmt.Sprintf("{%d+}\r\n%s", len(s), s))
			if err != nil {
				continue
			}
			if !utf8.ValidString(name) {
				t.Errorf("%q is %q", s, name)
			}
			var out strings.Builder
			e := NewEncoder(bufio.NewWriter(&out))
			e.UTF8 = asUTF8
			if err := e.Mailbox(name).Flush(); err != nil {
				t.Fatal(err)
			}
			if again, err := read(out.String()); again != name || err != nil {
				t.Errorf("%q is told as %q, which is %q, %v", name, out.String(), again, err)
			}
		}
	})
}

// A name is in modified UTF-7, with UTF-8 in between, or in UTF-8, where "&" is nothing special.
func TestMailboxNames(t *testing.T) {
	const wrong = "wrong"
	tests := []struct{ input, utf7, utf8 string }{
		{`"a&b"`, wrong, "a&b"},
		{`"a&-b"`, "a&b", "a&-b"},
		{`"&AOQ-"`, "ä", "&AOQ-"},
		{`"ä"`, "ä", "ä"},
		{`"x&AOQ-ö&-日本/&"`, wrong, "x&AOQ-ö&-日本/&"},
		{`"x&AOQ-ö&-日本"`, "xäö&日本", "x&AOQ-ö&-日本"},
		{"{2+}\r\n\xc3\xa4", "ä", "ä"},
		{"\"\xe4\"", wrong, wrong},
		{"{1+}\r\n\xe4", wrong, wrong},
		{"{2+}\r\na\n", wrong, wrong},
		{"{3+}\r\na\u0085", "a\u0085", wrong},
		{`"inbox/ä"`, "INBOX/ä", "INBOX/ä"},
	}
	for _, test := range tests {
		for _, asUTF8 := range []bool{false, true} {
			d := NewDecoder(bufio.NewReader(strings.NewReader(test.input+"\r\n")), DecoderOptions{UTF8: asUTF8})
			got, want := d.Mailbox(), test.utf7
			if asUTF8 {
				want = test.utf8
			}
			if err := d.End(); err != nil {
				got = wrong
			}
			if got != want {
				t.Errorf("%q is %q, want %q (in UTF-8: %t)", test.input, got, want, asUTF8)
			}
		}
	}
}

func TestMailboxAs(t *testing.T) {
	d := NewDecoder(bufio.NewReader(strings.NewReader("inBox/x Inbox2\r\n")), DecoderOptions{})
	name, as := d.MailboxAs()
	d.SP()
	name2, as2 := d.MailboxAs()
	if got := [...]string{name, as, name2, as2}; got != [...]string{"INBOX/x", "inBox/x", "Inbox2", "Inbox2"} || d.End() != nil {
		t.Errorf("got %q", got)
	}
}

// Strings in quotes are in UTF-8, where UTF-8 is spoken; elsewhere nothing is said of them.
func TestQuotedUTF8(t *testing.T) {
	for _, asUTF8 := range []bool{false, true} {
		d := NewDecoder(bufio.NewReader(strings.NewReader("\"gr\xfcn\" x\r\n\"gr\xc3\xbcn\"\r\n")), DecoderOptions{})
		d.UseUTF8(asUTF8)
		got := d.AString()
		d.SP()
		d.Atom()
		if err := d.End(); (err != nil) != asUTF8 || !asUTF8 && got != "gr\xfcn" {
			t.Errorf("octets that are no UTF-8: %q, %v", got, err)
		}
		if got, err := d.AString(), d.End(); got != "grün" || err != nil {
			t.Errorf("UTF-8: %q, %v", got, err)
		}
	}
}

func TestEncodeUTF8(t *testing.T) {
	var out strings.Builder
	w := bufio.NewWriter(&out)
	e := NewEncoder(w)
	e.UTF8 = true
	e.Mailbox("ä&").SP().Mailbox(`"\`).SP().String("\xe4").SP().String("ä\r\n")
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "\"ä&\" \"\\\"\\\\\" {1}\r\n\xe4 {4}\r\nä\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzUTF7(f *testing.F) {
	for _, s := range []string{"INBOX", "Entwürfe & mehr", "日本語/😀", "&-", "&AAA-", "&Jjo-!", "&U,BTFw-&ZeVnLIqe-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name, err := DecodeUTF7(s); err == nil && EncodeUTF7(name) != s {
			t.Errorf("%q decodes to %q, which encodes to %q", s, name, EncodeUTF7(name))
		}
		s = strings.ReplaceAll(strings.ToValidUTF8(s, "x"), "\x00", "x")
		if name, err := DecodeUTF7(EncodeUTF7(s)); err != nil || name != s {
			t.Errorf("%q encodes to %q, which decodes to %q, %v", s, EncodeUTF7(s), name, err)
		}
	})
}

func TestUTF7(t *testing.T) {
	for _, pair := range [][2]string{
		{"", ""},
		{"a&b", "a&-b"},
		{"~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"}, // RFC 3501 section 5.1.3
		{"😀\t", "&2D3eAAAJ-"},
	} {
		if got := EncodeUTF7(pair[0]); got != pair[1] {
			t.Errorf("EncodeUTF7(%q) = %q, want %q", pair[0], got, pair[1])
		}
		if got, err := DecodeUTF7(pair[1]); got != pair[0] || err != nil {
			t.Errorf("DecodeUTF7(%q) = %q, %v, want %q", pair[1], got, err, pair[0])
		}
	}
	for _, wrong := range []string{
		"&", "&AOQ", "&Jjo!", "&U,BTFw-&ZeVnLIqe-", "&AGE-", "&AAA-", "a\x7f", "ä", "&AOR-", "&A-", "&2D0-", "&2D0AYQ-", "&3gA-", "&AO/-", "&AOQ=-",
	} {
		if got, err := DecodeUTF7(wrong); err == nil {
			t.Errorf("DecodeUTF7(%q) = %q, want an error", wrong, got)
		}
	}
}

func TestEncoder(t *testing.T) {
	var out strings.Builder
	e := NewEncoder(bufio.NewWriterSize(&out, 16))
	e.Raw("* X ").Number(7).SP().String(`a"\b`).SP().String("ä").SP().Mailbox("ä&").SP().Copy(3, strings.NewReader("abcd")).CRLF()
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	if want := "* X 7 \"a\\\"\\\\b\" {2}\r\nä \"&AOQ-&-\" abc\r\n"; out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
	if err := e.Copy(5, strings.NewReader("abc")).Flush(); !errors.Is(err, io.EOF) {
		t.Errorf("a literal cut short: %v", err)
	}
	if err := e.Raw("x").Flush(); err == nil {
		t.Error("the error of a literal cut short does not stick")
	}
}
