package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
)

const (
	fsckStaged  = 100     // contents that are read from staging at a time,
	fsckObjects = 1000    // and rows of contents in objects
	fsckGap     = 1 << 20 // octets of an object that are read over to save a request
)

// storedContent is a blob as its row describes it.
type storedContent struct {
	digest  id.Digest
	stored  int64 // octets
	layout  blob.Layout
	place   place
	counts  bool // its object has a row
	problem error
}

// contents reads every content of the tenant where it lies, and digests it
// anew. What moves meanwhile is looked for again; objects are read from one end to the other.
func (f *fsck) contents(ctx context.Context) error {
	if err := f.intents(ctx); err != nil {
		return err
	}
	const (
		staged = selectStored + `
			WHERE b.tenant_id = $1 AND b.slot IS NOT NULL AND b.digest > $2
			ORDER BY b.digest
			LIMIT $3`

		inObjects = selectStored + `
			WHERE b.tenant_id = $1 AND b.slot IS NULL AND (b.object_key, b.object_off, b.digest) > ($3, $4, $2)
			ORDER BY b.object_key, b.object_off, b.digest
			LIMIT $5`
	)
	objects := &objectsReader{bucket: f.store.options.Bucket}
	defer objects.close()

	after := []byte{}
	for {
		page, err := f.page(ctx, staged, f.tenant, after, fsckStaged)
		if err != nil {
			return err
		}
		for _, c := range page {
			if err := f.content(ctx, objects, c); err != nil {
				return err
			}
			after = bytes.Clone(c.digest[:])
		}
		if len(page) < fsckStaged {
			break
		}
	}
	key, off := "", int64(0)
	after = []byte{}
	for {
		page, err := f.page(ctx, inObjects, f.tenant, after, key, off, fsckObjects)
		if err != nil {
			return err
		}
		for _, c := range page {
			if err := f.content(ctx, objects, c); err != nil {
				return err
			}
			key, off, after = c.place.object, c.place.off, bytes.Clone(c.digest[:])
		}
		if len(page) < fsckObjects {
			return nil
		}
	}
}

const selectStored = `
	SELECT b.digest, b.stored_len,
	       EXISTS (SELECT FROM object o WHERE o.tenant_id = b.tenant_id AND o.object_key = b.object_key), ` + placeColumns + `
	FROM blob b` + placeStaged

func (f *fsck) page(ctx context.Context, query string, args ...any) ([]storedContent, error) {
	var page []storedContent
	err := f.store.read(ctx, f.tenant, func(b *pgx.Batch) {
		page = nil
		b.Queue(query, args...).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var c storedContent
				var digest []byte
				err := scanPlace(rows, &c.layout, &c.place, &digest, &c.stored, &c.counts)
				if errors.Is(err, blob.ErrDamaged) {
					c.problem = err
				} else if err != nil {
					return err
				}
				copy(c.digest[:], digest)
				page = append(page, c)
			}
			return rows.Err()
		})
	})
	return page, err
}

// content checks one content, and once more where it has moved since its row was read.
func (f *fsck) content(ctx context.Context, objects *objectsReader, c storedContent) error {
	const again = selectStored + ` WHERE b.tenant_id = $1 AND b.digest = $2`

	f.Contents++
	f.Bytes += c.layout.Size
	for range locateAttempts {
		problem, err := f.read(ctx, objects, c)
		if err != nil || problem == nil {
			return err
		}
		page, err := f.page(ctx, again, f.tenant, c.digest[:])
		if err != nil || len(page) == 0 {
			return err // gone: nobody refers to it
		}
		if page[0].place.same(&c.place) {
			f.report(Finding{Kind: FoundContent, Tenant: f.tenant, Digest: c.digest.String(), Detail: problem.Error()})
			return nil
		}
		c = page[0]
	}
	return fmt.Errorf("content %s moves all the time", c.digest)
}

// same reports whether content has not moved from p.
func (p *place) same(o *place) bool {
	if p.slot == nil || o.slot == nil {
		return p.slot == o.slot && p.object == o.object && p.off == o.off
	}
	return *p.slot == *o.slot && (p.data == nil) == (o.data == nil)
}

