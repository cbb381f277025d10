package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// ReliableOptions sets Reliable up. Zero fields mean the defaults.
type ReliableOptions struct {
	Attempts   int           // of a read that fails for reasons that may pass; default 3
	Pause      time.Duration // before the second attempt, and twice as long before each further one; default 50 ms
	HedgeAfter time.Duration // for how long an answer is waited for before it is asked for once more; default 300 ms
	GiveUp     time.Duration // for how long both are waited for before the attempt has failed; default 10 s
}

// Reliable makes reading from a bucket better than the bucket: what fails is
// tried again, what is slow is asked for twice, and an answer that breaks off
// goes on where it was. Objects never change, so that all answers are alike. Writing is the bucket's own.
type Reliable struct {
	Bucket
	o ReliableOptions
}

// NewReliable wraps a bucket.
func NewReliable(b Bucket, o ReliableOptions) *Reliable {
	if o.Attempts <= 0 {
		o.Attempts = 3
	}
	if o.Pause <= 0 {
		o.Pause = 50 * time.Millisecond
	}
	if o.HedgeAfter <= 0 {
		o.HedgeAfter = 300 * time.Millisecond
	}
	if o.GiveUp <= 0 {
		o.GiveUp = 10 * time.Second
	}
	return &Reliable{b, o}
}

// Get implements Bucket.
func (b *Reliable) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r := &resuming{off: off, left: n, attempts: b.o.Attempts, open: func(off, n int64) (io.ReadCloser, error) {
		return b.hedged(ctx, key, off, n)
	}}
	r.pause = func(i int) bool { return sleep(ctx, b.o.Pause<<i) }
	if err := r.again(nil); err != nil {
		return nil, err
	}
	return r, nil
}

// sleep waits, and reports whether ctx lasts.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// resuming reads an object whose answers may break off.
type resuming struct {
	off, left int64 // left < 0: to the end
	attempts  int   // that are left
	failed    int
	open      func(off, n int64) (io.ReadCloser, error)
	pause     func(i int) bool
	from      io.ReadCloser
}

// again asks for what has not been read, after err (nil: at first).
func (r *resuming) again(err error) error {
	for {
		if err != nil {
			if !errors.Is(err, ErrUnavailable) || r.attempts == 0 || !r.pause(r.failed) {
				return err
			}
			r.failed++
		}
		r.attempts--
		if r.from, err = r.open(r.off, r.left); err == nil {
			return nil
		}
	}
}

func (r *resuming) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.off += int64(n)
	if r.left >= 0 {
		r.left -= int64(n)
	}
	if err == nil || err == io.EOF || n > 0 || r.left == 0 {
		if err != io.EOF && n > 0 {
			err = nil // a lasting error comes again
		}
		return n, err
	}
	broken := r.from
	if failed := r.again(err); failed != nil {
		r.from = broken
		return 0, failed
	}
	// What broke needs no more than to be let go.
	_ = broken.Close()
	return 0, nil
}

func (r *resuming) Close() error { return r.from.Close() }

// hedged asks, and asks once more where no answer comes in time. The first good answer counts.
func (b *Reliable) hedged(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	h := &hedge{answers: make(chan answered, 2)}
	ask := func() {
		ctx, cancel := context.WithCancel(ctx)
		h.cancels = append(h.cancels, cancel)
		i := len(h.cancels) - 1
		h.asking.Go(func() {
			rc, err := b.Bucket.Get(ctx, key, off, n)
			h.answers <- answered{i, rc, err}
		})
	}
	ask()
	timer, end := time.NewTimer(b.o.HedgeAfter), time.NewTimer(b.o.GiveUp)
	defer timer.Stop()
	defer end.Stop()
	var errs []error
	for len(errs) < len(h.cancels) {
		select {
		case <-timer.C:
			ask()
		case <-end.C:
			h.settle(-1)
			return nil, fmt.Errorf("%w: get %s: no answer within %v", ErrUnavailable, key, b.o.GiveUp)
		case a := <-h.answers:
			if a.err != nil {
				errs = append(errs, a.err)
				continue
			}
			h.settle(a.asked)
			return &hedgedReader{a.rc, h.cancels[a.asked]}, nil
		}
	}
	h.settle(-1)
	return nil, errs[0]
}

// hedge is one question that is asked up to twice.
type hedge struct {
	cancels []context.CancelFunc // of each asking
	asking  sync.WaitGroup
	answers chan answered
}

type answered struct {
	asked int
	rc    io.ReadCloser
	err   error
}

// settle ends all askings but the one whose answer counts, and waits for them.
func (h *hedge) settle(winner int) {
	for i, cancel := range h.cancels {
		if i != winner {
			cancel()
		}
	}
	h.asking.Wait()
	close(h.answers)
	for a := range h.answers {
		if a.rc != nil {
			_ = a.rc.Close() // an answer that nobody reads
		}
	}
}

// hedgedReader is the answer that counts.
type hedgedReader struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (r *hedgedReader) Close() error {
	err := r.ReadCloser.Close()
	r.cancel()
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close object: %w", err)
	}
	return nil
}
