package blob

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

var (
	// ErrNotFound says that there is no object under the key.
	ErrNotFound = errors.New("object not found")
	// ErrUnavailable wraps every error of a bucket that trying later may mend.
	ErrUnavailable = errors.New("object storage unavailable")
	// ErrDamaged says that what was read is not what was written.
	ErrDamaged = errors.New("content damaged")
)

// Object is an entry of a listing.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time
}

// Bucket is object storage. Keys are random and never reused: an object never
// changes. Its errors wrap ErrNotFound or ErrUnavailable, or are those of the
// context or of the reader given.
type Bucket interface {
	// Put stores size octets from r under key, with a checksum. Once it returns nil, a Get from any process
	// succeeds, also after a power cut. An error leaves either nothing or the whole object.
	Put(ctx context.Context, key string, r io.Reader, size int64) error
	// Get returns n octets from off (n < 0: to the end). ErrNotFound where there is no object.
	// Reading may fail as Get may, and ends early where the object does.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	Stat(ctx context.Context, key string) (Object, error)
	// Delete removes objects; those that are not there are no error. With an error, and only then, it returns
	// the keys of those that may be left: of all others the service has said that they are gone.
	Delete(ctx context.Context, keys ...string) (left []string, err error)
	// List yields the objects whose keys begin with prefix, in the order of their keys, until an error.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
}
