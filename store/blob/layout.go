package blob

import (
	"encoding/binary"
	"fmt"
)

// FrameSize is how much content one frame holds, in octets.
const FrameSize = 128 << 10

// Encoding names frame format, compression and key of stored content; 1 is zstd in independent frames, no encryption.
type Encoding int16

// EncodingZstd is zstd in independent frames, each with the checksum of its content.
const EncodingZstd Encoding = 1

// Layout is how content lies in its stored form: enough to read a range.
type Layout struct {
	Encoding Encoding
	Size     int64   // of the content
	Frames   []int64 // stored length of each frame; all but the last hold FrameSize octets of content
}

// StoredLen is how many octets the stored form has.
func (l Layout) StoredLen() int64 {
	var n int64
	for _, frame := range l.Frames {
		n += frame
	}
	return n
}

// EncodeFrames returns the lengths of the frames for the blob row.
func (l Layout) EncodeFrames() []byte {
	b := []byte{} // no frames are no octets, which is not NULL
	for _, frame := range l.Frames {
		b = binary.AppendUvarint(b, uint64(frame))
	}
	return b
}

// longestFrame bounds a stored frame: compression that gains nothing adds a few octets.
const longestFrame = FrameSize + 1024

// DecodeLayout reads what EncodeFrames wrote. An error wraps ErrDamaged.
func DecodeLayout(e Encoding, size int64, frames []byte) (Layout, error) {
	l := Layout{Encoding: e, Size: size}
	if e != EncodingZstd {
		return l, fmt.Errorf("%w: unknown encoding %d", ErrDamaged, e)
	}
	if size < 0 {
		return l, fmt.Errorf("%w: size %d", ErrDamaged, size)
	}
	count := frameCount(size)
	if int64(len(frames)) < count {
		return l, fmt.Errorf("%w: %d octets for the lengths of %d frames", ErrDamaged, len(frames), count)
	}
	l.Frames = make([]int64, 0, count)
	for len(frames) > 0 {
		n, used := binary.Uvarint(frames)
		if used <= 0 || n == 0 || n > longestFrame {
			return l, fmt.Errorf("%w: length of frame %d", ErrDamaged, len(l.Frames))
		}
		l.Frames = append(l.Frames, int64(n))
		frames = frames[used:]
	}
	if int64(len(l.Frames)) != count {
		return l, fmt.Errorf("%w: %d frames, not %d", ErrDamaged, len(l.Frames), count)
	}
	return l, nil
}

func frameCount(size int64) int64 { return (size + FrameSize - 1) / FrameSize }

// contentLen is how much content the frame i holds.
func (l Layout) contentLen(i int) int {
	if i < len(l.Frames)-1 {
		return FrameSize
	}
	return int(l.Size - int64(i)*FrameSize)
}
