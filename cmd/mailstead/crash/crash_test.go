//go:build crash

package crash

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The crash test: clients change mail through two front ends, which, like
// PostgreSQL and the S3 server, are killed again and again. Afterwards whatever
// was acknowledged must be there, once, and the books must be right.
//
// It runs with `make crash`, apart from the other tests, for the time it takes.

var (
	crashSeed       = flag.Uint64("crash.seed", 0, "seed of the crash test; 0: a random one")
	crashDuration   = flag.Duration("crash.duration", time.Minute, "how long the clients work, at least")
	crashOperations = flag.Int64("crash.operations", 5000, "how many operations are acknowledged, at least")
	crashKills      = flag.Int("crash.kills", 5, "how often a front end, PostgreSQL and the S3 server are killed each, at least")
)

func TestCrash(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: run again with -crash.seed=%d", seed, seed)
	dev := startDev(t, buildMailstead(t, shortLeases), forgetful...)
	load := startLoad(t, dev, seed)
	kills := dev.killAll(t, load, rand.New(rand.NewPCG(seed, 1)))
	load.stop()
	dev.sample()
	for _, metric := range []string{
		"mailstead_packs_total", "mailstead_emails_removed_total", "mailstead_contents_removed_total",
		"mailstead_pack_rewrites_total", "mailstead_orphans_removed_total",
	} {
		n := dev.counted(metric)
		t.Logf("%s: %.0f", metric, n)
		if n == 0 {
			t.Errorf("%s is 0: what it counts was not done while processes were killed", metric)
		}
	}
	if n := dev.counted("mailstead_drift_total"); n != 0 {
		t.Errorf("mailstead_drift_total is %.0f", n)
	}
	t.Logf("%d operations acknowledged, %d refused, %d of unknown outcome, %d large messages; killed: %v",
		load.acknowledged.Load(), load.refused.Load(), load.unknown.Load(), load.large.Load(), kills)
	report(t, load.problems())
	report(t, load.verify(t, dev))
	report(t, dev.fsck(t))

	// All at once, and then from what is on disk alone.
	dev.killEverything(t)
	dev.start(t)
	report(t, load.verify(t, dev))
	report(t, dev.fsck(t))
}

func report(t *testing.T, problems []string) {
	t.Helper()
	for i, p := range problems {
		if i == 20 {
			t.Errorf("and %d more", len(problems)-i)
			return
		}
		t.Error(p)
	}
}

// killAll kills children at random moments until there has been enough of all.
func (d *devServer) killAll(t *testing.T, load *crashLoad, rnd *rand.Rand) map[string]int {
	t.Helper()
	kills := map[string]int{}
	begin := time.Now()
	var bag []string
	for {
		if len(bag) == 0 {
			bag = []string{"front-1", "postgres", "s3", "front-2", "postgres", "s3"}
			rnd.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
		}
		name := bag[0]
		bag = bag[1:]
		time.Sleep(500*time.Millisecond + time.Duration(rnd.Int64N(int64(2*time.Second)))) // the random moment
		d.sample()
		d.kill(t, name)
		kills[strings.TrimRight(name, "-12")]++
		enough := time.Since(begin) >= *crashDuration && load.acknowledged.Load() >= *crashOperations
		for _, kind := range []string{"front", "postgres", "s3"} {
			enough = enough && kills[kind] >= *crashKills
		}
		if enough {
			return kills
		}
		if time.Since(begin) > 10**crashDuration {
			t.Fatalf("in %v only %d operations were acknowledged; killed: %v", time.Since(begin), load.acknowledged.Load(), kills)
		}
	}
}

// TestCrashTestFinds tests the crash test: it finds each of these.
func TestCrashTestFinds(t *testing.T) {
	t.Run("answers sent before the commit", func(t *testing.T) {
		dev := startDev(t, buildMailstead(t, earlyAnswer...))
		load := startLoad(t, dev, 1)
		for i := range 8 {
			time.Sleep(2 * time.Second) // work, without which nothing can be lost
			dev.kill(t, fmt.Sprintf("front-%d", 1+i%2))
		}
		load.stop()
		problems := append(load.problems(), load.verify(t, dev)...)
		if len(problems) == 0 {
			t.Fatal("not found")
		}
		t.Logf("found: %s", problems[0])
	})

	dev := startDev(t, buildMailstead(t))
	load := startLoad(t, dev, 2)
	for load.acknowledged.Load() < 600 || load.large.Load() < 3 {
		time.Sleep(50 * time.Millisecond)
	}
	load.stop()
	report(t, load.problems())
	report(t, load.verify(t, dev))
	report(t, dev.fsck(t))
	if t.Failed() {
		t.Fatal("problems before any was planted")
	}
	for _, p := range []struct {
		name  string
		plant func(t *testing.T, d *devServer) (undo func())
	}{
		{"a staged row that is lost", loseStagedRow},
		{"a byte of an object that is flipped", flipByte},
		{"a counter that is wrong", miscount},
	} {
		t.Run(p.name, func(t *testing.T) {
			dev.restart(t) // nothing is in anyone's memory
			undo := p.plant(t, dev)
			defer undo()
			byClients, byFsck := load.verify(t, dev), dev.fsck(t)
			t.Logf("found by clients: %v", first(byClients))
			t.Logf("found by fsck: %v", first(byFsck))
			if len(byFsck) == 0 { // clients do not see content whose message has been expunged
				t.Error("not found")
			}
		})
	}
	report(t, dev.fsck(t)) // all is undone
}

func first(problems []string) []string { return slices.Clip(problems[:min(len(problems), 2)]) }

// crashLoad is the clients at work.
type crashLoad struct {
	*counters
	clients []*crashClient
	ending  chan struct{}
	working sync.WaitGroup
	stopped sync.Once
}

// startLoad starts eight clients, two each of four accounts in two tenants.
func startLoad(t *testing.T, d *devServer, seed uint64) *crashLoad {
	t.Helper()
	l := &crashLoad{counters: &counters{}, ending: make(chan struct{})}
	for i := range 8 {
		login := fmt.Sprintf("user%04d@demo.test", i/2+1)
		if i >= 6 {
			login = "user0001@other.test"
		}
		c := &crashClient{
			counters: l.counters, dev: d, number: i, login: login,
			rnd:   rand.New(rand.NewPCG(seed, uint64(100+i))),
			known: map[string]*tracked{},
		}
		c.boxes = []string{fmt.Sprintf("crash-%d-a", i), fmt.Sprintf("crash-%d-b", i)}
		if err := c.prepare(); err != nil {
			t.Fatal(err)
		}
		l.clients = append(l.clients, c)
		l.working.Go(func() { c.work(l.ending) })
	}
	t.Cleanup(l.stop)
	return l
}

// stop ends the work and returns when all clients have stopped.
func (l *crashLoad) stop() {
	l.stopped.Do(func() { close(l.ending) })
	l.working.Wait()
}

func (l *crashLoad) problems() []string {
	var all []string
	for _, c := range l.clients {
		all = append(all, c.problems...)
	}
	return all
}
