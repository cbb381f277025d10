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

	mu     sync.Mutex // guards what follows
	size   int64
	held   map[*Account]map[cacheKey]*list.Element // of *cached
	recent list.List                               // the most recently used first
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
	return &Cache{bound: bytes, held: make(map[*Account]map[cacheKey]*list.Element)}
}

func (c *Cache) get(key cacheKey) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.held[key.account][key]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(*cached).value
}

func (c *Cache) put(key cacheKey, value any, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.held[key.account]
	if of[key] != nil || size > c.bound {
		return
	}
	if of == nil {
		of = make(map[cacheKey]*list.Element)
		c.held[key.account] = of
	}
	of[key] = c.recent.PushFront(&cached{key, value, size})
	c.size += size
	for c.size > c.bound {
		c.drop(c.recent.Back())
	}
}

func (c *Cache) drop(e *list.Element) {
	gone := c.recent.Remove(e).(*cached)
	c.size -= gone.size
	delete(c.held[gone.key.account], gone.key)
	if len(c.held[gone.key.account]) == 0 {
		delete(c.held, gone.key.account)
	}
}

// keep drops what is held of an account, but for some segments.
func (c *Cache) keep(a *Account, segments map[uint64]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, e := range c.held[a] {
		if !segments[key.segment] {
			c.drop(e)
		}
	}
}

// of tells how many octets are held for an account.
func (c *Cache) of(a *Account) (size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.held[a] {
		size += e.Value.(*cached).size
	}
	return size
}

// Size tells how many octets are held.
func (c *Cache) Size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}
