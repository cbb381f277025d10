package index

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"unicode"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/blevesearch/bleve/v2/index/scorch"
	bleve "github.com/blevesearch/bleve_index_api"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sync/singleflight"

	"mailstead.dev/index/frames"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// Errors of Open, and of an index that turns out to be damaged while it is used.
var (
	// ErrDamaged says that the index cannot be trusted. It has to be built anew.
	ErrDamaged = errors.New("index is damaged")
	// ErrVersion says that the index was made of other texts or in another form. It has to be built anew.
	ErrVersion = errors.New("index is of another version")
	// ErrInUse says that somebody else has the folder open.
	ErrInUse = errors.New("index is in use")
	// ErrClosed says that the Account was closed.
	ErrClosed = errors.New("index is closed")
	// ErrEmailID says that a number is none that an index can hold: from 1 to 2³²-1.
	ErrEmailID = errors.New("email id is outside of what an index holds")
)

// formatVersion changes whenever what Add writes for the same texts does.
const formatVersion = 1

// version is what an index has to be made by. Which characters are letters is
// part of it, for text and query must be cut alike.
var version = fmt.Sprintf("mailstead index %d, texts %d, Unicode %s\n", formatVersion, message.TextVersion, unicode.Version)

// Options say how an Account is opened. Zero fields mean the defaults.
type Options struct {
	Cache   *Cache // shared by the accounts of a process; nil: one of its own
	Workers int    // goroutines that Add, Verify and Check use; 0: as many as there are cores
}

// Account is the index of one account's emails, in a folder of its own: bleve's
// files of words, and the text of each email. There is one Account of a folder
// at a time; it is safe for concurrent use, its changes are made one by one.
//
// The folder has the files "version", "store/" (bleve's) and "texts/". What
// counts of texts/ stands in bleve's snapshot, with the mark up to which the
// index is complete, so that they and the words change together.
type Account struct {
	dir     string
	cache   *Cache
	workers int

	life   sync.RWMutex // held by whoever uses the Account; for itself, by who opens and closes it. It guards closed and words
	closed bool
	words  *scorch.Scorch // nil: to be opened again

	writing sync.Mutex // held for a change; guards failed and next
	failed  bool       // a change: what is in memory may be ahead of the disk
	next    uint64     // number of the next file of texts

	reading sync.RWMutex // guards files, and that none of them is removed
	files   []*textFile

	listing singleflight.Group // lists of words that are being made

	trust   sync.Mutex      // guards trusted
	trusted map[uint64]bool // of the segments that were read, whether the checksum was right

	async chan error // what bleve's goroutines fail with
}

// Open opens the index in a folder, or makes an empty one where there is none.
func Open(dir string, o Options) (*Account, error) {
	a := &Account{dir: dir, cache: o.Cache, workers: o.Workers}
	if a.cache == nil {
		a.cache = NewCache(0)
	}
	if a.workers == 0 {
		a.workers = runtime.GOMAXPROCS(0)
	}
	if err := a.open(); err != nil {
		return nil, err
	}
	return a, nil
}

// open opens what is in the folder, or makes it.
func (a *Account) open() (err error) {
	a.failed, a.files, a.trusted, a.async = false, nil, make(map[uint64]bool), make(chan error, 1)
	made, err := a.prepare()
	if err != nil {
		return err
	}
	if err := a.openWords(); err != nil {
		return err
	}
	if made {
		err = a.load()
	} else {
		err = a.make()
	}
	if err != nil {
		err = errors.Join(err, a.shut())
	}
	return err
}

func (a *Account) storeDir() string { return filepath.Join(a.dir, "store") }
func (a *Account) textDir() string  { return filepath.Join(a.dir, "texts") }

