package node

import (
	"cmp"
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailstead.dev/index"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// account is one whose index is open, or being opened or worked at.
type account struct {
	key
	opening sync.Mutex // held while current is opened, or another put in its place
	working sync.Mutex // held by who adds to the index, and takes from it

	// Guarded by the node's mu:
	making  bool // an index is being made of its copy, which takes a while
	holders int  // who has it from the node's map
	current *opened
}

// opened is an open index.
type opened struct {
	account *account
	index   *index.Account
	dir     string

	// Guarded by the account's working:
	copy      store.IndexCopy // that there is
	copyKnown time.Time       // since when
	copyNext  time.Time       // before which none is saved

	// Guarded by the node's mu:
	users  int
	last   time.Time // when it was used
	known  time.Time // when it was compared with what the database knows
	doomed bool      // closed, and removed, when nobody uses it any more
	lost   bool      // removed by somebody else
}

// use opens the index of an account; one that is not there it makes, or says index.ErrNone and wants it. unuse must follow.
func (n *Node) use(ctx context.Context, k key, create bool) (*opened, error) {
	a, err := n.hold(k)
	if err != nil {
		return nil, err
	}
	defer n.release(a)
	n.mu.Lock()
	making := a.making
	n.mu.Unlock()
	if making && !create {
		return nil, index.ErrNone // it need not be waited for
	}
	a.opening.Lock()
	defer a.opening.Unlock()
	x := n.taken(a)
	if x != nil && create && x.folderGone() {
		n.lose(x)
		x = nil
	}
	if x == nil {
		if x, err = n.openCurrent(ctx, a, create); err != nil {
			if errors.Is(err, index.ErrNone) {
				n.want(k)
			}
			return nil, err
		}
		n.mu.Lock()
		x.users = 1
		a.current = x
		n.mu.Unlock()
		n.trim()
	}
	return x, nil
}

// folderGone tells whether somebody has removed the folder of an index: what is open of it may still answer, and nothing can be added.
func (x *opened) folderGone() bool {
	_, err := os.Stat(x.dir)
	return errors.Is(err, fs.ErrNotExist)
}

// lose gives back an index whose folder is gone, and takes it out of use. Another may soon be where it was.
func (n *Node) lose(x *opened) {
	n.mu.Lock()
	x.lost = true
	n.mu.Unlock()
	n.unuse(x, errFolderGone)
}

// errFolderGone says that somebody has removed the folder of an index.
var errFolderGone = errors.New("the folder of the search index is gone")

// hold returns the account of the node's map.
func (n *Node) hold(k key) (*account, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, ErrClosed
	}
	a := n.accounts[k]
	if a == nil {
		a = &account{key: k}
		n.accounts[k] = a
	}
	a.holders++
	return a, nil
}

func (n *Node) release(a *account) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a.holders--; a.holders == 0 && a.current == nil {
		delete(n.accounts, a.key)
	}
}

// taken returns the index of an account that is open, as used by one more.
func (n *Node) taken(a *account) *opened {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a.current != nil {
		a.current.users++
	}
	return a.current
}

// unuse gives an index back, with what became of its use. One that is useless answers nobody any more, and is wanted anew.
func (n *Node) unuse(x *opened, err error) {
	n.mu.Lock()
	if useless(err) && !x.doomed {
		n.log.Warn("a search index cannot be used any more, and will be made anew", "tenant", x.account.tenant, "account", x.account.account, "reason", err)
		if errors.Is(err, index.ErrDamaged) {
			n.distrust[x.account.key] = true
		}
		n.counted.rebuilt.Add(1)
		n.doom(x)
		n.wanted[x.account.key] = true
	}
	x.users--
	x.last = time.Now()
	over, last := x.users == 0 && x.doomed, x.users == 0 && n.closed
	n.mu.Unlock()
	switch {
	case over:
		n.discard(x)
	case last:
		if err := x.index.Close(); err != nil {
			n.log.Error("a search index was not closed", "folder", x.dir, "error", err)
		}
	}
}

// useless tells whether an error says that an index is to be made anew.
func useless(err error) bool {
	return errors.Is(err, index.ErrDamaged) || errors.Is(err, store.ErrStaleIndex) || errors.Is(err, errFolderGone)
}

// doom takes an index out of use. n.mu is held.
func (n *Node) doom(x *opened) {
	x.doomed = true
	if x.account.current == x {
		x.account.current = nil
	}
}

