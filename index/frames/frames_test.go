package frames

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
)

func record(n uint32) Record {
	return Record{n, bytes.Repeat(fmt.Appendf(nil, "record %d ", n), int(n%50))}
}

func write(t *testing.T, path string, numbers ...uint32) *File {
	t.Helper()
	var records []Record
	for _, n := range numbers {
		records = append(records, record(n))
	}
	var list []Frame
	for _, some := range Split(records) {
		list = append(list, Pack(some))
	}
	if err := Write(path, list); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// numbers reads all of a file, and compares it with what was written.
func numbers(t *testing.T, f *File) *roaring.Bitmap {
	t.Helper()
	r, err := f.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := roaring.New()
	var buf []byte
	for _, i := range f.Frames(f.Numbers) {
		var records []Record
		if records, buf, err = r.Records(i, buf); err != nil {
			t.Fatal(err)
		}
		if len(records) > PerFrame {
			t.Errorf("%d records in a frame", len(records))
		}
		for _, have := range records {
			if !got.CheckedAdd(have.Number) || !bytes.Equal(have.Data, record(have.Number).Data) {
				t.Errorf("record %d is there twice, or not as it was", have.Number)
			}
		}
	}
	if !got.Equals(f.Numbers) {
		t.Errorf("read %v, want %v", got, f.Numbers)
	}
	return got
}

func TestMerge(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for round := range 30 {
		dir := t.TempDir()
		var files []*File
		all, wanted := roaring.New(), roaring.New()
		next := uint32(1)
		for i := range 1 + rnd.IntN(6) {
			var list []uint32
			if rnd.IntN(3) == 0 && next > 10 { // among those before
				next -= min(next-1, uint32(rnd.IntN(300)))
			}
			for range 1 + rnd.IntN(400) {
				list = append(list, next)
				next += 1 + uint32(rnd.IntN(4)/3)
			}
			files = append(files, write(t, filepath.Join(dir, fmt.Sprint(i)), list...))
			all.AddMany(list)
		}
		for it := all.Iterator(); it.HasNext(); {
			if n := it.Next(); round%2 == 0 || rnd.IntN(8) > 0 {
				wanted.Add(n)
			}
		}
		list, err := Merge(files, wanted)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "merged")
		if err := Write(path, list); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := numbers(t, f); !got.Equals(wanted) {
			t.Fatalf("merged %v, want %v", got, wanted)
		}
	}
}

func TestOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := Write(path, []Frame{Pack([]Record{record(2)}), Pack([]Record{record(1)})}); err == nil {
		t.Error("numbers that fall were written")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left of it: %v", err)
	}
}

// Every octet that is another one is noticed, or makes no difference.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, 1, 2, 3, 70, 71)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range len(whole) {
		broken := bytes.Clone(whole)
		broken[at] ^= 0x10
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err == nil {
			var r *Reader
			if r, err = f.Reader(); err != nil {
				t.Fatal(err)
			}
			if _, _, err = r.Records(0, nil); err == nil {
				numbers(t, f)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("octet %d of %d: %v", at, len(whole), err)
		}
	}
}
