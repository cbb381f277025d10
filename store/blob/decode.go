package blob

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"mailstead.dev/store/id"
)

// Stored gives n stored octets from off: a row of the staging table, a part of
// a pack, an object.
type Stored func(ctx context.Context, off, n int64) (io.ReadCloser, error)

// Decode returns content [off, off+n), to the end where n < 0 or too much. It
// reads one range of the stored form, as far as the reader is read.
func (l Layout) Decode(ctx context.Context, off, n int64, stored Stored) (io.ReadCloser, error) {
	if off < 0 || off > l.Size {
		return nil, fmt.Errorf("content from %d of %d octets", off, l.Size)
	}
	if n < 0 || n > l.Size-off {
		n = l.Size - off
	}
	if n == 0 {
		return io.NopCloser(eof{}), nil
	}
	first, last := int(off/FrameSize), int((off+n-1)/FrameSize)
	start, length := l.storedRange(first, last)
	from, err := stored(ctx, start, length)
	if err != nil {
		return nil, err
	}
	return &decoder{layout: l, from: from, frame: first, skip: int(off % FrameSize), left: n}, nil
}

// Verify returns an error that wraps ErrDamaged unless stored is the stored form of the content with that digest.
func (l Layout) Verify(stored []byte, digest id.Digest) error {
	if int64(len(stored)) != l.StoredLen() {
		return fmt.Errorf("%w: %d stored octets, not %d", ErrDamaged, len(stored), l.StoredLen())
	}
	sum := sha256.New()
	for i, length := range l.Frames {
		content, err := decodeFrame(stored[:length], l.contentLen(i))
		if err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
		sum.Write(content)
		stored = stored[length:]
	}
	if got := id.Digest(sum.Sum(nil)); got != digest {
		return fmt.Errorf("%w: its digest is %s, not %s", ErrDamaged, got, digest)
	}
	return nil
}

// storedRange is where the frames first to last lie.
func (l Layout) storedRange(first, last int) (start, length int64) {
	for i, frame := range l.Frames[:last+1] {
		if i < first {
			start += frame
		} else {
			length += frame
		}
	}
	return start, length
}

// decoder reads frame after frame.
type decoder struct {
	layout  Layout
	from    io.ReadCloser
	frame   int   // the next one
	skip    int   // octets of its content that were not asked for
	left    int64 // octets still to be returned, content included
	content []byte
	stored  []byte
}

func (d *decoder) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	if len(d.content) == 0 {
		if err := d.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, d.content)
	d.content = d.content[n:]
	d.left -= int64(n)
	return n, nil
}

func (d *decoder) next() error {
	length := int(d.layout.Frames[d.frame])
	if cap(d.stored) < length {
		d.stored = make([]byte, length)
	}
	d.stored = d.stored[:length]
	if _, err := io.ReadFull(d.from, d.stored); err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: frame %d ends early", ErrDamaged, d.frame)
	} else if err != nil {
		return err
	}
	content, err := decodeFrame(d.stored, d.layout.contentLen(d.frame))
	if err != nil {
		return fmt.Errorf("frame %d: %w", d.frame, err)
	}
	content = content[d.skip:]
	d.content = content[:min(int64(len(content)), d.left)]
	d.frame, d.skip = d.frame+1, 0
	return nil
}

func (d *decoder) Close() error { return d.from.Close() }

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
