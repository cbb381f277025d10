package node

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"time"
)

const (
	// lookFor is how long it is looked, at rest, whether others wait, and calmFor for how long it is believed then that nobody does.
	lookFor, calmFor = 50 * time.Millisecond, time.Second
	// tooMuch is what part of the time is too much to wait for a processor.
	tooMuch = 0.25
	// A node rests for no more than so many times as long as it has worked since: so it has a fifth of the time whatever
	// others do, since what it lags behind makes their searches slow.
	restFor = 4
)

// giveWay waits, before a batch, while others wait for what it would take: the database's connections, or the processors. It
// does not where searches have found that the account has no index.
func (n *Node) giveWay(ctx context.Context, k key) error {
	for over := time.Now().Add(n.mayRest(k)); time.Until(over) >= lookFor; {
		waits, stalled, began := n.o.Source.PoolStats().Waits, n.o.Stalled(), time.Now()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookFor):
		}
		short := float64(n.o.Stalled()-stalled) > tooMuch*float64(time.Since(began))
		if n.o.Source.PoolStats().Waits == waits && !short {
			n.mu.Lock()
			n.calm = time.Now()
			n.mu.Unlock()
			return nil
		}
	}
	return nil
}

// mayRest returns for how long there may be a rest now: for what was worked since the last one, but of a long batch no more than for a turn.
func (n *Node) mayRest(k key) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.urgent[k] || n.wanted[k] {
		return 0
	}
	rest := restFor * min(n.worked, turn)
	switch {
	case time.Since(n.calm) < calmFor:
		n.worked = 0
		return 0
	case rest >= lookFor:
		n.worked = 0
	}
	return rest
}

// took notes that a batch was worked at that was begun then.
func (n *Node) took(began time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.worked += time.Since(began)
}

// stalled returns for how long, in all, something on this machine has waited for a processor: Linux counts it (PSI). 0
// where nobody does.
func stalled() time.Duration {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0
	}
	return stalledBy(text)
}

// stalledBy reads the total of the first line, in microseconds.
func stalledBy(text []byte) time.Duration {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	_, total, _ := bytes.Cut(line, []byte("total="))
	micros, err := strconv.ParseInt(string(total), 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(micros) * time.Microsecond
}
