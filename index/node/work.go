package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

const (
	// lives is for how long a node is believed to live that says nothing any more.
	lives = 15 * time.Second
	// cleanEvery is how often it is looked for indexes of accounts that are gone.
	cleanEvery = 10 * time.Minute
	// reconcileEvery is after how long an index is compared with the emails that are there, so that the text of those that are not goes.
	reconcileEvery = 24 * time.Hour
	// rebuildEvery is after how long an index is made anew that has words of emails that are gone, for bleve leaves them in
	// large files.
	rebuildEvery = 30 * 24 * time.Hour
	// workAtOnce is how many accounts are taken up in a round, and turn how long one of them keeps others waiting.
	workAtOnce = 100
	turn       = 5 * time.Second
	// An account of which the work has failed is left alone for as long; each time for twice as long, but what has been in the way, a disk
	// or a database, is soon noticed to be there again.
	failedFirst, failedMost = 5 * time.Second, time.Minute
	// batchEmails and batchOctets bound what is added at once: emails, and about how much text.
	batchEmails = 1000
	batchOctets = 8 << 20
)

// Run does the node's work until ctx ends.
func (n *Node) Run(ctx context.Context) error {
	var working sync.WaitGroup
	working.Go(func() { n.repeat(ctx, lives/3, nil, "announce", n.announce) })
	working.Go(func() { n.repeat(ctx, cleanEvery, nil, "clean", n.clean) })
	working.Go(func() { n.repeat(ctx, n.o.Every, nil, "make anew", n.remakeNext) })
	n.repeat(ctx, n.o.Every, n.wake, "index", n.round)
	working.Wait()
	// So that others need not wait until it is forgotten.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(n.o.Source.AnnounceIndexNode(ctx, n.name, n.o.Address, 0), n.Close())
}

// repeat does a work at once, then at its interval, and when it is woken.
func (n *Node) repeat(ctx context.Context, every time.Duration, wake <-chan struct{}, name string, do func(context.Context) error) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			n.counted.failures.Add(1)
			n.log.WarnContext(ctx, "work of the index node will be tried again", "work", name, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-ticker.C:
		}
	}
}

func (n *Node) announce(ctx context.Context) error {
	return n.o.Source.AnnounceIndexNode(ctx, n.name, n.o.Address, lives)
}

// Close closes all indexes; those that are used still, when they are given back.
func (n *Node) Close() error {
	n.mu.Lock()
	n.closed = true
	var idle []*opened
	for _, a := range n.accounts {
		if x := a.current; x != nil && x.users == 0 {
			a.current = nil
			idle = append(idle, x)
		}
	}
	n.mu.Unlock()
	var errs []error
	for _, x := range idle {
		errs = append(errs, x.index.Close())
	}
	return errors.Join(append(errs, n.unlock())...)
}

// round does what there is to do for accounts: what was asked, and what is new.
func (n *Node) round(ctx context.Context) error {
	n.mu.Lock()
	for k, f := range n.failing { // of accounts that are gone, or another node's by now
		if time.Since(f.until) > failedMost {
			delete(n.failing, k)
		}
	}
	maps.DeleteFunc(n.remakes, func(_ remake, done bool) bool { return done })
	wanted, most := n.wanted, workAtOnce+len(n.failing)+len(n.remakes) // which may be all that is found first
	n.wanted, n.urgent = make(map[key]bool), maps.Clone(wanted)
	n.mu.Unlock()
	work, err := n.o.Source.IndexWork(ctx, n.name, n.o.Messages, n.o.Takeover, most)
	if err != nil {
		return err
	}
	for _, w := range work {
		delete(wanted, key{w.TenantID, w.AccountID})
	}
	var errs []error
	for k := range wanted {
		errs = append(errs, n.look(ctx, k))
	}
	var workers sync.WaitGroup
	room := make(chan struct{}, n.o.Workers)
	var mu sync.Mutex // guards errs and again
	again := false
	for _, w := range work {
		k := key{w.TenantID, w.AccountID}
		if n.waits(k) {
			continue
		}
		room <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		workers.Go(func() {
			defer func() { <-room }()
			more, err := n.work(ctx, k, w)
			n.note(k, err)
			mu.Lock()
			defer mu.Unlock()
			again = again || more || err == nil && len(work) == most
			if err != nil {
				errs = append(errs, fmt.Errorf("account %d of tenant %d: %w", w.AccountID, w.TenantID, err))
			}
		})
	}
	workers.Wait()
	if again {
		n.soon()
	}
	return errors.Join(errs...)
}

