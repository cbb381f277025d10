package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// Content returns access to the octets of an email, prefix included: a
// message.Reader. ErrExpunged where there is no such email (any more).
func (m *Mailbox) Content(ctx context.Context, email id.Email) (message.Reader, error) {
	key := emailKey{m.Tenant, m.Owner, email}
	if known, ok := m.store.contents.get(key); ok {
		return &emailReader{store: m.store, key: key, what: known}, nil
	}
	found, err := m.store.lookupContents(ctx, m.Tenant, m.Owner, []id.Email{email})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ErrExpunged
	}
	return m.store.reader(key, found[email]), nil
}

// emailKey names an email.
type emailKey struct {
	tenant  id.Tenant
	account id.Account
	email   id.Email
}

// emailContent is what never changes of where the octets of an email are.
type emailContent struct {
	prefix []byte
	digest id.Digest
	layout blob.Layout
}

// place is where content lies now: staged, in a slot of the ring, or in an object.
type place struct {
	slot   *int16 // nil: in the object
	data   []byte // the stored form if staged; nil where it has just moved
	object string
	off    int64
}

// located is the content of an email with the place where it was a moment ago.
type located struct {
	emailContent
	place place
}

// placeColumns are read with each blob b: its staged content comes along.
const (
	placeColumns = `b.encoding, b.size, b.frames, b.slot, coalesce(b.object_key, ''), coalesce(b.object_off, 0), s.data`
	placeStaged  = `
		LEFT JOIN LATERAL (
			SELECT data FROM staged_0 WHERE b.slot = 0 AND tenant_id = b.tenant_id AND digest = b.digest
			UNION ALL
			SELECT data FROM staged_1 WHERE b.slot = 1 AND tenant_id = b.tenant_id AND digest = b.digest
			UNION ALL
			SELECT data FROM staged_2 WHERE b.slot = 2 AND tenant_id = b.tenant_id AND digest = b.digest
			UNION ALL
			SELECT data FROM staged_3 WHERE b.slot = 3 AND tenant_id = b.tenant_id AND digest = b.digest
		) s ON true`
)

// scanPlace scans placeColumns, after the columns of before.
func scanPlace(row pgx.Row, layout *blob.Layout, p *place, before ...any) error {
	var encoding blob.Encoding
	var size int64
	var frames []byte
	err := row.Scan(append(before, &encoding, &size, &frames, &p.slot, &p.object, &p.off, &p.data)...)
	if err != nil {
		return err
	}
	*layout, err = blob.DecodeLayout(encoding, size, frames)
	return err
}

// lookupContents finds the contents of emails, and reads with them what is staged.
func (s *Store) lookupContents(ctx context.Context, t id.Tenant, account id.Account, emails []id.Email) (map[id.Email]located, error) {
	const query = `
		SELECT e.email_id, e.prefix, e.digest, ` + placeColumns + `
		FROM email e
		JOIN blob b ON b.tenant_id = e.tenant_id AND b.digest = e.digest` + placeStaged + `
		WHERE e.tenant_id = $1 AND e.account_id = $2 AND e.email_id = ANY ($3)`

	var found map[id.Email]located
	err := s.read(ctx, t, func(b *pgx.Batch) {
		found = make(map[id.Email]located, len(emails))
		b.Queue(query, t, account, emails).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var email id.Email
				var l located
				var digest []byte
				if err := scanPlace(rows, &l.layout, &l.place, &email, &l.prefix, &digest); err != nil {
					return err
				}
				copy(l.digest[:], digest)
				found[email] = l
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("look up content: %w", err)
	}
	return found, nil
}

// errRestored says that content was lost and stored anew, in another form, while it was read.
var errRestored = errors.New("content was stored anew meanwhile")

// locate finds where content lies now. The row of a blob and its staged content are read in one
// statement; only where a slot was truncated in between is it asked again.
func (s *Store) locate(ctx context.Context, t id.Tenant, what *emailContent) (place, error) {
	const query = `
		SELECT ` + placeColumns + `
		FROM blob b` + placeStaged + `
		WHERE b.tenant_id = $1 AND b.digest = $2`

	var p place
	var layout blob.Layout
	err := s.read(ctx, t, func(b *pgx.Batch) {
		p = place{}
		b.Queue(query, t, what.digest[:]).QueryRow(func(row pgx.Row) error { return scanPlace(row, &layout, &p) })
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return place{}, ErrExpunged
	case err != nil:
		return place{}, fmt.Errorf("locate content: %w", err)
	case !bytes.Equal(layout.EncodeFrames(), what.layout.EncodeFrames()):
		return place{}, fmt.Errorf("%w: %w", ErrUnavailable, errRestored)
	}
	return p, nil
}

// reader returns access to content that has just been located. What is staged and
// cannot be decoded is decoded again when it is read, and the error told then.
func (s *Store) reader(key emailKey, l located) *emailReader {
	s.contents.put(key, &l.emailContent)
	r := &emailReader{store: s, key: key, what: &l.emailContent, place: &l.place}
	if l.place.data == nil || l.layout.Size > aheadSize { // little that is staged may be much when decoded
		return r
	}
	frames, err := s.cache.Decode(r.blobKey(), l.layout, l.place.data, false)
	if err == nil {
		r.frames, r.place = frames, nil
	}
	return r
}

// emailReader reads the octets of one email.
type emailReader struct {
	store  *Store
	key    emailKey
	what   *emailContent
	frames [][]byte // the content, if it is at hand
	place  *place   // where it was when the email was looked up; nil: to be looked up
	once   bool     // nobody will read it again soon
}

func (r *emailReader) blobKey() blob.Key {
	return blob.Key{Tenant: r.key.tenant, Digest: r.what.digest}
}

// Open implements message.Reader.
func (r *emailReader) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	prefix := int64(len(r.what.prefix))
	size := prefix + r.what.layout.Size
	if off < 0 || n < 0 {
		return nil, fmt.Errorf("content [%d, +%d)", off, n)
	}
	off = min(off, size)
	n = min(n, size-off)
	if off >= prefix {
		return r.open(ctx, off-prefix, n)
	}
	head := r.what.prefix[off:min(off+n, prefix)]
	rest, err := r.open(ctx, 0, n-int64(len(head)))
	if err != nil {
		return nil, err
	}
	return &joined{io.MultiReader(bytes.NewReader(head), rest), rest}, nil
}

// joined reads several readers, and closes the last.
type joined struct {
	io.Reader
	io.Closer
}

// open reads the content behind the prefix.
func (r *emailReader) open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if r.frames != nil {
		return &framesReader{rest: r.frames[min(int(off/blob.FrameSize), len(r.frames)):], skip: int(off % blob.FrameSize), left: n}, nil
	}
	rc, err := r.store.cache.Open(ctx, r.blobKey(), r.what.layout, off, n, blob.Source{Stored: r.stored, Far: true, Once: r.once})
	if errors.Is(err, errRestored) {
		r.store.contents.drop(r.key)
	}
	if err != nil {
		return nil, fmt.Errorf("content %s: %w", r.what.digest, err)
	}
	return rc, nil
}

