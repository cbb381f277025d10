package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/blob/blobtest"
)

func TestReliable(t *testing.T) {
	blobtest.Run(t, blob.NewReliable(&blobtest.Memory{}, blob.ReliableOptions{}))
}

// faulty answers Get as the test says, by number of the call from 1.
type faulty struct {
	blobtest.Memory
	calls atomic.Int64
	get   func(ctx context.Context, call int64, get func() (io.ReadCloser, error)) (io.ReadCloser, error)
}

func (f *faulty) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return f.get(ctx, f.calls.Add(1), func() (io.ReadCloser, error) { return f.Memory.Get(ctx, key, off, n) })
}

func TestReliableFaults(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 1000)
	away := fmt.Errorf("%w: test", blob.ErrUnavailable)
	for name, test := range map[string]struct {
		get   func(ctx context.Context, call int64, get func() (io.ReadCloser, error)) (io.ReadCloser, error)
		calls int64
		err   error
	}{
		"retried": {func(_ context.Context, call int64, get func() (io.ReadCloser, error)) (io.ReadCloser, error) {
			if call < 3 {
				return nil, away
			}
			return get()
		}, 3, nil},
		"given up": {func(context.Context, int64, func() (io.ReadCloser, error)) (io.ReadCloser, error) {
			return nil, away
		}, 3, blob.ErrUnavailable},
		"not there": {func(context.Context, int64, func() (io.ReadCloser, error)) (io.ReadCloser, error) {
			return nil, blob.ErrNotFound
		}, 1, blob.ErrNotFound},
		"hedged": {func(ctx context.Context, call int64, get func() (io.ReadCloser, error)) (io.ReadCloser, error) {
			if call == 1 {
				<-ctx.Done() // until the other has answered
				return nil, ctx.Err()
			}
			return get()
		}, 2, nil},
		"no answer": {func(ctx context.Context, _ int64, _ func() (io.ReadCloser, error)) (io.ReadCloser, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, 6, blob.ErrUnavailable}, // three times, each asked twice
		"broken off": {func(_ context.Context, call int64, get func() (io.ReadCloser, error)) (io.ReadCloser, error) {
			rc, err := get()
			if call < 3 && err == nil {
				return io.NopCloser(io.MultiReader(io.LimitReader(rc, 1000), iotest.ErrReader(away))), nil
			}
			return rc, err
		}, 3, nil},
		"broken off for good": {func(_ context.Context, _ int64, get func() (io.ReadCloser, error)) (io.ReadCloser, error) {
			rc, err := get()
			if err != nil {
				return nil, err
			}
			return io.NopCloser(io.MultiReader(io.LimitReader(rc, 1000), iotest.ErrReader(away))), nil
		}, 3, blob.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			f := &faulty{get: test.get}
			if err := f.Put(t.Context(), "k", bytes.NewReader(content), int64(len(content))); err != nil {
				t.Fatal(err)
			}
			b := blob.NewReliable(f, blob.ReliableOptions{Pause: time.Millisecond, HedgeAfter: 100 * time.Millisecond, GiveUp: 300 * time.Millisecond})
			got, err := func() ([]byte, error) {
				rc, err := b.Get(t.Context(), "k", 7, 5000)
				if err != nil {
					return nil, err
				}
				defer rc.Close()
				return io.ReadAll(rc)
			}()
			if !errors.Is(err, test.err) || test.err == nil && !bytes.Equal(got, content[7:5007]) {
				t.Errorf("got %d octets, %v; want %v", len(got), err, test.err)
			}
			if n := f.calls.Load(); n != test.calls {
				t.Errorf("asked %d times, want %d", n, test.calls)
			}
		})
	}
}
