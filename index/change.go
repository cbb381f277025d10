package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/blevesearch/bleve/v2/index/scorch"
	bleve "github.com/blevesearch/bleve_index_api"
	zap "github.com/blevesearch/zapx/v17"
	"golang.org/x/sync/errgroup"

	"mailstead.dev/index/frames"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// What Add takes in at a time, whatever it is given; it bounds what it holds. Words are counted once for each email that
// has them: where no two emails have a word in common, each takes bleve some 400 octets.
// Bleve packs words only when it merges, so that more at a time would take more
// space in an account that is indexed in one go.
const (
	batchEmails = 1 << 9
	batchBytes  = 8 << 20
	batchWords  = 1 << 17
	// someBytes is how much text is cut into words before they are counted again.
	someBytes = 256 << 10
)

// bleve makes room for a batch by how many octets an email of the last one took, of whatever account, for a hundred emails
// more than there are: after one with a megabyte of rare words that is hundreds of them, and gigabytes. It need not.
func init() { zap.NewSegmentBufferAvgBytesPerDocFactor = 0 }

// Add takes in emails, and notes that the index is complete up to an email. What
// Add was given is there, durably, before the mark says so; after a crash both
// are as before, or some of the emails are there already. To add an email again
// is harmless.
func (a *Account) Add(ctx context.Context, list []Document, upTo id.Email) error {
	list = slices.Clone(list)
	slices.SortFunc(list, func(x, y Document) int { return int(x.Email - y.Email) })
	list = slices.CompactFunc(list, func(x, y Document) bool { return x.Email == y.Email })
	if upTo < 0 || upTo > math.MaxUint32 {
		return fmt.Errorf("%w: %d", ErrEmailID, upTo)
	}
	for _, d := range list {
		if d.Email < 1 || d.Email > math.MaxUint32 {
			return fmt.Errorf("%w: %d", ErrEmailID, d.Email)
		}
	}
	return a.change(func() error {
		for {
			n, err := a.add(ctx, list, uint32(upTo))
			if err != nil {
				return err
			}
			if list = list[n:]; len(list) == 0 {
				return a.compact(ctx)
			}
		}
	})
}

// Remove takes emails out of the index, those that are there.
func (a *Account) Remove(ctx context.Context, emails []id.Email) error {
	var keys []string
	for _, e := range emails {
		if e >= 1 && e <= math.MaxUint32 {
			keys = append(keys, keyOf(uint32(e)))
		}
	}
	return a.change(func() error {
		st, there, err := a.stateAnd(keys)
		if err != nil || there == 0 {
			return err
		}
		b := bleve.NewBatch()
		for _, key := range keys {
			b.Delete(key)
		}
		st.emails -= there
		st.stamp = a.stamp
		b.SetInternal(stateKey, st.encode())
		if err := a.commit(b); err != nil {
			return err
		}
		return a.compact(ctx)
	})
}

// errChangeFailed says that a change was not begun, for the one before it has failed just now.
var errChangeFailed = errors.New("the change before has failed")

// change runs a change, one at a time.
func (a *Account) change(f func() error) error {
	done, err := a.use()
	if err != nil {
		return err
	}
	a.writing.Lock()
	if err = errChangeFailed; !a.failed {
		err = f()
	}
	failed := a.failed
	a.writing.Unlock()
	done()
	if failed {
		err = errors.Join(err, a.rollBack())
	}
	return err
}

// commit makes a batch durable. It is waited for here, for bleve does not notice
// where the goroutine that it waits for itself has died.
func (a *Account) commit(b *bleve.Batch) error {
	words, committed := a.words, make(chan error, 1)
	var err error
	select {
	case err = <-words.async: // of a merge, since the last change
	default:
		go func() {
			defer func() {
				if r := recover(); r != nil { // the index was closed under it, because bleve has failed elsewhere
					committed <- fmt.Errorf("commit: %v", r)
				}
			}()
			committed <- words.Batch(b)
		}()
		select {
		case err = <-committed:
		case err = <-words.async:
		}
	}
	a.failed = err != nil
	return err
}

// stateAnd returns the state, and how many of the keys are there.
func (a *Account) stateAnd(keys []string) (st state, there uint64, err error) {
	s, err := a.snapshot()
	if err != nil {
		return state{}, 0, err
	}
	defer s.Close()
	if st, err = stateOf(s); err != nil {
		return state{}, 0, err
	}
	err = guard(func() error {
		for _, seg := range s.Segments() {
			found, err := seg.DocNumbers(keys) // without those that were deleted
			if err != nil {
				return fmt.Errorf("%w: %w", ErrDamaged, err)
			}
			there += found.GetCardinality()
		}
		return nil
	})
	return st, there, err
}