// locateAttempts bounds how often content is looked for that moves.
const locateAttempts = 5

// stored reads a range of the stored form from where it lies. What is not found
// there has moved to a pack, or from one to another: the blob's row is read again.
func (r *emailReader) stored(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	p := r.place
	var missed error
	for range locateAttempts {
		if p == nil {
			now, err := r.store.locate(ctx, r.key.tenant, r.what)
			if err != nil {
				return nil, err
			}
			p = &now
		}
		rc, err := r.store.openPlace(ctx, p, off, n)
		if err == nil && p.object != "" {
			r.store.packs.asked(r.key, p.object)
		}
		if !errors.Is(err, blob.ErrNotFound) {
			return rc, err
		}
		missed, p = err, nil
	}
	return nil, fmt.Errorf("%w: content is not where its blob says: %w", blob.ErrDamaged, missed)
}

// openPlace reads a range of what is stored at a place; blob.ErrNotFound where nothing is.
func (s *Store) openPlace(ctx context.Context, p *place, off, n int64) (io.ReadCloser, error) {
	switch {
	case p.data != nil:
		if off+n > int64(len(p.data)) {
			return nil, fmt.Errorf("%w: %d staged octets", blob.ErrDamaged, len(p.data))
		}
		return io.NopCloser(bytes.NewReader(p.data[off : off+n])), nil
	case p.slot != nil:
		return nil, fmt.Errorf("staged content: %w", blob.ErrNotFound)
	}
	rc, err := s.options.Bucket.Get(ctx, p.object, p.off+off, n)
	if err != nil {
		return nil, objectError(ctx, err)
	}
	return rc, nil
}

// framesReader reads content that is in memory.
type framesReader struct {
	rest [][]byte
	skip int // octets of the first that were not asked for
	left int64
}

func (r *framesReader) next() []byte {
	if r.left == 0 || len(r.rest) == 0 {
		return nil
	}
	content := r.rest[0][r.skip:]
	return content[:min(int64(len(content)), r.left)]
}

func (r *framesReader) took(n int) {
	r.left -= int64(n)
	if r.skip += n; r.skip == len(r.rest[0]) {
		r.rest, r.skip = r.rest[1:], 0
	}
}

func (r *framesReader) Read(p []byte) (int, error) {
	content := r.next()
	if len(content) == 0 {
		return 0, io.EOF
	}
	n := copy(p, content)
	r.took(n)
	return n, nil
}

// WriteTo spares the copy.
func (r *framesReader) WriteTo(w io.Writer) (written int64, err error) {
	for content := r.next(); len(content) > 0; content = r.next() {
		n, err := w.Write(content)
		r.took(n)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (r *framesReader) Close() error { return nil }
