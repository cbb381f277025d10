package node

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailstead.dev/index"
	"mailstead.dev/store"
	"mailstead.dev/store/blob"
)

// A copy of an index in object storage is a tar file of its folder. Another node that takes the account goes on from
// there: an index of many emails takes long to make from them.

// copiedFolder is where a copy is made: links, mostly.
const copiedFolder = "copied"

const (
	// copyAgain is after how long a copy is tried again that could not be saved.
	copyAgain = 10 * time.Minute
	// copyReplaced is after how long a copy is replaced though little has changed: it may have texts that have been removed since.
	copyReplaced = 7 * 24 * time.Hour
)

// saveIfDue saves a copy of an index that has many more emails than the last one. The account's working is held.
func (n *Node) saveIfDue(ctx context.Context, x *opened) error {
	if time.Now().Before(x.copyNext) {
		return nil
	}
	err := n.saveIfMore(ctx, x)
	if err == nil || useless(err) || ctx.Err() != nil {
		return err
	}
	// It does without.
	x.copyNext = time.Now().Add(copyAgain)
	n.counted.failures.Add(1)
	n.log.WarnContext(ctx, "a copy of a search index was not saved", "tenant", x.account.tenant, "account", x.account.account, "error", err)
	return nil
}

func (n *Node) saveIfMore(ctx context.Context, x *opened) error {
	stats, err := x.index.Stats()
	if err != nil || int(stats.UpTo) < n.o.CopyAfter {
		return err
	}
	if x.copyKnown.IsZero() {
		if x.copy, err = n.o.Source.IndexCopy(ctx, x.account.tenant, x.account.account); err != nil {
			return err
		}
		x.copyKnown = time.Now()
	}
	there, age := x.copy.Key != "", x.copy.Age+time.Since(x.copyKnown)
	switch more := int64(stats.UpTo - x.copy.UpTo); {
	case n.o.CopyAfter <= 0 && there:
		x.copyKnown = time.Time{}
		return n.o.Source.DropIndexCopy(ctx, x.account.tenant, x.account.account, x.copy)
	case n.o.CopyAfter <= 0:
		return nil
	case there && more < max(int64(n.o.CopyAfter), int64(stats.Emails)/4) && (age < copyReplaced || stats.Stamp == x.copy.Stamp):
		return nil
	}
	return n.save(ctx, x)
}

// save saves a copy of an index that does not change meanwhile.
func (n *Node) save(ctx context.Context, x *opened) (err error) {
	has, markErr := x.mark()
	dir := filepath.Join(n.path(x.account.key), copiedFolder)
	if err := errors.Join(markErr, os.RemoveAll(dir)); err != nil { // one that was interrupted
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := x.index.CopyTo(dir); err != nil {
		return err
	}
	size, err := archiveSize(os.DirFS(dir))
	if err != nil {
		return err
	}
	from, to := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		to.CloseWithError(archive(to, os.DirFS(dir)))
	}()
	saved := store.IndexCopy{Stamp: has.stamp, UpTo: has.upTo}
	err = n.o.Source.SaveIndexCopy(ctx, x.account.tenant, x.account.account, n.name, saved, from, size)
	from.Close()
	<-done
	x.copyKnown = time.Time{}
	if err == nil {
		n.counted.copies.Add(1)
	}
	return err
}

// archive writes a tar file of a folder.
func archive(to io.Writer, dir fs.FS) error {
	w := tar.NewWriter(to)
	err := eachFile(dir, func(name string, info fs.FileInfo) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: info.Size(), ModTime: info.ModTime(), Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		f, err := dir.Open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		return errors.Join(err, f.Close())
	})
	return errors.Join(err, w.Close())
}

// archiveSize returns the size of what archive writes.
func archiveSize(dir fs.FS) (size int64, err error) {
	const block = 512
	err = eachFile(dir, func(_ string, info fs.FileInfo) error {
		size += block + (info.Size()+block-1)/block*block
		return nil
	})
	return size + 2*block, err
}

func eachFile(dir fs.FS, f func(name string, info fs.FileInfo) error) error {
	return fs.WalkDir(dir, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return f(name, info)
	})
}

// restore makes an index of the copy that an account has. index.ErrNone where it has none that can be used.
func (n *Node) restore(ctx context.Context, a *account, number int) (*opened, error) {
	c, err := n.o.Source.IndexCopy(ctx, a.tenant, a.account)
	if err != nil {
		return nil, err
	}
	if c.Key == "" || n.o.CopyAfter <= 0 {
		return nil, index.ErrNone
	}
	n.mu.Lock()
	distrust := n.distrust[a.key]
	n.mu.Unlock()
	var x *opened
	if distrust {
		err = index.ErrDamaged // its copy may be as well
	} else {
		x, err = n.restoreFrom(ctx, a, number, c)
	}
	if err == nil || ctx.Err() != nil || !uselessCopy(err) {
		return x, err
	}
	n.log.Warn("the copy of a search index cannot be used", "tenant", a.tenant, "account", a.account, "error", err)
	if err := errors.Join(n.o.Source.DropIndexCopy(ctx, a.tenant, a.account, c), os.RemoveAll(n.folder(a.key, number))); err != nil {
		return nil, err
	}
	n.mu.Lock()
	delete(n.distrust, a.key)
	n.mu.Unlock()
	return nil, index.ErrNone
}

// uselessCopy tells whether an error says that a copy is of no use, rather than that it cannot be had now.
func uselessCopy(err error) bool {
	if errors.Is(err, blob.ErrUnavailable) {
		return false
	}
	for _, useless := range []error{blob.ErrNotFound, index.ErrDamaged, index.ErrVersion, store.ErrStaleIndex, tar.ErrHeader, io.ErrUnexpectedEOF} {
		if errors.Is(err, useless) {
			return true
		}
	}
	return false
}

func (n *Node) restoreFrom(ctx context.Context, a *account, number int, c store.IndexCopy) (*opened, error) {
	r, err := n.o.Source.ReadIndexCopy(ctx, c)
	if err != nil {
		return nil, err
	}
	err = errors.Join(extract(r, n.folder(a.key, number)), r.Close())
	if err != nil {
		return nil, err
	}
	x, err := n.open(a, number)
	if err != nil {
		return nil, err
	}
	if stamp, err := x.index.Stamp(); err != nil || stamp != c.Stamp {
		return nil, errors.Join(err, fmt.Errorf("%w: stamp %d, want %d", store.ErrStaleIndex, stamp, c.Stamp), x.index.Close())
	}
	return x, nil
}

// extract makes a folder of a tar file.
func extract(from io.Reader, dir string) error {
	root, err := openRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if sub, _, nested := strings.Cut(h.Name, "/"); nested {
			if err := root.Mkdir(sub, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		f, err := root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		if err := errors.Join(err, f.Sync(), f.Close(), root.Chtimes(h.Name, h.ModTime, h.ModTime)); err != nil {
			return err
		}
	}
}

func openRoot(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}
