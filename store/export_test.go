package store

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// ContentForTest is content that is to be staged.
func ContentForTest(t id.Tenant, text string) *Content {
	meta, err := message.Parse(strings.NewReader(text), message.Limits{})
	if err != nil {
		panic(err)
	}
	spool, err := blob.NewSpool(strings.NewReader(text), 1<<20, "", nil)
	if err != nil {
		panic(err)
	}
	staged, _ := spool.Bytes()
	return &Content{
		Size: int64(len(text)), Meta: meta, meta: meta.Encode(), tenant: t,
		digest: spool.Digest, layout: spool.Layout, staged: staged,
	}
}

// Transact and Batch let tests look at the database, and break it, as a serving process could.
func (s *Store) Transact(ctx context.Context, t id.Tenant, f func(tx pgx.Tx) error) error {
	return s.transact(ctx, t, f)
}

func (s *Store) Batch(ctx context.Context, t id.Tenant, queue func(b *pgx.Batch)) error {
	return s.batch(ctx, t, queue)
}

// ForgetViews drops all cached views, so that the next are loaded anew.
func (s *Store) ForgetViews() { s.views = newViewCache(s.options.ViewCacheBytes) }
