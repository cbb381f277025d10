// Package archive keeps copies of mailboxes as plain files in one directory, and never
// touches a file outside it.
//
// A mailbox has its plain file (NAME.mbox, or a directory NAME.maildir or NAME.eml) and its
// state file, NAME.state (see package state). The order of what is written makes sure
// that a crash at any point leaves what the next run can put right:
//
//   - Before the plain file grows, the state file says from where on (`append`). What is appended is on
//     disk before the state file names it; what it does not name is cut off again.
//   - A change of flags is in the state file first, marked (`reflag`), then in the plain
//     file, then the mark goes. So are removals (`drop`); an mbox file is written anew for them and
//     takes the old one's place once the state file says so (`swap`).
//   - All else in a state file changes by writing it anew beside the old one and renaming it.
//
// A plain file that is not as its state file says, or has none, is somebody else's or damaged: Open
// returns a ForeignError and changes nothing.
package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	lockName  = ".imap-backup.lock"
	stateExt  = ".state"
	newExt    = ".new"
	spoolName = ".imap-backup.spool"
)

// Formats are the kinds of plain files.
var Formats = []string{"mbox", "maildir", "eml"}

// Archive is a directory with the copies of an account's mailboxes.
type Archive struct {
	root *os.Root
	lock *os.File // nil if nobody is kept out

	folds bool // the file system takes upper and lower case for the same
	mutex sync.Mutex
	begun map[string]string // files that this run began, by their names in lower case
}

// ErrLocked is that another run is at work on the directory.
var ErrLocked = errors.New("another run is at work on this directory")

// ForeignError is a file that we did not put there, or that has changed since.
type ForeignError struct{ File, Reason string }

func (e *ForeignError) Error() string { return fmt.Sprintf("%s: %s; left alone", e.File, e.Reason) }

// Create opens a directory to write to it, makes it where it is missing, and keeps other runs out
// until Close.
func Create(dir string) (*Archive, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	lock, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if err := flock(lock, unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, lock.Close(), root.Close())
	}
	_, err = root.Lstat(strings.ToUpper(lockName))
	a := &Archive{root: root, lock: lock, folds: err == nil, begun: map[string]string{}}
	if err := a.removeSpools(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// removeSpools removes what a run left that was ended between making such a file and taking its name away.
func (a *Archive) removeSpools() error {
	entries, err := fs.ReadDir(a.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), spoolName+".") {
			err = errors.Join(err, a.root.Remove(entry.Name()))
		}
	}
	return err
}

// Read opens a directory to read from it.
func Read(dir string) (*Archive, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Archive{root: root}, nil
}

// Hold is Read, and keeps runs out until Close: what one changes in between would be taken for damage.
func Hold(dir string) (*Archive, error) {
	a, err := Read(dir)
	if err != nil {
		return nil, err
	}
	lock, err := a.root.Open(lockName)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil // a copy of what a run made
	}
	if err == nil {
		a.lock = lock
		err = flock(lock, unix.LOCK_SH)
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func flock(lock *os.File, how int) error {
	err := unix.Flock(int(lock.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

// Close lets other runs in.
func (a *Archive) Close() error {
	var err error
	if a.lock != nil {
		err = a.lock.Close()
	}
	return errors.Join(err, a.root.Close())
}

// Names returns the names of the mailboxes' files, without extension, that have a state
// file; and the names of files that are not ours.
func (a *Archive) Names() (names, foreign []string, err error) {
	entries, err := fs.ReadDir(a.root.FS(), ".")
	if err != nil {
		return nil, nil, err
	}
	has := map[string]bool{}
	for _, entry := range entries {
		has[entry.Name()] = true
	}
	for _, entry := range entries {
		name := entry.Name()
		base := strings.TrimSuffix(name, filepath.Ext(name))
		switch ext := filepath.Ext(name); {
		case ext == stateExt:
			names = append(names, base)
		case has[base+stateExt] && slices.Contains(Formats, strings.TrimPrefix(ext, ".")):
		case strings.HasPrefix(name, lockName), strings.HasPrefix(name, spoolName):
		case ext == newExt: // left by a run that was ended; the next one looks after it
		default:
			foreign = append(foreign, name)
		}
	}
	return names, foreign, nil
}

// claim keeps mailboxes apart that would begin the same file, where their names differ in case alone. Once there is a
// state file, that tells whose it is.
func (a *Archive) claim(name string) error {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	key := name
	if a.folds {
		key = strings.ToLower(name)
	}
	if other, taken := a.begun[key]; taken && other != name {
		return &ForeignError{name + stateExt, fmt.Sprintf("this file system takes it for %s", other+stateExt)}
	}
	a.begun[key] = name
	return nil
}

// syncDir makes a change of names in a directory last.
func syncDir(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeIfThere removes a file of ours that may be there or not.
func removeIfThere(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
