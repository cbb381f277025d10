package index

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailstead.dev/store/id"
)

var crashKills = flag.Int("index.kills", 2, "how often TestKill kills the process that adds")

const childEnv = "MAILSTEAD_INDEX_CHILD"

// childBatch is what the child adds as its n-th batch: the same whenever it is asked.
func childBatch(n int) (list []Document, emails []*modelEmail, upTo id.Email) {
	m := newModel(uint64(1000 + n))
	size := 1 + n%23
	first := id.Email(1 + 23*n)
	for i := range size {
		e := m.email()
		emails = append(emails, e)
		list = append(list, e.document(first+id.Email(i)))
	}
	return list, emails, first + 22
}

// child adds batches from where the index ends, one after the other, until it is
// killed. It says so of each that was added.
func child(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	a, err := Open(dir, Options{})
	fail(err)
	upTo, err := a.UpTo()
	fail(err)
	for n := int(upTo) / 23; ; n++ {
		list, _, upTo := childBatch(n)
		fail(a.Add(context.Background(), list, upTo))
		if n%5 == 4 { // and something is removed in between
			fail(a.Remove(context.Background(), []id.Email{upTo - 22}))
		}
		fmt.Println(n)
	}
}

// After a kill -9 in the middle of adding, what was said to be there is there,
// the mark and the emails agree, and it goes on from there.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	rnd := rand.New(rand.NewPCG(*equivalenceSeed, 11))
	said := -1
	for range *crashKills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		enough := said + 2 + rnd.IntN(12)
		for lines.Scan() {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(lines.Text())
			}
			if said = n; said >= enough {
				break
			}
		}
		time.Sleep(time.Duration(rnd.IntN(12_000)) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it had said before it died
			if n, err := strconv.Atoi(lines.Text()); err == nil && !strings.HasSuffix(lines.Text(), "\x00") {
				said = n
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child was not killed")
		}

		a := mustOpen(t, dir)
		upTo, err := a.UpTo()
		if err != nil {
			t.Fatal(err)
		}
		if int(upTo) < 23*(said+1) {
			t.Fatalf("up to %d after batch %d was said to be there", upTo, said)
		}
		m := newModel(99)
		for n := range int(upTo) / 23 {
			list, emails, upTo := childBatch(n)
			for i, d := range list {
				m.emails[d.Email] = emails[i]
			}
			// Whether the last removal came through is not known.
			if n%5 == 4 {
				if there, err := a.Emails(); err != nil || n < said || !there.Contains(uint32(upTo-22)) {
					delete(m.emails, upTo-22)
				}
			}
		}
		m.next = upTo + 1
		m.same(t, a)
		for range 3 {
			m.compare(t, a, []Query{m.query(), m.query(), m.query()})
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