// prepare makes the folders, and tells whether there is an index in them.
func (a *Account) prepare() (made bool, err error) {
	v, err := os.ReadFile(filepath.Join(a.dir, "version"))
	switch {
	case err == nil && string(v) == version:
		if _, err := os.Stat(filepath.Join(a.storeDir(), "root.bolt")); err != nil {
			return false, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return true, nil
	case err == nil:
		return false, fmt.Errorf("%w: %q, want %q", ErrVersion, v, version)
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	// The version is written last, so this was never finished.
	if _, err := os.Stat(a.storeDir()); err == nil {
		return false, fmt.Errorf("%w: no version", ErrDamaged)
	}
	return false, errors.Join(os.MkdirAll(a.storeDir(), 0o700), os.MkdirAll(a.textDir(), 0o700))
}

// make writes the state of an empty index, and then its version.
func (a *Account) make() error {
	b := bleve.NewBatch()
	b.SetInternal(stateKey, state{}.encode())
	if err := a.commit(b); err != nil {
		return err
	}
	a.next = 1
	return writeVersion(a.dir)
}

// writeVersion says durably that a folder is an index of ours.
func writeVersion(dir string) (err error) {
	path := filepath.Join(dir, "version")
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.WriteString(version)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return frames.SyncFolder(dir)
}

// analysis is bleve's queue, of which we have no use: words are cut before. One serves all accounts.
var analysis = sync.OnceValue(func() *bleve.AnalysisQueue { return bleve.NewAnalysisQueue(1) })

// openAccounts finds the Account that a failure of bleve's goroutines concerns, by its store's folder.
var openAccounts sync.Map

const asyncErrors = "mailstead"

func init() {
	scorch.RegistryAsyncErrorCallbacks[asyncErrors] = func(err error, path string) {
		if a, ok := openAccounts.Load(path); ok {
			select {
			case a.(*Account).async <- err:
			default: // one is enough
			}
		}
	}
}

// Merges stop at this many emails a segment, for what one takes in memory grows with it.
const maxSegment = 60_000

// openWords opens bleve's index. What is broken beyond recognition makes bleve
// panic, and reading what a file no longer has is a fault of the address.
func (a *Account) openWords() (err error) {
	defer damage(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	opened, err := scorch.NewScorch(scorch.Name, map[string]any{
		"path":                   a.storeDir(),
		"bolt_timeout":           "1ms",
		"asyncErrorCallbackName": asyncErrors,
		"scorchMergePlanOptions": map[string]any{
			"MaxSegmentsPerTier":   3,
			"MaxSegmentSize":       maxSegment,
			"TierGrowth":           10.0,
			"SegmentsPerMergeTask": 10,
			"FloorSegmentSize":     300, // with more, each email that comes alone has hundreds merged
			"ReclaimDeletesWeight": 2.0,
		},
	}, analysis())
	if err != nil {
		return err
	}
	words := opened.(*scorch.Scorch)
	defer func() {
		if a.words == nil {
			err = errors.Join(err, words.Close())
		}
	}()
	if err := words.Open(); err != nil {
		return openError(err)
	}
	a.words = words
	openAccounts.Store(a.storeDir(), a)
	return nil
}

// openError tells what of an error says that the index is broken, and what that it could not be read.
func openError(err error) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrInUse
	case errors.As(err, &errno) && errno != syscall.ENOENT:
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// damage makes an error of a panic of bleve about broken files.
func damage(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v\n%s", ErrDamaged, r, debug.Stack())
	}
}

// load reads what the index says of itself, and removes what does not count.
func (a *Account) load() error {
	s, err := a.snapshot()
	if err != nil {
		return err
	}
	defer s.Close()
	st, err := stateOf(s)
	if err != nil {
		return err
	}
	count, err := s.DocCount()
	if err != nil {
		return err
	}
	if count != st.emails {
		return fmt.Errorf("%w: %d emails, want %d", ErrDamaged, count, st.emails)
	}
	counts := make(map[string]bool)
	for _, n := range st.files {
		f, err := a.openTexts(n)
		if err != nil {
			return err
		}
		a.files = append(a.files, f)
		counts[filepath.Base(f.Path)] = true
		a.next = max(a.next, n)
	}
	a.next++
	list, err := os.ReadDir(a.textDir())
	if err != nil {
		return err
	}
	for _, entry := range list {
		if !counts[entry.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(a.textDir(), entry.Name())))
		}
	}
	return err
}

// textFile is a file of texts that counts.
type textFile struct {
	*frames.File
	number uint64
}

