package index

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/blevesearch/bleve/v2/index/scorch"

	"mailstead.dev/index/frames"
)

// CopyTo makes a folder that has the index as it is at one moment, durably,
// while changes go on: it can be opened as an index. The files that never
// change are links to ours where the folder is on the same disk. Two copies have
// the same file where its name, size and last four octets, its checksum, are the
// same; only "store/root.bolt" is another each time.
func (a *Account) CopyTo(dir string) (err error) {
	done, err := a.use()
	if err != nil {
		return err
	}
	defer done()
	for _, sub := range []string{"store", "texts"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	if err := a.copyParts(dir); err != nil {
		return err
	}
	for _, sub := range []string{"store", "texts"} {
		if err := frames.SyncFolder(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	return writeVersion(dir, a.version)
}

func (a *Account) copyParts(dir string) (err error) {
	a.reading.RLock() // the files of the snapshot stay as long
	defer a.reading.RUnlock()
	r, ok := a.words.CopyReader().(*scorch.IndexSnapshot)
	if !ok {
		return ErrClosed
	}
	defer func() { err = errors.Join(err, r.CloseCopyReader()) }()
	st, err := stateOf(r)
	if err != nil {
		return err
	}
	for _, n := range st.files {
		if err := copyFile(a.textPath(n), filepath.Join(dir, "texts", filepath.Base(a.textPath(n)))); err != nil {
			return err
		}
	}
	d := &directory{from: a.dir, to: dir}
	return errors.Join(r.CopyTo(d), d.err)
}

// directory is where bleve copies itself to.
type directory struct {
	from, to string
	err      error
}

// GetWriter returns where bleve writes a file of its copy to, or nil where it is there already.
func (d *directory) GetWriter(name string) (io.WriteCloser, error) {
	to := filepath.Join(d.to, name)
	if filepath.Ext(name) == ".zap" {
		err := copyFile(filepath.Join(d.from, name), to)
		if err == nil {
			return nil, nil
		}
		if !errors.Is(err, fs.ErrNotExist) { // else bleve has it in memory as yet
			return nil, err
		}
	}
	f, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if filepath.Ext(name) == ".bolt" {
		return f, nil // bleve insists on it, and makes it durable itself
	}
	return &syncedFile{f, &d.err}, nil
}

// syncedFile is durable once it is closed.
type syncedFile struct {
	*os.File
	err *error
}

func (f *syncedFile) Close() error {
	err := errors.Join(f.Sync(), f.File.Close())
	*f.err = errors.Join(*f.err, err) // bleve does not look
	return err
}

// copyFile links a file that never changes, or copies it to another disk.
func copyFile(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	if err = errors.Join(err, w.Sync(), w.Close()); err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	return nil
}
