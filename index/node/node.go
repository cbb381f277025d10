package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"mailstead.dev/index"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// ErrClosed says that the node is closed.
var ErrClosed = errors.New("the index node is closed")

// Source is where the mail is.
type Source interface {
	IndexWork(ctx context.Context, node string, messages int, gone time.Duration, most int) ([]store.IndexWork, error)
	AnnounceIndexNode(ctx context.Context, node, address string, lasts time.Duration) error
	TakeIndex(ctx context.Context, t id.Tenant, account id.Account, node string, gone time.Duration) (bool, error)
	StampIndex(ctx context.Context, t id.Tenant, account id.Account, node string, has, next uint64) error
	IndexCopy(ctx context.Context, t id.Tenant, account id.Account) (store.IndexCopy, error)
	SaveIndexCopy(ctx context.Context, t id.Tenant, account id.Account, node string, c store.IndexCopy, r io.Reader, size int64) error
	DropIndexCopy(ctx context.Context, t id.Tenant, account id.Account, c store.IndexCopy) error
	ReadIndexCopy(ctx context.Context, c store.IndexCopy) (io.ReadCloser, error)
	KnowsIndex(ctx context.Context, t id.Tenant, account id.Account, node string, stamp uint64) (known bool, upTo id.Email, err error)
	IndexReached(ctx context.Context, t id.Tenant, account id.Account, node string, state store.IndexState) (bool, error)
	EmailsAfter(ctx context.Context, t id.Tenant, account id.Account, after id.Email, most int, yield func(id.Email, *message.Meta, message.Reader) error) (id.Email, error)
	AnswerIndex(ctx context.Context, t id.Tenant, account id.Account, node, asked, answer string) error
	IndexedAccounts(ctx context.Context, node string) ([]store.IndexedAccount, error)
	PoolStats() store.PoolStats
	EmailIDs(ctx context.Context, t id.Tenant, account id.Account, after id.Email, most int) ([]id.Email, error)
}

var _ Source = (*store.Store)(nil)

// Name returns the node's name, under which the database knows it.
func (n *Node) Name() string { return n.name }

// Options of a node. Those that are zero have defaults.
type Options struct {
	Source Source
	Dir    string // where the indexes are, this node's alone
	// Address is where front ends of other processes reach the node; "": they do not.
	Address string
	Logger  *slog.Logger

	Messages   int           // how many an account must have to be indexed; default 500
	OpenMemory int64         // octets of what searches have read of indexes that are kept; default 256 MiB
	MaxOpen    int           // how many may be open; default 1000
	Every      time.Duration // how often it is looked what is new; default 5 s
	Workers    int           // how many accounts are worked at once; default 1
	CopyAfter  int           // how many emails more than its last copy in object storage an index has when it is copied again; 0: there are no copies
	Takeover   time.Duration // after how long the accounts of a node that is gone are taken; default 2 min
	// Files reads a tenant's files that are attached; nil: they are not read. FilesBy changes when it reads them in another way.
	Files   func(id.Tenant) message.Files
	FilesBy string
	// Stalled returns for how long something has waited for a processor, in all; default: what the machine counts.
	Stalled func() time.Duration
}

// Node serves the indexes below one folder.
type Node struct {
	o      Options
	cache  *index.Cache
	name   string // of the folder, unlike any other's
	unlock func() error
	log    *slog.Logger

	mu       sync.Mutex // guards what follows
	accounts map[key]*account
	wanted   map[key]bool // searches have found too little there
	urgent   map[key]bool // those of wanted that the round is for
	failing  map[key]failing
	remakes  map[remake]bool
	distrust map[key]bool // accounts whose index was damaged: so may its copy be
	closed   bool
	wake     chan struct{} // to Run: something is wanted
	calm     time.Time     // when nobody waited for what the node takes
	worked   time.Duration // since the last rest

	counted counted
}

// key names an account.
type key struct {
	tenant  id.Tenant
	account id.Account
}

// counted is what the node has done.
type counted struct {
	emails, octets, failures, rebuilt, removed, searches, copies atomic.Int64
}

// Counted is what a node has done since it was opened, and what it holds.
type Counted struct {
	Emails   int64 // indexed
	Octets   int64 // of their text
	Failures int64 // works that failed, and were tried again
	Rebuilt  int64 // indexes begun anew because they were damaged or of another version
	Removed  int64 // indexes of accounts that are gone, or another node's
	Searches int64 // answered
	Copies   int64 // of indexes, saved in object storage
	Open     int64 // indexes
	Memory   int64 // octets of what searches have read of them, kept
}

// New opens a node; Run makes it work.
func New(o Options) (*Node, error) {
	o.Messages = orDefault(o.Messages, 500)
	o.OpenMemory = orDefault(o.OpenMemory, 256<<20)
	o.MaxOpen = orDefault(o.MaxOpen, 1000)
	o.Every = orDefault(o.Every, 5*time.Second)
	o.Workers = orDefault(o.Workers, 1)
	o.Takeover = orDefault(o.Takeover, 2*time.Minute)
	if o.Files == nil {
		o.Files = func(id.Tenant) message.Files { return nil }
	}
	if o.Stalled == nil {
		o.Stalled = stalled
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	name, unlock, err := takeFolder(o.Dir)
	if err != nil {
		return nil, err
	}
	return &Node{o: o, cache: index.NewCache(o.OpenMemory), name: name, unlock: unlock, log: o.Logger, accounts: make(map[key]*account), wanted: make(map[key]bool), failing: make(map[key]failing), remakes: make(map[remake]bool), distrust: make(map[key]bool), wake: make(chan struct{}, 1)}, nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Counted returns what the node has done so far.
func (n *Node) Counted() Counted {
	c := &n.counted
	all := Counted{
		Emails: c.emails.Load(), Octets: c.octets.Load(), Failures: c.failures.Load(), Rebuilt: c.rebuilt.Load(), Removed: c.removed.Load(),
		Searches: c.searches.Load(), Copies: c.copies.Load(), Memory: n.cache.Size(),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.accounts {
		if a.current != nil {
			all.Open++
		}
	}
	return all
}

// Search looks for texts in the index of an account: for each query, what is certain and what the text must decide, up
// to the email that the result names. index.ErrNone where there is none.
func (n *Node) Search(ctx context.Context, t id.Tenant, account id.Account, queries []index.Query) (result index.Result, err error) {
	err = n.with(ctx, key{t, account}, func(x *index.Account) (err error) {
		n.counted.searches.Add(1)
		result, err = x.Search(ctx, queries)
		return err
	})
	return result, err
}

// Verify decides by the texts that are kept which queries emails match, as index.Account.Verify does.
func (n *Node) Verify(ctx context.Context, t id.Tenant, account id.Account, queries []index.Query, emails *roaring.Bitmap, yield func(email id.Email, found, settled []bool) bool) error {
	return n.with(ctx, key{t, account}, func(x *index.Account) error { return x.Verify(ctx, queries, emails, yield) })
}

// with calls f with the index of an account, if there is one. Where it turns out to be damaged, it is made anew.
func (n *Node) with(ctx context.Context, k key, f func(*index.Account) error) error {
	x, err := n.use(ctx, k, false)
	if err != nil {
		return err
	}
	if err = n.stillKnown(ctx, x); err == nil {
		err = f(x.index)
	}
	if err != nil && x.folderGone() {
		n.want(k)
	}
	n.unuse(x, err)
	return err
}
