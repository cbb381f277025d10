package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// at is an empty view at a MODSEQ.
func at(modSeq id.ModSeq) *view.View { return view.New(1, modSeq, nil) }

func TestViewCacheKeepsTheNewest(t *testing.T) {
	c := newViewCache(1 << 20)
	key := viewKey{1, 1}.owners()
	c.put(key, at(5))
	c.put(key, at(3))
	if got := c.get(key).ModSeq(); got != 5 {
		t.Errorf("MODSEQ %d, want 5", got)
	}
	c.put(key, at(6))
	if got := c.get(key).ModSeq(); got != 6 {
		t.Errorf("MODSEQ %d, want 6", got)
	}
	c.drop(key)
	if c.get(key) != nil || c.weight != 0 {
		t.Errorf("dropped, and %d octets are left", c.weight)
	}
}

func TestViewCacheIsBounded(t *testing.T) {
	weight := int64(at(1).Weight())
	c := newViewCache(3 * weight)
	for m := range id.Mailbox(5) {
		c.put(viewKey{1, m}.owners(), at(1))
		c.get(viewKey{1, 0}.owners()) // used again and again, so that it stays
	}
	for m, want := range map[id.Mailbox]bool{0: true, 1: false, 2: false, 3: true, 4: true} {
		if got := c.get(viewKey{1, m}.owners()) != nil; got != want {
			t.Errorf("mailbox %d kept: %t, want %t", m, got, want)
		}
	}
	if c.weight > c.bound {
		t.Errorf("%d octets, bound %d", c.weight, c.bound)
	}
	named := newViewCache(3 * weight)
	for m := range id.Mailbox(3) {
		named.put(viewKey{1, m}.owners(), at(1))
	}
	named.name(viewKey{1, 2}.owners(), nameKey{1, 1, string(make([]byte, weight+1))}) // which takes the room of two
	if named.get(viewKey{1, 2}.owners()) == nil || named.get(viewKey{1, 1}.owners()) != nil || named.weight > named.bound {
		t.Errorf("with a long name %d octets, bound %d", named.weight, named.bound)
	}
	small := newViewCache(1)
	small.put(viewKey{1, 1}.owners(), at(1))
	if small.get(viewKey{1, 1}.owners()) != nil {
		t.Error("a view heavier than the bound was kept")
	}
}

// A name leads to the view of the mailbox that was selected by it last, and goes with it.
func TestViewCacheNames(t *testing.T) {
	c := newViewCache(2*int64(at(1).Weight()) + 1) // a name of one octet included
	one, two := viewKey{1, 1}.owners(), viewKey{1, 2}.owners()
	a, b := nameKey{1, 1, "A"}, nameKey{1, 1, "B"}
	want := func(name nameKey, mailbox id.Mailbox) {
		t.Helper()
		if got, v := c.named(name); got != mailbox || (v != nil) != (mailbox != 0) {
			t.Errorf("%s is mailbox %d with view %v, want %d", name.name, got, v, mailbox)
		}
	}
	c.name(one, a) // of which there is no view
	want(a, 0)
	c.put(one, at(1))
	c.name(one, a)
	c.put(one, at(2))
	want(a, 1)
	c.put(two, at(1))
	c.name(two, a)
	want(a, 2)
	c.name(two, b)
	want(a, 0)
	want(b, 2)
	c.put(viewKey{1, 3}.owners(), at(1)) // the one that was not used for the longest time goes
	want(b, 2)
	c.drop(two)
	want(b, 0)
	if len(c.names) != 0 {
		t.Errorf("%d names are left", len(c.names))
	}
}

// What has been claimed as \Recent stays so while the view is kept.
func TestViewCacheClaims(t *testing.T) {
	c := newViewCache(1 << 20)
	key := viewKey{1, 1}.owners()
	c.claim(key, 3) // of which there is no view
	c.put(key, at(1))
	want := func(next id.UID, known bool) {
		t.Helper()
		if c.claimed(key, next) != known {
			t.Errorf("UIDs below %d known to be claimed: %t, want %t", next, !known, known)
		}
	}
	want(3, false)
	c.claim(key, 5)
	c.claim(key, 4)
	c.put(key, at(2))
	want(5, true)
	want(6, false)
	c.drop(key)
	c.put(key, at(2))
	want(5, false)
}

// One loads, the others wait for it; where it fails the next one tries.
func TestViewCacheLoadsOnce(t *testing.T) {
	c := newViewCache(1 << 20)
	key := viewKey{1, 1}.owners()
	var loads atomic.Int64
	var work sync.WaitGroup
	for range 20 {
		work.Go(func() {
			v, loaded, err := c.load(t.Context(), key)
			if err != nil {
				t.Error(err)
			}
			if v == nil {
				if loads.Add(1) > 1 { // the first fails
					c.put(key, at(1))
				}
				loaded()
			}
		})
	}
	work.Wait()
	if loads.Load() != 2 {
		t.Errorf("%d loads, want 2", loads.Load())
	}
	_, loaded, err := c.load(t.Context(), viewKey{1, 2}.owners())
	if err != nil {
		t.Fatal(err)
	}
	defer loaded()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.load(ctx, viewKey{1, 2}.owners()); !errors.Is(err, context.Canceled) {
		t.Errorf("wait that was given up: %v", err)
	}
}

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(2)
		var here, most atomic.Int64
		var work sync.WaitGroup
		for range 10 {
			work.Go(func() {
				done, err := turns.take(t.Context(), viewKey{1, 1})
				if err != nil {
					t.Error(err)
					return
				}
				defer done()
				if n := here.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Second)
				here.Add(-1)
			})
		}
		synctest.Wait()
		done, err := turns.take(t.Context(), viewKey{1, 2}) // another mailbox has turns of its own
		if err != nil {
			t.Error(err)
		}
		done()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := turns.take(ctx, viewKey{1, 1}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait that was given up: %v", err)
		}
		work.Wait()
		if most.Load() != 2 || len(turns.waiting) != 0 {
			t.Errorf("%d at once, %d mailboxes left", most.Load(), len(turns.waiting))
		}
	})
}

// What is loaded while others put newer views never goes back.
func TestViewCacheLoadsWhileOthersPut(t *testing.T) {
	c := newViewCache(1 << 20)
	key := viewKey{1, 1}.owners()
	c.put(key, at(1))
	var putting sync.WaitGroup
	defer putting.Wait()
	putting.Go(func() {
		for n := range id.ModSeq(1000) {
			c.put(key, at(n+2))
		}
	})
	var last id.ModSeq
	for range 1000 {
		v, _, err := c.load(t.Context(), key)
		if err != nil || v.ModSeq() < last {
			t.Fatalf("loaded %v after a view at %d: %v", v, last, err)
		}
		last = v.ModSeq()
	}
}
