package store

import (
	"context"
	"io"

	"mailstead.dev/store/message"
)

// Received returns access to content that was received, until it is closed, whether
// it is part of a mailbox or not.
func (s *Store) Received(c *Content) message.Reader { return &receivedReader{s, c} }

type receivedReader struct {
	store   *Store
	content *Content
}

// Open implements message.Reader.
func (r *receivedReader) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	c := r.content
	return c.layout.Decode(ctx, off, n, func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		return r.store.openPlace(ctx, &place{data: c.staged, object: c.objectKey}, off, n)
	})
}
