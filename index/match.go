package index

import (
	"cmp"
	"context"

	"mailstead.dev/store/message"
)

// Match tells of one email which queries it matches. content is called only
// where what is kept in meta does not settle them; files reads those that are attached, nil none.
func (m *Matcher) Match(ctx context.Context, meta *message.Meta, content func() (message.Reader, error), files message.Files) ([]bool, error) {
	found := make([]bool, len(m.queries))
	a := m.answer(found)
	a.fromMeta(ctx, meta)
	if a.open == 0 {
		return found, nil
	}
	return found, a.scan(ctx, meta, content, files)
}

// FromMeta tells of one email, by what is kept in meta alone, which queries that
// settles and which of those the email matches.
func (m *Matcher) FromMeta(ctx context.Context, meta *message.Meta) (found, settled []bool) {
	found = make([]bool, len(m.queries))
	a := m.answer(found)
	a.fromMeta(ctx, meta)
	return found, a.settled
}

// scan reads the email until all is settled.
func (a *answers) scan(ctx context.Context, meta *message.Meta, content func() (message.Reader, error), files message.Files) error {
	r, err := content()
	if err != nil {
		return err
	}
	err = meta.Texts(ctx, r, files, func(t message.Text) bool {
		a.take(ctx, t)
		return a.open > 0
	})
	return cmp.Or(ctx.Err(), err)
}