// failing is an account of which the work has failed.
type failing struct {
	delay time.Duration
	until time.Time
}

// waits tells whether an account is left alone for now.
func (n *Node) waits(k key) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Now().Before(n.failing[k].until)
}

// note has an account left alone for a while of which the work has failed.
func (n *Node) note(k key, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		delete(n.failing, k)
		return
	}
	f := n.failing[k]
	f.delay = min(max(2*f.delay, failedFirst), failedMost)
	f.until = time.Now().Add(f.delay)
	if _, there := n.failing[k]; there || len(n.failing) < maxWanted {
		n.failing[k] = f
	}
}

// look notices where an index that the database knows of is not on the disk: then it is as one that has nothing.
func (n *Node) look(ctx context.Context, k key) error {
	number, err := n.currentNumber(k)
	if err != nil || number > 0 {
		return err
	}
	_, err = n.o.Source.IndexReached(ctx, k.tenant, k.account, n.name, store.IndexState{})
	return err
}

// work does what there is to do for one account; more tells whether there is more of it.
func (n *Node) work(ctx context.Context, k key, w store.IndexWork) (more bool, err error) {
	if !w.Mine {
		taken, err := n.o.Source.TakeIndex(ctx, k.tenant, k.account, n.name, n.o.Takeover)
		if err != nil || !taken {
			return false, err
		}
	}
	switch w.Asked {
	case store.AskRebuild:
		n.remakeSoon(remake{k, w.Asked})
	case store.AskVerify:
		return false, n.answer(ctx, k, w.Asked, n.verify)
	}
	return n.follow(ctx, k)
}

// errWorkedAt says that an index is being worked at already, which may take long: whoever wants to comes back.
var errWorkedAt = errors.New("the search index is being worked at")

// answer does what was asked, and tells how that went.
func (n *Node) answer(ctx context.Context, k key, asked string, do func(context.Context, key) (string, error)) error {
	said, err := do(ctx, k)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, errWorkedAt) {
		return nil // it is asked still
	}
	if err != nil {
		said = err.Error()
	}
	return errors.Join(err, n.o.Source.AnswerIndex(ctx, k.tenant, k.account, n.name, asked, said))
}

// follow adds to the index of an account what is new, for as long as its turn is; more tells whether that was not all.
func (n *Node) follow(ctx context.Context, k key) (more bool, err error) {
	a, err := n.hold(k)
	if err != nil {
		return false, err
	}
	defer n.release(a)
	if !a.working.TryLock() { // it is made anew, perhaps
		return false, nil
	}
	defer a.working.Unlock()
	x, err := n.use(ctx, k, true)
	if err != nil {
		return false, err
	}
	more, err = n.add(ctx, x)
	old := false
	if err == nil && !more {
		old, err = n.reconcileIfDue(ctx, x)
	}
	if err == nil && !more && !old {
		err = n.saveIfDue(ctx, x)
	}
	n.unuse(x, err)
	if old {
		n.remakeSoon(remake{key: k})
	}
	return more, err
}

