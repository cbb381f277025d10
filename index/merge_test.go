package index

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/blevesearch/bleve/v2/index/scorch"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// strangeWords are documents of n words each that no other has, after one that is of their number.
func strangeWords(from id.Email, count, n int) (list []Document) {
	rng := rand.New(rand.NewPCG(uint64(from), 0))
	for email := from; email < from+id.Email(count); email++ {
		var b strings.Builder
		fmt.Fprintf(&b, "number%d", email)
		for range n {
			fmt.Fprintf(&b, " %x", rng.Uint64())
		}
		list = append(list, Document{Email: email, Texts: []message.Text{{Body: true, Value: b.String()}}})
	}
	return list
}

// What is merged is bounded by its words and by the size of its files, and what can be merged within that is.
func TestMergesAreBounded(t *testing.T) {
	const adds, each, words = 24, 10, 500
	for _, bound := range []struct {
		name          string
		words, octets int64
		size          func(*scorch.SegmentSnapshot) int64
	}{
		{"words", 32_000, maxMergedFiles, wordsOf},
		{"files", maxMergedWords, 512 << 10, (*scorch.SegmentSnapshot).FileSize},
	} {
		t.Run(bound.name, func(t *testing.T) {
			defer func(words, octets int64) { maxMergedWords, maxMergedFiles = words, octets }(maxMergedWords, maxMergedFiles)
			maxMergedWords, maxMergedFiles = bound.words, bound.octets
			a := mustOpen(t, filepath.Join(t.TempDir(), "a"))
			for i := range adds {
				from := id.Email(1 + i*each)
				if err := a.Add(t.Context(), strangeWords(from, each, words), from+each-1); err != nil {
					t.Fatal(err)
				}
			}
			var sizes []int64
			for over := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
				s, err := a.snapshot()
				if err != nil {
					t.Fatal(err)
				}
				sizes = sizes[:0]
				for _, seg := range s.Segments() {
					sizes = append(sizes, bound.size(seg))
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if len(sizes) <= adds/3 || time.Now().After(over) {
					break
				}
			}
			most := min(bound.words, bound.octets)
			if len(sizes) < 3 || len(sizes) > adds/3 || slices.Max(sizes) > most {
				t.Errorf("%d segments of %d additions, of %d, and %d at most", len(sizes), adds, sizes, most)
			}
			if err := a.Check(t.Context()); err != nil {
				t.Error(err)
			}
			for _, email := range []id.Email{1, adds * each / 2, adds * each} {
				r, err := a.Search(t.Context(), []Query{{In: Body, Text: fmt.Sprintf("number%d", email)}})
				if err != nil {
					t.Fatal(err)
				}
				if found := r.Answers[0].Matches; !found.Contains(uint32(email)) || found.GetCardinality() > 1+10+100 {
					t.Errorf("number%d is found in %v", email, found)
				}
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A batch ends where its emails have many words, however little text that is.
func TestBatchesAreBounded(t *testing.T) {
	a := mustOpen(t, filepath.Join(t.TempDir(), "a"))
	const count, words = 60, 4000
	list := strangeWords(1, count, words)
	var n int
	if err := a.change(func() (err error) {
		n, err = a.add(t.Context(), list, count)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if some := someBytes / len(list[0].Texts[0].Value); n < batchWords/words || n > batchWords/words+some+1 {
		t.Errorf("%d emails of %d words are a batch", n, words)
	}
	if upTo, err := a.UpTo(); err != nil || upTo != 0 {
		t.Errorf("complete up to %d, %v, after a part", upTo, err)
	}
	if err := a.Add(t.Context(), list, count); err != nil {
		t.Fatal(err)
	}
	st, err := a.Stats()
	if err != nil || st.UpTo != count || st.Emails != count {
		t.Errorf("%+v, %v", st, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

// What an email with many words has taken is not made room for again.
func TestAfterManyWords(t *testing.T) {
	a := mustOpen(t, filepath.Join(t.TempDir(), "a"))
	for email := id.Email(1); email < 4; email++ {
		if err := a.Add(t.Context(), strangeWords(email, 1, MaxText/17), email); err != nil {
			t.Fatal(err)
		}
	}
	list := strangeWords(4, 100, 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := a.Add(t.Context(), list, 103); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("%d octets were allocated for %d emails of two words", took, len(list))
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}
