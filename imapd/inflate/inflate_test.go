package inflate

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// flushes are commands, and how zlib compresses them in many ways: testdata/flushes.py.
func flushes(t testing.TB) (f struct {
	Commands []string
	Ways     map[string][][]byte
}) {
	t.Helper()
	text, err := os.ReadFile("testdata/flushes.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// feed inflates in, and returns the text.
func feed(s *Stream, in []byte) (text []byte, err error) {
	p := make([]byte, 1000)
	for len(in) > 0 && err == nil && !s.Ended() {
		var n int
		n, err = s.Inflate(in)
		in = in[n:]
		for len(s.Text()) > 0 {
			text = append(text, p[:s.Take(p)]...)
		}
	}
	return text, err
}

// What zlib has flushed is there, whatever the flush, and however it arrives.
func TestFlushes(t *testing.T) {
	f := flushes(t)
	for way, sent := range f.Ways {
		for _, length := range []int{1, 5, 1 << 20} {
			var s Stream
			for i, in := range sent {
				var got []byte
				for piece := range slices.Chunk(in, length) {
					text, err := feed(&s, piece)
					if err != nil {
						t.Fatalf("%s: command %d: %v", way, i, err)
					}
					got = append(got, text...)
					if s.Rest(); s.memory != nil {
						t.Fatalf("%s: no rest", way)
					}
				}
				if string(got) != f.Commands[i] {
					t.Fatalf("%s, %d octets at once: command %d is %.200q, want %.200q", way, length, i, got, f.Commands[i])
				}
				if last := i == len(sent)-1; s.Ended() != last || !last && !s.Flushed() {
					t.Fatalf("%s: ended %v, flushed %v after command %d", way, s.Ended(), s.Flushed(), i)
				}
			}
			if len(s.window) > Window || cap(s.window) > Window {
				t.Errorf("%s: %d octets are kept, in %d", way, len(s.window), cap(s.window))
			}
		}
	}
}

// Text of all lengths comes through, whatever it refers to.
func TestPieces(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 1))
	for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed, flate.BestCompression} {
		var sent []byte
		var wire bytes.Buffer
		w, err := flate.NewWriter(&wire, level)
		if err != nil {
			t.Fatal(err)
		}
		var s Stream
		for range 400 {
			piece := make([]byte, rnd.IntN(1<<rnd.IntN(18)))
			for i := range piece {
				piece[i] = byte(rnd.NormFloat64() * 10)
			}
			if len(piece) > 10 && len(sent) > len(piece) && rnd.IntN(2) == 0 { // something from before
				copy(piece, sent[max(rnd.IntN(len(sent)-len(piece)), len(sent)-40_000):])
			}
			sent = append(sent, piece...)
			if _, err := w.Write(piece); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			got, err := feed(&s, wire.Next(wire.Len()))
			if err != nil || !bytes.Equal(got, piece) {
				t.Fatalf("level %d: %d octets are not those that were sent, %v", level, len(piece), err)
			}
			if !s.Aligned() {
				t.Fatalf("level %d: something is still to come", level)
			}
			if rnd.IntN(2) == 0 {
				s.Rest()
			}
		}
	}
}

// Memory is lent, and what others have left in it is not to be had.
func TestTextOfOthers(t *testing.T) {
	secret := strings.Repeat("a secret ", 20_000)
	var theirs Stream
	if got, err := feed(&theirs, deflated(t, secret)); err != nil || string(got) != secret {
		t.Fatalf("%d octets, %v", len(got), err)
	}
	m := theirs.memory
	theirs.Rest()
	// A match of 3 at a distance of 1 in a block of fixed codes, with nothing before it.
	ours := Stream{memory: m}
	m.next, m.end = 0, 0
	if got, err := feed(&ours, []byte{0b0000_0011, 0b0000_0010, 0}); len(got) > 0 || !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %q, %v", got, err)
	}
}

func deflated(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func BenchmarkInflate(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 1))
	var text strings.Builder
	for text.Len() < 1<<20 {
		text.WriteString("the words of mail are of many kinds and lengths "[rnd.IntN(40):])
		text.WriteByte(byte('a' + rnd.IntN(26)))
	}
	sent := deflated(b, text.String())
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		var s Stream
		if _, err := feed(&s, sent); err != nil {
			b.Fatal(err)
		}
		s.Rest()
	}
}

// Whatever comes in, in pieces of any length, with any rests, ends as the standard library has it.
func FuzzInflate(f *testing.F) {
	f.Add(deflated(f, "a NOOP\r\n"), uint8(1))
	f.Add(deflated(f, strings.Repeat("x", 100_000)), uint8(3))
	f.Add([]byte("\x00\x00\x00\xff\xff\x01\x00\x00\xff\xff"), uint8(2))
	f.Add([]byte("\xff\xff"), uint8(9))
	for _, sent := range flushes(f).Ways {
		f.Add(bytes.Join(sent, nil), uint8(7))
	}
	f.Fuzz(func(t *testing.T, sent []byte, length uint8) {
		const most = 128 << 10 // of text: two of Inflate's buffers
		if len(sent) > 4<<10 {
			return // which takes long, and shows nothing new
		}
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(sent)), most))
		var s Stream
		var got []byte
		var err error
		rest := sent
		for len(rest) > 0 && err == nil && !s.Ended() && len(got) < most {
			piece := rest[:min(len(rest), max(1, int(length)))]
			rest = rest[len(piece):]
			var text []byte
			text, err = feed(&s, piece)
			got = append(got, text...)
			if s.Rest(); s.memory != nil {
				t.Fatal("no rest")
			}
			if s.n >= 56 {
				t.Fatalf("%d bits are kept", s.n)
			}
		}
		if len(want) == most || len(got) >= most {
			want, got = want[:min(len(want), len(got))], got[:min(len(want), len(got))]
			wantErr = io.ErrUnexpectedEOF
		}
		switch {
		case !bytes.HasPrefix(got, want):
			t.Fatalf("%q instead of %q", got, want)
		case wantErr == nil && (!s.Ended() || len(got) != len(want)):
			t.Fatalf("ended %v with %d octets instead of %d, %v", s.Ended(), len(got), len(want), err)
		case wantErr != nil && wantErr != io.ErrUnexpectedEOF && s.Ended():
			t.Fatalf("ended, where there is %v", wantErr)
		}
	})
}
