package index

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/RoaringBitmap/roaring/v2"
	"golang.org/x/sync/errgroup"

	"mailstead.dev/index/frames"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// Verify compares the text of emails with queries, as a Matcher does. yield is
// called for each of the emails, in no order, one call at a time: found tells
// which queries it matches, settled of which that is certain. What is not
// settled the email's content has to decide, for its text is not kept, or not
// whole. Both slices are yield's only until it returns; if it returns false, no
// more calls come.
func (a *Account) Verify(ctx context.Context, queries []Query, emails *roaring.Bitmap, yield func(e id.Email, found, settled []bool) bool) error {
	done, err := a.use()
	if err != nil {
		return err
	}
	defer done()
	v := &verification{matcher: NewMatcher(queries), yield: yield}
	left, err := a.eachText(ctx, emails, func(email uint32, record string) (bool, error) { return v.take(ctx, email, record) })
	if err != nil || v.stopped {
		return err
	}
	for it := left.Iterator(); it.HasNext() && !v.stopped; {
		found := v.matcher.answer(make([]bool, len(queries)))
		v.tell(it.Next(), found)
	}
	return ctx.Err()
}

// verification is a Verify that is running.
type verification struct {
	matcher *Matcher

	mu      sync.Mutex // guards what follows
	yield   func(e id.Email, found, settled []bool) bool
	stopped bool
}

func (v *verification) tell(email uint32, a *answers) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.stopped && !v.yield(id.Email(email), a.found, a.settled) {
		v.stopped = true
	}
	return !v.stopped
}

// take compares a record.
func (v *verification) take(ctx context.Context, email uint32, record string) (more bool, err error) {
	partial := record != "" && record[0]&keptPartial != 0
	a := v.matcher.answer(make([]bool, len(v.matcher.queries)))
	if partial {
		a.exactly() // the last word may be cut
	}
	ok := readTexts(record, func(t message.Text) bool {
		a.takeNormalised(ctx, 0, t)
		return a.open > 0
	})
	if !ok {
		return false, fmt.Errorf("%w: kept text of email %d", ErrDamaged, email)
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if !partial {
		for i := range a.settled {
			a.settle(i, false)
		}
	}
	return v.tell(email, a), nil
}

// eachText calls take with the record of each email whose text is kept, until it
// returns false; several calls at a time. The record is take's only until it
// returns. left are those whose text is not kept.
func (a *Account) eachText(ctx context.Context, emails *roaring.Bitmap, take func(email uint32, record string) (more bool, err error)) (left *roaring.Bitmap, err error) {
	readers, left, err := a.readers(emails)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, r := range readers {
			err = errors.Join(err, r.Close())
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	type place struct {
		reader *textReader
		frame  int
	}
	places := make(chan place)
	g.Go(func() error {
		defer close(places)
		for _, r := range readers {
			for _, f := range r.file.Frames(r.wanted) {
				select {
				case places <- place{r, f}:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	for range a.workers {
		g.Go(func() error {
			var buf []byte
			for p := range places {
				var records []frames.Record
				var err error
				records, buf, err = p.reader.Records(p.frame, buf)
				if err != nil {
					return textError(err)
				}
				for _, r := range records {
					if !p.reader.wanted.Contains(r.Number) {
						continue
					}
					// take keeps nothing of it.
					more, err := take(r.Number, unsafe.String(unsafe.SliceData(r.Data), len(r.Data)))
					if err != nil {
						return err
					}
					if !more {
						return errEnough
					}
				}
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return left, nil
}

var errEnough = errors.New("enough")

func textError(err error) error {
	if errors.Is(err, frames.ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// textReader reads the texts of those emails that are wanted of a file.
type textReader struct {
	*frames.Reader
	file   *textFile
	wanted *roaring.Bitmap
}

// readers opens the files that have the texts of emails. left are those that none has.
func (a *Account) readers(emails *roaring.Bitmap) (list []*textReader, left *roaring.Bitmap, err error) {
	left = emails.Clone()
	a.reading.RLock()
	defer a.reading.RUnlock()
	for _, f := range a.files {
		wanted := roaring.And(left, f.Numbers)
		if wanted.IsEmpty() {
			continue
		}
		r, err := f.Reader()
		if err != nil {
			for _, open := range list {
				err = errors.Join(err, open.Close())
			}
			return nil, nil, err
		}
		list = append(list, &textReader{r, f, wanted})
		left.AndNot(wanted)
	}
	return list, left, nil
}
