package store

import (
	"math/rand/v2"
	"sync"
	"time"

	"mailstead.dev/quota"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Most mailboxes are read by one front end only, again and again, and nothing has changed. Such a mailbox is delegated to that front
// end: it answers from memory, without asking the database, until the mailbox is recalled. The row of the mailbox names
// the front end, and a trigger recalls it whenever another process changes the row (migration 0028). That process tells
// nobody of its change before the mailbox was given back, or nothing is answered from memory any more: see recall.go. How a front
// end knows that it would have been told of a recall: trust.go.
//
// What this process changes itself recalls nothing. It counts here instead, before anybody is told of it, and what was
// read before counts for nothing from then on.

// These say when a mailbox is delegated: it was read so often within a time, each time without news, and has not been recalled of late.
const (
	delegateAfter  = 3
	delegateWithin = 10 * time.Second
	delegateRest   = 10 * time.Second
	// delegateIdle is after how long a mailbox is given back that is not read.
	delegateIdle = 10 * time.Minute
	// delegateTidy is how often they are looked for.
	delegateTidy = time.Minute
	// maxDelegations bounds the mailboxes that are delegated to a process.
	maxDelegations = 20_000
)

// delegations are the mailboxes that are delegated to this process.
type delegations struct {
	store *Store
	rest  time.Duration // delegateRest, and
	after int           // delegateAfter, but in tests

	work    sync.WaitGroup
	start   sync.Once
	hurried chan struct{} // there is something to give back
	wanted  chan viewKey

	mu         sync.Mutex // guards what follows
	frontEnd   int64      // the number that this process goes by
	trust      trust
	of         map[viewKey]*delegation
	candidates map[viewKey]candidate
	changes    [256]uint64     // by this process, of any mailbox of the tenants that share a number
	recalls    []delegated     // to be given back, since others wait for it
	giveBack   []delegated     // and these, after them
	giving     map[viewKey]int // how many of both, until it is done: they are not taken meanwhile
	gone       []int64         // numbers that this process does not go by any more
	answered   int64
	recalled   int64
}

// delegation is a mailbox that is delegated, or about to be.
type delegation struct {
	frontEnd int64
	held     bool      // the database has confirmed it
	used     time.Time // when it was read last
	changes  uint64    // by this process
	state    *state
	row      *ownRow
}

// stamp tells whether something was changed by this process since. A read that finds another at its end proves nothing.
type stamp struct{ mailbox, tenant uint64 }

// state is what View reads.
type state struct {
	at     stamp
	modSeq id.ModSeq
	epoch  int64
}

// ownRow is what SELECT reads of a mailbox of the user's own.
type ownRow struct {
	at     stamp
	read   time.Time
	modSeq id.ModSeq
	Mailbox
	recent id.UID
	quota  quota.State // of the account alone
}

// candidate is a mailbox that may be worth a delegation.
type candidate struct {
	reads int       // without news
	since time.Time // the first of them; or before which there is to be none
}

// delegated is a mailbox that was delegated, and to whom.
type delegated struct {
	key      viewKey
	frontEnd int64
}

// reading is a read of the database under way, of a mailbox that is delegated if of is set.
type reading struct {
	of *delegation
	at stamp
}

// Delegations count the mailboxes that this process reads from memory, and since its start such reads, and how often others have recalled one.
type Delegations struct {
	Held, Answered, Recalled int64
}

// Delegations counts them.
func (s *Store) Delegations() Delegations { return s.delegations.counted() }

func (d *delegations) counted() Delegations {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Delegations{Held: int64(len(d.of)), Answered: d.answered, Recalled: d.recalled}
}

func newDelegations() *delegations {
	return &delegations{
		rest: delegateRest, after: delegateAfter, frontEnd: newFrontEnd(),
		hurried: make(chan struct{}, 1), wanted: make(chan viewKey, 64),
		of: make(map[viewKey]*delegation), candidates: make(map[viewKey]candidate), giving: make(map[viewKey]int),
	}
}

// newFrontEnd is a number that no process has gone by, nor those that follow it (see renew).
func newFrontEnd() int64 { return rand.Int64N(1<<(63-renewals)-1)<<renewals + 1 }

// renewals are the bits of its number in which a process differs from what it went by before.
const renewals = 24

// isOurs reports whether this process goes by a number, or went by it.
func (d *delegations) isOurs(frontEnd int64) bool { return frontEnd>>renewals == d.number()>>renewals }

func (d *delegations) number() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.frontEnd
}

func (d *delegations) stamp(key viewKey, of *delegation) stamp {
	return stamp{of.changes, d.changes[uint64(key.tenant)%uint64(len(d.changes))]}
}

