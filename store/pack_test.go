package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/storetest/testdb"
)

// packed is a store with a bucket of its own to look into.
type packed struct {
	*store.Store
	t       testing.TB
	cluster *testdb.Cluster
	bucket  blob.Bucket
	user    store.User
	mailbox *store.Mailbox
	next    int
}

func newPacked(t testing.TB, change ...func(*store.Options)) *packed {
	t.Helper()
	c := storetest.Config(t)
	p := &packed{t: t, cluster: c, Store: storetest.Open(t, c, change...), bucket: storetest.Bucket(t, c)}
	p.user = storetest.Account(t, p.Store, "a@one.test")
	p.mailbox = open(t, p.Store, p.user, "INBOX")
	return p
}

// deliver appends n messages that were never there, and returns their texts.
func (p *packed) deliver(n int) []string {
	p.t.Helper()
	var texts []string
	var all []store.Incoming
	for range n {
		p.next++
		texts = append(texts, text(p.next))
		all = append(all, incoming(p.mailbox, p.next))
	}
	if _, err := p.mailbox.Append(p.t.Context(), all...); err != nil {
		p.t.Fatal(err)
	}
	return texts
}

// place is a blob row.
type place struct {
	Dying     bool
	Size      int64
	Encoding  int16
	Frames    []byte
	StoredLen int64
	Slot      *int16
	ObjectKey *string
	ObjectOff *int64
}

func (p *packed) place(text string) place {
	p.t.Helper()
	const query = `
		SELECT dying, size, encoding, frames, stored_len, slot, object_key, object_off
		FROM blob
		WHERE tenant_id = $1 AND digest = $2`

	digest := sha256.Sum256([]byte(text))
	var at place
	err := p.Transact(p.t.Context(), p.user.Tenant, func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(p.t.Context(), query, p.user.Tenant, digest[:])
		at, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[place])
		return err
	})
	if err != nil {
		p.t.Fatalf("blob of %q: %v", text, err)
	}
	return at
}

// read reads a content where its row says that it lies.
func (p *packed) read(text string) (string, error) {
	p.t.Helper()
	at := p.place(text)
	digest := sha256.Sum256([]byte(text))
	layout, err := blob.DecodeLayout(blob.Encoding(at.Encoding), at.Size, at.Frames)
	if err != nil {
		return "", err
	}
	r, err := layout.Decode(p.t.Context(), 0, -1, func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		if at.Slot == nil {
			return p.bucket.Get(ctx, *at.ObjectKey, *at.ObjectOff+off, n)
		}
		var data []byte
		err := p.Transact(ctx, p.user.Tenant, func(tx pgx.Tx) error {
			query := fmt.Sprintf(`SELECT data FROM staged_%d WHERE tenant_id = $1 AND digest = $2`, *at.Slot)
			return tx.QueryRow(ctx, query, p.user.Tenant, digest[:]).Scan(&data)
		})
		return io.NopCloser(bytes.NewReader(data[min(off, int64(len(data))):])), err
	})
	if err != nil {
		return "", err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	return string(content), err
}

// readable checks that contents can be read, and whether from objects.
func (p *packed) readable(texts []string, inObjects bool) {
	p.t.Helper()
	for _, want := range texts {
		if got, err := p.read(want); err != nil || got != want {
			p.t.Errorf("read %q, %v; want %q", got, err, want)
		}
		if at := p.place(want); (at.ObjectKey != nil) != inObjects {
			p.t.Errorf("%q lies in an object: %v, want %v", want, at.ObjectKey != nil, inObjects)
		}
	}
}

