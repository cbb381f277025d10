package blob

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// coders are shared by all, safe for concurrent use, and made when first used.
//
// Full frames are of large messages, mostly attachments in base64, which gain
// only at the better level (0.75 of their size against 1.0, at 129 MB/s). A frame that is
// not full is most often a whole message, and its compression was the largest single cost of taking it in:
// the fastest level takes less than half the time of the default one, whose tables of 1.25 MiB
// leave the processor's caches between two messages, for 2 to 5 % more octets.
var coders = sync.OnceValue(func() (c struct {
	small, full *zstd.Encoder
	decoder     *zstd.Decoder
}) {
	var err error
	encoder := func(level zstd.EncoderLevel) *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithWindowSize(FrameSize), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	}
	c.small, c.full = encoder(zstd.SpeedFastest), encoder(zstd.SpeedBetterCompression)
	c.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(FrameSize), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return c
})

// appendFrame appends the stored form of at most FrameSize octets of content.
func appendFrame(to, content []byte) []byte {
	if len(content) == FrameSize {
		return coders().full.EncodeAll(content, to)
	}
	return coders().small.EncodeAll(content, to)
}

// decodeFrame returns the size octets of content of a stored frame.
func decodeFrame(stored []byte, size int) ([]byte, error) {
	content, err := coders().decoder.DecodeAll(stored, make([]byte, 0, size))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if len(content) != size {
		return nil, fmt.Errorf("%w: a frame of %d octets, not %d", ErrDamaged, len(content), size)
	}
	return content, nil
}
