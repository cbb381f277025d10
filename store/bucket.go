package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
)

// TryBucket stores a small object in object storage, reads it and removes it, whose key is none of content. That
// only the removal fails is logged.
func (s *Store) TryBucket(ctx context.Context) (err error) {
	b, key, content := s.options.Bucket, "try/"+rand.Text(), []byte("try")
	if err := b.Put(ctx, key, bytes.NewReader(content), int64(len(content))); err != nil {
		return err
	}
	r, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if !bytes.Equal(got, content) {
		return fmt.Errorf("get %s: %q is not what was put", key, got)
	}
	if _, err := b.Delete(ctx, key); err != nil {
		s.log.Warn("the bucket does not remove objects: what is to go takes room until it does", "error", err)
	}
	return nil
}
