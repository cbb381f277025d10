package index

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
	"unicode"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/blevesearch/bleve/v2/index/scorch"
	bleve "github.com/blevesearch/bleve_index_api"
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
const formatVersion = 2

// version is what an index has to be made by. Which characters are letters is
// part of it, for text and query must be cut alike.
func (o Options) version() string {
	files := ""
	if o.Files != "" {
		files = ", files " + o.Files
	}
	return fmt.Sprintf("mailstead index %d, texts %d, Unicode %s%s\n", formatVersion, message.TextVersion, unicode.Version, files)
}

// versionFile has the version of an index; it is as old as that.
const versionFile = "version"

// Options say how an Account is opened. Zero fields mean the defaults.
type Options struct {
	Cache   *Cache // shared by the accounts of a process; nil: one of its own
	Workers int    // goroutines that Add, Verify and Check use; 0: as many as there are cores
	Files   string // changes with how the texts of attached files are read; part of the version
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
	version string
	cache   *Cache
	workers int

	life   sync.RWMutex // held by whoever uses the Account; for itself, by who opens and closes it. It guards what follows
	closed bool
	broken error   // says that the index is damaged
	words  *engine // nil: to be opened again

	writing sync.Mutex // held for a change; guards failed, next and stamp
	failed  bool       // a change: what is in memory may be ahead of the disk
	next    uint64     // number of the next file of texts
	stamp   uint64     // that changes are made with

	reading sync.RWMutex // guards files, and that none of them is removed
	files   []*textFile

	listing singleflight.Group // lists of words that are being made

	trust   sync.Mutex      // guards trusted
	trusted map[uint64]bool // of the segments that were read, whether the checksum was right
}

// Open opens the index in a folder, or makes an empty one where there is none.
func Open(dir string, o Options) (*Account, error) {
	a := &Account{dir: dir, version: o.version(), cache: o.Cache, workers: o.Workers}
	if a.cache == nil {
		a.cache = NewCache(0)
	}
	if a.workers == 0 {
		a.workers = runtime.GOMAXPROCS(0)
	}
	a.life.Lock() // bleve may fail at once
	defer a.life.Unlock()
	if err := a.open(); err != nil {
		return nil, err
	}
	return a, nil
}

// open opens what is in the folder, or makes it. a.life is held.
func (a *Account) open() (err error) {
	a.failed, a.files, a.trusted = false, nil, make(map[uint64]bool)
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
	v, err := os.ReadFile(filepath.Join(a.dir, versionFile))
	switch {
	case err == nil && string(v) == a.version:
		if _, err := os.Stat(filepath.Join(a.storeDir(), "root.bolt")); err != nil {
			return false, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return true, nil
	case err == nil:
		return false, fmt.Errorf("%w: %q, want %q", ErrVersion, v, a.version)
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
	return writeVersion(a.dir, a.version)
}

// writeVersion says durably that a folder is an index of ours.
func writeVersion(dir, version string) (err error) {
	path := filepath.Join(dir, versionFile)
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
		case a.broken != nil:
			err := a.broken
			a.life.RUnlock()
			return nil, err
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
	if a.closed || a.broken != nil || a.words != nil {
		return nil
	}
	return a.open()
}

// rollBack lets go of what is in memory after a change that failed, so that the
// Account is as the disk has it when it is used next.
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

// shut closes bleve's index. a.life is held.
func (a *Account) shut() error {
	a.cache.keep(a, nil)
	err := a.words.close()
	a.words = nil
	return err
}

// state is what the index says of itself.
func (a *Account) state() (st state, err error) {
	done, err := a.use()
	if err != nil {
		return st, err
	}
	defer done()
	s, err := a.snapshot()
	if err != nil {
		return st, err
	}
	defer s.Close()
	return stateOf(s)
}

// UpTo tells up to which email the index is complete.
func (a *Account) UpTo() (id.Email, error) {
	st, err := a.state()
	return id.Email(st.upTo), err
}

// Stamp returns the number that the last change was made with; 0: none was.
func (a *Account) Stamp() (uint64, error) {
	st, err := a.state()
	return st.stamp, err
}

// SetStamp gives a number that the changes that follow are made with. Whoever finds it in the index knows by it of what
// time the index is.
func (a *Account) SetStamp(n uint64) {
	a.writing.Lock()
	defer a.writing.Unlock()
	a.stamp = n
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

func (a *Account) emails(s *scorch.IndexSnapshot) (*roaring.Bitmap, error) {
	all := roaring.New()
	err := guard(func() error {
		for _, seg := range s.Segments() {
			g, err := a.openSegment(seg)
			if err != nil {
				return err
			}
			all.Or(g.emails(g.live()))
		}
		return nil
	})
	return all, err
}

// Stats is what an index takes.
type Stats struct {
	UpTo      id.Email
	Emails    uint64
	Stamp     uint64
	Removed   uint64 // emails of which words are still there
	Made      time.Time
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
	made, err := os.Stat(filepath.Join(a.dir, versionFile))
	if err != nil {
		return Stats{}, err
	}
	r := Stats{UpTo: id.Email(st.upTo), Emails: st.emails, Stamp: st.stamp, Made: made.ModTime(), Memory: a.cache.of(a)}
	for _, seg := range s.Segments() {
		if gone := seg.Deleted(); gone != nil {
			r.Removed += gone.GetCardinality()
		}
	}
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