// usable returns a mailbox that is delegated and not doubted, or nil. d.mu is held.
func (d *delegations) usable(key viewKey, now time.Time) *delegation {
	of := d.of[key]
	if of == nil || !of.held || !d.trust.lasts(now) {
		return nil
	}
	of.used = now
	return of
}

// begin comes before what a mailbox is read by, and keep after it.
func (d *delegations) begin(key viewKey) reading {
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.usable(key, time.Now())
	if of == nil {
		return reading{}
	}
	return reading{of, d.stamp(key, of)}
}

// keep notes what a mailbox was read to be, row being nil where only its view was. news says whether that is other than what was known.
func (d *delegations) keep(key viewKey, r reading, modSeq id.ModSeq, epoch int64, row *ownRow, news bool) {
	d.mu.Lock()
	of := d.of[key]
	if r.of != nil && of == r.of && d.stamp(key, of) == r.at {
		of.state = &state{r.at, modSeq, epoch}
		if row != nil {
			row.at, row.read, row.modSeq = r.at, time.Now(), modSeq
			of.row = row
		}
	}
	wanted := of == nil && d.consider(key, news, time.Now())
	d.mu.Unlock()
	if wanted {
		d.start.Do(d.run)
		select {
		case d.wanted <- key:
		default: // it will be read again
		}
	}
}

// consider reports whether a mailbox that was read is to be delegated. d.mu is held.
func (d *delegations) consider(key viewKey, news bool, now time.Time) bool {
	if d.store.options.NoDelegations {
		return false
	}
	c := d.candidates[key]
	switch {
	case now.Before(c.since):
		return false
	case news || now.Sub(c.since) > delegateWithin:
		c = candidate{since: now}
	}
	c.reads++
	if len(d.candidates) >= maxDelegations {
		clear(d.candidates)
	}
	d.candidates[key] = c
	return c.reads >= d.after && len(d.of) < maxDelegations
}

// view returns a view of a mailbox that is known to be the newest, with the epoch of the rights, or nil.
func (d *delegations) view(key viewerKey) (*view.View, int64) {
	if key.reader != 0 {
		return nil, 0 // who has a \Seen of their own has it in another row
	}
	d.mu.Lock()
	of := d.usable(key.viewKey, time.Now())
	if of == nil || of.state == nil || of.state.at != d.stamp(key.viewKey, of) {
		d.mu.Unlock()
		return nil, 0
	}
	s := *of.state
	d.answered++
	d.mu.Unlock()
	// The cache may have given the view up, or have got a newer one since, of a change that nobody has been told of.
	if v := d.store.views.get(key); v != nil && v.ModSeq() == s.modSeq {
		return v, s.epoch
	}
	return nil, 0
}

// own returns what SELECT needs of the mailbox that has a name, if that is known to be the newest, or nil.
func (d *delegations) own(key viewKey, owner id.Account, name string, v *view.View) *ownRow {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	of := d.usable(key, now)
	if of == nil || of.row == nil || of.row.at != d.stamp(key, of) || of.row.modSeq != v.ModSeq() ||
		of.row.Owner != owner || of.row.Name != name || now.Sub(of.row.read) > rootsKnownFor {
		return nil
	}
	d.answered++
	return of.row
}

// changed notes what this process has changed, before anybody is told.
func (d *delegations) changed(w written) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.mailboxes == nil {
		d.changes[uint64(w.tenant)%uint64(len(d.changes))]++
		return
	}
	for _, m := range w.mailboxes {
		if of := d.of[viewKey{w.tenant, m}]; of != nil {
			of.changes++
		}
	}
}

// renew gives all mailboxes back and has this process go by another number: it may have missed a recall, or does not know what has become of a
// change of its own. That may be made even now, and then recalls as another process's does.
func (d *delegations) renew() {
	if d.store.options.NoDelegations {
		return
	}
	d.mu.Lock()
	if d.trust.beat > 0 {
		d.gone = append(d.gone, d.frontEnd)
	}
	d.frontEnd++
	d.trust = trust{beat: d.trust.beat}
	for key, of := range d.of {
		d.drop(key, of)
	}
	d.mu.Unlock()
	d.store.pool.Reset() // connections go by the number that they were made with
	d.hurry()
}

// drop gives a mailbox back. d.mu is held.
func (d *delegations) drop(key viewKey, of *delegation) {
	delete(d.of, key)
	d.toGiveBack(key, of)
}

func (d *delegations) toGiveBack(key viewKey, of *delegation) {
	d.giveBack = append(d.giveBack, delegated{key, of.frontEnd})
	d.giving[key]++
}
