package order

import "context"

// links is what step 1 of REFERENCES makes: who is whose parent. Nodes are the messages and, behind them, those that
// are named and not there.
type links struct {
	parents []int32
	nodes   register[messageID]
	deep    *cutTree
	steps   int // how far up a look for a loop goes by itself
}

// walkSteps is how far up it is looked for a loop step by step. Threads are not that deep. Where one is,
// it may be made so that each of many references is looked for up there, and another way is taken, which takes no longer the
// deeper it is.
const walkSteps = 256

// newLinks returns the links of so many messages, which name so many of all ids at most.
func newLinks(messages, ids, named int) links {
	l := links{parents: make([]int32, messages), nodes: newRegister[messageID](ids+1, named), steps: walkSteps}
	for i := range l.parents {
		l.parents[i] = none
	}
	return l
}

// said is what rows say of who refers to whom. It can be read while rows are added: what is there stays as it is.
type said struct {
	own    []messageID
	refs   []messageID
	refEnd []uint32
	ids    int // how many there are
}

func (c *columns) said() said { return said{c.own, c.refs, c.refEnd, len(c.ids)} }

// names returns how many IDs a row names at most.
func (c said) names(row int) int { return 1 + len(c.refsOf(row)) }

func (c said) refsOf(row int) []messageID {
	from := uint32(0)
	if row > 0 {
		from = c.refEnd[row-1]
	}
	return c.refs[from:c.refEnd[row]]
}

// checkEvery is after how many messages it is looked whether anybody still waits.
const checkEvery = 1024

// follow links the messages of rows by their references.
func (l *links) follow(ctx context.Context, c said, rows []int) error {
	for i, row := range rows {
		if own := c.own[row]; own > 0 && l.nodes.of(own) == none { // of several with one ID the first has it
			l.nodes.set(own, int32(i))
		}
	}
	for i, row := range rows {
		if i%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		last := none
		for _, ref := range c.refsOf(row) {
			node := l.node(ref)
			if last != none && l.parents[node] == none {
				l.link(last, node)
			}
			last = node
		}
		if l.parents[i] == last {
			continue
		}
		l.cut(int32(i))
		if last != none {
			l.link(last, int32(i))
		}
	}
	return nil
}

// node returns the message with an ID, or what stands for it.
func (l *links) node(ref messageID) int32 {
	node := l.nodes.of(ref)
	if node == none {
		node = int32(len(l.parents))
		l.parents = append(l.parents, none)
		l.nodes.set(ref, node)
		if l.deep != nil {
			l.deep.add()
		}
	}
	return node
}

// link makes a parent of a node that has none, unless it is a descendant of it.
func (l *links) link(parent, node int32) {
	if l.above(node, parent) {
		return
	}
	l.parents[node] = parent
	if l.deep != nil {
		l.deep.link(node, parent)
	}
}

// cut takes its parent from a node.
func (l *links) cut(node int32) {
	if l.parents[node] != none && l.deep != nil {
		l.deep.cut(node)
	}
	l.parents[node] = none
}

// above tells whether top, which has no parent, is node or above it.
func (l *links) above(top, node int32) bool {
	if l.deep == nil {
		for range l.steps {
			if node == top {
				return true
			}
			if node = l.parents[node]; node == none {
				return false
			}
		}
		l.deep = newCutTree(l.parents)
	}
	return l.deep.root(node) == top
}
