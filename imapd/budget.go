package imapd

import (
	"sync"

	"mailstead.dev/store/id"
)

// budget bounds memory, and what of it one account may have, and one tenant: three quarters of it, so that all accounts of a tenant together
// leave something to others. Those who have not logged in are one account together. There is one for all commands that are read and run at
// a time, beyond the little that each may have anyway, one for what sessions keep of searches (context.go), and one for connections to other cells, which are
// counted (remote_conn.go).
type budget struct {
	all, each, tenant int64

	mu       sync.Mutex // guards what follows
	used     int64
	of       map[holder]int64
	ofTenant map[id.Tenant]int64
}

// holder is who has logged in; zero: nobody.
type holder struct {
	tenant  id.Tenant
	account id.Account
}

// accountShare is which part of the budget one account can have.
const accountShare = 4

func newBudget(octets int64) *budget {
	return &budget{
		all: octets, each: octets / accountShare, tenant: octets / 4 * 3,
		of: make(map[holder]int64), ofTenant: make(map[id.Tenant]int64),
	}
}

// Who finds no room is refused at once: what waits would keep what it has.
var (
	errBudget  = no("UNAVAILABLE", "Too many large commands at once, try again later")
	errAccount = no("LIMIT", "Too many large commands of this account at once")
	errTenant  = no("LIMIT", "Too many large commands of this tenant at once")
)

// take takes octets for who holds them, until they are given back by give.
func (b *budget) take(h holder, octets int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.of[h]+octets > b.each:
		return errAccount
	case b.ofTenant[h.tenant]+octets > b.tenant:
		return errTenant
	case b.used+octets > b.all:
		return errBudget
	}
	b.used += octets
	b.of[h] += octets
	b.ofTenant[h.tenant] += octets
	return nil
}

func (b *budget) give(h holder, octets int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= octets
	if b.of[h] -= octets; b.of[h] == 0 {
		delete(b.of, h)
	}
	if b.ofTenant[h.tenant] -= octets; b.ofTenant[h.tenant] == 0 {
		delete(b.ofTenant, h.tenant)
	}
}

// taken is how much of the budget is taken.
func (b *budget) taken() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// reserved is what the command of a connection has of the budget.
type reserved struct {
	holder holder // when it was taken: a LOGIN ends as another
	octets int64
}

// reserve takes memory for the command that is read.
func (c *conn) reserve(octets int64) error {
	if c.reserved.octets == 0 {
		c.reserved.holder = c.holder
	}
	if err := c.server.budget.take(c.reserved.holder, octets); err != nil {
		return err
	}
	c.reserved.octets += octets
	return nil
}

// unheld is how much memory a command may have without it being counted, in octets.
const unheld = 16 << 10

// hold takes memory for what a command has found, and tells at the pace of its client.
func (c *conn) hold(octets int64) error {
	if octets <= unheld {
		return nil
	}
	return c.reserve(octets)
}

// release gives back what the command has.
func (c *conn) release() { c.releaseTo(0) }

// releaseTo gives back what the command has beyond so many octets.
func (c *conn) releaseTo(octets int64) {
	if more := c.reserved.octets - octets; more > 0 {
		c.server.budget.give(c.reserved.holder, more)
		c.reserved.octets = octets
	}
}