// add adds batch after batch until all is added that was there, or its turn is over, and tells the database how far it has
// come. The account's working is held.
func (n *Node) add(ctx context.Context, x *opened) (more bool, err error) {
	k := x.account.key
	if err := n.known(ctx, x); err != nil {
		return false, err
	}
	for over := time.Now().Add(turn); ; {
		if err := n.giveWay(ctx, k); err != nil {
			return false, err
		}
		began := time.Now()
		from, err := x.index.UpTo()
		if err != nil {
			return false, err
		}
		docs, octets, upTo, full, err := n.read(ctx, k, from)
		if err != nil {
			return false, err
		}
		if upTo < from { // the database goes less far than the index
			return false, store.ErrStaleIndex
		}
		if upTo > from {
			if err := n.stamp(ctx, x); err != nil {
				return false, err
			}
			if err := x.index.Add(ctx, docs, upTo); err != nil {
				return false, err
			}
			n.counted.emails.Add(int64(len(docs)))
			n.counted.octets.Add(int64(octets))
		}
		n.took(began)
		mine, err := n.tell(ctx, x)
		if err != nil || !mine || upTo <= from || !full {
			return false, err // what has come meanwhile is for the next round: others wait for this one
		}
		if time.Now().After(over) {
			return true, nil
		}
	}
}

// tell notes in the database how far an index goes.
func (n *Node) tell(ctx context.Context, x *opened) (mine bool, err error) {
	stats, err := x.index.Stats()
	if err != nil {
		return false, err
	}
	return n.o.Source.IndexReached(ctx, x.account.tenant, x.account.account, n.name, store.IndexState{
		UpTo: stats.UpTo, Emails: int64(stats.Emails), WordBytes: stats.WordBytes, TextBytes: stats.TextBytes, Stamp: stats.Stamp,
	})
}

// reconciledFile has the time at which an index was compared with the emails that are there.
const reconciledFile = "reconciled"

// reconcileIfDue compares an index with the emails that are there, if that is due; old tells whether it should be made anew.
func (n *Node) reconcileIfDue(ctx context.Context, x *opened) (old bool, err error) {
	mark := filepath.Join(n.path(x.account.key), reconciledFile)
	info, err := os.Stat(mark)
	if err == nil && time.Since(info.ModTime()) < reconcileEvery {
		return false, nil
	}
	if err := n.reconcile(ctx, x); err != nil {
		return false, err
	}
	stats, err := x.index.Stats()
	if err != nil {
		return false, err
	}
	old = stats.Removed > 0 && time.Since(stats.Made) >= rebuildEvery
	return old, os.WriteFile(mark, nil, 0o600)
}

// reconcile removes from an index what is not there any more, and its texts at once. The account's working is held.
func (n *Node) reconcile(ctx context.Context, x *opened) error {
	const page = 100_000
	gone, err := x.index.Emails()
	if err != nil {
		return err
	}
	for after := id.Email(0); ; {
		ids, err := n.o.Source.EmailIDs(ctx, x.account.tenant, x.account.account, after, page)
		if err != nil {
			return err
		}
		for _, email := range ids {
			gone.Remove(uint32(email))
		}
		if len(ids) < page {
			break
		}
		after = ids[len(ids)-1]
	}
	if gone.IsEmpty() {
		return x.index.Purge(ctx) // of what was removed before
	}
	if err := n.stamp(ctx, x); err != nil {
		return err
	}
	removed := make([]id.Email, 0, gone.GetCardinality())
	for it := gone.Iterator(); it.HasNext(); {
		removed = append(removed, id.Email(it.Next()))
	}
	if err := x.index.Remove(ctx, removed); err != nil {
		return err
	}
	if err := x.index.Purge(ctx); err != nil {
		return err
	}
	_, err = n.tell(ctx, x)
	return err
}