func (p *packed) staged() store.Staged {
	p.t.Helper()
	staged, err := p.Staging(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return staged
}

func (p *packed) objects() []string {
	p.t.Helper()
	var keys []string
	for o, err := range p.bucket.List(p.t.Context(), "") {
		if err != nil {
			p.t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func (p *packed) rows(table string) int {
	p.t.Helper()
	return count(p.t, p.Store, p.user.Tenant, table)
}

func (p *packed) do(job func() error) {
	p.t.Helper()
	if err := job(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *packed) pack(all bool) {
	p.t.Helper()
	p.do(func() error { return store.PackTenant(p.Store, p.t.Context(), p.user.Tenant, all) })
}

// execute runs a statement of the tenant.
func (p *packed) execute(query string, args ...any) {
	p.t.Helper()
	p.do(func() error {
		return p.Transact(p.t.Context(), p.user.Tenant, func(tx pgx.Tx) error {
			_, err := tx.Exec(p.t.Context(), query, args...)
			return err
		})
	})
}

func TestPack(t *testing.T) {
	p := newPacked(t, func(o *store.Options) { o.PackSize = 2000 })
	texts := p.deliver(10)
	p.readable(texts, false)
	if got := p.staged(); got.Messages != 10 || got.Bytes == 0 || got.Oldest.IsZero() {
		t.Errorf("staged: %+v", got)
	}
	texts = append(texts, p.deliver(60)...)
	p.pack(false)
	if got := p.staged(); got.Bytes >= 2000 || got.Bytes == 0 {
		t.Errorf("after whole packs %+v are left, want less than a pack", got)
	}
	p.pack(true)
	p.readable(texts, true)
	if got := p.staged(); got != (store.Staged{}) {
		t.Errorf("staged after all was packed: %+v", got)
	}
	if puts, rows := len(p.objects()), p.rows("object"); puts != rows || puts < 2 || puts > 10 {
		t.Errorf("%d objects, %d rows", puts, rows)
	}
	if n := p.rows("object_intent"); n != 0 {
		t.Errorf("%d intents are left", n)
	}
	if m := p.Maintained(); m.Packed != 70 || m.Packs != int64(p.rows("object")) {
		t.Errorf("counted: %+v", m)
	}
	// What is there already is not stored again.
	p.next = 0
	p.deliver(70)
	if got := p.staged(); got != (store.Staged{}) {
		t.Errorf("the same again is staged: %+v", got)
	}
}

// A pack that dies at any step loses nothing, and leaves nothing for good.
func TestPackDies(t *testing.T) {
	p := newPacked(t, func(o *store.Options) { o.OrphanGrace = time.Nanosecond })
	died := errors.New("died")
	for _, at := range store.Steps {
		texts := p.deliver(5)
		p.StopAt(at, died)
		if err := store.PackTenant(p.Store, t.Context(), p.user.Tenant, true); !errors.Is(err, died) {
			t.Fatalf("step %d: %v", at, err)
		}
		p.ForgetSteps()
		p.readable(texts, at == store.Steps[1])
		p.pack(true)
		p.readable(texts, true)
		p.do(func() error { return store.CollectOrphans(p.Store, t.Context(), p.user.Tenant) })
		p.readable(texts, true)
		if objects, rows := len(p.objects()), p.rows("object"); objects != rows || p.rows("object_intent") != 0 {
			t.Errorf("step %d: %d objects, %d rows, %d intents", at, objects, rows, p.rows("object_intent"))
		}
	}
}

// Once its intent is collected an object cannot come to count.
func TestPackWithoutIntent(t *testing.T) {
	p := newPacked(t, func(o *store.Options) { o.OrphanGrace = time.Nanosecond })
	texts := p.deliver(5)
	p.AtStep(store.Steps[0], func() {
		p.do(func() error { return store.CollectOrphans(p.Store, t.Context(), p.user.Tenant) })
	})
	if err := store.PackTenant(p.Store, t.Context(), p.user.Tenant, true); err == nil || !strings.Contains(err.Error(), "intent") {
		t.Errorf("pack whose intent is gone: %v", err)
	}
	p.readable(texts, false)
	if keys := p.objects(); len(keys) != 0 {
		t.Errorf("objects: %v", keys)
	}
}

// An append that finds content while it moves, and content that dies and comes
// back while it moves, are both safe.
func TestPackMeetsAppends(t *testing.T) {
	p := newPacked(t)
	texts := p.deliver(20)
	p.AtStep(store.Steps[0], func() {
		p.next = 0
		p.deliver(10) // found where they are
		digest := sha256.Sum256([]byte(texts[15]))
		p.execute(`UPDATE blob SET dying = true WHERE tenant_id = $1 AND digest = $2`, p.user.Tenant, digest[:])
		// As another version of the compression would have it: 10 octets in a frame that is not compressed.
		p.execute(`UPDATE blob SET frames = frames || '\x01' WHERE tenant_id = $1 AND digest = $2`, p.user.Tenant, digest[:])
	})
	p.pack(true)
	p.ForgetSteps()
	p.readable(append(texts[:15:15], texts[16:]...), true)
	if at := p.place(texts[15]); at.ObjectKey != nil {
		t.Error("content was moved that is not what was packed")
	}
	p.next = 15
	p.deliver(1) // stored again over the one that died
	p.readable(texts[15:16], false)
	p.pack(true)
	p.readable(texts, true)
}

// Packs and appends of the same contents at once, from several processes.
func TestPackWhileAppending(t *testing.T) {
	c := storetest.Config(t)
	small := func(o *store.Options) { o.PackSize = 1000 }
	p := &packed{t: t, Store: storetest.Open(t, c, small), bucket: storetest.Bucket(t, c)}
	p.user = storetest.Account(t, p.Store, "a@one.test")
	p.mailbox = open(t, p.Store, p.user, "INBOX")
	other := storetest.Open(t, c, small)

	ctx, stop := context.WithCancel(t.Context())
	var packing, appending sync.WaitGroup
	for _, s := range []*store.Store{p.Store, other} {
		packing.Go(func() {
			for ctx.Err() == nil {
				if err := store.PackTenant(s, t.Context(), p.user.Tenant, true); err != nil && !errors.Is(err, store.ErrBusy) {
					t.Errorf("pack: %v", err)
				}
				if err := store.TurnRing(s, t.Context(), 0); err != nil {
					t.Errorf("turn the ring: %v", err)
				}
			}
		})
	}
	const messages = 60
	for _, s := range []*store.Store{p.Store, other, p.Store} {
		m := open(t, s, p.user, "INBOX")
		appending.Go(func() {
			for n := range messages {
				if _, err := m.Append(t.Context(), incoming(m, n)); err != nil {
					t.Errorf("append: %v", err)
				}
			}
		})
	}
	appending.Wait()
	stop()
	packing.Wait()
	p.pack(true)
	var texts []string
	for n := range messages {
		texts = append(texts, text(n))
	}
	p.readable(texts, true)
	checkAccount(t, p.Store, p.user)
}

func TestMerge(t *testing.T) {
	p := newPacked(t, func(o *store.Options) { o.OrphanGrace = time.Nanosecond })
	var texts []string
	merge := func() error { return store.MergeTenant(p.Store, t.Context(), p.user.Tenant) }
	for i := range 16 {
		texts = append(texts, p.deliver(3)...)
		p.pack(true)
		if i == 10 {
			p.do(merge)
			if n := p.rows("object"); n != 11 {
				t.Errorf("%d objects after merging 11 small packs, want all of them", n)
			}
		}
	}
	old := *p.place(texts[0]).ObjectKey
	p.do(merge)
	p.readable(texts, true)
	if n := p.rows("object"); n != 1 {
		t.Errorf("%d objects after merging 16 small packs, want 1", n)
	}
	// Who was on the way to the old ones gets there, until the grace time is over.
	if _, err := p.bucket.Stat(t.Context(), old); err != nil {
		t.Errorf("the old pack: %v", err)
	}
	p.do(func() error { return store.CollectOrphans(p.Store, t.Context(), p.user.Tenant) })
	if keys := p.objects(); len(keys) != 1 {
		t.Errorf("objects after collection: %v", keys)
	}
	p.readable(texts, true)
}

// once gives one wrong octet in one answer.
type once struct {
	blob.Bucket
	wrong bool
}

func (b *once) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	rc, err := b.Bucket.Get(ctx, key, off, n)
	if err != nil || !b.wrong {
		return rc, err
	}
	defer rc.Close()
	b.wrong = false
	content, err := io.ReadAll(rc)
	if err != nil {
		return nil, err
	}
	content[len(content)/2] ^= 1
	return io.NopCloser(bytes.NewReader(content)), nil
}

// What a merge reads wrong does not take the place of what is right.
func TestMergeVerifies(t *testing.T) {
	var bucket *once
	p := newPacked(t, func(o *store.Options) {
		bucket = &once{Bucket: o.Bucket}
		o.Bucket = bucket
	})
	var texts []string
	for range 16 {
		texts = append(texts, p.deliver(3)...)
		p.pack(true)
	}
	bucket.wrong = true
	if err := store.MergeTenant(p.Store, t.Context(), p.user.Tenant); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("merge of what was read wrong: %v, want %v", err, blob.ErrDamaged)
	}
	p.readable(texts, true)
	p.do(func() error { return store.MergeTenant(p.Store, t.Context(), p.user.Tenant) })
	p.readable(texts, true)
	if n := p.rows("object"); n != 1 {
		t.Errorf("%d objects after merging 16 small packs, want 1", n)
	}
}

func TestRing(t *testing.T) {
	p := newPacked(t)
	turn := func() error { return store.TurnRing(p.Store, t.Context(), 0) }
	slot := func(n int) int16 { return *p.place(text(n)).Slot }
	p.deliver(1)
	p.do(turn)
	p.deliver(1)
	if slot(1) != 0 || slot(2) != 1 {
		t.Fatalf("slots %d and %d, want 0 and 1", slot(1), slot(2))
	}
	for range 5 { // as far as there are empty slots
		p.do(turn)
		p.deliver(1)
	}
	if slot(7) != 3 {
		t.Errorf("the ring went on to slot %d over content that is there", slot(7))
	}
	p.pack(true)
	p.do(turn)
	texts := p.deliver(1)
	if slot(8) != 0 {
		t.Errorf("slot %d after all were emptied, want 0", slot(8))
	}

	// An append that took its slot before it was truncated is not lost, nor waited for by others.
	err := p.Transact(t.Context(), p.user.Tenant, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `INSERT INTO staged_2 (tenant_id, digest, data) VALUES ($1, '\x00', '\x01')`, p.user.Tenant); err != nil {
			return err
		}
		return turn()
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := p.rows("staged_2"); n != 1 {
		t.Errorf("%d rows in the slot that an insert held, want 1", n)
	}
	p.pack(true) // which drops the row that no blob refers to
	p.readable(texts, true)
	p.pack(true)
	if n := p.rows("staged_2"); n != 0 {
		t.Errorf("%d rows left over", n)
	}
}

// What leads to a pack: enough of a tenant, age, staging running full.
func TestWhenToPack(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*store.Options)
		puts   int
	}{
		{"too little", func(*store.Options) {}, 0},
		{"enough", func(o *store.Options) { o.PackSize = 500 }, 1},
		{"old", func(o *store.Options) { o.PackAge = time.Nanosecond }, 1},
		{"full", func(o *store.Options) { o.StagingBound = 1700 }, 1}, // of which ten messages take more than half, and less than a tenant may
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPacked(t, test.change)
			p.deliver(10)
			p.do(func() error { return store.PackAll(p.Store, t.Context()) })
			if n := len(p.objects()); n < test.puts || test.puts == 0 && n > 0 {
				t.Errorf("%d objects, want %d", n, test.puts)
			}
		})
	}
}

