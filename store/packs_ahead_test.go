package store_test

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"mailstead.dev/store"
	"mailstead.dev/store/blob"
	"mailstead.dev/store/blob/blobtest"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
)

// countedBucket counts what is read.
type countedBucket struct {
	blobtest.Memory
	gets atomic.Int64
}

var _ blob.Bucket = (*countedBucket)(nil)

func (b *countedBucket) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	b.gets.Add(1)
	return b.Memory.Get(ctx, key, off, n)
}

// readingPack is a pack that is read message by message by a store that has nothing in memory.
type readingPack struct {
	t      *testing.T
	bucket *countedBucket
	fresh  *store.Store
	texts  map[string][]string // by account
	ids    map[string][]id.Email
	boxes  map[string]*store.Mailbox
}

// newReadingPack has letters delivered in the order of owners, and packed. They are the same for all but other@one.test.
func newReadingPack(t *testing.T, size int, owners []string, change ...func(*store.Options)) *readingPack {
	t.Helper()
	p := &readingPack{t: t, bucket: &countedBucket{}, texts: map[string][]string{}, ids: map[string][]id.Email{}, boxes: map[string]*store.Mailbox{}}
	c := storetest.Config(t)
	in := func(o *store.Options) { o.Bucket = p.bucket }
	s := storetest.Open(t, c, in)
	users := map[string]store.User{}
	for _, owner := range owners {
		if _, there := users[owner]; !there {
			users[owner] = storetest.Account(t, s, owner)
		}
		n := len(p.texts[owner])
		text := letter(uint64(n), size)
		if owner == "other@one.test" {
			text = letter(uint64(1000+n), size)
		}
		p.texts[owner] = append(p.texts[owner], text)
		p.ids[owner] = append(p.ids[owner], deliver(t, s, open(t, s, users[owner], "INBOX"), "", text)...)
	}
	for _, u := range users {
		if err := store.PackTenant(s, t.Context(), u.Tenant, true); err != nil {
			t.Fatal(err)
		}
	}
	p.fresh = storetest.Open(t, c, append(change, in)...)
	for owner, u := range users {
		p.boxes[owner] = open(t, p.fresh, u, "INBOX")
	}
	return p
}

// read reads a message, and says how many requests that has made, those in the background included.
func (p *readingPack) read(owner string, i int) int64 {
	p.t.Helper()
	before := p.bucket.gets.Load()
	checkContent(p.t, p.boxes[owner], p.ids[owner][i], p.texts[owner][i])
	p.fresh.AwaitPacks()
	return p.bucket.gets.Load() - before
}

func repeated(owner string, n int) (owners []string) {
	for range n {
		owners = append(owners, owner)
	}
	return owners
}

// Who reads a second message of a pack gets the rest of it with one request; neither another account nor another tenant has anything of that.
func TestPackIsReadAhead(t *testing.T) {
	const me, tenant = "a@one.test", "a@two.test"
	p := newReadingPack(t, 2000, append(repeated(me, 40), repeated(tenant, 40)...))
	for i, want := range []int64{1, 2, 0, 0} {
		if got := p.read(me, 7*i); got != want {
			t.Errorf("message %d: %d requests, want %d", i, got, want)
		}
	}
	for i := range 40 {
		if got := p.read(me, i); got != 0 {
			t.Errorf("message %d of a pack that was read: %d requests", i, got)
		}
	}
	if got := p.read(tenant, 7); got != 1 {
		t.Errorf("the same content in another tenant: %d requests, want 1", got)
	}
}

// A pack that would not pay is read message by message.
func TestPackIsNotReadAhead(t *testing.T) {
	const me, other = "a@one.test", "other@one.test"
	var among []string
	for i := range 60 {
		owner := other
		if i%6 == 0 {
			owner = me
		}
		among = append(among, owner)
	}
	for name, test := range map[string]struct {
		owners []string
		change func(*store.Options)
	}{
		"mostly others'":   {among, func(*store.Options) {}},
		"a small cache":    {repeated(me, 10), func(o *store.Options) { o.BlobCacheBytes = 60_000 }},
		"a few messages":   {repeated(me, 4), func(*store.Options) {}},
		"no memory at all": {repeated(me, 10), func(o *store.Options) { o.BlobCacheBytes = 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newReadingPack(t, 2000, test.owners, test.change)
			for i := range p.ids[me] {
				if got := p.read(me, i); got != 1 {
					t.Errorf("message %d: %d requests, want 1", i, got)
				}
			}
		})
	}
}

// BenchmarkReadPack reads messages here and there, all of which lie in memory after a while.
func BenchmarkReadPack(b *testing.B) {
	s := storetest.New(b)
	u := storetest.Account(b, s, "a@one.test")
	m := open(b, s, u, "INBOX")
	var all []store.Incoming
	for i := range 500 {
		all = append(all, store.Incoming{Content: m.Receive(letter(uint64(i), 14_000))})
	}
	if _, err := m.Append(b.Context(), all...); err != nil {
		b.Fatal(err)
	}
	if err := store.PackTenant(s, b.Context(), u.Tenant, true); err != nil {
		b.Fatal(err)
	}
	v := viewOf(b, m)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		email := v.At(i * 7919 % v.Len()).Email
		if text, err := contentOf(b.Context(), m, email, 0, 1<<20); err != nil || len(text) < 14_000 {
			b.Fatal(fmt.Errorf("email %d: %d octets, %w", email, len(text), err))
		}
	}
}
