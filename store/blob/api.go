// Package blob keeps content: a contract for object storage and its S3
// implementation, the frame format in which content is compressed, and a read
// cache. It knows nothing of mailboxes or SQL; which blob lies where is known by store.
package blob

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"mailstead.dev/store/id"
)

// ErrNotFound says that there is no object under the key.
var ErrNotFound = errors.New("object not found")

// ErrUnavailable wraps every error of a bucket that trying later may mend.
var ErrUnavailable = errors.New("object storage unavailable")

// ErrDamaged says that what was read is not what was written.
var ErrDamaged = errors.New("content damaged")

// Object is an entry of a listing.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time
}

// Bucket is object storage. Keys are random and never reused: an object never changes.
type Bucket interface {
	// Put stores size octets from r under key, with a checksum. Once it returns nil, a Get from any process
	// succeeds, also after a power cut. An error leaves either nothing or the whole object.
	Put(ctx context.Context, key string, r io.Reader, size int64) error
	// Get returns n octets from off (n < 0: to the end). ErrNotFound where there is no object.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	Stat(ctx context.Context, key string) (Object, error)
	// Delete removes objects; those that are not there are no error.
	Delete(ctx context.Context, keys ...string) error
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
}

// FrameSize is how much content one frame holds, in octets.
const FrameSize = 128 << 10

// Encoding names frame format, compression and key of stored content; 1 is zstd in independent frames, no encryption.
type Encoding int16

const EncodingZstd Encoding = 1

// Layout is how content lies in its stored form: enough to read a range.
type Layout struct {
	Encoding Encoding
	Size     int64   // of the content
	Frames   []int64 // stored length of each frame; all but the last hold FrameSize octets of content
}

func (l Layout) StoredLen() int64                                        { panic("skeleton") }
func (l Layout) EncodeFrames() []byte                                    { panic("skeleton") } // for the blob row
func DecodeLayout(e Encoding, size int64, frames []byte) (Layout, error) { panic("skeleton") }

// Spool is content received, compressed and digested, in memory while small, else in a temporary file.
type Spool struct {
	Digest id.Digest
	Layout Layout
}

// NewSpool reads r to its end. memory is how many stored octets are kept in memory; dir is for the rest. tee (may be nil) sees the content in the same pass.
func NewSpool(r io.Reader, memory int, dir string, tee io.Writer) (*Spool, error) { panic("skeleton") }
func (s *Spool) Bytes() ([]byte, bool)                                            { panic("skeleton") } // the stored form, if in memory
func (s *Spool) Stored() io.ReadSeeker                                            { panic("skeleton") } // the stored form
func (s *Spool) Close() error                                                     { panic("skeleton") } // removes the temporary file

// Decode returns content [off, off+n) from a source of stored octets.
// stored(ctx, off, n) gives n stored octets from off.
func (l Layout) Decode(ctx context.Context, off, n int64, stored func(ctx context.Context, off, n int64) (io.ReadCloser, error)) (io.ReadCloser, error) {
	panic("skeleton")
}
