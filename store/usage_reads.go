package store

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Reading changes nothing in the database, so what was read is counted in memory
// and told now and then: what a process that dies has counted since it told the last time is lost. Each
// telling has a number; one whose outcome is unknown is repeated under the same number, and counts once.

// CountFetched counts octets of content that were sent to a user.
func (s *Store) CountFetched(u User, octets int64) {
	s.reads.count(u, reads{fetched: octets})
}

// CountSearch counts a search of a user's.
func (s *Store) CountSearch(u User) {
	s.reads.count(u, reads{searches: 1})
}

// reads are what one account has read.
type reads struct{ fetched, searches int64 }

// readMeter counts what accounts read until it is told to the database.
type readMeter struct {
	store    *Store
	frontEnd string // of this life of the process

	mu      sync.Mutex
	tenants map[id.Tenant]map[id.Account]reads

	telling sync.Mutex
	untold  map[id.Tenant]*telling // those that the database has not confirmed
	number  int64                  // of the last telling

	failed atomic.Bool // the last time
	stop   context.CancelFunc
	work   sync.WaitGroup
}

// telling is what a tenant's accounts have read, on its way to the database.
type telling struct {
	number   int64
	accounts map[id.Account]reads
}

func newReadMeter(s *Store) *readMeter {
	ctx, stop := context.WithCancel(context.Background()) // until close
	m := &readMeter{
		store: s, frontEnd: rand.Text(), stop: stop,
		tenants: make(map[id.Tenant]map[id.Account]reads), untold: make(map[id.Tenant]*telling),
	}
	m.work.Go(func() { m.run(ctx) })
	return m
}

func (m *readMeter) run(ctx context.Context) {
	ticker := time.NewTicker(m.store.options.UsageInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		m.report(ctx, m.tell(ctx))
	}
}

// report logs when telling fails, and when it works again: not each time.
func (m *readMeter) report(ctx context.Context, err error) {
	if was := m.failed.Swap(err != nil); err != nil && !was && ctx.Err() == nil {
		m.store.log.WarnContext(ctx, "what was read is counted on, and will be told later", "error", err)
	}
}

// close tells what is left, if the database is there.
func (m *readMeter) close() {
	m.stop()
	m.work.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // it ends with the process
	defer cancel()
	m.report(ctx, m.tell(ctx))
}

func (m *readMeter) count(u User, more reads) {
	m.mu.Lock()
	defer m.mu.Unlock()
	accounts := m.tenants[u.Tenant]
	if accounts == nil {
		accounts = make(map[id.Account]reads)
		m.tenants[u.Tenant] = accounts
	}
	was := accounts[u.Account]
	accounts[u.Account] = reads{was.fetched + more.fetched, was.searches + more.searches}
}

// tell tells the database all that was counted, tenant by tenant. A tenant of which
// the last telling has not been confirmed is told that one again, and then the newer.
func (m *readMeter) tell(ctx context.Context) error {
	m.telling.Lock()
	defer m.telling.Unlock()
	for again := true; again; {
		again = len(m.untold) > 0
		m.take()
		for _, t := range slices.Sorted(maps.Keys(m.untold)) {
			if err := m.tellTenant(ctx, t, m.untold[t]); err != nil {
				return err // most likely the database is away
			}
			delete(m.untold, t)
		}
	}
	return nil
}

// take makes tellings of what was counted.
func (m *readMeter) take() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.number++
	for t, accounts := range m.tenants {
		if m.untold[t] == nil {
			m.untold[t] = &telling{m.number, accounts}
			delete(m.tenants, t)
		}
	}
}

func (m *readMeter) tellTenant(ctx context.Context, t id.Tenant, what *telling) error {
	const query = `SELECT book_reads($1, $2, $3, $4, $5, $6)`

	var accounts, fetched, searches []int64
	for _, account := range slices.Sorted(maps.Keys(what.accounts)) {
		r := what.accounts[account]
		accounts, fetched, searches = append(accounts, int64(account)), append(fetched, r.fetched), append(searches, r.searches)
	}
	return m.store.batch(ctx, t, func(b *pgx.Batch) { b.Queue(query, t, m.frontEnd, what.number, accounts, fetched, searches) })
}