// add takes in a batch, and returns how many emails that is. Where it is all, the index is complete up to upTo then.
func (a *Account) add(ctx context.Context, list []Document, upTo uint32) (n int, err error) {
	b := bleve.NewBatch()
	keys, records, err := a.readIn(ctx, list, b)
	if err != nil {
		return 0, err
	}
	n = len(keys)
	st, there, err := a.stateAnd(keys)
	if err != nil {
		return 0, err
	}
	if n == 0 && upTo <= st.upTo && st.stamp == a.stamp {
		return 0, nil
	}
	st.stamp = a.stamp
	files := a.files
	if len(records) > 0 {
		packed, err := a.pack(ctx, frames.Split(records))
		if err != nil {
			return 0, err
		}
		f, err := a.write(packed)
		if err != nil {
			return 0, err
		}
		files = append(slices.Clone(files), f)
	}
	st.emails += uint64(n) - there
	if n == len(list) {
		st.upTo = max(st.upTo, upTo)
	}
	return n, a.commitFiles(b, st, files)
}

// readIn makes words and records of as many emails as are a batch, and returns the keys of those. Emails whose text is
// kept already give no record.
func (a *Account) readIn(ctx context.Context, list []Document, b *bleve.Batch) (keys []string, records []frames.Record, err error) {
	var rare rareWords
	for size, words := 0, 0; len(keys) < len(list) && len(keys) < batchEmails && size < batchBytes && words < batchWords; {
		some := list[len(keys):min(len(list), batchEmails)]
		read := 0
		for i, d := range some {
			if read >= min(someBytes, batchBytes-size) {
				some = some[:i]
				break
			}
			for _, t := range d.Texts {
				read += len(t.Value)
			}
		}
		size += read
		sets, texts, err := a.readSome(ctx, some)
		if err != nil {
			return nil, nil, err
		}
		for i := range some {
			words += rare.add(sets[i].words)
			b.Update(&sets[i])
			if !slices.ContainsFunc(a.files, func(f *textFile) bool { return f.Numbers.Contains(texts[i].Number) }) {
				records = append(records, texts[i])
			}
			keys = append(keys, sets[i].key)
		}
	}
	return keys, records, nil
}

// readSome makes words and records of emails, side by side.
func (a *Account) readSome(ctx context.Context, list []Document) ([]wordDocument, []frames.Record, error) {
	words := make([]wordDocument, len(list))
	texts := make([]frames.Record, len(list))
	share := (len(list) + a.workers - 1) / a.workers
	g, ctx := errgroup.WithContext(ctx)
	for from := 0; from < len(list); from += share {
		g.Go(func() error {
			for i := from; i < min(from+share, len(list)); i++ {
				if err := ctx.Err(); err != nil {
					return err
				}
				words[i], texts[i] = readDocument(list[i])
			}
			return nil
		})
	}
	return words, texts, g.Wait()
}

// readDocument makes words and a record of an email.
func readDocument(d Document) (wordDocument, frames.Record) {
	set := &wordSet{}
	record := []byte{0}
	room := MaxText
	for _, t := range d.Texts {
		normalised := message.Normalize(t.Value)
		size := len(normalised)
		record, normalised = appendText(record, t, normalised, room)
		set.addText(t, normalised)
		room -= len(normalised)
		if len(normalised) < size {
			d.Partial = true
			break
		}
	}
	if d.Partial {
		record[0] |= keptPartial
		set.unsure()
	}
	number := uint32(d.Email)
	return wordDocument{keyOf(number), set}, frames.Record{Number: number, Data: record}
}

func (a *Account) pack(ctx context.Context, list [][]frames.Record) ([]frames.Frame, error) {
	packed := make([]frames.Frame, len(list))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(a.workers)
	for i, records := range list {
		g.Go(func() error {
			packed[i] = frames.Pack(records)
			return ctx.Err()
		})
	}
	return packed, g.Wait()
}

// write makes a file of texts, which does not count yet.
func (a *Account) write(packed []frames.Frame) (*textFile, error) {
	n := a.next
	a.next++
	if err := frames.Write(a.textPath(n), packed); err != nil {
		return nil, err
	}
	return a.openTexts(n)
}

