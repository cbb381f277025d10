package files

import (
	"context"
	"slices"
	"sync"

	"mailstead.dev/store/id"
)

// turns let so many files be read at a time. Tenants that wait have theirs one after the other, so that one with much to be read does not
// hold up the others.
type turns struct {
	mu      sync.Mutex // guards what follows
	free    int
	order   []id.Tenant                   // that wait; the first is the next
	waiting map[id.Tenant][]chan struct{} // closed by who gives the turn
}

func newTurns(n int) *turns {
	return &turns{free: n, waiting: make(map[id.Tenant][]chan struct{})}
}

// take waits for a turn, which give gives back.
func (t *turns) take(ctx context.Context, tenant id.Tenant) error {
	t.mu.Lock()
	if t.free > 0 { // nobody waits
		t.free--
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	if len(t.waiting[tenant]) == 0 {
		t.order = append(t.order, tenant)
	}
	t.waiting[tenant] = append(t.waiting[tenant], mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
		t.giveUp(tenant, mine)
		return ctx.Err()
	}
}

// giveUp waits no longer. A turn that has come meanwhile is the next one's.
func (t *turns) giveUp(tenant id.Tenant, mine chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting[tenant], mine)
	if i < 0 {
		t.next()
		return
	}
	if t.waiting[tenant] = slices.Delete(t.waiting[tenant], i, i+1); len(t.waiting[tenant]) == 0 {
		delete(t.waiting, tenant)
		t.order = slices.DeleteFunc(t.order, func(other id.Tenant) bool { return other == tenant })
	}
}

func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next()
}

// next gives a turn to who has waited for longest of the tenant that is next. t.mu is held.
func (t *turns) next() {
	if len(t.order) == 0 {
		t.free++
		return
	}
	tenant := t.order[0]
	t.order = t.order[1:]
	close(t.waiting[tenant][0])
	if t.waiting[tenant] = t.waiting[tenant][1:]; len(t.waiting[tenant]) == 0 {
		delete(t.waiting, tenant)
		return
	}
	t.order = append(t.order, tenant)
}
