package auth

import (
	"context"
	"fmt"
	"sync"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// turns let one login of an account at a time do what is slow.
type turns struct {
	mu   sync.Mutex                   // guards what follows
	busy map[id.Account]chan struct{} // closed when the turn is over
}

// take waits for the turn of an account, and returns what ends it.
func (t *turns) take(ctx context.Context, account id.Account, most time.Duration) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		t.mu.Lock()
		before, busy := t.busy[account]
		if !busy {
			over := make(chan struct{})
			if t.busy == nil {
				t.busy = make(map[id.Account]chan struct{})
			}
			t.busy[account] = over
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.busy, account)
				t.mu.Unlock()
				close(over)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-before:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: too many logins to the account at once: %w", store.ErrUnavailable, ctx.Err())
		}
	}
}
