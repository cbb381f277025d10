package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
)

// keepingBucket does not remove objects whose keys begin as refused says; "-" refuses none.
type keepingBucket struct {
	blob.Bucket
	refused atomic.Value
}

func (b *keepingBucket) refuse(prefix string) { b.refused.Store(prefix) }

func (b *keepingBucket) Delete(ctx context.Context, keys ...string) (left []string, err error) {
	var some []string
	for _, key := range keys {
		if strings.HasPrefix(key, b.refused.Load().(string)) {
			left = append(left, key)
		} else {
			some = append(some, key)
		}
	}
	if len(left) > 0 {
		err = fmt.Errorf("%w: delete %s: Access Denied", blob.ErrUnavailable, left[0])
	}
	more, failed := b.Bucket.Delete(ctx, some...)
	return append(left, more...), errors.Join(err, failed)
}

// newKept is a store, of default settings but for the grace time, whose bucket refuses to remove anything.
func newKept(t *testing.T, change ...func(*store.Options)) (*packed, *keepingBucket) {
	bucket := &keepingBucket{}
	bucket.refuse("t")
	p := newPacked(t, append(change, func(o *store.Options) {
		o.OrphanGrace = time.Nanosecond
		bucket.Bucket, o.Bucket = o.Bucket, bucket
	})...)
	return p, bucket
}

// orphan makes n objects that only intents name.
func (p *packed) orphan(t id.Tenant, n int) {
	p.t.Helper()
	for i := range n {
		key := fmt.Sprintf("t%d/o/%s%04d", t, strings.Repeat("a", 22), i)
		err := p.Transact(p.t.Context(), t, func(tx pgx.Tx) error {
			_, err := tx.Exec(p.t.Context(), `INSERT INTO object_intent (tenant_id, object_key) VALUES ($1, $2)`, t, key)
			return err
		})
		if err != nil {
			p.t.Fatal(err)
		}
		p.do(func() error { return p.bucket.Put(p.t.Context(), key, strings.NewReader("x"), 1) })
	}
}

// known checks that there are so many objects, each with its row or its intent.
func (p *packed) known(objects, intents int) {
	p.t.Helper()
	if got, rows, left := len(p.objects()), p.rows("object"), p.rows("object_intent"); got != objects || left != intents || rows != objects-intents {
		p.t.Errorf("%d objects, %d rows, %d intents; want %d objects with %d intents", got, rows, left, objects, intents)
	}
	if objects > 0 {
		time.Sleep(time.Second) // the bucket's clock counts seconds
	}
	p.do(func() error { return store.SweepBucket(p.Store, p.t.Context()) })
	if n := p.Maintained().Unknown; n != 0 {
		p.t.Errorf("%d objects are unknown", n)
	}
}

// While the bucket refuses to remove objects none is lost track of, and then all go.
func TestCollectorRefused(t *testing.T) {
	p, bucket := newKept(t)
	texts := p.deliver(3)
	p.pack(true)
	p.orphan(p.user.Tenant, 5)
	for range 2 {
		err := store.CollectOrphans(p.Store, t.Context(), p.user.Tenant)
		if err == nil || !strings.Contains(err.Error(), "Access Denied") || len(err.Error()) > 200 {
			t.Errorf("collect: %v", err)
		}
		if errors.Is(err, store.ErrUnavailable) || errors.Is(err, blob.ErrUnavailable) {
			t.Errorf("a bucket that only does not remove is taken for one that is away: %v", err)
		}
	}
	p.known(6, 5)
	if n := p.Maintained().Orphans; n != 0 {
		t.Errorf("%d objects count as removed", n)
	}

	bucket.refuse(fmt.Sprintf("t%d/o/%s0003", p.user.Tenant, strings.Repeat("a", 22)))
	if err := store.CollectOrphans(p.Store, t.Context(), p.user.Tenant); err == nil {
		t.Error("collected what is refused")
	}
	p.known(2, 1)

	bucket.refuse("-")
	other := storetest.Open(t, p.cluster, func(o *store.Options) { o.Bucket, o.OrphanGrace = bucket, time.Nanosecond })
	together(t, 2, func(i int) error {
		return store.CollectOrphans([]*store.Store{p.Store, other}[i], t.Context(), p.user.Tenant)
	})
	p.known(1, 0)
	p.readable(texts, true)
	p.clean()
}

