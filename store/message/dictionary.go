package message

import (
	_ "embed"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// dictionary1 is the zstd dictionary of metaVersion 1, trained by TestTrain
// from generated mail. It is never changed: what is stored needs it.
//
//go:embed meta1.dict
var dictionary1 []byte

// maxMeta is the largest content of a frame that is decoded, several times what Limits lets come about.
const maxMeta = 16 << 20

var metaEncoders = sync.Pool{New: func() any {
	return &metaEncoder{zstd: sharedEncoder()}
}}

// The encoder and the decoder serve several goroutines at once. What is written
// is so small and so close to the dictionary that better levels find no more in it:
// the fastest starts from a table of 256 KiB instead of 1.25 MiB, which is most of what it costs.
var sharedEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderDict(dictionary1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		panic(err) // the embedded dictionary is not one
	}
	return e
})

var sharedDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderDicts(dictionary1), zstd.WithDecoderMaxMemory(maxMeta), zstd.WithDecoderConcurrency(0))
	if err != nil {
		panic(err)
	}
	return d
})

// metaDecoder is what one DecodeMeta needs.
type metaDecoder struct {
	zstd *zstd.Decoder
	buf  []byte
}

var metaDecoders = sync.Pool{New: func() any { return &metaDecoder{zstd: sharedDecoder()} }}
