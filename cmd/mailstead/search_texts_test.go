package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"testing"

	"mailstead.dev/store/message"
)

// SEARCH looks at what the writers of letters have put there, no more and no less: TestSearchEquivalence sees of it only
// what its queries happen to ask for.
func TestSearchTexts(t *testing.T) {
	seed := *searchSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	w := newWriter(seed)
	for range max(1000, *searchMessages) {
		l := w.letter()
		looked, err := searchedTexts(t.Context(), l.octets)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range l.passages {
			p.text = ""
			switch {
			case looked[p] > 0:
				looked[p]--
			case p.where != inBody || p.field != "" || p.folded != "": // an empty text of a body is none
				t.Errorf("-args -search.seed=%d: <%s>: %d %s: %+q is not looked at", seed, l.id, p.where, p.field, p.folded)
			}
		}
		for p, n := range looked {
			if n > 0 {
				t.Errorf("-args -search.seed=%d: <%s>: %d %s: %+q is looked at", seed, l.id, p.where, p.field, p.folded)
			}
		}
	}
}

// searchedTexts returns how many times each text stands in a message.
func searchedTexts(ctx context.Context, octets []byte) (map[passage]int, error) {
	m, err := message.Parse(bytes.NewReader(octets), message.Limits{})
	if err != nil {
		return nil, err
	}
	looked := map[passage]int{}
	err = m.Texts(ctx, inMemory(octets), nil, func(x message.Text) bool {
		where := inHeader
		switch {
		case x.Body:
			where = inBody
		case x.Part:
			where = inPart
		}
		looked[passage{where: where, field: x.Header, folded: message.Normalize(x.Value)}]++
		return true
	})
	return looked, err
}

// inMemory is a message.Reader.
type inMemory []byte

func (b inMemory) Open(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(bytes.NewReader(b), off, n)), nil
}