// A collector that dies at any step leaves all that it had begun to the next one.
func TestCollectorDies(t *testing.T) {
	p, bucket := newKept(t)
	bucket.refuse("-")
	died := errors.New("died")
	for i, at := range store.CollectSteps {
		p.orphan(p.user.Tenant, 3)
		p.StopAt(at, died)
		if err := store.CollectOrphans(p.Store, t.Context(), p.user.Tenant); !errors.Is(err, died) {
			t.Fatalf("step %d: %v", at, err)
		}
		p.ForgetSteps()
		if got, want := len(p.objects()), []int{3, 0}[i]; got != want || p.rows("object_intent") != 3 {
			t.Errorf("step %d: %d objects, %d intents; want %d and 3", at, got, p.rows("object_intent"), want)
		}
		p.collect()
		p.known(0, 0)
	}
}

// What is refused for ever keeps nothing else from its turn: not what comes behind it, and not other tenants.
func TestCollectorGoesOn(t *testing.T) {
	p, bucket := newKept(t)
	other := storetest.Account(t, p.Store, "b@two.test")
	p.orphan(p.user.Tenant, 3)
	p.orphan(other.Tenant, 3)
	p.execute(`
		INSERT INTO object_intent (tenant_id, object_key, created_at)
		SELECT $1, 'locked' || i, '2020-01-01' FROM generate_series(1, 1000) i`, p.user.Tenant)
	bucket.refuse("locked")
	for range 2 {
		if err := store.TidyAll(p.Store, t.Context()); err == nil || len(err.Error()) > 200 {
			t.Errorf("tidy: %v", err)
		}
	}
	if got, others := p.rows("object_intent"), count(t, p.Store, other.Tenant, "object_intent"); got != 1000 || others != 0 {
		t.Errorf("%d intents, and %d of the other tenant; want 1000 and none", got, others)
	}
	if keys := p.objects(); len(keys) != 0 {
		t.Errorf("objects: %v", keys)
	}
}

// Nothing comes to count whose intent is condemned, though its object is still there.
func TestCommitOfTheCondemned(t *testing.T) {
	p, bucket := newKept(t)
	collect := func() {
		if err := store.CollectOrphans(p.Store, t.Context(), p.user.Tenant); err == nil {
			t.Error("collected what is refused")
		}
	}
	texts := p.deliver(5)
	p.AtStep(store.Steps[0], collect)
	if err := store.PackTenant(p.Store, t.Context(), p.user.Tenant, true); err == nil || !strings.Contains(err.Error(), "intent") {
		t.Errorf("pack whose intent is condemned: %v", err)
	}
	p.ForgetSteps()
	p.readable(texts, false)

	large := open(t, storetest.Open(t, p.cluster, func(o *store.Options) { o.NoStaging = true }), p.user, "INBOX")
	in := incoming(large, 100)
	collect()
	if _, err := large.Append(t.Context(), in); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("append whose intent is condemned: %v, want %v", err, store.ErrUnavailable)
	}

	copied := readAfter{strings.NewReader("x"), collect}
	err := p.SaveIndexCopy(t.Context(), p.user.Tenant, p.user.Account, "node", store.IndexCopy{}, copied, 1)
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("copy of an index whose intent is condemned: %v, want %v", err, store.ErrUnavailable)
	}
	p.known(3, 3)

	bucket.refuse("-")
	p.collect()
	p.known(0, 0)
	p.pack(true)
	p.readable(texts, true)
	p.clean()
}

// readAfter calls a function before each piece is read.
type readAfter struct {
	io.Reader
	first func()
}

func (r readAfter) Read(p []byte) (int, error) {
	r.first()
	return r.Reader.Read(p)
}

// A tenant is deleted only when the bucket has removed all that is theirs.
func TestDeleteTenantRefused(t *testing.T) {
	p, bucket := newKept(t)
	p.deliver(5)
	p.pack(true)
	p.orphan(p.user.Tenant, 2)
	if err := p.DeleteTenant(t.Context(), p.user.Tenant); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("delete: %v, want %v", err, store.ErrUnavailable)
	}
	p.known(3, 3)
	bucket.refuse("-")
	p.do(func() error { return p.DeleteTenant(t.Context(), p.user.Tenant) })
	p.known(0, 0)
}
