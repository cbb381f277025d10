package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// nameFile has the node's name. Whoever has it locked has the folder.
const nameFile = "node"

// takeFolder makes a folder a node's, with the name that it has had there before.
func takeFolder(dir string) (name string, unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, nameFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return "", nil, fmt.Errorf("another process uses %s: %w", dir, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, 100))
	if err != nil {
		return "", nil, err
	}
	if name = strings.TrimSpace(string(text)); name != "" {
		return name, f.Close, nil
	}
	name = rand.Text()
	if _, err := f.WriteAt([]byte(name+"\n"), 0); err != nil {
		return "", nil, err
	}
	return name, f.Close, f.Sync()
}
