package index

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

var (
	equivalenceSteps = flag.Int("index.steps", 12, "how many changes of an index TestEquivalence makes")
	equivalenceSeed  = flag.Uint64("index.seed", 1, "which ones")
)

// What the index and its texts find is what a plain look at every text finds,
// through adds, removals, copies and reopenings.
func TestEquivalence(t *testing.T) {
	m := newModel(*equivalenceSeed)
	dir := filepath.Join(t.TempDir(), "a")
	a := mustOpen(t, dir)
	for step := range *equivalenceSteps {
		switch m.IntN(8) {
		case 0:
			var gone []id.Email
			for e := range m.emails {
				if m.IntN(3) == 0 {
					gone = append(gone, e)
					delete(m.emails, e)
				}
			}
			if err := a.Remove(t.Context(), append(gone, 1<<40, m.next+7)); err != nil {
				t.Fatal(err)
			}
		case 1:
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			a = mustOpen(t, dir)
		case 2:
			to := filepath.Join(t.TempDir(), "copy")
			if err := a.CopyTo(to); err != nil {
				t.Fatal(err)
			}
			b := mustOpen(t, to)
			m.same(t, b)
			m.compare(t, b, []Query{m.query(), m.query()})
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		case 3: // some again
			var again []Document
			for n, e := range m.emails {
				if m.IntN(4) == 0 {
					again = append(again, e.document(n))
				}
			}
			if err := a.Add(t.Context(), again, 0); err != nil {
				t.Fatal(err)
			}
		default:
			list := m.newEmails(1 + m.IntN(1+m.IntN(120)))
			if err := a.Add(t.Context(), list, m.next-1); err != nil {
				t.Fatal(err)
			}
			if upTo, err := a.UpTo(); err != nil || upTo != m.next-1 {
				t.Fatalf("up to %d, %v, want %d", upTo, err, m.next-1)
			}
		}
		queries := make([]Query, 1+m.IntN(8))
		for range 4 {
			for i := range queries {
				queries[i] = m.query()
			}
			m.compare(t, a, queries)
		}
		if t.Failed() {
			t.Fatalf("step %d", step)
		}
	}
	m.same(t, a)
}

func TestAddSmall(t *testing.T) {
	a := mustOpen(t, filepath.Join(t.TempDir(), "a"))
	m := newModel(7)
	for range 20 { // one by one, so that files of texts are merged
		if err := a.Add(t.Context(), m.newEmails(1), m.next-1); err != nil {
			t.Fatal(err)
		}
	}
	m.same(t, a)
	st, err := a.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(filepath.Join(a.dir, "texts")); err != nil || len(files) >= 2*mergeFiles {
		t.Errorf("%d files of texts, %v", len(files), err)
	}
	if st.Emails != 20 || st.UpTo != m.next-1 || st.Memory <= 0 || st.WordBytes <= 0 || st.TextBytes <= 0 {
		t.Errorf("%+v", st)
	}

	// The space of what is removed is regained.
	if err := a.Add(t.Context(), m.newEmails(500), m.next-1); err != nil {
		t.Fatal(err)
	}
	before, err := a.Stats()
	if err != nil {
		t.Fatal(err)
	}
	var gone []id.Email
	for e := range m.emails {
		if e > 100 {
			gone = append(gone, e)
			delete(m.emails, e)
		}
	}
	if err := a.Remove(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	m.same(t, a)
	after, err := a.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if after.TextBytes > before.TextBytes/2 {
		t.Errorf("texts take %d octets after %d of %d were removed, %d before", after.TextBytes, len(gone), before.Emails, before.TextBytes)
	}
}

func TestBounds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	a := mustOpen(t, dir)
	for _, e := range []id.Email{0, -1, 1 << 32} {
		if err := a.Add(t.Context(), []Document{{Email: e}}, 0); !errors.Is(err, ErrEmailID) {
			t.Errorf("%d: %v", e, err)
		}
	}
	if err := a.Add(t.Context(), nil, 1<<32); !errors.Is(err, ErrEmailID) {
		t.Errorf("%v", err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}

	// More text than is kept: what is kept is found for certain, the rest only perhaps.
	long := "needle " + strings.Repeat("hay é ", MaxText/6) + " thimble"
	if err := a.Add(t.Context(), []Document{{Email: 1<<32 - 1, Texts: []message.Text{{Body: true, Value: long}}}}, 1<<32-1); err != nil {
		t.Fatal(err)
	}
	queries := []Query{{In: Body, Text: "NEEDLE"}, {In: Body, Text: "thimble"}, {In: Body, Text: "edle hay"}}
	r, err := a.Search(t.Context(), queries)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][2]uint64{{1, 0}, {0, 1}, {0, 1}} {
		if got := [2]uint64{r.Answers[i].Matches.GetCardinality(), r.Answers[i].Maybe.GetCardinality()}; got != want {
			t.Errorf("%v: %v, want %v", queries[i], got, want)
		}
	}
	calls := 0
	err = a.Verify(t.Context(), queries, r.Answers[1].Maybe, func(_ id.Email, found, settled []bool) bool {
		calls++
		if !found[0] || !settled[0] || found[1] || settled[1] || !found[2] || !settled[2] {
			t.Errorf("%v %v", found, settled)
		}
		return true
	})
	if err != nil || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if err := a.Check(t.Context()); err != nil {
		t.Error(err)
	}

	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"Add":    func() error { return a.Add(t.Context(), nil, 1) },
		"Search": func() error { _, err := a.Search(t.Context(), nil); return err },
		"Close":  a.Close,
	} {
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "version"), []byte("mailstead index 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrVersion) {
		t.Errorf("another version: %v", err)
	}
}

// A change that fails leaves the index as it is on disk, and the next one goes on from there.
func TestFailedChange(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	a := mustOpen(t, dir)
	m := newModel(3)
	if err := a.Add(t.Context(), m.newEmails(20), m.next-1); err != nil {
		t.Fatal(err)
	}
	lost := m.newDocument(m.next)
	if err := os.Rename(a.storeDir(), a.storeDir()+".away"); err != nil {
		t.Fatal(err)
	}
	if err := a.Add(t.Context(), lost, m.next); err == nil {
		t.Fatal("added without a folder")
	}
	if _, err := a.Emails(); !errors.Is(err, ErrDamaged) {
		t.Errorf("used without a folder: %v", err)
	}
	if err := os.Rename(a.storeDir()+".away", a.storeDir()); err != nil {
		t.Fatal(err)
	}
	m.same(t, a)
	if err := a.Add(t.Context(), m.newEmails(5), m.next-1); err != nil {
		t.Fatal(err)
	}
	m.same(t, a)
	m.compare(t, a, []Query{m.query(), m.query()})
}
