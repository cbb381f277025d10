package imapd

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"mailstead.dev/imapd/wire"
)

// What is said, step by step; "." behind a step stands for that no command is under way then, and all that was said is whole.
func TestDialogue(t *testing.T) {
	for name, steps := range map[string][]string{
		"one command":         {"C a NOOP\r\n", "S a OK x\r\n."},
		"in pieces":           {"C a NO", "C OP\r", "C \n", "S * 1 EXI", "S STS\r\na O", "S K x\r", "S \n."},
		"nothing said":        {"S * 1 EXISTS\r\n."},
		"a pipeline":          {"C a NOOP\r\nb NOOP\r\nc", "S a OK x\r\n", "C  NOOP\n", "S b OK x\r\n", "S c OK x\r\n."},
		"without a tag":       {"C \r\n", "S * BAD x\r\n."},
		"a literal":           {"C a LOGIN {4}\r\n", "S + go\r\n", "C x\r\n", "C y", "C  {3+}\r\n\r\n{", "C \r\n", "S a NO x\r\n."},
		"an empty literal":    {"C a X {0+}\r\n", "C \r\n", "S a NO x\r\n."},
		"one that is refused": {"C a X {4}\r\n", "S a NO x\r\n."},
		"refused, behind one": {"C a NOOP\r\nb X {4}\r\n", "S a OK {4}\r\n", "S b NO x\r\n."},
		"granted, behind one": {"C a NOOP\r\nb X {4}\r\n", "S a OK x\r\n", "S + x\r\n", "C 1234\r\n", "S b OK x\r\n."},
		"not waited for":      {"C a X {4}\r\n", "C 1234\r\n", "S + x\r\na OK x\r\n"},
		"like a literal":      {"C a X {4} \r\n", "S a OK x\r\n.", "C a X {4\r\n", "S a OK {4}\r\n.", "C a X {}\r\n", "S * OK {4}\r\n* NO {4}\r\na BAD {4}\r\n."},
		"what is fetched":     {"C a F\r\n", "S * 1 FETCH (X {7}\r\n", "S a O", "S K\r\nx", "S  Y {0}\r\n)", "S \r\n", "S a OK x\r\n."},
		"what is told":        {"S * 1 FETCH (X ~{3}\r\n", "S * B", "S )\r\n."},
		"IDLE":                {"C a IDLE\r\n.", "S + x\r\n.", "S * 1 EX", "S ISTS\r\n.", "C D", "C ONE\r\n", "S a OK x\r\n."},
		"IDLE behind one":     {"C a NOOP\r\nb idle\r\n", "S a OK x\r\n.", "S + x\r\n.", "C DONE\r\nc X {1}\r\n", "S b OK x\r\n", "S + x\r\n", "C y\r\n", "S c OK x\r\n."},
		"DONE at once":        {"C a IDLE\r\nDONE\r\nb X {1}\r\n", "S + x\r\na OK x\r\n", "S + x\r\n", "C y\r\n", "S b OK x\r\n."},
		"IDLE that is none":   {"C a IDLE\r\n.", "S a BAD x\r\n.", "C b NOOP\r\n", "S b OK x\r\n."},
		"no IDLE":             {"C a IDLE x\r\n", "S a BAD x\r\n.", "C a {4+}\r\nIDLE\r\n", "S a BAD x\r\n."},
		"a long tag":          {"C " + strings.Repeat("a", 2*headOctets) + " IDLE\r\n", "S + x\r\n", "C DONE\r\n", "S aaa OK x\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var d dialogue
			for _, step := range steps {
				text, quiet := strings.CutSuffix(step[2:], ".")
				if step[0] == 'C' {
					d.said([]byte(text), false)
				} else {
					d.heard([]byte(text))
				}
				if d.quiet() != quiet {
					t.Fatalf("behind %q: quiet is %t", step, !quiet)
				}
			}
			if d.bye {
				t.Error("there was no BYE")
			}
		})
	}
	var d dialogue
	d.heard([]byte("* 1 FETCH (X {10}\r\n\r\n* BYE x\r\n)\r\n* BY"))
	if d.bye {
		t.Error("a BYE in a literal is taken for one")
	}
	if d.heard([]byte("E [X] y\r\na OK x\r\n")); !d.bye {
		t.Error("a BYE is passed over")
	}
}

// The last command is passed on whole, and nothing behind it.
func TestDialogueEnds(t *testing.T) {
	for _, test := range []struct{ before, then, want string }{
		{"", "a NOOP\r\n", ""},
		{"a NO", "OP\r\nb NOOP\r\n", "OP\r\n"},
		{"a X {3+}\r\n1", "\r\n\r\nb NOOP\r\n", "\r\n\r\n"},
		{"a X {3+}\r\n123", " {2+}\r\n12\r\nb", " {2+}\r\n12\r\n"},
		{"a IDLE\r\n", "DONE\r\n", ""},
		{"a IDLE\r\nDO", "NE\r\nb NOOP\r\n", "NE\r\n"},
	} {
		var d dialogue
		d.said([]byte(test.before), false)
		if n := d.said([]byte(test.then), true); test.then[:n] != test.want {
			t.Errorf("behind %q of %q: %q is passed on, want %q", test.before, test.then, test.then[:n], test.want)
		}
	}
}

// Where commands end is where the server takes them to end, whatever they are, in whatever pieces they come; and what the server says in whatever pieces is the same.
func FuzzDialogue(f *testing.F) {
	f.Add([]byte("a NOOP\r\nb LOGIN {3+}\r\nabc {2}\r\nc IDLE\r\nDONE\r\n"), []byte("* 1 FETCH (X {3}\r\n123)\r\n* BAD x\r\n+ y\r\n* BYE z\r\na OK {3}\r\n"), uint8(3))
	f.Fuzz(func(t *testing.T, commands, responses []byte, piece uint8) {
		whole, pieces := dialogue{}, dialogue{}
		whole.heard(responses)
		for p := range pieced(responses, piece) {
			pieces.heard(p)
		}
		if whole.bye != pieces.bye || whole.server.whole() != pieces.server.whole() || whole.server.literal != pieces.server.literal {
			t.Fatalf("%q is another in pieces of %d", responses, piece)
		}

		left := bytes.NewReader(commands)
		r := bufio.NewReaderSize(left, 16)
		decoder := wire.NewDecoder(r, wire.DecoderOptions{MaxSkip: 1 << 40})
		d, at := dialogue{}, 0
		for {
			decoder.Fail("nothing is known")
			if decoder.Skip(); decoder.Dead() != nil {
				break
			}
			end := len(commands) - left.Len() - r.Buffered()
			for p := range pieced(commands[at:end], piece) {
				if n := d.said(p, !d.client.whole()); n != len(p) {
					t.Fatalf("%q ends with %q", commands[at:end], p[:n])
				}
			}
			if d.quiet() && !d.idling || d.confused || d.client.literal > 0 {
				t.Fatalf("%q is no command: %+v", commands[at:end], d)
			}
			if !d.waits {
				if n := d.said(commands[end:], true); n > 0 {
					t.Fatalf("%q is passed on behind %q", commands[end:][:n], commands[at:end])
				}
			}
			d.heard([]byte("x BAD y\r\n"))
			if !d.quiet() {
				t.Fatalf("%q is not answered: %+v", commands[at:end], d)
			}
			at = end
		}
	})
}

// pieced cuts octets in pieces, of one octet at the least.
func pieced(octets []byte, most uint8) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(octets) > 0 {
			n := min(len(octets), max(1, int(most)))
			if !yield(octets[:n]) {
				return
			}
			octets = octets[n:]
		}
	}
}
