package store

import (
	"testing"

	"mailstead.dev/store/id"
)

// Tables without anything in them count as well, so that they do not pile up.
func TestEmptyOrders(t *testing.T) {
	c := newOrderCache(50_000)
	first := c.get(orderKey{1, 1})
	for i := range 1000 {
		c.get(orderKey{1, id.Account(2 + i)})
	}
	if n := len(c.entries); n == 0 || n > 50 || n != c.recent.Len() {
		t.Errorf("there are %d of 1001 tables, and %d in their order", n, c.recent.Len())
	}
	if c.has(first) || c.weight > c.bound {
		t.Errorf("the one used least recently is there: %v; all together weigh %d", c.has(first), c.weight)
	}
	for _, e := range c.entries {
		c.drop(e.Value.(*accountOrder))
	}
	if c.weight != 0 {
		t.Errorf("nothing weighs %d", c.weight)
	}
}
