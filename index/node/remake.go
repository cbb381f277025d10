package node

import (
	"context"
	"fmt"
)

// Indexes are made anew beside the rounds, one after the other: of much mail, or of files that take long, that is a matter of hours, in which others
// have theirs followed.

// remake is of an index that is made anew. The node's remakes tells which are done; those are kept until the next round, whose list of what is asked may be older.
type remake struct {
	key
	asked string // "": it is old
}

// remakeSoon has an index made anew, once. There is no end to what is asked; what is old is found again.
func (n *Node) remakeSoon(r remake) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, there := n.remakes[r]; !there && len(n.remakes) < maxWanted {
		n.remakes[r] = false
	}
}

// remakeNext makes an index anew, if one is to be.
func (n *Node) remakeNext(ctx context.Context) error {
	r, ok := n.nextRemake()
	if !ok {
		return nil
	}
	var err error
	if r.asked != "" {
		err = n.answer(ctx, r.key, r.asked, n.rebuild)
	} else {
		_, err = n.rebuild(ctx, r.key)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.remakes[r] = true
	if err != nil {
		return fmt.Errorf("account %d of tenant %d: %w", r.account, r.tenant, err)
	}
	return nil
}

func (n *Node) nextRemake() (r remake, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for r, done := range n.remakes {
		if !done {
			return r, true
		}
	}
	return r, false
}
