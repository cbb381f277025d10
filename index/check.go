package index

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/blevesearch/bleve/v2/index/scorch"
	segment "github.com/blevesearch/scorch_segment_api/v2"

	"mailstead.dev/store/message"
)

// Check reads all of the index, and compares the words of each email with its
// text. What it finds wrong is an error of ErrDamaged.
func (a *Account) Check(ctx context.Context) (err error) {
	done, err := a.use()
	if err != nil {
		return err
	}
	defer done()
	a.writing.Lock() // words and texts are of one moment
	defer a.writing.Unlock()
	s, err := a.snapshot()
	if err != nil {
		return err
	}
	defer s.Close()

	c := &check{seed: maphash.MakeSeed(), sums: make(map[uint32]*[len(indexFields)]uint64)}
	if err := guard(func() error { return c.words(ctx, a, s) }); err != nil {
		return err
	}
	all := roaring.New()
	for email := range c.sums {
		all.Add(email)
	}
	left, err := a.eachText(ctx, all, c.text)
	if err != nil {
		return err
	}
	if !left.IsEmpty() {
		return fmt.Errorf("%w: %d emails have words but no text, such as %d", ErrDamaged, left.GetCardinality(), left.Minimum())
	}
	return nil
}

// check has of each email and field the sum of the hashes of its words.
type check struct {
	seed maphash.Seed
	mu   sync.Mutex // guards sums
	sums map[uint32]*[len(indexFields)]uint64
}

// words adds up what the index has.
func (c *check) words(ctx context.Context, a *Account, s *scorch.IndexSnapshot) error {
	for _, seg := range s.Segments() {
		a.trust.Lock()
		delete(a.trusted, seg.Id()) // read it again
		a.trust.Unlock()
		r, err := a.openSegment(seg)
		if err != nil {
			return err
		}
		sums := make([][len(indexFields)]uint64, len(r.numbers))
		for i, field := range indexFields {
			dict, err := r.dictionary(field)
			if err != nil {
				return err
			}
			if err := c.field(ctx, r, dict, i, sums); err != nil {
				return err
			}
		}
		for it := r.emails(r.live()).Iterator(); it.HasNext(); {
			email := it.Next()
			if c.sums[email] != nil {
				return fmt.Errorf("%w: email %d is there twice", ErrDamaged, email)
			}
			c.sums[email] = new([len(indexFields)]uint64)
		}
		for i, email := range r.numbers {
			if gone := r.snap.Deleted(); gone == nil || !gone.Contains(uint32(i)) {
				*c.sums[email] = sums[i]
			}
		}
	}
	return nil
}

func (c *check) field(ctx context.Context, r *segmentReader, dict segment.TermDictionary, field int, sums [][len(indexFields)]uint64) error {
	it := dict.AutomatonIterator(nil, nil, nil)
	for n := 0; ; n++ {
		if n%patienceInWords == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		entry, err := it.Next()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if entry == nil {
			return nil
		}
		sum := maphash.String(c.seed, entry.Term)
		if err := r.eachWith(indexFields[field], []byte(entry.Term), func(doc uint32) { sums[doc][field] += sum }); err != nil {
			return err
		}
	}
}

// text compares what the text of an email has.
func (c *check) text(email uint32, record string) (more bool, err error) {
	set := &wordSet{}
	ok := readTexts(record, func(t message.Text) bool {
		set.addText(t, t.Value)
		return true
	})
	if !ok {
		return false, fmt.Errorf("%w: kept text of email %d", ErrDamaged, email)
	}
	if record[0]&keptPartial != 0 {
		set.unsure()
	}
	var sums [len(indexFields)]uint64
	for i, words := range set.fields {
		for w := range words {
			sums[i] += maphash.String(c.seed, w)
		}
	}
	c.mu.Lock()
	want := *c.sums[email]
	c.mu.Unlock()
	if sums != want {
		return false, fmt.Errorf("%w: words of email %d are not those of its text", ErrDamaged, email)
	}
	return true, nil
}
