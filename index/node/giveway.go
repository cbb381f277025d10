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
	// A node rests for no more than so many times as long as its last batch took, and at least for so long: so it has a fifth
	// of the time whatever others do, since what it lags behind makes their searches slow.
	restMost, restLeast = 4, 4 * lookFor
)

// giveWay waits, before a batch, while others wait for what it would take: the database's connections, or the processors. It
// does not where searches wait for the account's index.
func (n *Node) giveWay(ctx context.Context, k key) error {
	n.mu.Lock()
	atOnce := n.urgent[k] || time.Since(n.calm) < calmFor
	most := max(restMost*n.lastBatch, restLeast)
	n.mu.Unlock()
	if atOnce {
		return nil
	}
	for over := time.Now().Add(most); time.Now().Before(over); {
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

// took notes how long a batch took that was begun then.
func (n *Node) took(began time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lastBatch = time.Since(began)
}

// stalled returns for how long, in all, something on this machine has waited for a processor: Linux counts it (PSI). 0
// where nobody does.
func stalled() time.Duration {
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	_, total, _ := bytes.Cut(line, []byte("total="))
	micros, err := strconv.ParseInt(string(total), 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(micros) * time.Microsecond
}
