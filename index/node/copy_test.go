package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/blob"
	"mailstead.dev/store/storetest"
)

// Another node that takes an account goes on from the copy in object storage, unless that is of no use.
func TestCopies(t *testing.T) {
	cluster := storetest.Config(t)
	s := storetest.Open(t, cluster, func(o *store.Options) { o.OrphanGrace, o.TidyInterval = time.Nanosecond, 10*time.Millisecond })
	r := &running{T: t, store: s, user: storetest.Account(t, s, "ann@one.test"), dir: t.TempDir()}
	r.openInbox()
	options := Options{CopyAfter: 10, Takeover: time.Millisecond}
	r.startWith(options)
	defer func() { r.stop() }()
	copied := func() store.IndexCopy {
		t.Helper()
		c, err := s.IndexCopy(t.Context(), r.user.Tenant, r.user.Account)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	saved := func(n int64) store.IndexCopy {
		t.Helper()
		r.await("a copy is saved", func() bool { return r.node.Counted().Copies == n })
		return copied()
	}
	r.deliver(9)
	r.whole(9)
	if c := copied(); c.Key != "" {
		t.Errorf("so few emails have a copy: %+v", c)
	}
	r.deliver(3)
	first := saved(1)
	if first.UpTo < 10 || first.Stamp == 0 {
		t.Errorf("copy: %+v", first)
	}
	r.deliver(1)
	r.whole(13)
	if again := copied(); again.Key != first.Key {
		t.Errorf("one email more, and another copy: %+v after %+v", again, first)
	}

	elsewhere := func() {
		t.Helper()
		r.stop()
		r.dir = t.TempDir()
		r.startWith(options)
		r.whole(r.n)
	}
	elsewhere()
	if c := r.node.Counted(); int64(first.UpTo)+c.Emails != int64(r.n) || c.Rebuilt != 0 {
		t.Errorf("%+v: want only those indexed that are behind %d of %d", c, first.UpTo, r.n)
	}
	r.finds(r.node, "message7", 7)
	r.finds(r.node, "message13", 13)
	if left, err := filepath.Glob(filepath.Join(r.dir, "*", "*", copiedFolder)); err != nil || left != nil {
		t.Errorf("left: %v, %v", left, err)
	}

	// One that is more takes its place, and the object of the other goes.
	r.deliver(12)
	second := saved(1)
	bucket := storetest.Bucket(t, cluster)
	collected := func(c store.IndexCopy) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		var maintaining sync.WaitGroup
		maintaining.Go(func() {
			if err := s.Maintain(ctx); err != nil {
				t.Error(err)
			}
		})
		defer maintaining.Wait()
		defer cancel()
		r.await("the object is collected", func() bool { _, err := bucket.Stat(t.Context(), c.Key); return errors.Is(err, blob.ErrNotFound) })
	}
	collected(first)
	if _, err := bucket.Stat(t.Context(), second.Key); err != nil {
		t.Errorf("the second copy: %v", err)
	}

	// One that is damaged is not used; nor again, where that turns out later.
	body, err := bucket.Get(t.Context(), second.Key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		t.Fatal(err)
	}
	data[bytes.Index(data, []byte(".zap"))/512*512+512+100] ^= 1 // of a file of words
	replace := func(content []byte) {
		t.Helper()
		if _, err := bucket.Delete(t.Context(), second.Key); err != nil {
			t.Fatal(err)
		}
		if err := bucket.Put(t.Context(), second.Key, bytes.NewReader(content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
	}
	replace(data)
	r.stop()
	r.dir = t.TempDir()
	r.startWith(options)
	r.await("the index is made of the mail", func() bool {
		_, err := r.find(r.node, "message7")
		return err == nil && r.node.Counted().Emails == int64(r.n)
	})
	r.whole(r.n)
	r.finds(r.node, "message7", 7)
	if second = saved(1); second.Key == first.Key {
		t.Error("the damaged copy is kept")
	}
	replace([]byte("nonsense"))
	elsewhere()
	if c := r.node.Counted(); c.Emails != int64(r.n) {
		t.Errorf("with a copy that is none %+v, want all %d indexed", c, r.n)
	}
	r.finds(r.node, "message7", 7)
	third := saved(1)
	if third.Key == second.Key {
		t.Error("the damaged copy is kept")
	}

	if err := s.DeleteAccount(t.Context(), r.user); err != nil {
		t.Fatal(err)
	}
	collected(third)
}

// What a tar file names outside of the folder is not written.
func TestExtract(t *testing.T) {
	dir := t.TempDir()
	from := filepath.Join(dir, "from")
	for _, name := range []string{"version", "store/root.bolt", "texts/1.texts"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(from, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, name), []byte(strings.Repeat(name, 100)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var b strings.Builder
	if err := archive(&b, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if size, err := archiveSize(os.DirFS(from)); err != nil || size != int64(b.Len()) {
		t.Errorf("size %d, %v; want %d", size, err, b.Len())
	}
	to := filepath.Join(dir, "to")
	if err := extract(strings.NewReader(b.String()), to); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(to, "store", "root.bolt")); err != nil || string(text) != strings.Repeat("store/root.bolt", 100) {
		t.Errorf("%q, %v", text, err)
	}
	if err := extract(strings.NewReader(strings.Replace(b.String(), "texts/1.texts", "../../1.texts", 1)), filepath.Join(dir, "bad")); err == nil {
		t.Error("a file above the folder was written")
	}
	if err := extract(strings.NewReader(b.String()[:2000]), filepath.Join(dir, "short")); err == nil {
		t.Error("a file that was cut off is taken")
	}
}
