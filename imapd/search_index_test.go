package imapd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	indexnode "mailstead.dev/index/node"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
	"mailstead.dev/store/storetest"
)

// A search is answered with an index as without one: where the index has all, where it lacks some, and where its node is away.
func TestSearchWithIndex(t *testing.T) {
	s := storetest.New(t)
	user := storetest.Account(t, s, "ann@one.test")
	source := &pausedSource{Store: s}
	n, err := indexnode.New(indexnode.Options{Source: source, Dir: t.TempDir(), Messages: 5, Every: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() {
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	end := sync.OnceFunc(func() { stop(); working.Wait() })
	defer end()

	without := serveStore(t, s, nil)(t)
	with := serveStore(t, s, func(o *Options) { o.Index = n })(t)
	enter(without, user.Login)
	enter(with, user.Login)
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"apple", "pineapple", "Äpfel", "pie", "and", "the", "苹果", "apple-pie", "x", "42", "report"}
	some := func(n int) string {
		var all []string
		for range n {
			all = append(all, words[random.IntN(len(words))])
		}
		return strings.Join(all, " ")
	}
	messages := 0
	deliver := func(n int) {
		t.Helper()
		var all []string
		for range n {
			messages++
			text := fmt.Sprintf("From: %s%d@one.test\r\nSubject: %s\r\nX-Note: %s\r\nDate: %d Jan 2026 00:00:00 +0000\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n%s number%d\r\n",
				words[messages%2], messages, some(2), some(1), 1+messages%28, some(4), some(3), messages)
			flags := []string{"", `(\Seen) `, `(\Flagged) `}[messages%3]
			all = append(all, fmt.Sprintf("APPEND INBOX %s{%d+}\r\n%s", flags, len(text), text))
		}
		without.wantAll(all, "OK ")
	}
	keys := []string{
		`BODY apple`, `BODY "apple pie"`, `BODY "e p"`, `BODY "x"`, `BODY "nowhere"`, `BODY "-"`, `BODY " "`, `BODY ""`, `TEXT number7`, `TEXT "one.test"`,
		`SUBJECT apple`, `SUBJECT "the report"`, `SUBJECT ""`, `FROM "pineapple"`, `HEADER X-Note apple`, `HEADER X-Note ""`, `HEADER X-None ""`, `HEADER Date jan`,
		`NOT BODY apple`, `OR BODY 42 SUBJECT report`, `OR BODY 42 SEEN`, `UNSEEN BODY apple`, `FLAGGED NOT TEXT pie SENTSINCE 10-Jan-2026`,
		`SENTBEFORE 9-Jan-2026 BODY "the x"`, `OR SENTON 5-Jan-2026 BODY "pie and"`, `NOT OR BODY apple NOT SUBJECT pie`, `UID 1:90 BODY "apple"`, `(BODY apple BODY 42) NOT BODY report`,
		"CHARSET UTF-8 BODY {7+}\r\n\xc3\xa4pfel ", "CHARSET UTF-8 TEXT {3+}\r\n\xe6\x9e\x9c", "CHARSET UTF-8 BODY {6+}\r\n\xe8\x8b\xb9\xe6\x9e\x9c",
	}
	compare := func(when string) {
		t.Helper()
		for _, key := range keys {
			want, got := without.want("UID SEARCH "+key, "OK "), with.want("UID SEARCH "+key, "OK ")
			untagged := func(lines []string) (all []string) {
				for _, l := range lines {
					if strings.HasPrefix(l, "* SEARCH") {
						all = append(all, l)
					}
				}
				return all
			}
			if a, b := untagged(want), untagged(got); len(a) != 1 || !slices.Equal(a, b) {
				t.Errorf("%s: %q: %q with the index, %q without", when, key, b, a)
			}
		}
	}
	indexed := func() int64 {
		st, err := s.IndexStatus(t.Context(), user.Tenant, user.Account)
		if err != nil {
			t.Fatal(err)
		}
		return int64(st.UpTo)
	}

	deliver(120)
	for deadline := time.Now().Add(20 * time.Second); indexed() < 120; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the index does not follow")
		}
	}
	with.want("SELECT INBOX", "OK ")
	without.want("SELECT INBOX", "OK ")
	asks := func(when string, most bool) {
		t.Helper()
		before := n.Counted().Searches
		compare(when)
		if asked := int(n.Counted().Searches - before); most && asked < len(keys)/2 || !most && asked > 0 {
			t.Errorf("%s: the index was asked %d times for %d searches", when, asked, len(keys))
		}
	}
	asks("all is in the index", true)
	source.paused.Store(true)
	deliver(40)
	with.want("NOOP", "OK ")
	asks("some is not", true)
	if upTo := indexed(); upTo != 120 {
		t.Errorf("up to %d of %d messages are in the index, want 120", upTo, messages)
	}
	end()
	deliver(1)
	with.want("NOOP", "OK ")
	asks("the node is away", false)
	if _, err := n.Search(t.Context(), user.Tenant, user.Account, nil); !errors.Is(err, indexnode.ErrClosed) {
		t.Errorf("the node is away, and answers %v", err)
	}
}

// pausedSource is a store in which, while it is paused, an index node finds nothing new.
type pausedSource struct {
	*store.Store
	paused atomic.Bool
}

func (p *pausedSource) EmailsAfter(ctx context.Context, t id.Tenant, account id.Account, after id.Email, most int, yield func(id.Email, *message.Meta, message.Reader) error) (id.Email, error) {
	if p.paused.Load() {
		return after, nil
	}
	return p.Store.EmailsAfter(ctx, t, account, after, most, yield)
}