func (a *Account) textPath(n uint64) string {
	return filepath.Join(a.textDir(), fmt.Sprintf("%012x.texts", n))
}

func (a *Account) openTexts(n uint64) (*textFile, error) {
	f, err := frames.Open(a.textPath(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, textError(err)
	}
	return &textFile{f, n}, nil
}

// snapshot is the index as it is now. It has to be closed.
func (a *Account) snapshot() (*scorch.IndexSnapshot, error) {
	r, err := a.words.Reader()
	if err != nil {
		return nil, err
	}
	return r.(*scorch.IndexSnapshot), nil
}

// use keeps the Account open until what it returns is called.
func (a *Account) use() (done func(), err error) {
	for {
		a.life.RLock()
		switch {
		case a.closed:
			a.life.RUnlock()
			return nil, ErrClosed
		case a.words != nil:
			return a.life.RUnlock, nil
		}
		a.life.RUnlock()
		if err := a.openAgain(); err != nil {
			return nil, err
		}
	}
}

func (a *Account) openAgain() error {
	a.life.Lock()
	defer a.life.Unlock()
	if a.closed || a.words != nil {
		return nil
	}
	return a.open()
}

// rollBack lets go of what is in memory after a change that failed, so that the
// Account is as the disk has it when it is used next. It also stops bleve, which
// would try for ever.
func (a *Account) rollBack() error {
	a.life.Lock()
	defer a.life.Unlock()
	if a.closed || a.words == nil {
		return nil
	}
	return a.shut()
}

// Close waits for what goes on, and closes the index.
func (a *Account) Close() error {
	a.life.Lock()
	defer a.life.Unlock()
	if a.closed {
		return ErrClosed
	}
	a.closed = true
	if a.words == nil {
		return nil
	}
	return a.shut()
}

func (a *Account) shut() error {
	openAccounts.Delete(a.storeDir())
	a.cache.keep(a, nil)
	err := a.words.Close()
	a.words = nil
	return err
}

// UpTo tells up to which email the index is complete.
func (a *Account) UpTo() (id.Email, error) {
	done, err := a.use()
	if err != nil {
		return 0, err
	}
	defer done()
	s, err := a.snapshot()
	if err != nil {
		return 0, err
	}
	defer s.Close()
	st, err := stateOf(s)
	return id.Email(st.upTo), err
}

// Emails tells which emails are there.
func (a *Account) Emails() (*roaring.Bitmap, error) {
	done, err := a.use()
	if err != nil {
		return nil, err
	}
	defer done()
	s, err := a.snapshot()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return a.emails(s)
}

func (a *Account) emails(s *scorch.IndexSnapshot) (_ *roaring.Bitmap, err error) {
	defer damage(&err)
	all := roaring.New()
	for _, seg := range s.Segments() {
		g, err := a.openSegment(seg)
		if err != nil {
			return nil, err
		}
		all.Or(g.emails(g.live()))
	}
	return all, nil
}

// Stats is what an index takes.
type Stats struct {
	UpTo      id.Email
	Emails    uint64
	WordBytes int64 // on disk
	TextBytes int64 // on disk
	Files     int
	Memory    int64 // held by the Account, and by the cache for it; what bleve maps of files is not in it
}

// Stats tells what the index takes.
func (a *Account) Stats() (Stats, error) {
	done, err := a.use()
	if err != nil {
		return Stats{}, err
	}
	defer done()
	s, err := a.snapshot()
	if err != nil {
		return Stats{}, err
	}
	defer s.Close()
	st, err := stateOf(s)
	if err != nil {
		return Stats{}, err
	}
	r := Stats{UpTo: id.Email(st.upTo), Emails: st.emails, Memory: a.cache.of(a)}
	a.reading.RLock()
	for _, f := range a.files {
		r.TextBytes += f.Size
		r.Memory += f.Memory()
		r.Files++
	}
	a.reading.RUnlock()
	list, err := os.ReadDir(a.storeDir())
	if err != nil {
		return Stats{}, err
	}
	for _, entry := range list {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) { // merged just now
			continue
		}
		if err != nil {
			return Stats{}, err
		}
		r.WordBytes += info.Size()
		r.Files++
	}
	return r, nil
}
