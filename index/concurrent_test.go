package index

import (
	"path/filepath"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"golang.org/x/sync/errgroup"

	"mailstead.dev/store/id"
)

// Searches, copies and checks while emails are added and removed: each answer is
// right as of the email that it names.
func TestConcurrent(t *testing.T) {
	a := mustOpen(t, filepath.Join(t.TempDir(), "a"))
	m := newModel(13)
	const batches, each = 6, 15
	var list [][]Document
	for range batches {
		list = append(list, m.newEmails(each))
	}
	queries := []Query{m.query(), m.query(), m.query(), {In: Anywhere, Text: "a"}, {In: Body, Text: "e b"}}

	ctx := t.Context()
	var g errgroup.Group
	added := make(chan struct{})
	g.Go(func() error {
		defer close(added)
		for _, docs := range list {
			if err := a.Add(ctx, docs, docs[len(docs)-1].Email); err != nil {
				return err
			}
			if err := a.Remove(ctx, []id.Email{docs[0].Email}); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		for {
			select {
			case <-added:
				return nil
			default:
			}
			if err := a.CopyTo(filepath.Join(t.TempDir(), "copy")); err != nil {
				return err
			}
			if err := a.Check(ctx); err != nil {
				return err
			}
		}
	})
	for range 2 {
		g.Go(func() error {
			for last := false; ; {
				r, err := a.Search(ctx, queries)
				if err != nil {
					return err
				}
				for i, q := range queries {
					found := r.Answers[i].Matches.Clone()
					err := a.Verify(ctx, queries[i:i+1], r.Answers[i].Maybe, func(e id.Email, yes, settled []bool) bool {
						if yes[0] || !settled[0] && m.emails[e].matches(q) {
							found.Add(uint32(e))
						}
						return true
					})
					if err != nil {
						return err
					}
					want := roaring.New()
					for e, email := range m.emails {
						if e <= r.UpTo && email.matches(q) {
							want.Add(uint32(e))
						}
					}
					for _, docs := range list { // whether those were removed yet is not known
						found.Remove(uint32(docs[0].Email))
						want.Remove(uint32(docs[0].Email))
					}
					if !found.Equals(want) {
						t.Errorf("%+q up to %d: %v, want %v", q, r.UpTo, found, want)
						return nil
					}
				}
				if last {
					return nil
				}
				select {
				case <-added:
					last = true
				default:
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, docs := range list {
		delete(m.emails, docs[0].Email)
	}
	m.same(t, a)
}
