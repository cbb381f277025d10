package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/blevesearch/bleve/v2/index/scorch"
	segment "github.com/blevesearch/scorch_segment_api/v2"

	"mailstead.dev/index/frames"
)

// segmentReader reads a segment of a snapshot: a piece of the index with a
// dictionary of its own for each field. It is for one search.
type segmentReader struct {
	account *Account
	snap    *scorch.SegmentSnapshot
	numbers []uint32 // the email of each document
	dicts   map[string]segment.TermDictionary
	list    segment.PostingsList     // used again
	iter    segment.PostingsIterator // used again
}

func (a *Account) openSegment(snap *scorch.SegmentSnapshot) (*segmentReader, error) {
	if err := a.trustSegment(snap); err != nil {
		return nil, err
	}
	r := &segmentReader{account: a, snap: snap, dicts: make(map[string]segment.TermDictionary)}
	key := cacheKey{a, snap.Id(), ""}
	if held := a.cache.get(key); held != nil {
		r.numbers = held.([]uint32)
		return r, nil
	}
	r.numbers = make([]uint32, snap.Segment().Count())
	for i := range r.numbers {
		name, err := snap.DocID(uint64(i))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if len(name) != 4 {
			return nil, fmt.Errorf("%w: a key of %d octets", ErrDamaged, len(name))
		}
		r.numbers[i] = binary.BigEndian.Uint32(name)
	}
	a.cache.put(key, r.numbers, int64(4*len(r.numbers)))
	return r, nil
}

// trustSegment compares the checksum of a segment's file, the first time that it is read.
func (a *Account) trustSegment(snap *scorch.SegmentSnapshot) error {
	a.trust.Lock()
	defer a.trust.Unlock()
	if a.trusted[snap.Id()] {
		return nil
	}
	a.trusted[snap.Id()] = false
	file, ok := snap.Segment().(segment.PersistedSegment)
	if !ok {
		return nil // still in memory
	}
	err := checkSegment(file.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // merged since, and bleve reads on what it has open
	}
	if err == nil {
		a.trusted[snap.Id()] = true
	}
	return err
}

func checkSegment(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var want [4]byte
	if info.Size() < int64(len(want)) {
		return fmt.Errorf("%w: %s is too short", ErrDamaged, path)
	}
	sum := crc32.NewIEEE()
	if _, err := io.CopyN(sum, f, info.Size()-int64(len(want))); err != nil {
		return err
	}
	if _, err := io.ReadFull(f, want[:]); err != nil {
		return err
	}
	if sum.Sum32() != binary.BigEndian.Uint32(want[:]) {
		return fmt.Errorf("%w: checksum of %s", ErrDamaged, path)
	}
	return nil
}

// docs is a set of the documents of a segment.
type docs []uint64

func (r *segmentReader) none() docs { return make(docs, (len(r.numbers)+63)/64) }

func (d docs) add(n uint32) { d[n/64] |= 1 << (n % 64) }

func (d docs) and(o docs) docs {
	for i := range d {
		d[i] &= o[i]
	}
	return d
}

func (d docs) or(o docs) docs {
	for i := range d {
		d[i] |= o[i]
	}
	return d
}

func (d docs) andNot(o docs) docs {
	for i := range d {
		d[i] &^= o[i]
	}
	return d
}

func (d docs) count() (n int) {
	for _, w := range d {
		n += bits.OnesCount64(w)
	}
	return n
}

// countWithout counts those that are not in o.
func (d docs) countWithout(o docs) (n int) {
	for i, w := range d {
		n += bits.OnesCount64(w &^ o[i])
	}
	return n
}

// live is all documents that were not removed.
func (r *segmentReader) live() docs {
	d := r.none()
	for i := range d {
		d[i] = 1<<64 - 1
	}
	if rest := len(r.numbers) % 64; rest > 0 {
		d[len(d)-1] = 1<<rest - 1
	}
	if gone := r.snap.Deleted(); gone != nil {
		for it := gone.Iterator(); it.HasNext(); {
			n := it.Next()
			d[n/64] &^= 1 << (n % 64)
		}
	}
	return d
}

// each calls f with each of d.
func (d docs) each(f func(doc int)) {
	for i, w := range d {
		for ; w != 0; w &= w - 1 {
			f(i*64 + bits.TrailingZeros64(w))
		}
	}
}

// emails are the emails of documents.
func (r *segmentReader) emails(d docs) *roaring.Bitmap {
	list := make([]uint32, 0, d.count())
	low, high := uint32(1<<32-1), uint32(0)
	d.each(func(doc int) {
		n := r.numbers[doc]
		list = append(list, n)
		low, high = min(low, n), max(high, n)
	})
	if len(list) > 256 && int(high-low)/64 < 4*len(list) { // they lie close, so that they need not be compared
		set := make(docs, (high-low)/64+1)
		for _, n := range list {
			set.add(n - low)
		}
		list = list[:0]
		set.each(func(n int) { list = append(list, low+uint32(n)) })
	} else {
		slices.Sort(list)
	}
	b := roaring.New()
	b.AddMany(list)
	return b
}

func (r *segmentReader) dictionary(field string) (segment.TermDictionary, error) {
	if d := r.dicts[field]; d != nil {
		return d, nil
	}
	d, err := r.snap.Segment().Dictionary(field)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	r.dicts[field] = d
	return d, nil
}

