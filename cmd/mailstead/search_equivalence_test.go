package main

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailstead.dev/store/storetest"
)

var (
	searchMessages = flag.Int("search.messages", 400, "messages of TestSearchEquivalence to begin with")
	searchQueries  = flag.Int("search.queries", 150, "queries of TestSearchEquivalence")
	searchSeed     = flag.Uint64("search.seed", 0, "seed of TestSearchEquivalence; 0: a random one")
)

// SEARCH finds exactly what those find who have written the messages, whatever happens meanwhile.
func TestSearchEquivalence(t *testing.T) {
	seed := *searchSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: run again with -args -search.seed=%d -search.messages=%d -search.queries=%d", seed, seed, *searchMessages, *searchQueries)
	s := newSearched(t, seed)
	s.fill(*searchMessages)
	phases, shares := s.phases(), 0
	for _, p := range phases {
		shares += p.share
	}
	for i, p := range phases {
		t.Run(p.name, func(t *testing.T) { s.run(t, p, uint64(i+1), (*searchQueries*p.share+shares-1)/shares) })
		if t.Failed() {
			return // what follows is of no use
		}
	}
}

// searched is mail that is searched, with the processes that have it.
type searched struct {
	ledger
	t      *testing.T
	seed   uint64
	fronts []*serving
	node   *indexNode
	logins []string  // who searches, and who shares a mailbox with them
	pool   []*letter // those that were there first
}

// phase is what happens while it is searched.
type phase struct {
	name    string
	share   int                // of the queries
	changes bool               // of mail
	before  func(t *testing.T) // what is done first
	// beside does something again and again, as long as there is more to come of it: more tells after how many times.
	beside func(t *testing.T, more func(times int) bool)
	after  func(t *testing.T, searches int)
}

