package index

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// Match tells of one email which queries it matches. content is called only
// where what is kept in meta does not settle them.
func (m *Matcher) Match(ctx context.Context, meta *message.Meta, content func() (message.Reader, error)) ([]bool, error) {
	found := make([]bool, len(m.queries))
	a := m.answer(found)
	a.fromMeta(meta)
	if a.open == 0 {
		return found, nil
	}
	return found, a.scan(ctx, meta, content)
}

// FromMeta tells of one email, by what is kept in meta alone, which queries that
// settles and which of those the email matches.
func (m *Matcher) FromMeta(meta *message.Meta) (found, settled []bool) {
	found = make([]bool, len(m.queries))
	a := m.answer(found)
	a.fromMeta(meta)
	return found, a.settled
}

// scan reads the email until all is settled.
func (a *answers) scan(ctx context.Context, meta *message.Meta, content func() (message.Reader, error)) error {
	r, err := content()
	if err != nil {
		return err
	}
	return meta.Texts(ctx, r, func(t message.Text) bool {
		a.take(t)
		return a.open > 0
	})
}

// Source gives access to the emails of an account; *store.Mailbox is one.
type Source interface {
	Emails(ctx context.Context, ids []id.Email, yield func(store.Email) error) error
	Content(ctx context.Context, email id.Email) (message.Reader, error)
}

// Result is what Search found.
type Result struct {
	rows  map[id.Email]int
	found []bool // a row of answers for each email
	width int
}

// Match reports whether an email matches the i-th query; one that does not
// exist (any more) matches nothing.
func (r *Result) Match(email id.Email, i int) bool {
	row, ok := r.rows[email]
	return ok && r.found[row*r.width+i]
}

// Search asks the queries of each of the emails ids. It holds a bounded number
// of emails in memory at a time, and ends with ctx: an error means that there
// is no answer, not even a part of one.
func Search(ctx context.Context, src Source, ids []id.Email, queries []Query) (*Result, error) {
	m := NewMatcher(queries)
	res := &Result{rows: make(map[id.Email]int, len(ids)), found: make([]bool, len(ids)*len(queries)), width: len(queries)}
	for i, email := range ids {
		res.rows[email] = i
	}
	if len(queries) == 0 {
		return res, ctx.Err()
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, runtime.GOMAXPROCS(0)))
	listErr := src.Emails(ctx, ids, func(e store.Email) error {
		row := res.rows[e.ID] * res.width // ids is what Emails was asked for
		a := m.answer(res.found[row : row+res.width : row+res.width])
		a.fromMeta(e.Meta)
		if a.open > 0 {
			g.Go(func() error {
				return a.scan(ctx, e.Meta, func() (message.Reader, error) { return src.Content(ctx, e.ID) })
			})
		}
		return ctx.Err()
	})
	if err := g.Wait(); err != nil {
		return nil, err // what a scan failed with is the cause of listErr
	}
	if listErr != nil {
		return nil, listErr
	}
	return res, nil
}