// addWord adds the documents that have a word to d.
func (r *segmentReader) addWord(d docs, field string, word []byte) error {
	return r.eachWith(field, word, d.add)
}

// eachWith calls f with each document that has a word.
func (r *segmentReader) eachWith(field string, word []byte, f func(doc uint32)) error {
	dict, err := r.dictionary(field)
	if err != nil {
		return err
	}
	r.list, err = dict.PostingsList(word, r.snap.Deleted(), r.list)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	r.iter = r.list.Iterator(false, false, false, r.iter)
	found, ok := r.iter.(segment.OptimizablePostingsIterator)
	if !ok {
		return fmt.Errorf("bleve's segments are not of the form that this was written for")
	}
	if doc, one := found.DocNum1Hit(); one {
		f(uint32(doc))
		return nil
	}
	if b := found.ActualBitmap(); b != nil {
		b.Iterate(func(doc uint32) bool {
			f(doc)
			return true
		})
	}
	return nil
}

// wordList is the words of a field, each between newlines, in their order.
type wordList struct {
	text   []byte
	counts [256]int32 // how often each octet is in text
}

// next finds a pattern from a place on, by the octet of it that is the rarest; -1 where it is not there.
func (l *wordList) next(pattern []byte, rarest, from int) int {
	for from+rarest < len(l.text) {
		i := bytes.IndexByte(l.text[from+rarest:], pattern[rarest])
		if i < 0 {
			return -1
		}
		from += i
		if l.text[from] == pattern[0] && bytes.HasPrefix(l.text[from:], pattern) {
			return from
		}
		from++
	}
	return -1
}

// from returns where the words that begin with something begin.
func (l *wordList) from(beginning string) int {
	i := bytes.Index(l.text, append([]byte{'\n'}, beginning...))
	if i < 0 {
		return len(l.text)
	}
	return i + 1
}

func (l *wordList) rarest(pattern []byte) (at int) {
	for i, c := range pattern {
		if l.counts[c] < l.counts[pattern[at]] {
			at = i
		}
	}
	return at
}

func (r *segmentReader) wordList(field string) (*wordList, error) {
	key := cacheKey{r.account, r.snap.Id(), field}
	if held := r.account.cache.get(key); held != nil {
		return held.(*wordList), nil
	}
	// One search makes the list, and others wait for it.
	list, err, _ := r.account.listing.Do(fmt.Sprint(key.segment, field), func() (any, error) {
		if held := r.account.cache.get(key); held != nil {
			return held, nil
		}
		list, err := r.makeWordList(field)
		if err == nil {
			r.account.cache.put(key, list, int64(len(list.text)+4*len(list.counts)))
		}
		return list, err
	})
	if err != nil {
		return nil, err
	}
	return list.(*wordList), nil
}

func (r *segmentReader) makeWordList(field string) (*wordList, error) {
	dict, err := r.dictionary(field)
	if err != nil {
		return nil, err
	}
	it := dict.AutomatonIterator(nil, nil, nil)
	if quick, ok := dict.(interface {
		AutomatonIteratorOmitCount(a segment.Automaton, startKeyInclusive, endKeyExclusive []byte) segment.DictionaryIterator
	}); ok {
		it = quick.AutomatonIteratorOmitCount(nil, nil, nil)
	}
	text := []byte{'\n'}
	for {
		entry, err := it.Next()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if entry == nil {
			break
		}
		text = append(append(text, entry.Term...), '\n')
	}
	list := &wordList{text: slices.Clip(text)}
	for _, c := range text {
		list.counts[c]++
	}
	return list, nil
}

// patienceInWords is after how many words a search looks whether it still has to go on.
const patienceInWords = 1 << 10

// wordsPerFrame is how many words are looked up while a frame of texts is read.
const wordsPerFrame = 256

// withRun returns the documents that have a word with the run in it. It may end
// early, once it has all that are looked for, or is no quicker than their texts
// would be; then all is false.
func (r *segmentReader) withRun(ctx context.Context, field string, p run, of docs) (found docs, all bool, err error) {
	found = r.none()
	if p.from && p.until {
		return found, true, r.addWord(found, field, []byte(p.text))
	}
	list, err := r.wordList(field)
	if err != nil {
		return nil, false, err
	}
	pattern := []byte(p.text)
	if p.from {
		pattern = append([]byte{'\n'}, pattern...)
	}
	if p.until {
		pattern = append(pattern, '\n')
	}
	rarest := list.rarest(pattern)
	for at, words := 0, 1; ; words++ {
		i := list.next(pattern, rarest, at)
		if i < 0 {
			return found, true, nil
		}
		begin := i + 1
		if !p.from {
			begin = bytes.LastIndexByte(list.text[:i], '\n') + 1
		}
		at = begin + bytes.IndexByte(list.text[begin:], '\n') // which may begin the next
		if err := r.addWord(found, field, list.text[begin:at]); err != nil {
			return nil, false, err
		}
		if words%patienceInWords == 0 {
			if err := ctx.Err(); err != nil {
				return nil, false, err
			}
			left := of.countWithout(found)
			if words > wordsPerFrame*min(left, len(r.numbers)/frames.PerFrame) {
				return found, false, nil
			}
		}
	}
}