func newSearched(t *testing.T, seed uint64) *searched {
	t.Helper()
	s := &searched{t: t, seed: seed, logins: []string{"ann@search.test", "bob@search.test"}}
	s.delivered = map[string]delivery{}
	roles := map[string]string{"roles": "[imap, lmtp, admin]"} // the indexes are another process's
	a := newServing(t, roles)
	s.fronts = []*serving{a, a.newServing(roles)}
	for _, f := range s.fronts {
		f.start(nil)
	}
	for _, f := range s.fronts {
		f.hears("READY=1")
	}
	for _, login := range s.logins {
		storetest.Account(t, a.store, login)
	}
	const team = `"Other Users/bob@search.test/Team"`
	for _, b := range []box{
		{name: "INBOX", own: "INBOX"}, {name: "Kept", own: "Kept"}, {name: `"Lists/Go"`, own: `"Lists/Go"`}, {name: "&ZeVnLIqe-", own: "&ZeVnLIqe-"},
		{name: team, own: "Team", owner: s.logins[1], shared: true},
	} {
		if b.owner == "" {
			b.owner = s.logins[0]
		}
		b.mail = map[uint32]*entry{}
		s.boxes = append(s.boxes, &b)
		if b.own == "INBOX" {
			continue
		}
		owner := s.dial(t, 0, b.owner)
		if _, err := owner.do("CREATE " + b.own + "\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	a.want("acl set bob@search.test Team ann@search.test lr", "")
	s.node = s.newIndexNode(t)
	return s
}

func (s *searched) dial(t *testing.T, front int, login string) *mailClient {
	t.Helper()
	m, err := dialIMAP(s.fronts[front].address("imap"), login)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// changer makes one that changes the mail of a login, on a front end.
func (s *searched) changer(t *testing.T, front int, login string, seed uint64) *changer {
	t.Helper()
	lmtp, err := dialLMTP(s.fronts[front].address("lmtp"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lmtp.Close() })
	c := &changer{ledger: &s.ledger, writer: newWriter(seed), imap: s.dial(t, front, login), lmtp: lmtp, login: login}
	for _, b := range s.boxes {
		if b.owner == login {
			c.boxes = append(c.boxes, b)
		}
	}
	return c
}

// fill puts mail into all mailboxes.
func (s *searched) fill(count int) {
	var work sync.WaitGroup
	for i, login := range s.logins {
		c := s.changer(s.t, i, login, s.seed<<8+uint64(i))
		c.large = true
		part := count * len(c.boxes) / len(s.boxes)
		work.Go(func() {
			for n := 0; n < part; {
				batch := min(1+c.IntN(40), part-n)
				if err := c.append(pick(c.Rand, c.boxes), batch); err != nil {
					s.t.Error(err)
					return
				}
				n += batch
			}
		})
	}
	work.Wait()
	s.pool = slices.SortedFunc(slices.Values(s.letters), func(a, b *letter) int { return strings.Compare(a.id, b.id) })
}

// asked is a search and its answer.
type asked struct {
	key          *key
	box          *box
	sent         string
	begun, ended int64
	found        []uint32
	highest      uint32
}

const searchers = 2

// changesASearch is how many changes of each login's mail there are for each search at the most: where searches take long, mail
// that comes all the while would have each take longer than the one before.
const changesASearch = 8

// run searches, and looks at all answers afterwards.
func (s *searched) run(t *testing.T, p phase, number uint64, queries int) {
	if p.before != nil {
		p.before(t)
	}
	began := time.Now()
	var changers, work sync.WaitGroup
	var left atomic.Int64 // searches
	left.Store(int64(queries))
	var enough, over atomic.Bool
	if p.changes {
		for i, login := range s.logins {
			c := s.changer(t, 1, login, s.seed<<8+number<<4+uint64(i))
			changers.Go(func() {
				for made := int64(0); !over.Load(); made++ {
					for made > changesASearch*(int64(queries)-left.Load()+1) && !over.Load() {
						time.Sleep(time.Millisecond)
					}
					if err := c.change(); err != nil {
						t.Errorf("seed %d: a change: %v", s.seed, err)
						return
					}
				}
			})
		}
	}
	answers := make([][]asked, searchers)
	for i := range searchers {
		a := asker{Rand: rand.New(rand.NewPCG(s.seed, number<<8+uint64(i))), pool: s.pool, still: !p.changes}
		m := s.dial(t, 0, s.logins[0])
		work.Go(func() {
			for left.Add(-1) >= 0 || !enough.Load() {
				x, err := s.ask(m, &a)
				if err != nil {
					t.Errorf("seed %d, in %s: %s: %v", s.seed, x.box.name, x.sent, err)
					return
				}
				answers[i] = append(answers[i], x)
			}
		})
	}
	func() {
		defer changers.Wait()
		defer over.Store(true)
		defer work.Wait()
		defer enough.Store(true)
		if p.beside != nil {
			p.beside(t, func(times int) bool { return times < 2 || left.Load() > 0 })
		}
	}()
	took := time.Since(began)
	owner := s.dial(t, 0, s.logins[0])
	if err := s.learn(owner, s.boxes[0]); err != nil {
		t.Errorf("seed %d: %v", s.seed, err)
	}
	if n := len(s.delivered); n > 0 {
		t.Errorf("seed %d: %d messages that were delivered are not there: %v", s.seed, n, slices.Collect(maps.Keys(s.delivered)))
	}
	all := slices.Concat(answers...)
	if p.after != nil {
		p.after(t, len(all))
	}
	found, empty := 0, 0
	for _, x := range all {
		s.check(t, x)
		found += len(x.found)
		if len(x.found) == 0 {
			empty++
		}
	}
	t.Logf("%d searches in %v, %d messages found, %d searches found none; checked in %v", len(all), took.Round(time.Millisecond), found, empty,
		(time.Since(began) - took).Round(time.Millisecond))
}

// ask makes one search.
func (s *searched) ask(m *mailClient, a *asker) (x asked, err error) {
	x.box, x.key = pick(a.Rand, s.boxes), a.query()
	verb := "UID SEARCH"
	if a.still && a.IntN(5) == 0 {
		verb = "SEARCH"
	}
	c := a.encode(x.key, verb)
	x.sent = fmt.Sprintf("%q", c.pieces)
	if _, err := m.do(pick(a.Rand, []string{"SELECT ", "EXAMINE "}) + x.box.name + "\r\n"); err != nil {
		return x, err
	}
	x.begun = s.tick()
	answers, err := m.do(c.pieces...)
	if err != nil {
		return x, err
	}
	x.ended = s.tick()
	if x.found, err = foundIn(answers); err != nil || !a.still {
		return x, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	uids := x.box.present()
	if len(uids) > 0 {
		x.highest = uids[len(uids)-1]
	}
	if verb == "SEARCH" {
		for i, n := range x.found {
			if int(n) > len(uids) {
				return x, fmt.Errorf("there is no message %d", n)
			}
			x.found[i] = uids[n-1]
		}
	}
	return x, nil
}

// present returns the UIDs of what is in a mailbox in which nothing happens.
func (b *box) present() (uids []uint32) {
	for uid, e := range b.mail {
		if e.went.begun == 0 {
			uids = append(uids, uid)
		}
	}
	slices.Sort(uids)
	return uids
}

// check compares an answer with what was known while it was given. Of what came, went or changed meanwhile either is right.
func (s *searched) check(t *testing.T, x asked) {
	t.Helper()
	var wrong []string
	var first *held
	differs := func(e *entry, what string) {
		wrong = append(wrong, fmt.Sprintf("%d %s", e.uid, what))
		if first == nil {
			first = &e.held
		}
	}
	for _, uid := range x.found {
		if x.box.mail[uid] == nil {
			wrong = append(wrong, fmt.Sprintf("%d was never there", uid))
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(x.box.mail)) {
		e := x.box.mail[uid]
		_, found := slices.BinarySearch(x.found, uid)
		if e.came.begun > x.ended || e.went.done != 0 && e.went.done < x.begun {
			if found {
				differs(e, "is found when it is not there")
			}
			continue
		}
		var sure bool
		e.flags, sure = e.flagsAt(x.begun, x.ended)
		if !sure && x.key.changeable() {
			continue
		}
		matches := x.key.matches(&e.held, x.highest)
		switch {
		case found && !matches:
			differs(e, "does not match and is found")
		case !found && matches && e.came.done < x.begun && (e.went.begun == 0 || e.went.begun > x.ended):
			differs(e, "matches and is not found")
		}
	}
	if wrong != nil {
		t.Errorf("seed %d, in %s: %s\nfound %v\nwrong:\n  %s\nthe first of them:\n%.30000v", s.seed, x.box.name, x.sent, x.found, strings.Join(wrong, "\n  "), first)
	}
}

// flagsAt returns the flags of a message, if they did not change between two times.
func (e *entry) flagsAt(begun, ended int64) (flags []string, sure bool) {
	for _, f := range e.flagged {
		switch {
		case f.done < begun:
			flags, sure = f.flags, true
		case f.begun < ended:
			return nil, false
		}
	}
	return flags, sure
}
