package imapd

import (
	"sync"

	"mailstead.dev/store/id"
)

// budget bounds the memory of all commands that are read and run at a time, beyond the little that each
// may have anyway, and that of one account. Those who have not logged in are one account together, 0.
type budget struct {
	all, each int64

	mu   sync.Mutex // guards what follows
	used int64
	of   map[id.Account]int64
}

// accountShare is which part of the budget one account can have.
const accountShare = 4

func newBudget(octets int64) *budget {
	return &budget{all: octets, each: octets / accountShare, of: make(map[id.Account]int64)}
}

// Who finds no room is refused at once: what waits would keep what it has.
var (
	errBudget  = no("UNAVAILABLE", "Too many large commands at once, try again later")
	errAccount = no("LIMIT", "Too many large commands of this account at once")
)

// take takes octets for an account, which are given back by give.
func (b *budget) take(a id.Account, octets int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.of[a]+octets > b.each:
		return errAccount
	case b.used+octets > b.all:
		return errBudget
	}
	b.used += octets
	b.of[a] += octets
	return nil
}

func (b *budget) give(a id.Account, octets int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= octets
	if b.of[a] -= octets; b.of[a] == 0 {
		delete(b.of, a)
	}
}

// reserved is what the command of a connection has of the budget.
type reserved struct {
	account id.Account // when it was taken: a LOGIN ends as another
	octets  int64
}

// reserve takes memory for the command that is read.
func (c *conn) reserve(octets int64) error {
	if c.reserved.octets == 0 {
		c.reserved.account = c.account
	}
	if err := c.server.budget.take(c.reserved.account, octets); err != nil {
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
func (c *conn) release() {
	if c.reserved.octets > 0 {
		c.server.budget.give(c.reserved.account, c.reserved.octets)
		c.reserved = reserved{}
	}
}
