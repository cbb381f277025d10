package index

import (
	"bytes"
	"context"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/blevesearch/bleve/v2/index/scorch"
	"golang.org/x/sync/errgroup"

	"mailstead.dev/store/id"
)

// Result answers a list of queries as of one moment.
type Result struct {
	UpTo    id.Email // up to which email the index was complete; what is newer has to be scanned
	Answers []Answer // in the order of the queries
}

// Answer tells where a query matches, by email. What is in neither does not match.
type Answer struct {
	Matches *roaring.Bitmap // certainly
	Maybe   *roaring.Bitmap // the text decides: see Verify
}

// Search answers queries by words alone, of all emails that are in the index.
func (a *Account) Search(ctx context.Context, queries []Query) (Result, error) {
	done, err := a.use()
	if err != nil {
		return Result{}, err
	}
	defer done()
	s, err := a.snapshot()
	if err != nil {
		return Result{}, err
	}
	defer s.Close()
	return a.search(ctx, s, queries)
}

func (a *Account) search(ctx context.Context, s *scorch.IndexSnapshot, queries []Query) (Result, error) {
	st, err := stateOf(s)
	if err != nil {
		return Result{}, err
	}
	a.forget(s)
	plans := make([]plan, len(queries))
	for i, q := range NewMatcher(queries).queries {
		plans[i] = planOf(q)
	}
	segments := s.Segments()
	found := make([][]Answer, len(segments))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(a.workers)
	for i, seg := range segments {
		g.Go(func() error {
			return guard(func() error {
				r, err := a.openSegment(seg)
				if err == nil {
					found[i], err = r.search(ctx, plans)
				}
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		return Result{}, err
	}
	result := Result{UpTo: id.Email(st.upTo), Answers: make([]Answer, len(queries))}
	for i := range result.Answers {
		all := Answer{roaring.New(), roaring.New()}
		for _, of := range found {
			all.Matches.Or(of[i].Matches)
			all.Maybe.Or(of[i].Maybe)
		}
		result.Answers[i] = all
	}
	return result, nil
}

// forget lets go of what the cache has of segments that are no more.
func (a *Account) forget(s *scorch.IndexSnapshot) {
	now := make(map[uint64]bool)
	for _, seg := range s.Segments() {
		now[seg.Id()] = true
	}
	a.trust.Lock()
	gone := false
	for n := range a.trusted {
		if !now[n] {
			delete(a.trusted, n)
			gone = true
		}
	}
	a.trust.Unlock()
	if gone {
		a.cache.keep(a, now)
	}
}

// search answers of one segment.
func (r *segmentReader) search(ctx context.Context, plans []plan) ([]Answer, error) {
	unsure := r.none()
	if err := r.addWord(unsure, fieldUnsure, []byte("1")); err != nil {
		return nil, err
	}
	answers := make([]Answer, len(plans))
	for i, p := range plans {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		found, doubt, err := r.find(ctx, p)
		if err != nil {
			return nil, err
		}
		doubt.or(unsure)
		if !p.exact {
			doubt.or(found)
			found = r.none()
		}
		if len(p.words) > 0 {
			like, err := r.findLike(ctx, p)
			if err != nil {
				return nil, err
			}
			doubt.or(like) // the last word of a text that is cut may be none
			if p.sure {
				found.or(like.andNot(unsure))
			}
		}
		doubt.andNot(found)
		answers[i] = Answer{r.emails(found), r.emails(doubt)}
	}
	return answers, nil
}

// among returns the documents in which a plan has something to look at.
func (r *segmentReader) among(p plan) (docs, error) {
	of := r.live()
	if p.name == "" {
		return of, nil
	}
	named := r.none()
	if err := r.addWord(named, fieldNames, []byte(p.name)); err != nil {
		return nil, err
	}
	return of.and(named), nil
}

// find returns the documents that a plan finds by their words, and those of which it does not know.
func (r *segmentReader) find(ctx context.Context, p plan) (found, doubt docs, err error) {
	of, err := r.among(p)
	if err != nil {
		return nil, nil, err
	}
	if p.any || of.count() == 0 {
		return of, r.none(), nil
	}
	found, doubt = r.none(), r.none()
	for _, field := range p.fields {
		in, all, err := r.findIn(ctx, field, p.runs, of)
		if err != nil {
			return nil, nil, err
		}
		found.or(in)
		of.andNot(in)
		if !all {
			doubt.or(of)
		}
	}
	return found, doubt, nil
}

// findIn returns those of some documents that have all the runs in a field, or,
// of several runs, may have them. Of a single run it may not find all.
func (r *segmentReader) findIn(ctx context.Context, field string, runs []run, of docs) (found docs, all bool, err error) {
	found, all = r.none().or(of), true
	for _, whole := range []bool{true, false} { // those are found at once
		for _, p := range runs {
			if (p.from && p.until) != whole {
				continue
			}
			with, complete, err := r.withRun(ctx, field, p, found)
			if err != nil {
				return nil, false, err
			}
			if complete || len(runs) == 1 {
				found.and(with)
				all = complete
			}
			if found.count() == 0 {
				return found, all, nil
			}
		}
	}
	return found, all, nil
}

// findLike returns the documents that have, of each word of a plan, one that is like it.
func (r *segmentReader) findLike(ctx context.Context, p plan) (docs, error) {
	found, err := r.among(p)
	if err != nil {
		return nil, err
	}
	for i := range p.words {
		with := r.none()
		for _, field := range p.fields {
			if err := r.addLike(ctx, with, field, &p.words[i], p.like); err != nil {
				return nil, err
			}
		}
		if found.and(with).count() == 0 {
			break
		}
	}
	return found, nil
}

// addLike adds the documents that have a word which is like another to d.
func (r *segmentReader) addLike(ctx context.Context, d docs, field string, w *likeWord, like Likeness) error {
	list, err := r.wordList(field)
	if err != nil {
		return err
	}
	for words, at := 1, list.from(w.first); ; words++ {
		n := bytes.IndexByte(list.text[at:], '\n')
		if n < 0 {
			return nil
		}
		word := list.text[at : at+n]
		at += n + 1
		if !bytes.HasPrefix(word, []byte(w.first)) {
			return nil
		}
		if w.is(&comparedWord{text: string(word)}, like) {
			if err := r.addWord(d, field, word); err != nil {
				return err
			}
		}
		if words%patienceInWords == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
