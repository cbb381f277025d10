package imapd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
)

// TestCommandRate: who sends more commands than their share is slowed down, also over several connections, and forgotten once they have rested.
func TestCommandRate(t *testing.T) {
	o := testOptions(t)
	o.Account.Commands = 20
	s, connect := start(t, o)
	began := time.Now()
	var clients sync.WaitGroup
	for range 2 {
		c := connect()
		c.expect("* OK ...")
		c.want("LOGIN user pass", "OK ")
		clients.Go(func() {
			for range 20 {
				c.want("NOOP", "OK ")
			}
			c.want("LOGOUT", "OK ")
		})
	}
	clients.Wait()
	if took := time.Since(began); took < 900*time.Millisecond { // 42 commands, of which 20 at once
		t.Errorf("42 commands took %v at 20 a second", took)
	}
	await(t, func() bool {
		s.shares.mu.Lock()
		defer s.shares.mu.Unlock()
		return len(s.shares.accounts) == 0 && len(s.shares.tenants) == 0
	})
}

// TestCommandsOfOthers: who has used up a share takes nothing of another account's.
func TestCommandsOfOthers(t *testing.T) {
	o := testOptions(t)
	o.Account.Commands = 1
	o.TurnTimeout = time.Nanosecond
	_, connect := start(t, o)
	var clients []*client
	for _, login := range []string{"user", "second"} {
		c := connect()
		c.expect("* OK ...")
		c.want("LOGIN "+login+" pass", "OK ")
		clients = append(clients, c)
	}
	clients[0].send("a NOOP\r\nb NOOP\r\nc NOOP")
	clients[0].expect("a OK ...")
	clients[0].expect("b NO [LIMIT] ...")
	clients[0].expect("c NO [LIMIT] ...")
	clients[1].want("NOOP", "OK ")
}

// TestRefusedWhole: a command that is refused for want of a turn is refused whole, with what the client has sent of it already.
func TestRefusedWhole(t *testing.T) {
	o := testOptions(t)
	o.Account.Commands = 1
	o.TurnTimeout = time.Nanosecond
	_, connect := start(t, o)
	c := connect()
	c.expect("* OK ...")
	c.want("LOGIN user pass", "OK ")
	c.send("a NOOP\r\nb APPEND INBOX (\\Seen) {11+}\r\nc NOOP\r\nxyz\r\nd SETMETADATA INBOX (/private/a {3+}\r\nxyz /private/b \"x\")\r\ne NOOP")
	c.expect("a OK ...")
	for _, tag := range []string{"b", "d", "e"} {
		c.expect(tag + " NO [LIMIT] ...")
	}
}

// TestTurnsOfOthers: those who wait for a share of their account keep nothing of the tenant's from others meanwhile.
func TestTurnsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(t)
		o.Account, o.Tenant = Share{Commands: 1, Octets: paceOctets}, Share{Commands: 10, Octets: 10 * paceOctets}
		o.TurnTimeout = time.Minute
		s := New(o)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		member := func(account id.Account) *conn {
			members, _ := s.shares.join(store.User{Tenant: 1, Account: account}, s.account, s.tenant)
			return &conn{server: s, members: members}
		}
		greedy, modest := member(1), member(2)
		for range 50 {
			go greedy.turn(ctx)
			go greedy.pay(ctx, paceOctets)
		}
		synctest.Wait()
		began := time.Now()
		if err := errors.Join(modest.turn(ctx), modest.pay(ctx, paceOctets)); err != nil || time.Since(began) > 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestTurns: a command that would wait too long is refused, and the session goes on. A tenant's share is all of its accounts'.
