package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/maypok86/otter/v2"

	"mailstead.dev/store/id"
)

// Key names content of a tenant. What lies under it never changes, so what is cached of it needs no invalidation.
type Key struct {
	Tenant id.Tenant
	Digest id.Digest
}

type frameKey struct {
	Key
	frame int32
}

// frameOverhead is about what an entry of the cache weighs beside its content.
const frameOverhead = 200

// CacheOptions sets a cache up.
type CacheOptions struct {
	Bytes    int64  // of content kept in memory
	Dir      string // folder for frames on disk; empty: none
	DirBytes int64  // of frames kept on disk
	Logger   *slog.Logger
}

// Cache keeps frames of content that was read, the most used ones: decoded in
// memory, and behind that stored frames from object storage on local disk.
type Cache struct {
	memory *otter.Cache[frameKey, []byte]
	disk   *disk // nil: none
}

// NewCache makes a cache. What an earlier one left in the folder is used again.
func NewCache(o CacheOptions) (*Cache, error) {
	memory, err := otter.New(&otter.Options[frameKey, []byte]{
		MaximumWeight: uint64(max(o.Bytes, 0)),
		Weigher:       func(_ frameKey, content []byte) uint32 { return uint32(len(content)) + frameOverhead },
		Executor:      func(f func()) { f() }, // on eviction, in the caller's goroutine: none is left behind
	})
	if err != nil {
		return nil, fmt.Errorf("content cache: %w", err)
	}
	c := &Cache{memory: memory}
	if o.Dir != "" {
		if c.disk, err = openDisk(o.Dir, o.DirBytes, o.Logger); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Source is where content lies in its stored form.
type Source struct {
	Stored Stored
	// Far says that reading it is worth a copy on local disk: it lies in object storage.
	Far bool
	// Once says that nobody will read it again soon: none of it is kept.
	Once bool
}

// Open is Layout.Decode through the cache: only frames that it does not hold
// are read from the source, and then kept, but for what is read once.
func (c *Cache) Open(ctx context.Context, k Key, l Layout, off, n int64, from Source) (io.ReadCloser, error) {
	if off < 0 || off > l.Size {
		return nil, fmt.Errorf("content from %d of %d octets", off, l.Size)
	}
	if n < 0 || n > l.Size-off {
		n = l.Size - off
	}
	if n == 0 {
		return io.NopCloser(eof{}), nil
	}
	r := &cachedReader{
		cache: c, key: k, layout: l, far: from.Far, once: from.Once,
		frame: int(off / FrameSize), last: int((off + n - 1) / FrameSize),
		skip: int(off % FrameSize), left: n,
	}
	r.open = func() (io.ReadCloser, error) {
		start, length := l.storedRange(r.frame, r.last)
		return from.Stored(ctx, start, length)
	}
	if err := r.next(); err != nil { // before anything is promised
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Cached returns the frames of content if all of them are cached.
func (c *Cache) Cached(k Key, l Layout) ([][]byte, bool) {
	frames := make([][]byte, len(l.Frames))
	for i := range frames {
		var ok bool
		if frames[i], ok = c.get(frameKey{k, int32(i)}, l.contentLen(i)); !ok {
			return nil, false
		}
	}
	return frames, true
}

// Decode returns the frames of content of which the whole stored form is at
// hand, and keeps them. far is as in Source.
func (c *Cache) Decode(k Key, l Layout, stored []byte, far bool) ([][]byte, error) {
	if int64(len(stored)) != l.StoredLen() {
		return nil, fmt.Errorf("%w: %d stored octets, not %d", ErrDamaged, len(stored), l.StoredLen())
	}
	frames := make([][]byte, len(l.Frames))
	for i, length := range l.Frames {
		var err error
		if frames[i], err = c.keep(frameKey{k, int32(i)}, stored[:length], l.contentLen(i), far); err != nil {
			return nil, fmt.Errorf("frame %d: %w", i, err)
		}
		stored = stored[length:]
	}
	return frames, nil
}

// keep decodes a frame and keeps it.
func (c *Cache) keep(k frameKey, stored []byte, size int, far bool) ([]byte, error) {
	content, err := decodeFrame(stored, size)
	if err != nil {
		return nil, err
	}
	c.memory.Set(k, content)
	if far && c.disk != nil {
		c.disk.put(k, stored)
	}
	return content, nil
}

// get returns the content of a frame that is cached.
func (c *Cache) get(k frameKey, size int) ([]byte, bool) {
	if content, ok := c.memory.GetIfPresent(k); ok {
		return content, true
	}
	if c.disk == nil {
		return nil, false
	}
	stored, ok := c.disk.get(k)
	if !ok {
		return nil, false
	}
	content, err := decodeFrame(stored, size)
	if err != nil {
		c.disk.damaged(k, err)
		return nil, false
	}
	c.memory.Set(k, content)
	return content, true
}

// cachedReader reads frame after frame, from the first that is not cached on from the source.
type cachedReader struct {
	cache  *Cache
	key    Key
	layout Layout
	far    bool
	once   bool

	frame, last int   // the next one, and the last that is needed
	skip        int   // octets of the next one that were not asked for
	left        int64 // octets still to be returned, content included
	content     []byte

	open   func() (io.ReadCloser, error) // of the stored form, from the frame on
	from   io.ReadCloser                 // nil: not opened yet
	stored []byte
}

func (r *cachedReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if len(r.content) == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.content)
	r.content = r.content[n:]
	r.left -= int64(n)
	return n, nil
}

// WriteTo spares the copy of what lies in memory.
func (r *cachedReader) WriteTo(w io.Writer) (written int64, err error) {
	for r.left > 0 {
		if len(r.content) == 0 {
			if err := r.next(); err != nil {
				return written, err
			}
		}
		n, err := w.Write(r.content)
		r.content = r.content[n:]
		r.left -= int64(n)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (r *cachedReader) next() error {
	content, err := r.load()
	if err != nil {
		return fmt.Errorf("frame %d: %w", r.frame, err)
	}
	content = content[r.skip:]
	r.content = content[:min(int64(len(content)), r.left)]
	r.frame, r.skip = r.frame+1, 0
	return nil
}

func (r *cachedReader) load() ([]byte, error) {
	k, size := frameKey{r.key, int32(r.frame)}, r.layout.contentLen(r.frame)
	if r.from == nil {
		if content, ok := r.cache.get(k, size); ok {
			return content, nil
		}
		var err error
		if r.from, err = r.open(); err != nil {
			return nil, err
		}
	}
	length := int(r.layout.Frames[r.frame])
	if cap(r.stored) < length {
		r.stored = make([]byte, length)
	}
	r.stored = r.stored[:length]
	if _, err := io.ReadFull(r.from, r.stored); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("%w: it ends early", ErrDamaged)
	} else if err != nil {
		return nil, err
	}
	if r.once {
		return decodeFrame(r.stored, size)
	}
	return r.cache.keep(k, r.stored, size, r.far)
}

func (r *cachedReader) Close() error {
	if r.from == nil {
		return nil
	}
	return r.from.Close()
}
