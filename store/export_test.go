package store

import (
	"context"
	"crypto/sha256"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// ContentForTest is content that is staged as it is.
func ContentForTest(t id.Tenant, text string) *Content {
	meta, _ := message.Parse(io.LimitReader(strings.NewReader(text), 1<<20), message.Limits{})
	return &Content{
		Size: int64(len(text)), Meta: meta, tenant: t, digest: sha256.Sum256([]byte(text)),
		layout: blob.Layout{Encoding: blob.EncodingZstd, Size: int64(len(text)), Frames: []int64{int64(len(text))}},
		staged: []byte(text), meta: meta.Encode(),
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