func TestSweepBucket(t *testing.T) {
	p := newPacked(t, func(o *store.Options) { o.OrphanGrace, o.RemoveUnknown = time.Nanosecond, true })
	texts := p.deliver(3)
	p.pack(true)
	put := func(key string) {
		t.Helper()
		p.do(func() error { return p.bucket.Put(t.Context(), key, strings.NewReader("x"), 1) })
	}
	random := strings.Repeat("a", 26)
	intended := fmt.Sprintf("t%d/o/b%s", p.user.Tenant, random)
	p.execute(`INSERT INTO object_intent (tenant_id, object_key) VALUES ($1, $2)`, p.user.Tenant, intended)
	put(intended)
	put(fmt.Sprintf("t%d/o/%s", p.user.Tenant, random)) // nobody knows it
	put("t999999/p/" + random)                          // of a tenant that is gone
	put("tenant-notes/x")                               // somebody's own
	time.Sleep(time.Second)                             // the bucket's clock counts seconds
	p.do(func() error { return store.SweepBucket(p.Store, t.Context()) })
	p.readable(texts, true)
	if got := p.objects(); len(got) != 3 {
		t.Errorf("left: %v; want the pack, the intended one and the foreign one", got)
	}
}

// By default what nobody knows is only counted.
func TestSweepBucketRemovesNothing(t *testing.T) {
	p := newPacked(t, func(o *store.Options) { o.OrphanGrace = time.Nanosecond })
	p.deliver(3)
	p.pack(true)
	for _, key := range []string{fmt.Sprintf("t%d/o/", p.user.Tenant), "t999999/p/"} {
		p.do(func() error { return p.bucket.Put(t.Context(), key+strings.Repeat("a", 26), strings.NewReader("x"), 1) })
	}
	was := p.objects()
	time.Sleep(time.Second) // the bucket's clock counts seconds
	p.do(func() error { return store.SweepBucket(p.Store, t.Context()) })
	if got := p.objects(); !slices.Equal(got, was) {
		t.Errorf("left: %v, want %v", got, was)
	}
	if m := p.Maintained(); m.Unknown != 2 || m.Orphans != 0 {
		t.Errorf("%d are unknown, %d removed; want 2 and none", m.Unknown, m.Orphans)
	}
}

