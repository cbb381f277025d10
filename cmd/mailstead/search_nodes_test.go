package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// indexNode is the process that has the search indexes.
type indexNode struct {
	*serving
	dir string
}

// newIndexNode sets one up; even accounts of few messages get an index of it, and soon.
func (s *searched) newIndexNode(t *testing.T) *indexNode {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "index")
	return &indexNode{s.fronts[0].newServing(map[string]string{
		"roles": "[index, admin]", "search.folder": dir, "search.listen": address, "search.min_messages": "20", "search.every": "100ms",
	}), dir}
}

// begin starts the process, which may have run before.
func (n *indexNode) begin() {
	n.t.Helper()
	if err := os.RemoveAll(string(n.log)); err != nil { // what it says of where it listens is to be what it says now
		n.t.Fatal(err)
	}
	n.start(nil)
	n.hears("READY=1")
}

// kill ends it at once.
func (n *indexNode) kill() {
	n.t.Helper()
	n.signal(syscall.SIGKILL)
	if err := n.ends(); err == nil {
		n.t.Error("the index node has ended by itself")
	}
}

// searches is how many searches its indexes have been asked for since it was started.
func (n *indexNode) searches() int { n.t.Helper(); return n.metric("mailstead_index_searches_total") }

// indexed waits until the indexes have all mail.
func (s *searched) indexed(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(20 * patience) // on a busy machine the node rests most of the time
	for _, login := range s.logins {
		for {
			out := s.fronts[0].want("index status "+login+" --json", "")
			var v indexView
			if err := json.Unmarshal([]byte(out), &v); err != nil {
				t.Fatal(err)
			}
			if v.Alive && v.Emails > 0 && v.UpTo >= v.LastEmail {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the index does not come: %s\n%s", out, s.node.log)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// noticed waits until the front end that is searched asks the indexes: it does not look again at once where there was none.
func (s *searched) noticed(t *testing.T) {
	t.Helper()
	m := s.dial(t, 0, s.logins[0])
	for _, b := range s.boxes {
		if len(b.present()) <= 40 { // too few for an index to be asked
			continue
		}
		if _, err := m.do("EXAMINE " + b.name + "\r\n"); err != nil {
			t.Fatal(err)
		}
		before := s.node.searches()
		for deadline := time.Now().Add(patience); s.node.searches() == before; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the index of %s is not asked\n%s", b.owner, s.fronts[0].log)
			}
			if _, err := m.do("UID SEARCH BODY nobodyhasthis\r\n"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// asksTheIndex runs a phase in which the index must answer.
func (s *searched) asksTheIndex(p phase) phase {
	asked := 0
	p.before = func(t *testing.T) {
		s.indexed(t)
		s.noticed(t)
		asked = s.node.searches()
	}
	p.after = func(t *testing.T, searches int) {
		if asked = s.node.searches() - asked; asked < searches/4 {
			t.Errorf("of %d searches, the index was asked for %d", searches, asked)
		}
	}
	return p
}

// phases are what is searched under. Where all mail is read for lack of an index, fewer queries take as long.
func (s *searched) phases() []phase {
	random := rand.New(rand.NewPCG(s.seed, 2))
	pause := func() { time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond) }
	return []phase{
		{name: "without an index", share: 1, after: func(t *testing.T, _ int) { s.node.begin() }},
		s.asksTheIndex(phase{name: "quiet", share: 4}),
		s.asksTheIndex(phase{name: "mail comes and goes", share: 3, changes: true}),
		s.asksTheIndex(phase{name: "the index is rebuilt", share: 3, changes: true, beside: func(t *testing.T, more func(int) bool) {
			for i := 0; more(i); i++ {
				s.fronts[0].want("index rebuild "+s.logins[i%2], "made anew")
				pause()
			}
		}}),
		{name: "the index node is killed", share: 2, changes: true, beside: func(t *testing.T, more func(int) bool) {
			for i := 0; more(i); i++ {
				pause()
				s.node.kill()
				pause()
				s.node.begin()
			}
		}, after: func(t *testing.T, _ int) { s.indexed(t); s.noticed(t) }},
		{name: "its folder goes while it runs", share: 2, changes: true, beside: func(t *testing.T, more func(int) bool) {
			for i := 0; more(i); i++ {
				lost := filepath.Join(t.TempDir(), "lost") // at once, for it is written to
				if err := os.Rename(s.node.dir, lost); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
				pause()
			}
		}, after: func(t *testing.T, _ int) { s.indexed(t) }},
		{
			name: "its folder goes while it does not run", share: 2, changes: true,
			before: func(t *testing.T) {
				s.node.kill()
				if err := os.RemoveAll(s.node.dir); err != nil {
					t.Fatal(err)
				}
				s.node.begin()
			},
		},
	}
}
