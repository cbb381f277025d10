package store

import (
	"container/list"
	"context"
	"errors"
	"fmt"
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
func (m *Mailbox) Order(ctx context.Context, messages []order.Message, reached func(done int)) (*order.Table, error) {
	key := orderKey{m.Tenant, m.Owner}
	o := m.store.orders.get(key)
	missing := o.table.Missing(func(yield func(id.Email) bool) {
		for i := range messages {
			if !yield(messages[i].Email) {
				return
			}
		}
	})
	if len(missing) == 0 {
		return o.table, nil
	}
	o.table.Prune()
	done := len(messages) - len(missing)
	for some := range slices.Chunk(missing, orderBatch) {
		if err := m.addToOrder(ctx, o, some); err != nil {
			return nil, err
		}
		if o.table.Weight() > m.store.orders.bound {
			m.store.orders.drop(key)
			return nil, ErrOrder
		}
		m.store.orders.weigh(key, o)
		done += len(some)
		reached(done)
	}
	return o.table, nil
}

// addToOrder adds emails; of those that are gone meanwhile, that nothing is known of them.
func (m *Mailbox) addToOrder(ctx context.Context, o *accountOrder, ids []id.Email) error {
	const query = `
		SELECT email_id, meta
		FROM email
		WHERE tenant_id = $1 AND account_id = $2 AND email_id = ANY ($3)`

	select {
	case o.loading <- struct{}{}: // what another session adds now it need not read once more
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-o.loading }()
	t := o.table
	if ids = t.Missing(slices.Values(ids)); len(ids) == 0 {
		return nil
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
	loading chan struct{} // has one while a session adds what it misses
	weight  int64         // as it was counted last; guarded by the cache
}

func newOrderCache(bound int64) *orderCache {
	return &orderCache{bound: bound, entries: make(map[orderKey]*list.Element)}
}

// get returns the table of an account, a new one if there is none.
func (c *orderCache) get(key orderKey) *accountOrder {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		e = c.recent.PushFront(&accountOrder{key: key, table: order.NewTable(), loading: make(chan struct{}, 1)})
		c.entries[key] = e
	}
	c.recent.MoveToFront(e)
	return e.Value.(*accountOrder)
}

// weigh counts anew what a table takes, and keeps the cache within its bound.
func (c *orderCache) weigh(key orderKey, o *accountOrder) {
	weight := o.table.Weight()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e == nil || e.Value.(*accountOrder) != o {
		return // it has been dropped meanwhile
	}
	c.weight += weight - o.weight
	o.weight = weight
	for c.weight > c.bound {
		c.remove(c.recent.Back())
	}
}

// drop forgets the table of an account.
func (c *orderCache) drop(key orderKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil {
		c.remove(e)
	}
}

func (c *orderCache) remove(e *list.Element) {
	o := c.recent.Remove(e).(*accountOrder)
	c.weight -= o.weight
	delete(c.entries, o.key)
}
