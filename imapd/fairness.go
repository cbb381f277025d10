package imapd

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// Fairness among the accounts and the tenants that one process serves: each has
// so many connections, commands and octets a second, and searches at a time.
// Too many connections are refused. All else is slowed down: a command waits for
// its turn, the longest for a while, and is then refused. No session is ended.

// Share is what an account, or a tenant, may have of one process. Zero fields are no limit.
type Share struct {
	Connections int // logged in, at once
	Commands    int // a second; as many may come at once after a second without any
	Octets      int // a second, of what is received and sent; likewise
	Searches    int // at once
}

var errTurn = no("LIMIT", "Too many commands at once, try again later")

// shares keeps who has which share. Whoever has been away for a while begins anew.
type shares struct {
	mu       sync.Mutex // guards what follows
	accounts map[id.Account]*member
	tenants  map[id.Tenant]*member
}

func newShares() *shares {
	return &shares{accounts: make(map[id.Account]*member), tenants: make(map[id.Tenant]*member)}
}

// member is an account, or a tenant, with what is left of its share.
type member struct {
	connections int
	commands    *rate.Limiter       // nil: no limit
	octets      *rate.Limiter       // nil: no limit
	searches    *semaphore.Weighted // nil: no limit
}

func newMember(s Share) *member {
	m := &member{}
	if s.Commands > 0 {
		m.commands = rate.NewLimiter(rate.Limit(s.Commands), s.Commands)
	}
	if s.Octets > 0 {
		m.octets = rate.NewLimiter(rate.Limit(s.Octets), max(s.Octets, paceOctets))
	}
	if s.Searches > 0 {
		m.searches = semaphore.NewWeighted(int64(s.Searches))
	}
	return m
}

// rested tells whether nothing is left to remember of a member.
func (m *member) rested() bool {
	for _, l := range []*rate.Limiter{m.commands, m.octets} {
		if l != nil && l.Tokens() < float64(l.Burst()) {
			return false
		}
	}
	return m.connections == 0
}

// join counts a connection of a user. Where there are too many, it is said of what, and nothing is counted.
func (s *shares) join(u store.User, account, tenant Share) (members []*member, tooMany string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, t := s.accounts[u.Account], s.tenants[u.Tenant]
	if a == nil {
		a = newMember(account)
	}
	if t == nil {
		t = newMember(tenant)
	}
	switch {
	case account.Connections > 0 && a.connections >= account.Connections:
		return nil, "account"
	case tenant.Connections > 0 && t.connections >= tenant.Connections:
		return nil, "tenant"
	}
	s.accounts[u.Account], s.tenants[u.Tenant] = a, t
	a.connections++
	t.connections++
	return []*member{a, t}, ""
}

// leave takes back join. What has used up its share is remembered until it would have all of it again.
func (s *shares) leave(u store.User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[u.Account].connections--
	s.tenants[u.Tenant].connections--
	forget(s, s.accounts, u.Account)
	forget(s, s.tenants, u.Tenant)
}

// forget removes a member that has no connection, now or as soon as it has rested. The shares are locked.
func forget[K comparable](s *shares, of map[K]*member, key K) {
	m := of[key]
	switch {
	case m == nil || m.connections > 0:
	case m.rested():
		delete(of, key)
	default:
		time.AfterFunc(time.Second, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			forget(s, of, key)
		})
	}
}

// connections returns how many there are of all accounts.
func (s *shares) connections() (all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.accounts {
		all += m.connections
	}
	return all
}

// turn waits until a command of the connection may run; errTurn where that would take too long. Whoever waits for the share
// of their account takes nothing of the tenant's before: else they would keep it from others, who have not used up theirs.
func (c *conn) turn(ctx context.Context) error {
	left := c.server.o.TurnTimeout
	for _, m := range c.members {
		if m.commands == nil {
			continue
		}
		turn := m.commands.Reserve()
		wait := turn.Delay()
		if wait > left {
			turn.Cancel()
			return errTurn
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		left -= wait
	}
	return nil
}

// pay waits until so many octets more, paceOctets at most, may have been received or be sent; of the account first, as turn.
func (c *conn) pay(ctx context.Context, octets int) error {
	for _, m := range c.members {
		if m.octets == nil {
			continue
		}
		if err := pause(ctx, m.octets.ReserveN(time.Now(), octets).Delay()); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, wait time.Duration) error {
	if wait == 0 {
		return nil
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// searchTurn waits until a search of the connection may run, and returns what says that it is over; errTurn
// where that takes too long.
func (c *conn) searchTurn(ctx context.Context) (done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, c.server.o.TurnTimeout)
	defer cancel()
	var had []*semaphore.Weighted
	done = func() {
		for _, s := range had {
			s.Release(1)
		}
	}
	for _, m := range c.members {
		if m.searches == nil {
			continue
		}
		if err := m.searches.Acquire(ctx, 1); err != nil {
			done()
			return nil, errTurn
		}
		had = append(had, m.searches)
	}
	return done, nil
}

// lateTurn is searchTurn for what may turn out to need none: only begin waits, when it is called first.
func (c *conn) lateTurn(ctx context.Context) (begin func() error, end func()) {
	done := func() {}
	begin = sync.OnceValue(func() error {
		over, err := c.searchTurn(ctx)
		if err == nil {
			done = over
		}
		return err
	})
	return begin, func() { done() }
}
