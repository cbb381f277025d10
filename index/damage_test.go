package index

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"mailstead.dev/store/id"
)

var damages = flag.Int("index.damages", 60, "how often TestDamage breaks a file")

// Whatever happens to a file of an index, that is noticed, or makes no
// difference, or the index is as it was before its last changes, and says so by
// its mark.
func TestDamage(t *testing.T) {
	m := newModel(21)
	whole := filepath.Join(t.TempDir(), "whole")
	a := mustOpen(t, whole)
	past := map[string]bool{}
	note := func() {
		now, err := stateLine(a)
		if err != nil {
			t.Fatal(err)
		}
		past[now] = true
	}
	note()
	var gone []id.Email
	for range 3 {
		if err := a.Add(t.Context(), m.newEmails(50), m.next-1); err != nil {
			t.Fatal(err)
		}
		note()
	}
	for e := range m.emails {
		if e%7 == 0 {
			gone = append(gone, e)
		}
	}
	if err := a.Remove(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	note()
	var queries []Query
	for range 30 {
		queries = append(queries, m.query())
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	var files []string
	err := filepath.WalkDir(whole, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path[len(whole)+1:])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	rnd := rand.New(rand.NewPCG(*equivalenceSeed, 31))
	noticed := 0
	for n := range *damages {
		dir := filepath.Join(t.TempDir(), "broken")
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		file := files[n%len(files)]
		what := breakFile(t, rnd, filepath.Join(dir, file))
		err := m.useAll(t.Context(), dir, queries, past)
		switch {
		case errors.Is(err, ErrDamaged) || errors.Is(err, ErrVersion):
			noticed++
		case err != nil:
			t.Errorf("%s %s: %v", file, what, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if noticed < *damages/3 {
		t.Errorf("only %d of %d were noticed", noticed, *damages)
	}
	t.Logf("noticed %d of %d", noticed, *damages)
}

// stateLine is what an index says it has.
func stateLine(a *Account) (string, error) {
	upTo, err := a.UpTo()
	if err != nil {
		return "", err
	}
	emails, err := a.Emails()
	return fmt.Sprint(upTo, emails), err
}

func breakFile(t *testing.T, rnd *rand.Rand, path string) (what string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := rnd.IntN(len(data))
	switch rnd.IntN(5) {
	case 0:
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return "removed"
	case 1:
		data, what = data[:at], fmt.Sprintf("cut at %d of %d", at, len(data))
	case 2:
		n := min(len(data)-at, 1+rnd.IntN(5000))
		clear(data[at : at+n])
		what = fmt.Sprintf("%d octets zero from %d of %d", n, at, len(data))
	default:
		data[at] ^= 1 << rnd.IntN(8)
		what = fmt.Sprintf("a bit of octet %d of %d", at, len(data))
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return what
}

// useAll opens an index and uses it in every way. Wrong answers are an error, too.
func (m *model) useAll(ctx context.Context, dir string, queries []Query, past map[string]bool) (err error) {
	a, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	r, err := a.Search(ctx, queries)
	if err != nil {
		return err
	}
	if now, err := stateLine(a); err != nil || !past[now] {
		return errors.Join(err, fmt.Errorf("it never was at %s", now))
	}
	emails, err := a.Emails()
	if err != nil {
		return err
	}
	for i, answer := range r.Answers {
		found := answer.Matches.Clone()
		err := a.Verify(ctx, queries[i:i+1], answer.Maybe, func(e id.Email, yes, settled []bool) bool {
			if yes[0] || !settled[0] && m.emails[e].matches(queries[i]) {
				found.Add(uint32(e))
			}
			return true
		})
		if err != nil {
			return err
		}
		want := roaring.New()
		for e, email := range m.emails {
			if emails.Contains(uint32(e)) && email.matches(queries[i]) {
				want.Add(uint32(e))
			}
		}
		if !want.Equals(found) {
			return fmt.Errorf("%+v: %v, want %v", queries[i], found, want)
		}
	}
	if err := a.Check(ctx); err != nil {
		return err
	}
	if err := a.Add(ctx, m.newDocument(m.next+1), m.next+1); err != nil {
		return err
	}
	return a.Remove(ctx, []id.Email{1, 2, 3})
}

// newDocument is an email that the model does not keep.
func (m *model) newDocument(e id.Email) []Document { return []Document{m.email().document(e)} }

// Damage of a file that no search has read is noticed before it is merged with others, from which it would come out whole.
func TestDamageIsNotMerged(t *testing.T) {
	m := newModel(22)
	dir := filepath.Join(t.TempDir(), "index")
	a := mustOpen(t, dir)
	for range 3 {
		if err := a.Add(t.Context(), m.newEmails(50), m.next-1); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "store", "*.zap"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-1] ^= 1 // of the checksum, so that all else can be read
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a = mustOpen(t, dir)
	for range 30 { // which is enough for merges
		if err = a.Add(t.Context(), m.newEmails(20), m.next-1); err != nil {
			break
		}
	}
	if _, err := a.Search(t.Context(), []Query{m.query()}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged file was merged: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}
