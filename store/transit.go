package store

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"

	"mailstead.dev/store/blob"
)

// transit bounds the memory of content on its way through this process, into
// the store and out of it, of all sessions together. Half of it is for what each must have,
// and is waited for; the other half for reading ahead, which is done without where none is left.
type transit struct {
	must, ahead *semaphore.Weighted
}

const (
	// transitIn is what receiving a message takes: the frame that comes, as it is and compressed, and what waits to be spooled.
	transitIn = 4 * blob.FrameSize
	// transitOut is what reading one content after the other takes: of each no more than aheadSize.
	transitOut = aheadSize
	// transitAhead is what reading ahead takes besides: the batch that is used, and the one behind it.
	transitAhead = 2 * (aheadBytes + aheadSize)
	// transitWait is how long is waited for room.
	transitWait = 30 * time.Second
)

func newTransit(octets int64) *transit {
	half := max(octets/2, transitAhead)
	return &transit{semaphore.NewWeighted(half), semaphore.NewWeighted(half)}
}

// take waits for room for some octets, which are given back to must. ErrUnavailable where none becomes free in time.
func (t *transit) take(ctx context.Context, octets int64) error {
	if t.must.TryAcquire(octets) {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, transitWait)
	defer cancel()
	if err := t.must.Acquire(waiting, octets); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: too many messages on their way at once", ErrUnavailable)
	}
	return nil
}
