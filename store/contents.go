package store

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"
	"sync"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

const (
	// aheadSize is up to how many octets a content is read ahead as a whole; what is larger is read when asked for.
	aheadSize = 512 << 10
	// aheadBytes is about how much content is read ahead at a time, and aheadEmails of how many emails at most.
	aheadBytes  = 1 << 20
	aheadEmails = 64
	// firstAhead is of how many at first, so that they come soon.
	firstAhead = 4
	// aheadGap is how many octets of an object that nobody wants are read to save a request.
	aheadGap = 128 << 10
	// aheadRun bounds what one request reads.
	aheadRun = 4 << 20
	// aheadRequests is how many requests are under way at once.
	aheadRequests = 4
)

// Contents is Content for many emails, in the order asked; those that do not
// exist (any more) are left out. While yield uses some of them the next are
// read: what is staged in one query, what lies in objects in long ranges.
func (m *Mailbox) Contents(ctx context.Context, ids []id.Email, yield func(id.Email, message.Reader) error) error {
	return m.contents(ctx, ids, func(email id.Email, r *emailReader) error { return yield(email, r) })
}

func (m *Mailbox) contents(ctx context.Context, ids []id.Email, yield func(id.Email, *emailReader) error) error {
	transit := m.store.transit
	if err := transit.take(ctx, m.Tenant, transitOut); err != nil {
		return err
	}
	defer transit.give(m.Tenant, transitOut)
	most := 1 // of a batch
	if transit.ahead.TryAcquire(transitAhead) {
		defer transit.ahead.Release(transitAhead)
		most = aheadEmails
	}
	if len(ids) <= min(firstAhead, most) { // there is nothing to be read meanwhile
		b := ahead{ids: ids, few: true}
		b.err = b.read(ctx, m)
		return b.use(yield)
	}
	ctx, cancel := context.WithCancel(ctx)
	batches := make(chan ahead)
	done := make(chan struct{})
	defer func() {
		cancel()
		<-done
	}()
	go func() {
		defer close(done)
		defer close(batches)
		m.readAhead(ctx, ids, most, batches)
	}()
	for b := range batches {
		if err := b.use(yield); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// ahead is a batch of contents.
type ahead struct {
	ids     []id.Email
	few     bool // the command asks for no more than a batch
	readers map[id.Email]*emailReader
	err     error
}

func (b *ahead) use(yield func(id.Email, *emailReader) error) error {
	if b.err != nil {
		return b.err
	}
	for _, email := range b.ids {
		if r := b.readers[email]; r != nil {
			if err := yield(email, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// readAhead sends the contents of emails, batch by batch of most emails.
func (m *Mailbox) readAhead(ctx context.Context, ids []id.Email, most int, to chan<- ahead) {
	size, few := min(firstAhead, most), len(ids) <= aheadEmails
	for len(ids) > 0 {
		b := ahead{ids: ids[:min(size, len(ids))], few: few}
		ids = ids[len(b.ids):]
		b.err = b.read(ctx, m)
		select {
		case to <- b:
		case <-ctx.Done():
			return
		}
		if b.err != nil {
			return
		}
		size = min(2*size, most, max(1, int(int64(len(b.ids))*aheadBytes/max(b.bytes(), 1))))
	}
}

// bytes is how much content the batch has in memory.
func (b *ahead) bytes() (n int64) {
	for _, r := range b.readers {
		if r.frames != nil {
			n += r.what.layout.Size
		}
	}
	return n
}

func (b *ahead) read(ctx context.Context, m *Mailbox) error {
	s := m.store
	b.readers = make(map[id.Email]*emailReader, len(b.ids))
	var unknown []id.Email
	for _, email := range b.ids {
		key := emailKey{m.Tenant, m.Owner, email}
		if what, ok := s.contents.get(key); ok {
			r := &emailReader{store: s, key: key, what: what}
			if what.layout.Size > aheadSize || r.fromCache() {
				b.readers[email] = r
				continue
			}
		}
		unknown = append(unknown, email)
	}
	if len(unknown) == 0 {
		return nil
	}
	found, err := s.lookupContents(ctx, m.Tenant, m.Owner, unknown)
	if err != nil {
		return err
	}
	var far []*emailReader
	for email, l := range found {
		r := s.reader(emailKey{m.Tenant, m.Owner, email}, l)
		b.readers[email] = r
		if r.place != nil && r.place.slot == nil && l.layout.Size <= aheadSize && !r.fromCache() {
			far = append(far, r)
		}
	}
	if len(far) == 0 {
		return nil
	}
	objects := make([]string, len(far)) // a content that was read forgets where it lay
	for i, r := range far {
		objects[i] = r.place.object
	}
	s.readFar(ctx, slices.Clone(far))
	if b.few {
		for i, r := range far {
			s.packs.asked(r.key, objects[i])
		}
	}
	return nil
}

// fromCache takes the content from the cache, if all of it is there.
func (r *emailReader) fromCache() bool {
	frames, ok := r.store.cache.Cached(r.blobKey(), r.what.layout)
	if ok {
		r.frames, r.place = frames, nil
	}
	return ok
}

// readFar reads contents that lie in objects, neighbours together. Where that
// fails, the content is read again when its turn comes, and the error told then.
func (s *Store) readFar(ctx context.Context, readers []*emailReader) {
	slices.SortFunc(readers, byPlace)
	var requests sync.WaitGroup
	room := make(chan struct{}, aheadRequests)
	for len(readers) > 0 {
		n := neighbours(readers)
		some := readers[:n]
		readers = readers[n:]
		room <- struct{}{}
		requests.Go(func() {
			defer func() { <-room }()
			s.readRun(ctx, some)
		})
	}
	requests.Wait()
}

func byPlace(a, b *emailReader) int {
	return cmp.Or(strings.Compare(a.place.object, b.place.object), cmp.Compare(a.place.off, b.place.off))
}

func (r *emailReader) end() int64 { return r.place.off + r.what.layout.StoredLen() }

// neighbours returns how many contents, from the first on, one request is to read.
func neighbours(readers []*emailReader) int {
	first, end := readers[0].place, readers[0].end()
	for i, r := range readers[1:] {
		if r.place.object != first.object || r.place.off > end+aheadGap || r.end()-first.off > aheadRun {
			return i + 1
		}
		end = max(end, r.end())
	}
	return len(readers)
}

// readRun reads contents with one request.
func (s *Store) readRun(ctx context.Context, readers []*emailReader) {
	first, end := readers[0].place.off, readers[0].end()
	for _, r := range readers {
		end = max(end, r.end())
	}
	rc, err := s.options.Bucket.Get(ctx, readers[0].place.object, first, end-first)
	if err != nil {
		return
	}
	defer rc.Close()
	stored := make([]byte, end-first)
	if _, err := io.ReadFull(rc, stored); err != nil {
		return
	}
	for _, r := range readers {
		frames, err := s.cache.Decode(r.blobKey(), r.what.layout, stored[r.place.off-first:r.end()-first], true)
		if err == nil {
			r.frames, r.place = frames, nil
		}
	}
}
