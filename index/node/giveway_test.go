package node

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// pressed is a machine on which the processors are waited for all the time, or never.
type pressed struct {
	busy  atomic.Bool
	looks atomic.Int64
}

func (p *pressed) stalled() time.Duration {
	n := p.looks.Add(1)
	if !p.busy.Load() {
		return 0
	}
	return time.Duration(n) * time.Hour
}

func TestGivesWay(t *testing.T) {
	r := run(t)
	r.stop()
	var p pressed
	n, err := New(Options{Source: r.store, Dir: t.TempDir(), Stalled: p.stalled})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	urgent := key{1, 2}
	n.urgent = map[key]bool{urgent: true}
	looks := func(k key, worked time.Duration) int64 {
		t.Helper()
		p.looks.Store(0)
		n.worked = worked
		if err := n.giveWay(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		return p.looks.Load()
	}

	p.busy.Store(true)
	none, short, long := looks(key{1, 1}, lookFor/restFor/2), looks(key{1, 1}, lookFor/2), looks(key{1, 1}, 2*lookFor)
	if none != 0 || short < 2 || short > 4 || long <= short || long > 16 {
		t.Errorf("under pressure it was looked %d, %d and %d times", none, short, long)
	}
	if n.worked != 0 {
		t.Errorf("it could rest again for %s", n.worked)
	}
	if found := looks(urgent, time.Hour); found != 0 {
		t.Errorf("it was looked %d times while searches wait", found)
	}
	n.worked = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), lookFor/2)
	defer cancel()
	if err := n.giveWay(ctx, key{1, 1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it was not ended: %v", err)
	}

	p.busy.Store(false)
	if found := looks(key{1, 1}, time.Hour); found != 2 {
		t.Errorf("without pressure it was looked %d times", found)
	}
	if found := looks(key{1, 1}, time.Hour); found != 0 {
		t.Errorf("it was looked %d times just after that", found)
	}
}

// Whatever others do, all comes to be indexed.
func TestFollowsUnderPressure(t *testing.T) {
	r := run(t)
	r.stop()
	var p pressed
	p.busy.Store(true)
	r.startWith(Options{Stalled: p.stalled})
	r.await("the node has worked enough to look whether others wait", func() bool {
		r.deliver(5)
		r.whole(r.n)
		return p.looks.Load() > 0
	})
	r.deliver(20)
	r.whole(r.n)
}

func TestStalled(t *testing.T) {
	const some = "some avg10=2.01 avg60=4.47 avg300=6.63 total=13609236374\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
	for text, want := range map[string]time.Duration{some: 13609236374 * time.Microsecond, "some total=x\n": 0, "": 0} {
		if got := stalledBy([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if before, after := stalled(), stalled(); before < 0 || after < before {
		t.Errorf("%v, then %v", before, after)
	}
}