func TestTurns(t *testing.T) {
	o := testOptions(t)
	o.Tenant.Commands = 2
	o.TurnTimeout = 700 * time.Millisecond
	_, connect := start(t, o)
	var refused, done atomic.Int32
	var clients sync.WaitGroup
	for i := range 6 {
		c := connect()
		c.expect("* OK ...")
		c.want(fmt.Sprintf("LOGIN %s pass", []string{"user", "second"}[i%2]), "OK ")
		clients.Go(func() {
			for {
				_, answer := c.do("NOOP")
				switch {
				case strings.HasPrefix(answer, "OK "):
					done.Add(1)
					return
				case answer == "NO [LIMIT] Too many commands at once, try again later":
					refused.Add(1)
				default:
					t.Errorf("answer %q", answer)
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	clients.Wait()
	if done.Load() != 6 || refused.Load() == 0 {
		t.Errorf("%d commands were run, %d refused", done.Load(), refused.Load())
	}
}

// TestOctetRate: what an account receives and sends is slowed down to its share.
func TestOctetRate(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@one.test")
	c := serveStore(t, s, func(o *Options) { o.Account.Octets = 256 << 10 })(t)
	enter(c, "a@one.test")
	began := time.Now()
	text := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 256<<10/72)
	c.want(appendText("INBOX", text), "OK [APPENDUID ") // what may come at once
	c.want("SELECT INBOX", "OK ")
	for _, line := range c.want("FETCH 1 BODY.PEEK[]", "OK ") {
		if strings.HasPrefix(line, "* BYE") {
			t.Error(line)
		}
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("512 KiB took %v at 256 KiB a second", took)
	}
}

// TestFewOctets: what comes faster than its share is taken as fast as that, however much there is at once.
func TestFewOctets(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@one.test")
	c := serveStore(t, s, func(o *Options) { o.Account.Octets = 32 << 10 })(t)
	enter(c, "a@one.test")
	c.nc.SetDeadline(time.Now().Add(time.Minute))
	c.want(appendText("INBOX", "Subject: x\r\n\r\n"+strings.Repeat(strings.Repeat("x", 70)+"\r\n", 80<<10/72)), "OK [APPENDUID ")
}

// TestSearchesAtOnce: a search beyond the share waits for another to end, and is refused after a while.
func TestSearchesAtOnce(t *testing.T) {
	for _, of := range []string{"account", "tenant"} {
		t.Run(of, func(t *testing.T) {
			st := storetest.New(t)
			u := storetest.Account(t, st, "a@one.test")
			o := testOptions(t)
			o.Store, o.TurnTimeout = st, 300*time.Millisecond
			o.Authenticator = authenticate(logins{"user": u})
			if of == "account" {
				o.Account.Searches = 1
			} else {
				o.Tenant.Searches = 1
			}
			s, connect := start(t, o)
			c := connect()
			c.expect("* OK ...")
			c.want("LOGIN user pass", "OK ")
			c.want("SELECT INBOX", "OK ")
			c.want("SEARCH ALL", "OK ")
			s.shares.mu.Lock()
			busy := s.shares.accounts[u.Account].searches
			if of == "tenant" {
				busy = s.shares.tenants[u.Tenant].searches
			}
			s.shares.mu.Unlock()
			if !busy.TryAcquire(1) { // another session searches
				t.Fatal("a search that was over still counts")
			}
			c.want("SEARCH ALL", "NO [LIMIT] Too many commands at once, try again later")
			time.AfterFunc(50*time.Millisecond, func() { busy.Release(1) })
			c.want("SEARCH ALL", "OK ")
		})
	}
}

// TestConnectionsOfATenant: the connections of all accounts of a tenant count together.
func TestConnectionsOfATenant(t *testing.T) {
	o := testOptions(t)
	o.Tenant.Connections = 2
	_, connect := start(t, o)
	var in []*client
	for _, login := range []string{"user", "second"} {
		c := connect()
		c.expect("* OK ...")
		c.want("LOGIN "+login+" pass", "OK ")
		in = append(in, c)
	}
	c := connect()
	c.expect("* OK ...")
	c.want("LOGIN user pass", "NO [LIMIT] Too many connections of this tenant")
	in[0].want("LOGOUT", "OK ")
	await(t, func() bool { _, answer := c.do("LOGIN user pass"); return strings.HasPrefix(answer, "OK ") })
}
