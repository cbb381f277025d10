package order

// cutTree tells at the top of which tree a node is, in a time that grows with the logarithm of the nodes, while trees are put
// below others and cut off: the link/cut trees of Sleator and Tarjan. Each tree is kept as paths, and each path as a
// splay tree, in the order from the top down.
type cutTree struct {
	up          []int32 // in its splay tree; at the top of that, the node above the path
	left, right []int32 // in its splay tree: what is above it on the path, and below
}

// newCutTree returns the trees of these parents, each node a path of its own.
func newCutTree(parents []int32) *cutTree {
	t := &cutTree{}
	for _, p := range parents {
		t.add()
		t.up[len(t.up)-1] = p
	}
	return t
}

// add adds a node without a parent.
func (t *cutTree) add() {
	t.up, t.left, t.right = append(t.up, none), append(t.left, none), append(t.right, none)
}

// link puts a node that has no parent below another.
func (t *cutTree) link(node, parent int32) {
	t.access(node)
	t.up[node] = parent
}

// cut takes its parent from a node.
func (t *cutTree) cut(node int32) {
	t.access(node)
	above := t.left[node]
	t.up[above], t.left[node] = none, none
}

// root returns what is at the top of a node's tree.
func (t *cutTree) root(node int32) int32 {
	t.access(node)
	for t.left[node] != none {
		node = t.left[node]
	}
	t.splay(node)
	return node
}

// access makes one path of what is between a node and the top of its tree, and the node the top of its splay tree.
func (t *cutTree) access(node int32) {
	below := none
	for at := node; at != none; at = t.up[at] {
		t.splay(at)
		t.right[at] = below // what was below is a path of its own, and has at above it
		below = at
	}
	t.splay(node)
}

// splay makes a node the top of its splay tree.
func (t *cutTree) splay(node int32) {
	for !t.isTop(node) {
		p := t.up[node]
		if !t.isTop(p) {
			if (t.left[t.up[p]] == p) == (t.left[p] == node) {
				t.rotate(p)
			} else {
				t.rotate(node)
			}
		}
		t.rotate(node)
	}
}

// isTop tells whether a node is the top of its splay tree.
func (t *cutTree) isTop(node int32) bool {
	p := t.up[node]
	return p == none || t.left[p] != node && t.right[p] != node
}

// rotate puts a node in the place of what is above it in its splay tree.
func (t *cutTree) rotate(node int32) {
	p := t.up[node]
	g := t.up[p]
	if !t.isTop(p) {
		if t.left[g] == p {
			t.left[g] = node
		} else {
			t.right[g] = node
		}
	}
	var moved int32
	if t.left[p] == node {
		moved = t.right[node]
		t.left[p], t.right[node] = moved, p
	} else {
		moved = t.left[node]
		t.right[p], t.left[node] = moved, p
	}
	if moved != none {
		t.up[moved] = p
	}
	t.up[p], t.up[node] = node, g
}
