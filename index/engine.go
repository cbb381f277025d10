package index

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/blevesearch/bleve/v2/index/scorch"
	bleve "github.com/blevesearch/bleve_index_api"
	bolterrors "go.etcd.io/bbolt/errors"
)

// engine is bleve's index of the words of an Account, from when it is opened to when it is closed.
type engine struct {
	*scorch.Scorch
	account *Account
	number  int64
	async   chan error    // what bleve's goroutines fail with; one is enough
	closing chan struct{} // closed before the index is
}

// engines finds the engine that an event of bleve concerns, by its *scorch.Scorch and by its folder.
var engines sync.Map

// callbacks is the name under which bleve knows ours.
const callbacks = "mailstead"

func init() {
	scorch.RegistryAsyncErrorCallbacks[callbacks] = func(err error, path string) {
		if e, ok := engines.Load(path); ok {
			e.(*engine).fail(err)
		}
	}
	scorch.RegistryEventCallbacks[callbacks] = func(event scorch.Event) bool {
		if event.Kind != scorch.EventKindPreMergeCheck {
			return true
		}
		e, ok := engines.Load(event.Scorch)
		return ok && e.(*engine).mayMerge()
	}
}

// analysis is bleve's queue, of which we have no use: words are cut before. One serves all accounts.
var analysis = sync.OnceValue(func() *bleve.AnalysisQueue { return bleve.NewAnalysisQueue(1) })

// openWords opens bleve's index.
func (a *Account) openWords() error {
	number := lastNumber.Add(1)
	opened, err := scorch.NewScorch(scorch.Name, map[string]any{
		"path":                   a.storeDir(),
		"bolt_timeout":           "1ms",
		"asyncErrorCallbackName": callbacks,
		"eventCallbackName":      callbacks,
		"scorchMergePlanOptions": map[string]any{
			"MaxSegmentsPerTier":   3,
			"MaxSegmentSize":       maxSegment,
			"TierGrowth":           10.0,
			"MaxSegmentFileSize":   number,
			"SegmentsPerMergeTask": perMerge,
			"FloorSegmentSize":     300, // with more, each email that comes alone has hundreds merged
			"ReclaimDeletesWeight": 2.0,
		},
	}, analysis())
	if err != nil {
		return err
	}
	e := &engine{Scorch: opened.(*scorch.Scorch), account: a, number: number, async: make(chan error, 1), closing: make(chan struct{})}
	if _, there := engines.LoadOrStore(a.storeDir(), e); there {
		return ErrInUse
	}
	engines.Store(e.Scorch, e)
	numbered.Store(number, e)
	err = guard(func() error {
		if err := e.Open(); err != nil {
			return openError(err)
		}
		return nil
	})
	if err != nil {
		_ = guard(e.close) // Open may have closed it, and to close it twice is a panic
		return err
	}
	a.words = e
	return nil
}

func (e *engine) close() error {
	close(e.closing)
	engines.Delete(e.Scorch)
	numbered.Delete(e.number)
	engines.CompareAndDelete(e.account.storeDir(), e)
	return e.Close()
}

// fail takes the index out of use, with which bleve cannot go on. It is called by the goroutine of bleve that has failed,
// which waits here until the index is being closed: else it would try for ever.
func (e *engine) fail(err error) {
	a := e.account
	if errors.Is(err, scorch.ErrAsyncPanic) { // what a broken file makes of it; a full disk gives an error
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	select {
	case e.async <- err:
	default:
	}
	go func() {
		a.life.Lock()
		defer a.life.Unlock()
		if a.words != e {
			return
		}
		if err = errors.Join(err, a.shut()); errors.Is(err, ErrDamaged) {
			a.broken = err
		}
	}()
	<-e.closing
}

// mayMerge compares the checksums of files before they are merged, those that were not compared since the index was
// opened: what is damaged would come out whole. It is called by the goroutine that merges.
func (e *engine) mayMerge() bool {
	debug.SetPanicOnFault(true) // while it merges, too
	err := guard(func() error {
		r, err := e.Reader()
		if err != nil {
			return err
		}
		defer r.Close()
		for _, seg := range r.(*scorch.IndexSnapshot).Segments() {
			if err := e.account.trustSegment(seg); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		e.fail(err)
	}
	return err == nil
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

// guard calls f, which reads bleve's files. What is broken beyond recognition makes bleve panic, and reading what a file
// no longer has is a fault of the address: then the index is damaged.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer damage(&err)
	return f()
}

// damage makes an error of a panic of bleve about broken files.
func damage(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v\n%s", ErrDamaged, r, debug.Stack())
	}
}
