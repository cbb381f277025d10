package store

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
	"mailstead.dev/store/order"
)

// ErrOrder says that what emails say that are to be sorted or threaded takes more memory than all may have.
var ErrOrder = errors.New("too much to be sorted or threaded")

// orderBatch is how many emails are read at a time to be sorted.
const orderBatch = 1024

// Order returns a table in which the emails of all these messages are. Those that were sorted or threaded before are there already,
// and nothing is read. reached is told now and then how many are there.
//
// Where what is known of the account becomes too much, it is forgotten but for these; ErrOrder if it is these that are too much.
func (m *Mailbox) Order(ctx context.Context, messages []order.Message, reached func(done int)) (*order.Table, error) {
	orders := m.store.orders
	o := orders.get(orderKey{m.Tenant, m.Owner})
	fits, err := m.fillOrder(o, messages, reached, func(some []id.Email) error {
		if err := o.take(ctx); err != nil {
			return err
		}
		defer o.leave()
		return m.addToOrder(ctx, o.table, some)
	})
	switch {
	case err != nil:
		return nil, err
	case fits:
		return o.table, nil
	}
	if alone := o.table.Only(emailsOf(messages)); alone.Len() < o.table.Len() && alone.Weight() <= orders.bound {
		// Who uses the old table goes on with it. Nobody else adds to the new one before all of these are there.
		o = orders.renew(o.key, alone)
		defer o.leave()
		fits, err = m.fillOrder(o, messages, reached, func(some []id.Email) error { return m.addToOrder(ctx, alone, some) })
	}
	switch {
	case err != nil:
		return nil, err
	case !fits:
		orders.drop(o)
		return nil, ErrOrder
	}
	return o.table, nil
}

func emailsOf(messages []order.Message) iter.Seq[id.Email] {
	return func(yield func(id.Email) bool) {
		for i := range messages {
			if !yield(messages[i].Email) {
				return
			}
		}
	}
}

// fillOrder adds to a table what it lacks of messages; it reports false where that is too much.
func (m *Mailbox) fillOrder(o *accountOrder, messages []order.Message, reached func(done int), add func([]id.Email) error) (fits bool, err error) {
	orders := m.store.orders
	missing := o.table.Missing(emailsOf(messages))
	if len(missing) > 0 {
		o.table.Prune()
	}
	done := len(messages) - len(missing)
	for some := range slices.Chunk(missing, orderBatch) {
		if err := add(some); err != nil {
			return false, err
		}
		if o.table.Weight() > orders.bound {
			return false, nil
		}
		orders.weigh(o)
		done += len(some)
		reached(done)
	}
	return true, nil
}

// addToOrder adds emails; of those that are gone meanwhile, that nothing is known of them.
func (m *Mailbox) addToOrder(ctx context.Context, t *order.Table, ids []id.Email) error {
	const query = `
		SELECT email_id, meta
		FROM email
		WHERE tenant_id = $1 AND account_id = $2 AND email_id = ANY ($3)`

	if ids = t.Missing(slices.Values(ids)); len(ids) == 0 {
		return nil // another session has added them meanwhile
	}
	err := m.store.read(ctx, m.Tenant, func(b *pgx.Batch) {
		b.Queue(query, m.Tenant, m.Owner, ids).Query(func(rows pgx.Rows) error {
			var email id.Email
			var stored []byte
			_, err := pgx.ForEachRow(rows, []any{&email, &stored}, func() error {
				meta, err := message.DecodeMeta(stored)
				if err != nil {
					return fmt.Errorf("email %d of account %d: %w", email, m.Owner, err)
				}
				t.Add(email, meta) // once more after a lost connection, which is harmless
				return nil
			})
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("read emails to sort them: %w", err)
	}
	for _, email := range ids {
		t.Add(email, nil) // unless it is there
	}
	return nil
}

// orderKey names an account in what this process remembers of orders.
type orderKey struct {
	tenant  id.Tenant
	account id.Account
}

// orderCache keeps tables of accounts, those that were used last, up to a number of octets.
type orderCache struct {
	bound int64

	mu      sync.Mutex // guards what follows
	weight  int64
	entries map[orderKey]*list.Element // of *accountOrder
	recent  list.List                  // the one used last first
}

// accountOrder is the table of an account.
type accountOrder struct {
	key     orderKey
	table   *order.Table
	loading chan struct{} // has one while a session adds what it misses, so that no other reads that once more
	weight  int64         // as it was counted last; guarded by the cache
}

// take waits until no other session adds to the table.
func (o *accountOrder) take(ctx context.Context) error {
	select {
	case o.loading <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (o *accountOrder) leave() { <-o.loading }

func newOrderCache(bound int64) *orderCache {
	return &orderCache{bound: bound, entries: make(map[orderKey]*list.Element)}
}

// get returns the table of an account, a new one if there is none.
func (c *orderCache) get(key orderKey) *accountOrder {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		return c.insert(key, order.NewTable())
	}
	c.recent.MoveToFront(e)
	return e.Value.(*accountOrder)
}

// renew puts another table in the place of an account's. It is taken.
func (c *orderCache) renew(key orderKey, t *order.Table) *accountOrder {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil {
		c.remove(e)
	}
	o := c.insert(key, t)
	o.loading <- struct{}{}
	return o
}

// insert counts also a table that is empty: there may be many of them. The cache is locked, as for what follows.
func (c *orderCache) insert(key orderKey, t *order.Table) *accountOrder {
	o := &accountOrder{key: key, table: t, loading: make(chan struct{}, 1), weight: t.Weight()}
	c.entries[key] = c.recent.PushFront(o)
	c.weight += o.weight
	c.evict()
	return o
}

// evict keeps the cache within its bound, but for the table that was used last.
func (c *orderCache) evict() {
	for c.weight > c.bound && c.recent.Len() > 1 {
		c.remove(c.recent.Back())
	}
}

func (c *orderCache) remove(e *list.Element) {
	o := c.recent.Remove(e).(*accountOrder)
	c.weight -= o.weight
	delete(c.entries, o.key)
}

// weigh counts anew what a table takes, unless it has been dropped meanwhile.
func (c *orderCache) weigh(o *accountOrder) {
	weight := o.table.Weight()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.has(o) {
		c.weight += weight - o.weight
		o.weight = weight
		c.evict()
	}
}

// drop forgets a table.
func (c *orderCache) drop(o *accountOrder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.has(o) {
		c.remove(c.entries[o.key])
	}
}

// has tells whether a table is the one of its account still. The cache is locked.
func (c *orderCache) has(o *accountOrder) bool {
	e := c.entries[o.key]
	return e != nil && e.Value.(*accountOrder) == o
}
