package imapd

import (
	"fmt"
	"testing"
	"time"

	"mailstead.dev/store"
)

// Which mailboxes the sources of an ESEARCH name (RFC 5465 section 6).
func TestSources(t *testing.T) {
	me := store.User{Account: 1}
	for _, test := range []struct{ sources, in, out string }{
		{"(mailboxes (a b/c))", "a", "ab"}, {"(mailboxes (a b/c))", "b/c", "b"}, {"(mailboxes a)", "a", "a/b"},
		{"(subtree (x a))", "a", "aa/b"}, {"(subtree a)", "a/b", "b/a"}, {"(subtree a/b)", "a/b/c/d", "a/c"},
		{"(subtree-one a)", "a", "a/b/c"}, {"(subtree-one a)", "a/b", "aa"},
		{"(inboxes)", "INBOX", "INBOX/a"}, {"(personal)", "a/b", "Other Users/x/a"}, {"(subtree-one a mailboxes a/b/c)", "a/b/c", "a/b/d"},
	} {
		d := decoderOf(" IN " + test.sources + " ALL")
		r, err := readESearch(d)
		if err != nil {
			t.Fatalf("%s: %v", test.sources, err)
		}
		c := r.(*esearchCmd)
		entry := func(name string) store.Entry {
			e := store.Entry{Name: name, Owner: 1}
			if name == "Other Users/x/a" {
				e.Owner = 2
			}
			return e
		}
		if !c.has(entry(test.in), me) || c.has(entry(test.out), me) {
			t.Errorf("%s: has %s: %t, %s: %t", test.sources, test.in, c.has(entry(test.in), me), test.out, c.has(entry(test.out), me))
		}
	}
}

// Very many names of very many mailboxes take no time.
func TestManySources(t *testing.T) {
	const n = 20_000
	o := sources{mailboxes: make(map[string]bool), subtrees: make(map[string]bool), families: make(map[string]bool)}
	for i := range n {
		o.subtrees[fmt.Sprintf("a long name that many have/%d", i)] = true
	}
	began, has := time.Now(), 0
	for i := range n {
		if o.has(store.Entry{Name: fmt.Sprintf("a long name that many have/%d/%d", i/2*4, i)}, store.User{Account: 1}) {
			has++
		}
	}
	if took := time.Since(began); has != n/2 || took > 2*time.Second {
		t.Errorf("%d of %d are found, in %s", has, n, took)
	}
}
