package blobtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"mailstead.dev/store/blob"
)

// Memory is a bucket in memory that can be away, and damaged.
type Memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	away    bool
	puts    int
}

var _ blob.Bucket = (*Memory)(nil)

// SetAway makes every call fail with blob.ErrUnavailable, until it is back.
func (m *Memory) SetAway(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
}

// Puts is how many objects have been put.
func (m *Memory) Puts() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.puts
}

// Damage flips a bit of an object.
func (m *Memory) Damage(key string, off int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	damaged := slices.Clone(m.objects[key]) // who reads the old one goes on with it
	damaged[off] ^= 1
	m.objects[key] = damaged
}

func (m *Memory) lock() error {
	m.mu.Lock()
	if m.away {
		m.mu.Unlock()
		return fmt.Errorf("%w: away", blob.ErrUnavailable)
	}
	return nil
}

func (m *Memory) Put(_ context.Context, key string, r io.Reader, size int64) error {
	content, err := io.ReadAll(io.LimitReader(r, size))
	if err != nil {
		return err
	}
	if int64(len(content)) < size {
		return io.ErrUnexpectedEOF
	}
	if err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.objects == nil {
		m.objects = map[string][]byte{}
	}
	m.objects[key] = content
	m.puts++
	return nil
}

func (m *Memory) Get(_ context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	content, found := m.objects[key]
	if !found {
		return nil, fmt.Errorf("get %s: %w", key, blob.ErrNotFound)
	}
	content = content[min(off, int64(len(content))):]
	if n >= 0 {
		content = content[:min(n, int64(len(content)))]
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}

func (m *Memory) Stat(_ context.Context, key string) (blob.Object, error) {
	if err := m.lock(); err != nil {
		return blob.Object{}, err
	}
	defer m.mu.Unlock()
	content, found := m.objects[key]
	if !found {
		return blob.Object{}, fmt.Errorf("stat %s: %w", key, blob.ErrNotFound)
	}
	return blob.Object{Key: key, Size: int64(len(content)), Modified: time.Now()}, nil
}

func (m *Memory) Delete(_ context.Context, keys ...string) (left []string, err error) {
	if err := m.lock(); err != nil {
		return keys, err
	}
	defer m.mu.Unlock()
	for _, key := range keys {
		delete(m.objects, key)
	}
	return nil, nil
}

func (m *Memory) List(_ context.Context, prefix string) iter.Seq2[blob.Object, error] {
	return func(yield func(blob.Object, error) bool) {
		if err := m.lock(); err != nil {
			yield(blob.Object{}, err)
			return
		}
		objects := maps.Clone(m.objects)
		m.mu.Unlock()
		for _, key := range slices.Sorted(maps.Keys(objects)) {
			if strings.HasPrefix(key, prefix) && !yield(blob.Object{Key: key, Size: int64(len(objects[key])), Modified: time.Now()}, nil) {
				return
			}
		}
	}
}
