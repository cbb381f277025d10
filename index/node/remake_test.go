package node

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
)

// While an index is made anew, which may take hours, it answers as it was, and the node does what there is to do for others.
func TestRemadeBeside(t *testing.T) {
	for name, begin := range map[string]func(r *running){
		"asked": func(r *running) {
			if err := r.store.AskIndex(r.Context(), r.user.Tenant, r.user.Account, store.AskRebuild); err != nil {
				r.Fatal(err)
			}
		},
		"old": func(r *running) {
			k := key{r.user.Tenant, r.user.Account}
			x, err := r.node.use(r.Context(), k, false)
			if err != nil {
				r.Fatal(err)
			}
			defer r.node.unuse(x, nil)
			x.account.working.Lock()
			defer x.account.working.Unlock()
			if err := r.node.stamp(r.Context(), x); err != nil {
				r.Fatal(err)
			}
			if err := x.index.Remove(r.Context(), []id.Email{2}); err != nil {
				r.Fatal(err)
			}
			if err := os.Chtimes(filepath.Join(x.dir, "version"), time.Time{}, time.Now().Add(-2*rebuildEvery)); err != nil {
				r.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := storetest.New(t)
			ann := &running{T: t, store: s, user: storetest.Account(t, s, "ann@one.test"), dir: t.TempDir()}
			ann.openInbox()
			var slow atomic.Bool
			begun, goOn := make(chan struct{}, 1), make(chan struct{})
			ann.startWith(Options{Files: reading(func(ctx context.Context, content io.Reader) (string, error) {
				if slow.Load() {
					select {
					case begun <- struct{}{}:
					default:
					}
					select {
					case <-goOn:
					case <-ctx.Done():
						return "", ctx.Err()
					}
				}
				text, err := io.ReadAll(content)
				return string(text), err
			}).forAll})
			defer func() { ann.stop() }()
			ann.attach("nightingale")
			ann.deliver(5)
			ann.whole(6)
			slow.Store(true)
			begin(ann)
			// works does all that a node does, for an account that is due to be compared with its mail.
			works := func() {
				if err := os.Remove(filepath.Join(ann.node.path(key{ann.user.Tenant, ann.user.Account}), reconciledFile)); err != nil && !os.IsNotExist(err) {
					t.Error(err)
				}
				worked := make(chan error, 1)
				go func() { worked <- ann.node.clean(t.Context()) }()
				select {
				case err := <-worked:
					if err != nil {
						t.Error(err)
					}
				case <-time.After(20 * time.Second):
					t.Fatal("it is held up")
				}
			}
			ann.await("it is made anew", func() bool {
				if len(begun) == 0 {
					works()
				}
				return len(begun) > 0
			})
			works()
			bob := *ann
			bob.user, bob.n = storetest.Account(t, s, "bob@one.test"), 0
			bob.openInbox()
			bob.deliver(6)
			bob.whole(6)
			ann.finds(ann.node, "nightingale", 1)
			ann.deliver(1)
			close(goOn)
			ann.await("it has been made anew", func() bool {
				number, err := ann.node.currentNumber(key{ann.user.Tenant, ann.user.Account})
				return err == nil && number == 2 && ann.status().Asked == ""
			})
			ann.whole(7)
			ann.finds(ann.node, "message2", 2)
			ann.finds(ann.node, "message7", 7)
		})
	}
}
