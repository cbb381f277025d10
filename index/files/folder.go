package files

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A program has a folder of its own while it reads a file. What it has there together is bounded by looking, for the kernel bounds one file at a time.

// mostInFolder is how many files and folders it may have.
const mostInFolder = 1000

// watch calls full when there is too much in a folder, unless ctx ends before.
func watch(ctx context.Context, dir string, octets int64, full func()) {
	often := time.NewTicker(100 * time.Millisecond)
	defer often.Stop()
	for fits(dir, octets) {
		select {
		case <-ctx.Done():
			return
		case <-often.C:
		}
	}
	full()
}

// fits tells whether what is in a folder is not too much, and can be looked at.
func fits(dir string, octets int64) bool {
	n := 0
	return filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return unlessGone(err)
		}
		info, err := e.Info()
		if err != nil {
			return unlessGone(err)
		}
		if n++; e.Type().IsRegular() {
			octets -= info.Size()
		}
		if n > mostInFolder || octets < 0 {
			return errTooLarge
		}
		return nil
	}) == nil
}

func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// remove removes a folder, whatever its program has done to the rights of those inside.
func remove(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	walked := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	})
	if err := os.RemoveAll(dir); err != nil {
		return errors.Join(walked, err)
	}
	return nil
}
