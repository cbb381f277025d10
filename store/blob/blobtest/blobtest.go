// Package blobtest is what every blob.Bucket must do, as a suite of tests, and
// a bucket in memory for tests that need no service.
package blobtest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/store/blob"
)

// Run tests a bucket, which must be empty.
func Run(t *testing.T, b blob.Bucket) {
	ctx := t.Context()
	random := rand.New(rand.NewPCG(1, 2))
	octets := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		return p
	}
	objects := map[string][]byte{
		"t1/p/aaaa": octets(100_000), "t1/p/bbbb": octets(1), "t1/o/cccc": octets(20 << 20), "t2/p/dddd": {},
	}
	for key, content := range objects {
		if err := b.Put(ctx, key, bytes.NewReader(content), int64(len(content))); err != nil {
			t.Fatalf("Put(%s): %v", key, err)
		}
	}

	t.Run("Get", func(t *testing.T) {
		for key, content := range objects {
			size := int64(len(content))
			for _, r := range []struct{ off, n int64 }{{0, -1}, {0, size}, {size / 2, -1}, {size / 3, size / 3}, {0, 0}, {max(size-1, 0), -1}} {
				if size == 0 && r.n != 0 && r != (struct{ off, n int64 }{0, -1}) {
					continue
				}
				end := size
				if r.n >= 0 {
					end = r.off + r.n
				}
				got, err := read(t, b, key, r.off, r.n)
				if err != nil || !bytes.Equal(got, content[r.off:end]) {
					t.Errorf("Get(%s, %d, %d) = %d octets, %v; want %d", key, r.off, r.n, len(got), err, end-r.off)
				}
			}
		}
		if _, err := read(t, b, "t1/p/none", 0, -1); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("Get of what is not there: %v, want %v", err, blob.ErrNotFound)
		}
	})
	t.Run("Stat", func(t *testing.T) {
		for key, content := range objects {
			if o, err := b.Stat(ctx, key); err != nil || o.Size != int64(len(content)) || o.Key != key || o.Modified.IsZero() {
				t.Errorf("Stat(%s) = %+v, %v; want %d octets", key, o, err, len(content))
			}
		}
		if _, err := b.Stat(ctx, "t1/p/none"); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("Stat of what is not there: %v, want %v", err, blob.ErrNotFound)
		}
	})
	t.Run("List", func(t *testing.T) {
		for _, test := range []struct{ prefix, want string }{
			{"t1/p/", "t1/p/aaaa t1/p/bbbb"}, {"t1/", "t1/o/cccc t1/p/aaaa t1/p/bbbb"}, {"t3/", ""}, {"", "t1/o/cccc t1/p/aaaa t1/p/bbbb t2/p/dddd"},
		} {
			if got := strings.Join(list(t, b, test.prefix), " "); got != test.want {
				t.Errorf("List(%q) = %s, want %s", test.prefix, got, test.want)
			}
		}
		for range b.List(ctx, "") {
			break // a listing may be left early
		}
	})
	t.Run("PutAgain", func(t *testing.T) {
		content := objects["t1/p/aaaa"]
		if err := b.Put(ctx, "t1/p/aaaa", bytes.NewReader(content), int64(len(content))); err != nil {
			t.Error(err)
		}
	})
	t.Run("PutFails", func(t *testing.T) {
		broken := errors.New("broken")
		r := io.MultiReader(bytes.NewReader(octets(1000)), &failing{broken})
		if err := b.Put(ctx, "t1/p/broken", r, 5000); !errors.Is(err, broken) {
			t.Errorf("Put from a reader that fails: %v, want its error", err)
		}
		if _, err := b.Stat(ctx, "t1/p/broken"); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("a Put that failed left something: %v", err)
		}
	})
	t.Run("Delete", func(t *testing.T) {
		for _, keys := range [][]string{{"t1/p/aaaa"}, {"t1/p/aaaa"}, {"t1/p/aaaa", "t1/p/bbbb", "t1/o/cccc"}, {}} {
			if left, err := b.Delete(ctx, keys...); err != nil || len(left) > 0 {
				t.Errorf("Delete(%q) = %q, %v", keys, left, err)
			}
		}
		if got := list(t, b, ""); !slices.Equal(got, []string{"t2/p/dddd"}) {
			t.Errorf("after deleting: %q", got)
		}
		if _, err := read(t, b, "t1/p/aaaa", 0, -1); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("Get of what was deleted: %v, want %v", err, blob.ErrNotFound)
		}
	})
}

func read(t *testing.T, b blob.Bucket, key string, off, n int64) ([]byte, error) {
	r, err := b.Get(t.Context(), key, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func list(t *testing.T, b blob.Bucket, prefix string) []string {
	t.Helper()
	var keys []string
	for o, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }
