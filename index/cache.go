package index

import (
	"container/list"
	"sync"
)

// DefaultCacheBytes is the bound of a Cache that is given none.
const DefaultCacheBytes = 64 << 20

// Cache holds what searches have read of the indexes of a process, the most
// recently used first, up to a number of octets: lists of words, and the emails
// of segments. All of it can be read again.
type Cache struct {
	bound int64

	mu      sync.Mutex // guards what follows
	size    int64
	entries map[cacheKey]*list.Element // of *cached
	recent  list.List                  // the most recently used first
	sizes   map[*Account]int64
}

// cacheKey names something of a segment, which never changes.
type cacheKey struct {
	account *Account
	segment uint64
	field   string // "" for the numbers of its emails
}

type cached struct {
	key   cacheKey
	value any
	size  int64
}

// NewCache returns a cache of up to so many octets; 0 means DefaultCacheBytes.
func NewCache(bytes int64) *Cache {
	if bytes == 0 {
		bytes = DefaultCacheBytes
	}
	return &Cache{bound: bytes, entries: make(map[cacheKey]*list.Element), sizes: make(map[*Account]int64)}
}

func (c *Cache) get(key cacheKey) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(*cached).value
}

func (c *Cache) put(key cacheKey, value any, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[key] != nil || size > c.bound {
		return
	}
	c.entries[key] = c.recent.PushFront(&cached{key, value, size})
	c.size += size
	c.sizes[key.account] += size
	for c.size > c.bound {
		c.drop(c.recent.Back())
	}
}

func (c *Cache) drop(e *list.Element) {
	gone := c.recent.Remove(e).(*cached)
	delete(c.entries, gone.key)
	c.size -= gone.size
	if c.sizes[gone.key.account] -= gone.size; c.sizes[gone.key.account] == 0 {
		delete(c.sizes, gone.key.account)
	}
}

// keep drops what is held of an account, but for some segments.
func (c *Cache) keep(a *Account, segments map[uint64]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sizes[a] == 0 {
		return
	}
	for key, e := range c.entries {
		if key.account == a && !segments[key.segment] {
			c.drop(e)
		}
	}
}

// held tells how many octets are held for an account.
func (c *Cache) held(a *Account) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sizes[a]
}

// Size tells how many octets are held.
func (c *Cache) Size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}
