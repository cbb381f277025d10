package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
)

const (
	// packWithin is within what time a second message must be read from a pack for the rest to be read ahead.
	packWithin = time.Minute
	// packAgain is for how long it is then left at that: what the cache did not keep it would not keep the next time.
	packAgain = 10 * time.Minute
	// packsAtOnce is how many packs are read ahead at once. Those for which there is no room wait for the next message of theirs.
	packsAtOnce = 2
	// packsKnown bounds how many are remembered; then all are forgotten, which costs a request each.
	packsKnown = 10_000
	// packTimeout bounds the reading of one.
	packTimeout = 30 * time.Second
	// packNear is how many emails, by their numbers, are looked for in a pack together.
	packNear = 2048
	// packSaves is how many requests one must save.
	packSaves = 3
	// packShare is up to which part of the cache one pack takes when it is decoded: the inverse.
	packShare = 4
)

// packsAhead reads packs ahead for those who read messages here and there. A
// message is a small range of a pack, a request each; whoever asks for a second
// one soon will ask for more, so that the account's neighbours of it in the pack
// are read into the cache, by one request in the background.
type packsAhead struct {
	store *Store

	ctx    context.Context // ends with the store: of work that is no caller's
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	used   map[packPart]packUse
	now    int // how many are being read
	closed bool
}

// packPart is what one account has in a pack, near an email.
type packPart struct {
	tenant  id.Tenant
	account id.Account
	object  string
	near    id.Email // the number of the email divided by packNear
}

// packUse is when a part was first asked for, or read ahead.
type packUse struct {
	at    time.Time
	ahead bool
}

// over tells whether the use is too long ago to matter.
func (u packUse) over(now time.Time) bool {
	if u.ahead {
		return now.Sub(u.at) > packAgain
	}
	return now.Sub(u.at) > packWithin
}

func newPacksAhead(s *Store) *packsAhead {
	p := &packsAhead{store: s, used: make(map[packPart]packUse)}
	p.ctx, p.cancel = context.WithCancel(context.Background()) // until close
	return p
}

func (p *packsAhead) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.work.Wait()
}

// asked is told of each email that was read by itself from an object.
func (p *packsAhead) asked(key emailKey, object string) {
	if !strings.HasPrefix(object, packPrefix(key.tenant)) {
		return
	}
	part, now := packPart{key.tenant, key.account, object, key.email / packNear}, time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	use, known := p.used[part]
	switch {
	case p.closed:
	case !known || use.over(now):
		if len(p.used) >= packsKnown {
			clear(p.used)
		}
		p.used[part] = packUse{at: now}
	case !use.ahead && p.now < packsAtOnce:
		p.used[part] = packUse{now, true}
		p.now++
		p.work.Go(func() { p.read(part) })
	}
}

func (p *packsAhead) read(part packPart) {
	ctx, cancel := context.WithTimeout(p.ctx, packTimeout)
	defer cancel()
	ctx, end := p.store.job(ctx, "read pack ahead", ofTenant(part.tenant))
	err := p.store.readPart(ctx, part)
	end(err)
	// What fails here is read when it is asked for, and the error told then.
	if err != nil && p.ctx.Err() == nil {
		p.store.log.DebugContext(ctx, "pack was not read ahead", "tenant", part.tenant, "object", part.object, "error", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now--
}

// readPart reads into the cache what an account has in a part of a pack, but for what
// is there already, is large, or stands so thinly among the mail of others that a request would not pay.
func (s *Store) readPart(ctx context.Context, part packPart) error {
	found, err := s.lookupPart(ctx, part)
	if err != nil {
		return err
	}
	var decoded int64
	missing := make(map[id.Digest]*emailReader, len(found)) // an account may have a content more than once
	for email, l := range found {
		key := emailKey{part.tenant, part.account, email}
		s.contents.put(key, &l.emailContent)
		r := &emailReader{store: s, key: key, what: &l.emailContent, place: &l.place}
		if missing[l.digest] == nil && l.layout.Size <= aheadSize && !r.fromCache() {
			missing[l.digest] = r
			decoded += l.layout.Size
		}
	}
	if decoded > s.cacheBytes()/packShare {
		return nil
	}
	readers := make([]*emailReader, 0, len(missing))
	for _, r := range missing {
		readers = append(readers, r)
	}
	slices.SortFunc(readers, byPlace)
	for len(readers) > 0 && ctx.Err() == nil {
		n := neighbours(readers)
		if paysOff(readers[:n]) {
			s.readRun(ctx, readers[:n])
		}
		readers = readers[n:]
	}
	return ctx.Err()
}

// cacheBytes is how much content the cache keeps.
func (s *Store) cacheBytes() int64 {
	if s.options.BlobCacheDir != "" {
		return max(s.options.BlobCacheBytes, s.options.BlobCacheDirBytes)
	}
	return s.options.BlobCacheBytes
}

// paysOff tells whether one request for neighbours saves several, and at least half of what it reads is theirs.
func paysOff(readers []*emailReader) bool {
	var wanted int64
	for _, r := range readers {
		wanted += r.what.layout.StoredLen()
	}
	first, last := readers[0], readers[len(readers)-1]
	return len(readers) > packSaves && 2*wanted >= last.end()-first.place.off
}

// lookupPart finds the emails of a part.
func (s *Store) lookupPart(ctx context.Context, part packPart) (map[id.Email]located, error) {
	const query = `
		SELECT e.email_id, e.prefix, e.digest, b.encoding, b.size, b.frames, b.object_off
		FROM email e
		JOIN blob b ON b.tenant_id = e.tenant_id AND b.digest = e.digest
		WHERE e.tenant_id = $1 AND e.account_id = $2 AND e.email_id >= $3 AND e.email_id < $4
		  AND b.tenant_id = $1 AND b.object_key = $5`

	var found map[id.Email]located
	first := part.near * packNear
	err := s.read(ctx, part.tenant, func(b *pgx.Batch) {
		found = make(map[id.Email]located)
		b.Queue(query, part.tenant, part.account, first, first+packNear, part.object).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var email id.Email
				l := located{place: place{object: part.object}}
				var digest, frames []byte
				var encoding blob.Encoding
				var size int64
				err := rows.Scan(&email, &l.prefix, &digest, &encoding, &size, &frames, &l.place.off)
				if err != nil {
					return err
				}
				if l.layout, err = blob.DecodeLayout(encoding, size, frames); err != nil {
					return err
				}
				copy(l.digest[:], digest)
				found[email] = l
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("look up a pack: %w", err)
	}
	return found, nil
}