// discard removes an index that nobody uses any more.
func (n *Node) discard(x *opened) {
	var err error
	if x.lost {
		err = x.index.Close()
	} else {
		// First out of the way, so that nobody opens it again between its end and its removal.
		gone := x.dir + "." + cryptorand.Text()
		err = errors.Join(os.Rename(x.dir, gone), x.index.Close(), os.RemoveAll(gone))
	}
	if err != nil {
		n.log.Error("a search index was not removed", "folder", x.dir, "error", err)
	}
}

// trim closes indexes that are not used, those first that were used least lately, until not too many are open.
func (n *Node) trim() {
	n.mu.Lock()
	var idle []*opened
	open := 0
	for _, a := range n.accounts {
		if x := a.current; x != nil {
			open++
			if x.users == 0 {
				idle = append(idle, x)
			}
		}
	}
	slices.SortFunc(idle, func(a, b *opened) int { return a.last.Compare(b.last) })
	closing := idle[:min(len(idle), max(0, open-n.o.MaxOpen))]
	for _, x := range closing {
		x.account.holders++ // so that who opens it again waits for this one to be closed
	}
	n.mu.Unlock()
	for _, x := range closing {
		n.close(x)
	}
}

// close closes an index unless it has come into use again. Its account is held, and given back.
func (n *Node) close(x *opened) {
	defer n.release(x.account)
	if !x.account.opening.TryLock() {
		return // it is being used again
	}
	defer x.account.opening.Unlock()
	n.mu.Lock()
	idle := x.users == 0 && x.account.current == x
	if idle {
		x.account.current = nil
	}
	n.mu.Unlock()
	if idle {
		if err := x.index.Close(); err != nil {
			n.log.Error("a search index was not closed", "folder", x.dir, "error", err)
		}
	}
}

// want makes Run look at an account soon.
func (n *Node) want(k key) {
	n.mu.Lock()
	if len(n.wanted) < maxWanted {
		n.wanted[k] = true
	}
	n.mu.Unlock()
	n.soon()
}

// soon makes Run look for work.
func (n *Node) soon() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// maxWanted bounds the accounts that wait to be looked at; the others are found in the database.
const maxWanted = 10_000

// The folder of an account has one folder for each index that was begun, named by its number; the file current names
// the one that counts. What is left of others was interrupted.

// currentFile names the index that counts.
const currentFile = "current"

// path is the folder of an account.
func (n *Node) path(k key) string {
	return filepath.Join(n.o.Dir, strconv.FormatInt(int64(k.tenant), 10), strconv.FormatInt(int64(k.account), 10))
}

// openCurrent opens the index that counts, or begins one. a.opening is held.
func (n *Node) openCurrent(ctx context.Context, a *account, create bool) (*opened, error) {
	number, err := n.currentNumber(a.key)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(n.folder(a.key, number)); number > 0 && errors.Is(err, fs.ErrNotExist) {
		// It was damaged, and is gone: there is none until one is begun.
		if err := os.Remove(filepath.Join(n.path(a.key), currentFile)); err != nil {
			return nil, err
		}
		number = 0
	}
	if number > 0 {
		x, err := n.open(a, number)
		if err == nil {
			if err = n.known(ctx, x); err == nil {
				return x, nil
			}
			err = errors.Join(err, x.index.Close())
		}
		if !useless(err) && !errors.Is(err, index.ErrVersion) {
			return nil, err
		}
		if errors.Is(err, index.ErrDamaged) {
			n.mu.Lock()
			n.distrust[a.key] = true
			n.mu.Unlock()
		}
		n.counted.rebuilt.Add(1)
		n.log.Warn("a search index cannot be used, and will be made anew", "tenant", a.tenant, "account", a.account, "reason", err)
		if err := os.RemoveAll(n.path(a.key)); err != nil {
			return nil, err
		}
	}
	if !create {
		return nil, index.ErrNone
	}
	return n.begin(ctx, a, number+1)
}

// known compares an index with what the database knows of it. Where the database was restored as it was before, emails
// that the index has may not be, others may have their numbers, and what was removed may be there again. Where files of
// an index are damaged, bleve opens it as it was before them if it can: nobody would add what it then lacks.
func (n *Node) known(ctx context.Context, x *opened) error {
	for {
		has, err := x.mark()
		if err != nil {
			return err
		}
		known, upTo, err := n.o.Source.KnowsIndex(ctx, x.account.tenant, x.account.account, n.name, has.stamp)
		if err != nil {
			return err
		}
		known = known || has == mark{} // nothing is in it yet
		if known && has.upTo >= upTo {
			n.mu.Lock()
			x.known = time.Now()
			n.mu.Unlock()
			return nil
		}
		switch now, err := x.mark(); {
		case err != nil:
			return err
		case now != has: // it has been changed meanwhile
			continue
		case !known:
			return store.ErrStaleIndex
		}
		return fmt.Errorf("%w: it goes up to email %d, and has gone up to %d", index.ErrDamaged, has.upTo, upTo)
	}
}

