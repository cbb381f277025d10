package blob

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// disk keeps stored frames as files, the most recently used ones, up to a
// number of octets. A file is whole or not there, but for a crash of the machine, and the
// checksum in each frame tells what a crash or a disk did to it.
type disk struct {
	dir   string
	bound int64
	log   *slog.Logger

	mu      sync.Mutex // guards what follows
	weight  int64
	entries map[string]*list.Element // of diskEntry, by file name
	recent  list.List                // the most recently used first
}

type diskEntry struct {
	name   string
	weight int64
}

// diskBlock is what a file takes at least, and what sizes are rounded up to.
const diskBlock = 4 << 10

const (
	// temporary begins the names of files that are not whole yet.
	temporary = "tmp-"
	// unfinished is after how long nobody will finish one: a frame is written in a moment.
	unfinished = time.Hour
)

// cacheDir is the disk's own folder in the one that it is given: all that is in
// there may be removed, and a setting may name a folder that others use.
const cacheDir = "mailstead-content"

func openDisk(dir string, bound int64, log *slog.Logger) (*disk, error) {
	if log == nil {
		log = slog.Default()
	}
	dir = filepath.Join(dir, cacheDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("content cache: %w", err)
	}
	d := &disk{dir: dir, bound: bound, log: log, entries: make(map[string]*list.Element)}
	if err := d.scan(); err != nil {
		return nil, fmt.Errorf("content cache: %w", err)
	}
	return d, nil
}

// scan takes over what is there, oldest first, and removes what was never finished. While one process takes the
// place of another both are at it: what they add and remove meanwhile is no fault.
func (d *disk) scan() error {
	type found struct {
		diskEntry
		at time.Time
	}
	var all []found
	err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), temporary) {
			if time.Since(info.ModTime()) < unfinished {
				return nil
			}
			if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}
		name, err := filepath.Rel(d.dir, path)
		if err != nil {
			return err
		}
		all = append(all, found{diskEntry{name, diskWeight(info.Size())}, info.ModTime()})
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b found) int { return a.at.Compare(b.at) })
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range all {
		d.add(f.diskEntry)
	}
	return nil
}

func diskWeight(size int64) int64 { return (size + diskBlock - 1) / diskBlock * diskBlock }

func (k frameKey) fileName() string {
	digest := k.Digest.String()
	return filepath.Join(fmt.Sprintf("%d", k.Tenant), digest[:2], fmt.Sprintf("%s-%d", digest, k.frame))
}

// get returns a stored frame.
func (d *disk) get(k frameKey) ([]byte, bool) {
	name := k.fileName()
	d.mu.Lock()
	e := d.entries[name]
	if e != nil {
		d.recent.MoveToFront(e)
	}
	d.mu.Unlock()
	if e == nil {
		return nil, false
	}
	stored, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.damaged(k, err)
			return nil, false
		}
		d.drop(name)
		return nil, false
	}
	return stored, true
}

// put keeps a stored frame. A disk that does not take it costs time, no mail: it is logged.
func (d *disk) put(k frameKey, stored []byte) {
	name := k.fileName()
	d.mu.Lock()
	_, there := d.entries[name]
	d.mu.Unlock()
	if there {
		return
	}
	if err := d.write(name, stored); err != nil {
		d.log.Warn("content was not cached on disk", "error", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.entries[name] == nil {
		d.add(diskEntry{name, diskWeight(int64(len(stored)))})
	}
}

func (d *disk) write(name string, stored []byte) (err error) {
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(d.dir, temporary)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(stored)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// add counts a file, and removes the least recently used ones that are too much. d.mu is held.
func (d *disk) add(e diskEntry) {
	d.entries[e.name] = d.recent.PushFront(e)
	d.weight += e.weight
	for d.weight > d.bound && d.recent.Len() > 0 {
		d.remove(d.recent.Back())
	}
}

func (d *disk) remove(e *list.Element) {
	old := d.recent.Remove(e).(diskEntry)
	delete(d.entries, old.name)
	d.weight -= old.weight
	if err := os.Remove(filepath.Join(d.dir, old.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("cached content was not removed from disk", "error", err)
	}
}

// damaged forgets a file that is not what was written.
func (d *disk) damaged(k frameKey, err error) {
	d.log.Warn("cached content on disk is damaged", "file", k.fileName(), "error", err)
	d.drop(k.fileName())
}

func (d *disk) drop(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.entries[name]; e != nil {
		d.remove(e)
	}
}
