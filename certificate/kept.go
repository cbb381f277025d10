package certificate

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"mailstead.dev/store"
)

// Kept are the certificates of the database. Which names there are is in memory, all of them, so that a name that strangers make up costs nothing; the
// certificates are read when a client first asks for them. Where the database is away, those that were read are shown.
type Kept struct {
	store *store.Store
	log   *slog.Logger
	names atomic.Pointer[names]
	read  *otter.Cache[keptKey, *tls.Certificate] // nil: it is damaged, which was logged
	every time.Duration
	turns chan struct{} // has room for those that are being read

	proofs atomic.Pointer[map[proofKey]store.Proof] // by which names are proven

	mu    sync.Mutex // guards what follows, and keeps one change of names behind the other
	seals *Seals     // nil: none can be opened
	all   []store.Certificate
	as    int64 // their version; -1: they have not been listed

	closed int // of them, when it was logged last

	proofsAs int64 // likewise, of proofs
}

// KeptOptions say how.
type KeptOptions struct {
	Store  *store.Store
	Bytes  int64 // of memory, for those that were read
	Logger *slog.Logger

	Every time.Duration // between two looks at whether anything has been changed; 2 seconds if zero
}

// keptKey names a certificate as it was at a version, so that none that was replaced is found.
type keptKey struct{ number, version int64 }

// names say which certificates there are: none where there are no seals, for then they are not to be shown.
type names struct {
	seals  *Seals
	byName map[string][]store.Certificate // the one that holds longest first
}

const (
	watchInterval = 2 * time.Second
	readAtOnce    = 8
	readTime      = 5 * time.Second

	// of memory, beside its octets: what the parsed form takes, measured, and rounded up.
	parsedOverhead = 8 << 10
)

// NewKept makes what shows certificates of the database. Until Seal and Look there are none.
func NewKept(o KeptOptions) *Kept {
	k := &Kept{store: o.Store, log: o.Logger, every: cmp.Or(o.Every, watchInterval), turns: make(chan struct{}, readAtOnce), as: -1, proofsAs: -1}
	k.names.Store(new(names))
	k.proofs.Store(new(map[proofKey]store.Proof))
	k.read = otter.Must(&otter.Options[keptKey, *tls.Certificate]{
		MaximumWeight: uint64(max(o.Bytes, 0)),
		Weigher:       func(_ keptKey, c *tls.Certificate) uint32 { return weight(c) },
		Executor:      func(f func()) { f() }, // on eviction, in the caller's goroutine: none is left behind
	})
	return k
}

func weight(c *tls.Certificate) uint32 {
	n := parsedOverhead
	if c != nil {
		for _, der := range c.Certificate {
			n += 2 * len(der)
		}
	}
	return uint32(n)
}

// Seal says by which keys certificates are opened from now on; nil: by none.
func (k *Kept) Seal(by *Seals) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seals = by
	k.index()
}

// Watch learns of certificates, and of changes of them within seconds, until ctx ends.
func (k *Kept) Watch(ctx context.Context) error {
	tick := time.NewTicker(k.every)
	defer tick.Stop()
	for away := false; ; {
		err := k.Look(ctx)
		if err != nil && ctx.Err() == nil && !away { // once, and not each time
			k.log.WarnContext(ctx, "which certificates there are is not known for now, and those that were known are shown", "err", err)
		}
		away = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Look lists the certificates, and the proofs, where they are others than when it was looked last.
func (k *Kept) Look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.lookAtProofs(ctx); err != nil {
		return err
	}
	version, err := k.store.CertificateVersion(ctx)
	if err != nil {
		return err
	}
	if version == k.as {
		return nil
	}
	all, err := k.store.Certificates(ctx) // as of that version, or a later one, which will be found next time
	if err != nil {
		return err
	}
	k.all, k.as = all, version
	k.index()
	return nil
}

// index makes the names of what is listed.
func (k *Kept) index() {
	n := &names{seals: k.seals, byName: make(map[string][]store.Certificate)}
	closed := 0
	for _, c := range k.all {
		if !k.seals.Knows(c.SealedBy) {
			closed++
		}
		if k.seals == nil {
			continue
		}
		for _, name := range c.Names {
			n.byName[name] = append(n.byName[name], c)
		}
	}
	for _, of := range n.byName {
		slices.SortStableFunc(of, func(x, y store.Certificate) int { return cmp.Compare(y.Ends.Unix(), x.Ends.Unix()) })
	}
	if closed > 0 && closed != k.closed {
		k.log.Warn("certificates cannot be shown whose keys were sealed by what is not in tls.seal_file", "certificates", closed)
	}
	k.closed = closed
	k.names.Store(n)
}

// open returns a certificate of names, nil where it is gone, and an error where it cannot be read or opened.
func (k *Kept) open(ctx context.Context, n *names, c store.Certificate) (*tls.Certificate, error) {
	if !n.seals.Knows(c.SealedBy) { // also where it was opened before; and no client has the database asked for what cannot be
		return nil, errNoSeal
	}
	opened, err := k.read.Get(ctx, keptKey{c.ID, c.Version}, otter.LoaderFunc[keptKey, *tls.Certificate](func(ctx context.Context, _ keptKey) (*tls.Certificate, error) {
		// Others wait for the same, whatever becomes of who asked first.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime)
		defer cancel()
		select {
		case k.turns <- struct{}{}:
			defer func() { <-k.turns }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		kept, err := k.store.ReadCertificate(ctx, c.ID)
		switch {
		case errors.Is(err, store.ErrNotExist):
			return nil, otter.ErrNotFound // it was deleted since names were read
		case err != nil:
			return nil, err
		}
		opened, err := n.seals.Open(kept)
		if errors.Is(err, errNoSeal) {
			return nil, err // and nothing is kept of it: it may be sealed anew at any moment
		}
		if err != nil {
			k.log.ErrorContext(ctx, "a certificate cannot be shown", "certificate", c.ID, "err", err)
			return nil, nil
		}
		return opened, nil
	}))
	switch {
	case errors.Is(err, otter.ErrNotFound):
		return nil, nil
	case err == nil && opened == nil:
		return nil, errSealed
	}
	return opened, err
}
