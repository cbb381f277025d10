package index

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"mailstead.dev/store/id"
)

// After Purge no file has the text of an email that was removed, and all others have theirs.
func TestPurge(t *testing.T) {
	m := newModel(23)
	dir := filepath.Join(t.TempDir(), "index")
	a := mustOpen(t, dir)
	for range 5 {
		if err := a.Add(t.Context(), m.newEmails(40), m.next-1); err != nil {
			t.Fatal(err)
		}
	}
	all := slices.Sorted(maps.Keys(m.emails))
	gone := []id.Email{all[3], all[50], all[51], all[160]}
	if err := a.Remove(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	kept := func() (n uint64) {
		for _, f := range a.files {
			n += f.Numbers.GetCardinality()
		}
		return n
	}
	if kept() != 200 {
		t.Fatalf("%d texts before, want them all: so few are not worth it", kept())
	}
	if err := a.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kept() != 196 {
		t.Errorf("%d texts, want those of emails that are there", kept())
	}
	if err := a.Check(t.Context()); err != nil {
		t.Error(err)
	}
	list, err := os.ReadDir(a.textDir())
	if err != nil || len(list) != len(a.files) {
		t.Errorf("files: %v, %v; want %d", list, err, len(a.files))
	}
}

// The stamp is in the index with the change that was made with it, and not before.
func TestStamp(t *testing.T) {
	m := newModel(24)
	dir := filepath.Join(t.TempDir(), "index")
	a := mustOpen(t, dir)
	want := func(n uint64) {
		t.Helper()
		if got, err := a.Stamp(); err != nil || got != n {
			t.Errorf("stamp %d, %v; want %d", got, err, n)
		}
	}
	want(0)
	a.SetStamp(1 << 62)
	want(0)
	if err := a.Add(t.Context(), m.newEmails(3), 3); err != nil {
		t.Fatal(err)
	}
	want(1 << 62)
	a.SetStamp(7)
	if err := a.Add(t.Context(), nil, 3); err != nil { // of which nothing is new but the stamp
		t.Fatal(err)
	}
	want(7)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = mustOpen(t, dir)
	want(7)
	a.SetStamp(8)
	if err := a.Remove(t.Context(), []id.Email{slices.Min(slices.Collect(maps.Keys(m.emails)))}); err != nil {
		t.Fatal(err)
	}
	want(8)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}