func TestLease(t *testing.T) {
	c := storetest.Config(t)
	one, two := storetest.Open(t, c), storetest.Open(t, c)
	u := storetest.Account(t, one, "a@one.test")
	nothing := func(context.Context, func(id.Tenant) error) error { return nil }
	ran, err := one.UnderLease(t.Context(), "job", func(ctx context.Context, check func(id.Tenant) error) error {
		if ran, err := two.UnderLease(ctx, "job", nothing); ran || err != nil {
			t.Errorf("two hold a lease at once: %v, %v", ran, err)
		}
		if ran, err := two.UnderLease(ctx, "other", nothing); !ran || err != nil {
			t.Errorf("another lease: %v, %v", ran, err)
		}
		if err := check(u.Tenant); err != nil {
			t.Errorf("check while it is held: %v", err)
		}
		expire := func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE lease SET expires_at = now() WHERE name = 'job'`)
			return err
		}
		if err := two.Transact(ctx, u.Tenant, expire); err != nil {
			return err
		}
		if ran, err := two.UnderLease(ctx, "job", nothing); !ran || err != nil {
			t.Errorf("a lease that has run out: %v, %v", ran, err)
		}
		if err := check(u.Tenant); err == nil {
			t.Error("a transaction under a lease that another took went through")
		}
		return nil
	})
	if !ran || err != nil {
		t.Errorf("lease: %v, %v", ran, err)
	}
	if ran, err := one.UnderLease(t.Context(), "job", nothing); !ran || err != nil {
		t.Errorf("a lease that was given back: %v, %v", ran, err)
	}
}