// rebuild makes an index anew, beside the one that answers meanwhile, and puts it in its place.
func (n *Node) rebuild(ctx context.Context, k key) (string, error) {
	a, err := n.hold(k)
	if err != nil {
		return "", err
	}
	defer n.release(a)
	a.working.Lock()
	defer a.working.Unlock()
	if taken, err := n.o.Source.TakeIndex(ctx, k.tenant, k.account, n.name, n.o.Takeover); err != nil || !taken {
		return "it is another node's by now", err
	}
	old, err := n.use(ctx, k, true)
	if err != nil {
		return "", err
	}
	defer func() { n.unuse(old, nil) }()
	number, err := n.currentNumber(k)
	if err != nil {
		return "", err
	}
	number++
	if err := os.RemoveAll(n.folder(k, number)); err != nil { // one that was interrupted
		return "", err
	}
	x, err := n.open(a, number)
	if err != nil {
		return "", err
	}
	if err := n.addAside(ctx, old, x); err != nil {
		n.discard(x)
		return "", err
	}
	a.opening.Lock()
	defer a.opening.Unlock()
	if err := n.setCurrent(k, number); err != nil {
		n.discard(x)
		return "", err
	}
	n.mu.Lock()
	n.doom(old)
	a.current = x
	n.mu.Unlock()
	if _, err := n.tell(ctx, x); err != nil {
		return "", err
	}
	stats, err := x.index.Stats()
	return fmt.Sprintf("made anew: %d emails", stats.Emails), err
}

// addAside fills an index that does not answer yet, in the place of an old one.
func (n *Node) addAside(ctx context.Context, old, x *opened) error {
	for {
		if err := n.giveWay(ctx, x.account.key); err != nil {
			return err
		}
		began := time.Now()
		from, err := x.index.UpTo()
		if err != nil {
			return err
		}
		docs, _, upTo, more, err := n.read(ctx, x.account.key, from)
		if err != nil {
			return err
		}
		last := !more // what comes meanwhile is added as ever: it need not end
		if last {
			// The old one keeps its stamp, so that either can be the one that counts.
			if err := n.stampFor(ctx, old, x); err != nil {
				return err
			}
		}
		if err := x.index.Add(ctx, docs, upTo); err != nil || last {
			return err
		}
		n.took(began)
	}
}

// verify compares all of an index with its texts.
func (n *Node) verify(ctx context.Context, k key) (string, error) {
	x, err := n.use(ctx, k, false)
	if err != nil {
		return "", err
	}
	if !x.account.working.TryLock() {
		n.unuse(x, nil)
		return "", errWorkedAt
	}
	err = x.index.Check(ctx)
	stats, statsErr := x.index.Stats()
	x.account.working.Unlock()
	n.unuse(x, err)
	if err := errors.Join(err, statsErr); err != nil {
		return "", err
	}
	return fmt.Sprintf("well: %d emails", stats.Emails), nil
}

// clean removes the indexes of accounts that are gone, or another node's by now, and reconciles those of the others that are due.
func (n *Node) clean(ctx context.Context) error {
	mine, err := n.o.Source.IndexedAccounts(ctx, n.name)
	if err != nil {
		return err
	}
	has := make(map[key]bool, len(mine))
	for _, a := range mine {
		has[key{a.TenantID, a.AccountID}] = true
	}
	there, err := n.onDisk()
	errs := []error{err}
	for _, k := range there {
		if ctx.Err() != nil {
			break
		}
		if !has[k] {
			taken, err := n.o.Source.TakeIndex(ctx, k.tenant, k.account, n.name, n.o.Takeover)
			if err == nil && !taken {
				err = n.remove(k)
			}
			errs = append(errs, err)
		}
	}
	for _, k := range slices.Collect(maps.Keys(has)) {
		if info, err := os.Stat(filepath.Join(n.path(k), reconciledFile)); ctx.Err() == nil && (err != nil || time.Since(info.ModTime()) >= reconcileEvery) {
			_, err := n.follow(ctx, k)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// remove removes the index of an account that is not this node's.
func (n *Node) remove(k key) error {
	a, err := n.hold(k)
	if err != nil {
		return err
	}
	defer n.release(a)
	if !a.working.TryLock() {
		return nil // the next time
	}
	defer a.working.Unlock()
	a.opening.Lock()
	defer a.opening.Unlock()
	n.mu.Lock()
	x := a.current
	if x != nil {
		n.doom(x)
		x.lost = true // what may come to be in its folder is not its
	}
	idle := x != nil && x.users == 0
	n.mu.Unlock()
	if idle {
		n.discard(x)
	}
	n.counted.removed.Add(1)
	return os.RemoveAll(n.path(k))
}
