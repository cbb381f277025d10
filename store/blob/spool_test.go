package blob_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
)

// text is n octets of something like mail.
func text(n int) []byte {
	random := rand.New(rand.NewPCG(uint64(n), 7))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "line %d says %x\r\n", b.Len(), random.Uint32()%5000)
	}
	return b.Bytes()[:n]
}

func spool(t *testing.T, content []byte, memory int) *blob.Spool {
	t.Helper()
	s, err := blob.NewSpool(iotest.HalfReader(bytes.NewReader(content)), memory, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// source reads ranges of a spool's stored form.
func source(s *blob.Spool) blob.Stored {
	return func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		r := s.Stored()
		if _, err := r.Seek(off, io.SeekStart); err != nil {
			return nil, err
		}
		return io.NopCloser(io.LimitReader(r, n)), nil
	}
}

func TestSpool(t *testing.T) {
	const f = blob.FrameSize
	for _, size := range []int{0, 1, 5000, f - 1, f, f + 1, 3*f + 17} {
		for _, memory := range []int{0, 1000, 10 << 20} {
			content := text(size)
			var teed bytes.Buffer
			s, err := blob.NewSpool(bytes.NewReader(content), memory, t.TempDir(), &teed)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.Digest != id.Digest(sha256.Sum256(content)) || s.Layout.Size != int64(size) || !bytes.Equal(teed.Bytes(), content) {
				t.Errorf("%d octets: digest %v, size %d, %d octets teed", size, s.Digest, s.Layout.Size, teed.Len())
			}
			if stored, ok := s.Bytes(); ok != (s.Layout.StoredLen() <= int64(memory)) || ok && int64(len(stored)) != s.Layout.StoredLen() {
				t.Errorf("%d octets, %d in memory: Bytes() = %d octets, %t", size, memory, len(stored), ok)
			}
			layout, err := blob.DecodeLayout(s.Layout.Encoding, s.Layout.Size, s.Layout.EncodeFrames())
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range []struct{ off, n int64 }{
				{0, -1}, {0, 1}, {int64(size / 2), 10}, {int64(size), -1}, {max(0, int64(size)-3), 100}, {min(int64(size), f-2), 5}, {min(int64(size), f), f},
			} {
				want := content[r.off:]
				if r.n >= 0 {
					want = want[:min(int64(len(want)), r.n)]
				}
				d, err := layout.Decode(t.Context(), r.off, r.n, source(s))
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(d); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d octets: Decode(%d, %d) = %d octets, %v; want %d", size, r.off, r.n, len(got), err, len(want))
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestSpoolFails(t *testing.T) {
	broken := errors.New("broken")
	dir := t.TempDir()
	if _, err := blob.NewSpool(io.MultiReader(bytes.NewReader(text(1<<20)), iotest.ErrReader(broken)), 1000, dir, nil); !errors.Is(err, broken) {
		t.Errorf("a reader that fails: %v, want %v", err, broken)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := blob.NewSpool(bytes.NewReader(text(1<<20)), 0, dir+"/nowhere", nil); err == nil {
		t.Error("spooled to a folder that is not there")
	}
}

// Whatever bit is wrong in what is stored: an error, or the right content, never a wrong one.
func TestDamage(t *testing.T) {
	content := text(blob.FrameSize + 3000)
	s := spool(t, content, 10<<20)
	stored, _ := s.Bytes()
	for i := 0; i < len(stored); i += 97 {
		damaged := bytes.Clone(stored)
		damaged[i] ^= 1 << (i % 8)
		d, err := s.Layout.Decode(t.Context(), 0, -1, func(_ context.Context, off, n int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(damaged[off : off+n])), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(d)
		if err == nil && !bytes.Equal(got, content) {
			t.Fatalf("octet %d is wrong, and so is what was read", i)
		}
		if err != nil && !errors.Is(err, blob.ErrDamaged) {
			t.Errorf("octet %d: %v, want %v", i, err, blob.ErrDamaged)
		}
	}
	d, err := s.Layout.Decode(t.Context(), 0, -1, func(context.Context, int64, int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(stored[:len(stored)-1])), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(d); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("stored content that ends early: %v, want %v", err, blob.ErrDamaged)
	}
}

func FuzzDecodeLayout(f *testing.F) {
	f.Add(int16(1), int64(5000), []byte{0x80, 0x10})
	f.Add(int16(2), int64(-1), []byte{})
	f.Fuzz(func(t *testing.T, e int16, size int64, frames []byte) {
		l, err := blob.DecodeLayout(blob.Encoding(e), size, frames)
		if err != nil {
			if !errors.Is(err, blob.ErrDamaged) {
				t.Errorf("%v, want %v", err, blob.ErrDamaged)
			}
			return
		}
		again, err := blob.DecodeLayout(l.Encoding, l.Size, l.EncodeFrames())
		if err != nil || again.StoredLen() != l.StoredLen() {
			t.Errorf("%+v becomes %+v, %v", l, again, err)
		}
	})
}

func FuzzSpool(f *testing.F) {
	f.Add("hello", 2, int64(1), int64(3))
	f.Fuzz(func(t *testing.T, content string, memory int, off, n int64) {
		s, err := blob.NewSpool(strings.NewReader(content), memory, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		d, err := s.Layout.Decode(t.Context(), off, n, source(s))
		if off < 0 || off > int64(len(content)) {
			if err == nil {
				t.Errorf("Decode(%d) of %d octets = nil", off, len(content))
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		want := content[off:]
		if n >= 0 {
			want = want[:min(int64(len(want)), n)]
		}
		if got, err := io.ReadAll(d); err != nil || string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	})
}

func BenchmarkSpool(b *testing.B) {
	for _, size := range []int{6000, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			content := text(size)
			b.SetBytes(int64(size))
			for b.Loop() {
				s, err := blob.NewSpool(bytes.NewReader(content), 10<<20, "", nil)
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
			}
		})
	}
}
