package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A program has a folder of its own while it reads a file. What it has there together is bounded by looking, for the kernel bounds one file at a time.

// mostInFolder is how many files and folders it may have.
const mostInFolder = 1000

// watch looks at a folder until ctx ends, or there is what bound says.
func watch(ctx context.Context, dir string, octets int64) error {
	often := time.NewTicker(100 * time.Millisecond)
	defer often.Stop()
	for {
		if err := bound(dir, octets); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-often.C:
		}
	}
}

// bound says errUnreadable where there is too much in a folder, or what its program keeps us from looking at, and errPassing where it
// cannot be looked at otherwise.
func bound(dir string, octets int64) error {
	n := 0
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
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
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooLarge), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENAMETOOLONG):
		return fmt.Errorf("%w: it writes too much to files: %w", errUnreadable, err)
	}
	return fmt.Errorf("%w: %w", errPassing, err)
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
