package order

import "iter"

// Forest is the answer to THREAD. A node is the place of a message in what was threaded, or stands for a message that is
// not there: a dummy, from Messages on. Dummies are at the top alone, and have two children at least.
type Forest struct {
	Messages int
	first    []int32 // child, none where there is none
	next     []int32 // sibling
	top      int32   // the first thread
}

// none is no node.
const none = int32(-1)

// newForest returns a forest without threads.
func newForest(messages, dummies int) *Forest {
	f := &Forest{Messages: messages, first: make([]int32, messages+dummies), next: make([]int32, messages+dummies), top: none}
	for i := range f.first {
		f.first[i], f.next[i] = none, none
	}
	return f
}

// prepend makes a node the first child of a parent, none for the first thread.
func (f *Forest) prepend(parent, node int32) {
	at := &f.top
	if parent != none {
		at = &f.first[parent]
	}
	f.next[node], *at = *at, node
}

// Step is what a walk through a forest meets.
type Step uint8

// The steps: a list of siblings that are more than one, or a thread, begins and ends with one each; a message is a child of the one before it.
const (
	Open Step = iota
	Member
	Close
)

// Walk yields the forest as the THREAD response has it (RFC 5256 section 4): with Member the place of the message. However
// deep it is, it takes no stack but a list.
func (f *Forest) Walk() iter.Seq2[Step, int] {
	return func(yield func(Step, int) bool) {
		var open []int32
		at := f.top
		for at != none || len(open) > 0 {
			if at == none {
				if !yield(Close, 0) {
					return
				}
				at = f.next[open[len(open)-1]]
				open = open[:len(open)-1]
				continue
			}
			if !yield(Open, 0) {
				return
			}
			open = append(open, at)
			if at = f.line(at, yield); at == stopped {
				return
			}
		}
	}
}

// stopped says that a walk is to end.
const stopped = int32(-2)

// line yields a node and its descendants as long as each is the only child, and returns the first child of the last one.
func (f *Forest) line(at int32, yield func(Step, int) bool) int32 {
	for {
		if int(at) < f.Messages && !yield(Member, int(at)) {
			return stopped
		}
		child := f.first[at]
		if child == none || f.next[child] != none {
			return child
		}
		at = child
	}
}
