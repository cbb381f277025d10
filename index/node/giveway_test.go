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
		n.lastBatch = worked
		if err := n.giveWay(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		return p.looks.Load()
	}

	p.busy.Store(true)
	short, long := looks(key{1, 1}, 0), looks(key{1, 1}, 10*lookFor)
	if short < 4 || long <= short {
		t.Errorf("under pressure it was looked %d times, and %d times after a long batch", short, long)
	}
	if found := looks(urgent, time.Hour); found != 0 {
		t.Errorf("it was looked %d times while searches wait", found)
	}
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
	r.deliver(20)
	r.whole(20)
	if p.looks.Load() == 0 {
		t.Error("nobody has looked")
	}
}

// What the machine counts only grows.
func TestStalled(t *testing.T) {
	if before, after := stalled(), stalled(); before < 0 || after < before {
		t.Errorf("%v, then %v", before, after)
	}
}
