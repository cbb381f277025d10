package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mailstead.dev/acl"
	"mailstead.dev/index"
	"mailstead.dev/index/remote"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

var (
	indexAccounts = flag.Int("index.accounts", 6, "accounts of TestIndexOfManyAccounts")
	indexEach     = flag.Int("index.each", 30, "messages that each of them has")
)

// One node serves the indexes of many accounts, all of them open, in little memory.
func TestIndexOfManyAccounts(t *testing.T) {
	const mostAnonymous = 1 << 30 // what it maps of files is the page cache's
	front := newServing(t, nil)   // which is not started, but has the store
	s := &searched{t: t, fronts: []*serving{front}}
	n := s.newIndexNode(t)
	n.configure(map[string]string{"search.max_open": fmt.Sprint(max(1000, *indexAccounts)), "search.workers": "2"})
	n.start([]string{"GOMEMLIMIT=900MiB"}) // as the chart gives it to a container of 1 GiB, about
	n.hears("READY=1")
	t.Logf("the process %d has the indexes", n.cmd.Process.Pid)

	begin := time.Now()
	users := make([]store.User, *indexAccounts)
	for i := range users {
		users[i] = storetest.Account(t, front.store, fmt.Sprintf("user%04d@many.test", i))
	}
	// What is delivered is packed meanwhile, and waited for where that falls behind.
	ctx, stop := context.WithCancel(t.Context())
	var maintaining sync.WaitGroup
	defer maintaining.Wait()
	defer stop()
	maintaining.Go(func() {
		if err := front.store.Maintain(ctx); err != nil {
			t.Error(err)
		}
	})
	work := make(chan int)
	var filling sync.WaitGroup
	for range 4 {
		filling.Go(func() {
			for i := range work {
				if err := fillAccount(t, front.store, users[i], i, *indexEach); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range users {
		work <- i
	}
	close(work)
	filling.Wait()
	if t.Failed() {
		return
	}
	t.Logf("filled in %v", time.Since(begin).Round(time.Second))
	all := int64(*indexAccounts * *indexEach)
	for deadline := time.Now().Add(patience + time.Duration(all)*20*time.Millisecond); ; time.Sleep(100 * time.Millisecond) {
		nodes, err := front.store.IndexNodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(nodes) == 1 && nodes[0].Emails == all {
			t.Logf("indexed after %v: words %d, texts %d octets", time.Since(begin).Round(time.Second), nodes[0].WordBytes, nodes[0].TextBytes)
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the indexes do not come: %+v\n%s", nodes, n.log)
		}
	}

	client, err := remote.NewClient(remote.Options{Directory: front.store})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for range 2 {
		begin := time.Now()
		for i, u := range users {
			want := uint32(1 + i%*indexEach)
			text := fmt.Sprintf("number%dof%d.", want, i)
			r, err := client.Search(t.Context(), u.Tenant, u.Account, []index.Query{{In: index.Body, Text: text}})
			if err != nil {
				t.Fatalf("%s: %v", u.Login, err)
			}
			if found := r.Answers[0].Matches.Clone(); !found.Contains(want) && !r.Answers[0].Maybe.Contains(want) || found.GetCardinality()+r.Answers[0].Maybe.GetCardinality() != 1 {
				t.Errorf("%s: %q is found in %v, or %v; want %d", u.Login, text, found, r.Answers[0].Maybe, want)
			}
		}
		t.Logf("a search of each took %v", time.Since(begin).Round(time.Millisecond))
	}
	if open := n.metric("mailstead_index_open"); open != *indexAccounts {
		t.Errorf("%d indexes are open, want all %d", open, *indexAccounts)
	}
	anonymous, mapped, peak := n.memory("RssAnon"), n.memory("RssFile"), n.memory("VmHWM")
	t.Logf("%d accounts of %d messages: %d MiB of its own, %d MiB of files mapped, at most %d MiB with both", *indexAccounts, *indexEach, anonymous>>20, mapped>>20, peak>>20)
	if anonymous > mostAnonymous {
		t.Errorf("the process has %d MiB of its own, want %d at most", anonymous>>20, mostAnonymous>>20)
	}
}

// fillAccount appends messages of about 3 KB; each has a word of its own.
func fillAccount(t *testing.T, s *store.Store, u store.User, number, messages int) error {
	inbox, err := s.Open(t.Context(), u, "INBOX", acl.All)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(uint64(number), 4))
	for m := 1; m <= messages; {
		var batch []store.Incoming
		for len(batch) < 50 && m <= messages {
			letter := plainLetter(random, number, m)
			var c *store.Content
			err := whenStaged(t, func() (err error) {
				c, err = s.Receive(t.Context(), u.Tenant, strings.NewReader(letter))
				return err
			})
			if err != nil {
				return err
			}
			defer c.Close() // few are open at a time: they are in memory
			batch = append(batch, store.Incoming{Content: c})
			m++
		}
		err := whenStaged(t, func() error {
			_, err := inbox.Append(t.Context(), batch...)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// whenStaged calls f until there is room in staging for what it brings.
func whenStaged(t *testing.T, f func() error) error {
	for {
		err := f()
		if !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		select {
		case <-t.Context().Done():
			return t.Context().Err()
		case <-time.After(time.Second):
		}
	}
}

// plainLetter has words of which few are common and most are rare.
func plainLetter(r *rand.Rand, account, message int) string {
	const vocabulary = 100_000
	var b strings.Builder
	fmt.Fprintf(&b, "From: Sender %d <sender%d@many.test>\r\nTo: user%04d@many.test\r\nSubject: letter %d\r\nMessage-ID: <%x@many.test>\r\n\r\n", r.IntN(200), r.IntN(200), account, message, r.Uint64())
	fmt.Fprintf(&b, "number%dof%d.\r\n", message, account)
	for size := int(2800 * math.Exp(0.35*r.NormFloat64())); b.Len() < size; {
		for range 12 {
			word := int(math.Exp(r.Float64() * math.Log(vocabulary)))
			fmt.Fprintf(&b, "%s ", strconv.FormatInt(int64(word)*7919%(1<<31)+int64(word), 36)) // of letters and digits, as unlike as words are
		}
		b.WriteString("\r\n")
	}
	return b.String()
}

// metric returns what the process tells under a name.
func (s *serving) metric(name string) int {
	s.t.Helper()
	found := regexp.MustCompile(`(?m)^` + name + `(?:\{[^}]*\})? (\d+)`).FindStringSubmatch(s.get("/metrics", 200))
	if found == nil {
		s.t.Fatalf("there is no metric %s", name)
	}
	value, err := strconv.Atoi(found[1])
	if err != nil {
		s.t.Fatal(err)
	}
	return value
}

// memory returns a figure of the process, in octets.
func (s *serving) memory(name string) int {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+) kB`).FindStringSubmatch(string(text))
	if found == nil {
		s.t.Fatalf("the process has no %s", name)
	}
	value, err := strconv.Atoi(found[1])
	if err != nil {
		s.t.Fatal(err)
	}
	return value << 10
}