// commitFiles commits a batch with a list of the files that count from now on, and removes those that do not.
func (a *Account) commitFiles(b *bleve.Batch, st state, files []*textFile) error {
	st.files = nil
	for _, f := range files {
		st.files = append(st.files, f.number)
	}
	b.SetInternal(stateKey, st.encode())
	if err := a.commit(b); err != nil {
		return err
	}
	a.reading.Lock()
	before := a.files
	a.files = files
	a.reading.Unlock()
	var err error
	for _, f := range before {
		if !slices.Contains(files, f) {
			err = errors.Join(err, os.Remove(f.Path))
		}
	}
	return err
}

// When files of texts are written anew. A text is written again at most as often
// as there are steps in size, and then when a quarter of its file is not wanted.
const (
	mergeFiles  = 8       // files of one size
	sizeStep    = 8       // from one size to the next
	smallestOne = 1 << 16 // octets; what is smaller is of one size
	largestOne  = 8 << 20
	unwanted    = 4 // a file is written anew where one of so many texts is of no email that is there
	unwantedMin = 256
)

// compact writes files of texts anew: many small ones as one, and those that are of emails gone.
func (a *Account) compact(ctx context.Context) error {
	s, err := a.snapshot()
	if err != nil {
		return err
	}
	defer s.Close()
	st, err := stateOf(s)
	if err != nil {
		return err
	}
	kept := uint64(0)
	sizes := make(map[int][]*textFile)
	for _, f := range a.files {
		kept += f.Numbers.GetCardinality()
		if f.Size < largestOne/2 {
			step := 0
			for size := int64(smallestOne); f.Size > size; size *= sizeStep {
				step++
			}
			sizes[step] = append(sizes[step], f)
		}
	}
	for step := range 8 {
		if len(sizes[step]) >= mergeFiles {
			return a.rewrite(ctx, s, st, sizes[step])
		}
	}
	if gone := kept - min(kept, st.emails); gone < max(unwantedMin, kept/unwanted) {
		return nil
	}
	group, err := a.unwanted(s, 2*unwanted)
	if err != nil {
		return err
	}
	return a.rewrite(ctx, s, st, group)
}

// Purge writes those files of texts anew that have a text of an email that was removed. Its words go when bleve merges.
func (a *Account) Purge(ctx context.Context) error {
	for more := true; more; {
		err := a.change(func() error {
			s, err := a.snapshot()
			if err != nil {
				return err
			}
			defer s.Close()
			st, err := stateOf(s)
			if err != nil {
				return err
			}
			group, err := a.unwanted(s, math.MaxUint64)
			if more = len(group) > 0; err != nil || !more {
				return err
			}
			return a.rewrite(ctx, s, st, group)
		})
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// unwanted returns files of which more than one text of so many is of no email that is there, as many as are written anew at once.
func (a *Account) unwanted(s *scorch.IndexSnapshot, part uint64) (group []*textFile, err error) {
	live, err := a.emails(s)
	if err != nil {
		return nil, err
	}
	for _, f := range a.files {
		n := f.Numbers.GetCardinality()
		if n-f.Numbers.AndCardinality(live) > n/part {
			group = append(group, f)
			if size(group) > largestOne {
				break
			}
		}
	}
	return group, nil
}

// rewrite writes files of texts anew as one, as many of them as are written at once, without the texts of emails that are gone.
func (a *Account) rewrite(ctx context.Context, s *scorch.IndexSnapshot, st state, group []*textFile) error {
	for len(group) > 1 && size(group) > 2*largestOne {
		group = group[:len(group)-1]
	}
	if len(group) == 0 || ctx.Err() != nil { // there is time for it after the next change
		return nil
	}
	live, err := a.emails(s)
	if err != nil {
		return err
	}
	var old []*frames.File
	for _, f := range group {
		old = append(old, f.File)
	}
	packed, err := frames.Merge(old, live)
	if err != nil {
		return textError(err)
	}
	var files []*textFile
	for _, f := range a.files {
		if !slices.Contains(group, f) {
			files = append(files, f)
		}
	}
	if len(packed) > 0 {
		f, err := a.write(packed)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	return a.commitFiles(bleve.NewBatch(), st, files)
}

func size(files []*textFile) (n int64) {
	for _, f := range files {
		n += f.Size
	}
	return n
}
