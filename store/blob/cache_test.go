package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailstead.dev/store/blob"
)

// counted counts how often it is read.
type counted struct {
	stored []byte
	reads  int
}

func (s *counted) open(_ context.Context, off, n int64) (io.ReadCloser, error) {
	s.reads++
	return io.NopCloser(bytes.NewReader(s.stored[off : off+n])), nil
}

func spooled(t *testing.T, content []byte) (blob.Key, blob.Layout, *counted) {
	t.Helper()
	s := blob.SpoolOf(content)
	stored, ok := s.Bytes()
	if !ok || int64(len(stored)) != s.Layout.StoredLen() {
		t.Fatal("content in memory is not in memory")
	}
	return blob.Key{Tenant: 1, Digest: s.Digest}, s.Layout, &counted{stored: stored}
}

func random(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func newCache(t *testing.T, o blob.CacheOptions) *blob.Cache {
	t.Helper()
	c, err := blob.NewCache(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func readAll(t *testing.T, c *blob.Cache, k blob.Key, l blob.Layout, off, n int64, from *counted) []byte {
	t.Helper()
	rc, err := c.Open(t.Context(), k, l, off, n, blob.Source{Stored: from.open, Far: true})
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	got, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestCache(t *testing.T) {
	content := random(3*blob.FrameSize + 100)
	k, l, from := spooled(t, content)
	c := newCache(t, blob.CacheOptions{Bytes: 16 << 20})
	for _, r := range []struct {
		off, n int64
		reads  int // of the source, so far
	}{
		{blob.FrameSize + 5, 10, 1}, {blob.FrameSize, blob.FrameSize, 1}, // one frame
		{0, blob.FrameSize + 1, 2}, {0, 2 * blob.FrameSize, 2}, // the one before it
		{0, -1, 3}, {17, 3 * blob.FrameSize, 3}, {l.Size, 0, 3}, {l.Size, 10, 3},
	} {
		end := l.Size
		if r.n >= 0 {
			end = min(end, r.off+r.n)
		}
		if got := readAll(t, c, k, l, r.off, r.n, from); !bytes.Equal(got, content[r.off:end]) {
			t.Errorf("[%d, +%d): %d octets, want %d", r.off, r.n, len(got), end-r.off)
		}
		if from.reads != r.reads {
			t.Errorf("[%d, +%d): the source was read %d times, want %d", r.off, r.n, from.reads, r.reads)
		}
	}
	other := k
	other.Tenant = 2
	readAll(t, c, other, l, 0, 10, from)
	if from.reads != 4 {
		t.Error("another tenant got what was cached")
	}
	if _, err := c.Open(t.Context(), k, l, l.Size+1, 1, blob.Source{Stored: from.open}); err == nil {
		t.Error("content behind the end")
	}
}

// What is read once is not kept, and what is kept answers for it.
func TestCacheOnce(t *testing.T) {
	content := random(2*blob.FrameSize + 100)
	k, l, from := spooled(t, content)
	dir := t.TempDir()
	c := newCache(t, blob.CacheOptions{Bytes: 16 << 20, Dir: dir, DirBytes: 16 << 20})
	once := func(reads int) {
		t.Helper()
		rc, err := c.Open(t.Context(), k, l, 0, -1, blob.Source{Stored: from.open, Far: true, Once: true})
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d octets and %v, want %d", len(got), err, len(content))
		}
		if from.reads != reads {
			t.Errorf("the source was read %d times, want %d", from.reads, reads)
		}
	}
	once(1)
	once(2)
	if _, ok := newCache(t, blob.CacheOptions{Bytes: 16 << 20, Dir: dir, DirBytes: 16 << 20}).Cached(k, l); ok {
		t.Error("it is kept on disk")
	}
	readAll(t, c, k, l, 0, -1, from)
	once(3)
}

func TestCacheDamagedSource(t *testing.T) {
	k, l, from := spooled(t, random(1000))
	c := newCache(t, blob.CacheOptions{Bytes: 1 << 20})
	from.stored[500] ^= 1
	if _, err := c.Open(t.Context(), k, l, 0, -1, blob.Source{Stored: from.open}); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("flipped bit: %v", err)
	}
	if _, err := c.Decode(k, l, from.stored, true); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("flipped bit: %v", err)
	}
	if _, ok := c.Cached(k, l); ok {
		t.Error("damaged content was kept")
	}
}

func TestDisk(t *testing.T) {
	given := t.TempDir()
	dir := filepath.Join(given, "mailstead-content")
	for _, name := range []string{"tmp-of-another", "large"} { // which is older and more than the bound
		if err := os.WriteFile(filepath.Join(given, name), random(300<<10), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := blob.CacheOptions{Bytes: 1, Dir: given, DirBytes: 200 << 10}
	k, l, from := spooled(t, random(100<<10))
	c := newCache(t, o)
	readAll(t, c, k, l, 0, -1, from)
	// One of a process that died, and one of another that is at it.
	for name, at := range map[string]time.Time{"tmp-1": time.Now().Add(-2 * time.Hour), "tmp-2": time.Now()} {
		if err := errors.Join(os.WriteFile(filepath.Join(dir, name), []byte("half a"), 0o600), os.Chtimes(filepath.Join(dir, name), at, at)); err != nil {
			t.Fatal(err)
		}
	}
	c = newCache(t, o) // after a restart
	readAll(t, c, k, l, 0, -1, from)
	if from.reads != 1 {
		t.Errorf("the source was read %d times, want once", from.reads)
	}
	if _, err := os.Stat(filepath.Join(dir, "tmp-1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unfinished file is left: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "tmp-2")); err != nil {
		t.Errorf("another's unfinished file: %v", err)
	}
	damage(t, dir)
	c = newCache(t, o)
	if got := readAll(t, c, k, l, 0, -1, from); !bytes.Equal(got, random(100<<10)) || from.reads != 2 {
		t.Errorf("damaged file: %d octets, source read %d times", len(got), from.reads)
	}
	for i := range 5 {
		k, l, from := spooled(t, random(90<<10+i))
		readAll(t, c, k, l, 0, -1, from)
	}
	var sum int64
	for _, f := range files(t, dir) {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	if sum > o.DirBytes || sum < o.DirBytes/4 {
		t.Errorf("%d octets on disk, bound %d", sum, o.DirBytes)
	}
	for _, name := range []string{"tmp-of-another", "large"} {
		if _, err := os.Stat(filepath.Join(given, name)); err != nil {
			t.Errorf("a file of another in the folder of the cache: %v", err)
		}
	}
}

func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// damage flips a bit in the middle of every file.
func damage(t *testing.T, dir string) {
	t.Helper()
	for _, path := range files(t, dir) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