// read returns what is wrong with a content, and an error where it could not look.
func (f *fsck) read(ctx context.Context, objects *objectsReader, c storedContent) (problem, err error) {
	if c.problem != nil {
		return c.problem, nil
	}
	if n := c.layout.StoredLen(); n != c.stored {
		return fmt.Errorf("its row says %d stored octets, its frames have %d", c.stored, n), nil
	}
	var from io.Reader
	var where string
	switch {
	case c.place.slot == nil:
		where = fmt.Sprintf("in %s at %d", c.place.object, c.place.off)
		if !c.counts {
			found := Finding{Kind: FoundObject, Tenant: f.tenant, Digest: c.digest.String(), Detail: c.place.object + " has no row"}
			if f.repairer {
				if found.Repaired, err = f.countObject(ctx, c.place.object); err != nil {
					return nil, err
				}
			}
			f.report(found)
		}
		if from, err = objects.at(ctx, c.place.object, c.place.off); errors.Is(err, blob.ErrNotFound) {
			return fmt.Errorf("%s: no such object", where), nil
		} else if err != nil {
			return nil, err
		}
	case c.place.data == nil:
		return fmt.Errorf("staged in slot %d, where it is not", *c.place.slot), nil
	default:
		where = fmt.Sprintf("staged in slot %d", *c.place.slot)
		if int64(len(c.place.data)) != c.stored {
			return fmt.Errorf("%s: %d stored octets, not %d", where, len(c.place.data), c.stored), nil
		}
		from = bytes.NewReader(c.place.data)
	}
	digest := sha256.New()
	r, err := c.layout.Decode(ctx, 0, -1, func(context.Context, int64, int64) (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(from, c.stored)), nil
	})
	if err == nil {
		_, err = io.Copy(digest, r)
		err = errors.Join(err, r.Close())
	}
	switch {
	case errors.Is(err, blob.ErrDamaged):
		return fmt.Errorf("%s: %w", where, err), nil
	case err != nil:
		return nil, err
	case [sha256.Size]byte(digest.Sum(nil)) != c.digest:
		return fmt.Errorf("%s: its digest is %x", where, digest.Sum(nil)), nil
	}
	return nil, nil
}

// intents looks for objects that count and would be collected nevertheless.
func (f *fsck) intents(ctx context.Context) error {
	const query = `
		SELECT i.object_key
		FROM object_intent i
		JOIN object o ON o.tenant_id = i.tenant_id AND o.object_key = i.object_key
		WHERE i.tenant_id = $1`

	var keys []string
	err := f.store.read(ctx, f.tenant, func(b *pgx.Batch) {
		b.Queue(query, f.tenant).Query(func(rows pgx.Rows) (err error) {
			keys, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
	})
	if err == nil && f.repairer && len(keys) > 0 {
		err = f.dropIntents(ctx, keys)
	}
	if err != nil {
		return err
	}
	for _, key := range keys {
		f.report(Finding{Kind: FoundObject, Tenant: f.tenant, Detail: key + " counts, and has an intent", Repaired: f.repairer})
	}
	return nil
}

// objectsReader reads contents in the order in which they lie in objects, with one request for each object.
type objectsReader struct {
	bucket blob.Bucket
	key    string
	pos    int64
	body   io.ReadCloser
}

// at returns a reader that begins at off.
func (o *objectsReader) at(ctx context.Context, key string, off int64) (io.Reader, error) {
	if o.body != nil && o.key == key && off >= o.pos && off-o.pos <= fsckGap {
		_, err := io.CopyN(io.Discard, o, off-o.pos)
		if err == nil {
			return o, nil
		}
	}
	o.close()
	body, err := o.bucket.Get(ctx, key, off, -1)
	if err != nil {
		return nil, err
	}
	o.key, o.pos, o.body = key, off, body
	return o, nil
}

func (o *objectsReader) Read(p []byte) (int, error) {
	n, err := o.body.Read(p)
	o.pos += int64(n)
	return n, err
}

// close ends the request. Its error says nothing of what was read.
func (o *objectsReader) close() {
	if o.body != nil {
		_ = o.body.Close()
		o.body = nil
	}
}