// mark is how far an index goes, and the stamp of its last change.
type mark struct {
	stamp uint64
	upTo  id.Email
}

func (x *opened) mark() (m mark, err error) {
	if m.stamp, err = x.index.Stamp(); err == nil {
		m.upTo, err = x.index.UpTo()
	}
	return m, err
}

// stillKnown is known, every now and then.
func (n *Node) stillKnown(ctx context.Context, x *opened) error {
	const often = 10 * time.Second
	n.mu.Lock()
	due := time.Since(x.known) > often
	n.mu.Unlock()
	if !due {
		return nil
	}
	return n.known(ctx, x)
}

// stamp gives an index another stamp for the change that follows, of which all has been read by now.
func (n *Node) stamp(ctx context.Context, x *opened) error { return n.stampFor(ctx, x, x) }

// stampFor gives a stamp to an index that is about to take the place of another.
func (n *Node) stampFor(ctx context.Context, old, x *opened) error {
	has, err := old.index.Stamp()
	if err != nil && (x == old || !useless(err)) {
		return err
	}
	next := 1 + rand.Uint64N(math.MaxInt64)
	err = n.o.Source.StampIndex(ctx, x.account.tenant, x.account.account, n.name, has, next)
	if errors.Is(err, store.ErrStaleIndex) && x != old { // the new one has nothing of the other
		err = n.o.Source.StampIndex(ctx, x.account.tenant, x.account.account, n.name, 0, next)
	}
	if err != nil {
		return err
	}
	x.index.SetStamp(next)
	return nil
}

// begin makes an index the one that counts: of a copy, or empty. What is there under its number was interrupted.
func (n *Node) begin(ctx context.Context, a *account, number int) (*opened, error) {
	if err := os.RemoveAll(n.folder(a.key, number)); err != nil {
		return nil, err
	}
	n.setMaking(a, true)
	x, err := n.restore(ctx, a, number)
	n.setMaking(a, false)
	if errors.Is(err, index.ErrNone) {
		x, err = n.open(a, number)
	}
	if err != nil {
		return nil, err
	}
	// It may go less far than the one before it.
	_, err = n.tell(ctx, x)
	if err == nil {
		err = n.setCurrent(a.key, number)
	}
	if err != nil {
		return nil, errors.Join(err, x.index.Close(), os.RemoveAll(x.dir))
	}
	return x, nil
}

func (n *Node) setMaking(a *account, making bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a.making = making
}

// folder is that of an index of an account.
func (n *Node) folder(k key, number int) string {
	return filepath.Join(n.path(k), strconv.Itoa(number))
}

func (n *Node) open(a *account, number int) (*opened, error) {
	dir := n.folder(a.key, number)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	x, err := index.Open(dir, index.Options{Cache: n.cache, Files: n.o.FilesBy})
	if err != nil {
		return nil, fmt.Errorf("open the search index %s: %w", dir, err)
	}
	return &opened{account: a, index: x, dir: dir, last: time.Now()}, nil
}

// currentNumber returns the number of the index that counts; 0: there is none.
func (n *Node) currentNumber(k key) (int, error) {
	text, err := os.ReadFile(filepath.Join(n.path(k), currentFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, err
	}
	number, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || number < 1 {
		return 0, os.RemoveAll(n.path(k)) // it is nobody's then
	}
	return number, nil
}

// setCurrent makes an index the one that counts.
func (n *Node) setCurrent(k key, number int) error {
	dir := n.path(k)
	next := filepath.Join(dir, currentFile+".next")
	f, err := os.Create(next)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, number)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(dir, currentFile))
}

// onDisk returns the accounts of which there is anything on the disk, in order.
func (n *Node) onDisk() ([]key, error) {
	var all []key
	tenants, err := os.ReadDir(n.o.Dir)
	for _, t := range tenants {
		tenant, tenantErr := strconv.ParseInt(t.Name(), 10, 64)
		if tenantErr != nil {
			continue // the node's own files
		}
		accounts, accountsErr := os.ReadDir(filepath.Join(n.o.Dir, t.Name()))
		err = errors.Join(err, accountsErr)
		for _, a := range accounts {
			if account, accountErr := strconv.ParseInt(a.Name(), 10, 64); accountErr == nil {
				all = append(all, key{id.Tenant(tenant), id.Account(account)})
			}
		}
	}
	slices.SortFunc(all, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.account, b.account))
	})
	return all, err
}
