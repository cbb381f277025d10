package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// Content is a message received, parsed and digested, in memory while small, else already in object storage.
type Content struct {
	Size int64
	Meta *message.Meta

	tenant    id.Tenant
	digest    id.Digest
	layout    blob.Layout
	meta      []byte      // the stored form of Meta
	staged    []byte      // the stored form; nil when it went to an object
	objectKey string      // of the object that was PUT, whose intent is committed
	kept      atomic.Bool // a transaction that relies on it has been committed
	transit   *transit    // holds weight for it until Close
	weight    int64
}

// encodedMeta returns the stored form of Meta.
func (c *Content) encodedMeta() []byte { return c.meta }

// Weight returns how many octets of memory c takes, about.
func (c *Content) Weight() int64 {
	return int64(500 + c.Meta.Weight() + len(c.meta) + cap(c.staged))
}

// Close drops the content; what is not yet part of a mailbox is forgotten. An
// object that was put for nothing is found by its intent, and collected.
func (c *Content) Close() error {
	c.staged = nil
	if c.weight > 0 {
		c.transit.give(c.tenant, c.weight)
		c.weight = 0
	}
	return nil
}

// Receive reads a message of at most the store's limit (ErrTooBig; r is then
// not read further). It may be appended to any number of mailboxes of the
// tenant before Close. Errors of r are returned as they are.
//
// Content that is small when compressed is kept in memory, to be staged by the transaction
// that appends it; a full staging refuses it here. What is larger is put in
// object storage before Receive returns.
func (s *Store) Receive(ctx context.Context, t id.Tenant, r io.Reader) (*Content, error) {
	if err := s.transit.take(ctx, t, transitIn); err != nil {
		return nil, err
	}
	give := int64(transitIn)
	defer func() { s.transit.give(t, give) }() // also after a panic
	c, err := s.receiveInto(ctx, t, r)
	if err != nil {
		return nil, err
	}
	// It keeps what it weighs, which is less but where a header is absurd.
	c.transit, c.weight = s.transit, min(c.Weight(), transitIn)
	give -= c.weight
	return c, nil
}

// receiveInto receives a message, and sees to it that its content has its place.
func (s *Store) receiveInto(ctx context.Context, t id.Tenant, r io.Reader) (*Content, error) {
	c, spool, err := s.receive(t, &bounded{r: r, left: s.options.MaxMessage})
	if err != nil {
		return nil, err
	}
	stored, ok := spool.Bytes()
	if ok && len(stored) <= s.options.StagedMax && !s.options.NoStaging {
		c.staged = present(stored)
		err = s.staging.take(ctx, t, int64(len(stored)))
	} else {
		err = s.putOwn(ctx, c, spool)
	}
	if err := errors.Join(err, spool.Close()); err != nil {
		return nil, err
	}
	return c, nil
}

// receive reads, compresses, digests and parses r in one pass.
func (s *Store) receive(t id.Tenant, r io.Reader) (*Content, *blob.Spool, error) {
	head := heads.Get().(*[]byte)
	defer heads.Put(head)
	n, err := io.ReadFull(r, *head)
	var spool *blob.Spool
	var meta *message.Meta
	switch {
	case err == nil:
		meta, spool, err = s.receiveLarge(io.MultiReader(bytes.NewReader(*head), r))
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		spool = blob.SpoolOf((*head)[:n])
		meta, err = message.Parse(bytes.NewReader((*head)[:n]), s.options.Describe)
	}
	if err != nil {
		return nil, nil, err
	}
	return &Content{
		Size: spool.Layout.Size, Meta: meta, meta: meta.Encode(),
		tenant: t, digest: spool.Digest, layout: spool.Layout,
	}, spool, nil
}

// heads are buffers for what comes in; most messages fit in one.
var heads = sync.Pool{New: func() any {
	b := make([]byte, blob.FrameSize)
	return &b
}}

// receiveLarge parses here what another goroutine reads and compresses, so
// that the message is never in memory as a whole.
func (s *Store) receiveLarge(r io.Reader) (meta *message.Meta, spool *blob.Spool, err error) {
	from, to := io.Pipe()
	done := make(chan struct{})
	var spoolErr error
	go func() {
		defer close(done)
		spool, spoolErr = blob.NewSpool(r, s.options.StagedMax, s.options.SpoolDir, to)
		to.CloseWithError(spoolErr) // nil is the end of the message
	}()
	defer func() {
		from.Close() // where parsing broke off, reading does too
		<-done
		if spoolErr != nil && !errors.Is(spoolErr, io.ErrClosedPipe) {
			err = spoolErr
		}
		if err != nil && spool != nil {
			err = errors.Join(err, spool.Close())
		}
	}()
	meta, err = message.Parse(from, s.options.Describe)
	return meta, spool, err
}

// bounded reads r up to a limit, and fails with ErrTooBig where there is more.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooBig
	}
	p = p[:min(int64(len(p)), b.left+1)]
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, ErrTooBig
	}
	return n, err
}

// putOwn puts content in an object of its own.
func (s *Store) putOwn(ctx context.Context, c *Content, spool *blob.Spool) error {
	key := newObjectKey(c.tenant, "o")
	if err := s.putObject(ctx, c.tenant, key, spool.Stored(), spool.Layout.StoredLen()); err != nil {
		return err
	}
	c.objectKey = key
	return nil
}

const (
	putTimeout = 30 * time.Second // of a PUT, and of the wait for one's turn,
	putRate    = 1 << 20          // and a second more for so many octets of it

	// putsAtOnce bounds the PUTs of this process that are under way: each has up to 8 MiB in memory.
	putsAtOnce = 16
)

// putObject commits the intent and puts the object. It counts only once a
// transaction has consumed the intent.
func (s *Store) putObject(ctx context.Context, t id.Tenant, key string, r io.Reader, size int64) error {
	const intent = `INSERT INTO object_intent (tenant_id, object_key) VALUES ($1, $2)`

	waiting, done := context.WithTimeoutCause(ctx, putTimeout, errObjectTimeout)
	defer done()
	select {
	case s.puts <- struct{}{}:
		defer func() { <-s.puts }()
	case <-waiting.Done():
		return objectError(waiting, waiting.Err())
	}
	err := s.batch(ctx, t, func(b *pgx.Batch) { b.Queue(intent, t, key) })
	if errors.Is(err, ErrOutcomeUnknown) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err) // an intent alone changes nothing
	}
	if err != nil {
		return fmt.Errorf("intent of an object: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, putTimeout+time.Duration(size/putRate)*time.Second, errObjectTimeout)
	defer cancel()
	return objectError(ctx, s.options.Bucket.Put(ctx, key, r, size))
}

// newObjectKey draws a key that was never used: below the tenant's prefix, kind
// being p for packs and o for objects of one message.
func newObjectKey(t id.Tenant, kind string) string {
	return fmt.Sprintf("t%d/%s/%s", t, kind, newObject(""))
}

// errObjectTimeout is the cause of what took too long at the object store.
var errObjectTimeout = errors.New("object storage did not answer in time")

// objectError says of an error of the bucket what it means for the caller.
func objectError(ctx context.Context, err error) error {
	switch {
	case err == nil, errors.Is(err, blob.ErrDamaged), errors.Is(err, blob.ErrNotFound):
		return err
	case errors.Is(err, blob.ErrUnavailable), context.Cause(ctx) == errObjectTimeout:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}
