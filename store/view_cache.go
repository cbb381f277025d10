package store

import (
	"container/list"
	"context"
	"sync"
	"time"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// viewKey names a mailbox in what this process remembers of mailboxes.
type viewKey struct {
	tenant  id.Tenant
	mailbox id.Mailbox
}

// viewerKey names a mailbox as somebody has it: a reader with a \Seen of their own, or 0 for its owner.
type viewerKey struct {
	viewKey
	reader id.Account
}

// owners is the mailbox as its owner has it.
func (k viewKey) owners() viewerKey { return viewerKey{k, 0} }

// nameKey names a mailbox as its owner does.
type nameKey struct {
	tenant id.Tenant
	owner  id.Account
	name   string
}

// viewCache keeps the newest known view of mailboxes, the most recently used
// ones, up to a number of octets. Whatever it holds may be out of date, and is
// only a start from which the truth is read. The owner's view of a mailbox, of which those of
// readers are made, goes after theirs.
type viewCache struct {
	bound int64

	mu      sync.Mutex // guards what follows
	weight  int64
	entries map[viewerKey]*list.Element // of *cachedView
	names   map[nameKey]*list.Element   // those that were selected by name
	recent  list.List                   // the most recently used first
	loading map[viewerKey]chan struct{} // closed when the load ends
}

type cachedView struct {
	key     viewerKey
	view    *view.View
	weight  int64
	name    nameKey   // by which names has it, if that is not zero
	current time.Time // when nothing newer was there; zero: not known
	recent  id.UID    // UIDs below have been claimed as \Recent, for good
}

func newViewCache(bound int64) *viewCache {
	return &viewCache{
		bound:   bound,
		entries: make(map[viewerKey]*list.Element),
		names:   make(map[nameKey]*list.Element),
		loading: make(map[viewerKey]chan struct{}),
	}
}

// get returns a view of the mailbox, or nil.
func (c *viewCache) get(key viewerKey) *view.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		return nil
	}
	c.used(e)
	return e.Value.(*cachedView).view
}

// named returns the view of the mailbox that had the name when it was selected
// last, or nil. Another mailbox may have the name now.
func (c *viewCache) named(name nameKey) (id.Mailbox, *view.View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.names[name]
	if e == nil {
		return 0, nil
	}
	c.used(e)
	cached := e.Value.(*cachedView)
	return cached.key.mailbox, cached.view
}

// name notes that a mailbox was selected by the name, if its view is there.
func (c *viewCache) name(key viewerKey, name nameKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil || c.names[name] == e {
		return
	}
	if other := c.names[name]; other != nil {
		cached := other.Value.(*cachedView)
		cached.weight -= int64(len(name.name))
		c.weight -= int64(len(name.name))
		cached.name = nameKey{}
	}
	cached := e.Value.(*cachedView)
	delete(c.names, cached.name)
	grown := int64(len(name.name) - len(cached.name.name))
	cached.weight += grown
	c.weight += grown
	cached.name = name
	c.names[name] = e
	c.evict()
}

// claimed reports whether all UIDs below next are known to have been claimed as \Recent.
func (c *viewCache) claimed(key viewerKey, next id.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	return e != nil && e.Value.(*cachedView).recent >= next
}

// claim notes that all UIDs below next have been claimed, which nothing undoes.
func (c *viewCache) claim(key viewerKey, next id.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil {
		cached := e.Value.(*cachedView)
		cached.recent = max(cached.recent, next)
	}
}

// put keeps v unless a newer view is there; with a reader's view the owner's.
func (c *viewCache) put(key viewerKey, v *view.View) {
	if key.reader != 0 {
		defer c.put(key.owners(), v.Base()) // last, so that it is used last
	}
	weight := int64(v.Weight())
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil {
		cached := e.Value.(*cachedView)
		if cached.view.ModSeq() >= v.ModSeq() {
			return
		}
		weight += int64(len(cached.name.name))
		c.weight += weight - cached.weight
		cached.view, cached.weight = v, weight
		c.used(e)
	} else {
		c.entries[key] = c.recent.PushFront(&cachedView{key: key, view: v, weight: weight})
		c.weight += weight
	}
	c.evict()
}

// evict keeps the cache within its bound. c.mu is held.
func (c *viewCache) evict() {
	for c.weight > c.bound {
		c.remove(c.recent.Back())
	}
}

// used notes that a view is used, and the owner's with it. c.mu is held.
func (c *viewCache) used(e *list.Element) {
	c.recent.MoveToFront(e)
	if key := e.Value.(*cachedView).key; key.reader != 0 {
		if owners := c.entries[key.owners()]; owners != nil {
			c.recent.MoveToFront(owners)
		}
	}
}

// confirm notes that v was the newest at a time.
func (c *viewCache) confirm(key viewerKey, v *view.View, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil {
		if known := e.Value.(*cachedView); known.view.ModSeq() >= v.ModSeq() && known.current.Before(at) {
			known.current = at
		}
	}
}

// since returns a view of the mailbox that was the newest at a time or later, or nil.
func (c *viewCache) since(key viewerKey, at time.Time) *view.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil || e.Value.(*cachedView).current.Before(at) {
		return nil
	}
	c.used(e)
	return e.Value.(*cachedView).view
}

// drop forgets what is known of the mailbox.
func (c *viewCache) drop(key viewerKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil {
		c.remove(e)
	}
}

func (c *viewCache) remove(e *list.Element) {
	v := c.recent.Remove(e).(*cachedView)
	c.weight -= v.weight
	delete(c.entries, v.key)
	delete(c.names, v.name)
}

// load waits until nobody else loads the mailbox. It returns what is cached
// then, or nil and a function to call when the caller's own load has ended.
func (c *viewCache) load(ctx context.Context, key viewerKey) (*view.View, func(), error) {
	for {
		c.mu.Lock()
		if e := c.entries[key]; e != nil {
			c.used(e)
			v := e.Value.(*cachedView).view
			c.mu.Unlock()
			return v, nil, nil
		}
		other := c.loading[key]
		if other == nil {
			mine := make(chan struct{})
			c.loading[key] = mine
			c.mu.Unlock()
			return nil, func() {
				c.mu.Lock()
				delete(c.loading, key)
				c.mu.Unlock()
				close(mine)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}
