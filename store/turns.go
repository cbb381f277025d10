package store

import (
	"context"
	"sync"
)

// turns lets a few at a time of this process at one mailbox. Its row lock
// lets one at a time write anyway; who waits for it here does not keep a
// connection to the database from others, and finds the view of the one before.
type turns struct {
	room int

	mu      sync.Mutex // guards waiting
	waiting map[viewKey]*turn
}

type turn struct {
	slots chan struct{}
	users int // guarded by turns.mu
}

func newTurns(room int) *turns { return &turns{room: room, waiting: make(map[viewKey]*turn)} }

// take waits for a turn at the mailbox, which the function returned ends.
func (t *turns) take(ctx context.Context, key viewKey) (func(), error) {
	t.mu.Lock()
	mine := t.waiting[key]
	if mine == nil {
		mine = &turn{slots: make(chan struct{}, t.room)}
		t.waiting[key] = mine
	}
	mine.users++
	t.mu.Unlock()

	select {
	case mine.slots <- struct{}{}:
		return func() {
			<-mine.slots
			t.leave(key, mine)
		}, nil
	case <-ctx.Done():
		t.leave(key, mine)
		return nil, ctx.Err()
	}
}

func (t *turns) leave(key viewKey, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.users--; mine.users == 0 {
		delete(t.waiting, key)
	}
}
