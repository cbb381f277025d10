package order

import (
	"context"
	"slices"
)

// Algorithm is how messages are threaded (RFC 5256 section 3; Refs: draft-ietf-morg-inthread-01 section 4).
type Algorithm uint8

// The algorithms.
const (
	OrderedSubject Algorithm = iota
	References
	Refs // as References, but nothing is joined by its subject, and threads are in the order of their latest INTERNALDATEs (Cyrus; Dovecot takes sent dates)
)

// Thread threads messages. It reports false where an email is not in the table.
func (t *Table) Thread(ctx context.Context, messages []Message, by Algorithm) (f *Forest, ok bool, err error) {
	x, ok, err := t.prepare(ctx, messages, by != OrderedSubject)
	if err != nil || !ok {
		return nil, ok, err
	}
	switch by {
	case OrderedSubject:
		return x.orderedSubject(), true, nil
	case Refs:
		return x.gather().byArrival(messages), true, nil
	}
	return x.references(), true, nil
}

// ThreadWeight returns how many octets of memory it takes to thread messages, about.
func (t *Table) ThreadWeight(messages []Message) int64 {
	const perMessage, perID = 64, 40
	t.mu.Lock()
	defer t.mu.Unlock()
	named := 0
	for i := range messages {
		if row, ok := t.row(messages[i].Email); ok {
			named += t.said().names(row)
		}
	}
	named = min(named, len(t.ids))
	return perMessage*int64(len(messages)) + perID*int64(named) +
		registerWeight(len(t.ids)+1, named) + registerWeight(t.words.len(), len(messages))
}

// threading is one THREAD under way.
type threading struct {
	n       int
	dates   []uint64 // as ordered has them
	subject []textID
	replies []bool
	byDate  []int32 // messages by sent date, and those of one date in the order that they have
	known   int     // number of subjects that there can be
	links   links   // of REFERENCES
}

// prepare copies out of the table what is said of the messages, and follows their references.
func (t *Table) prepare(ctx context.Context, messages []Message, references bool) (x *threading, ok bool, err error) {
	x, said, rows := t.look(messages)
	if x == nil {
		return nil, false, nil
	}
	sortBy(x.byDate, x.dates)
	if references {
		named := 0
		for _, row := range rows {
			named += said.names(row)
		}
		x.links = newLinks(x.n, said.ids, named)
		err = x.links.follow(ctx, said, rows)
	}
	return x, true, err
}

// look finds the rows of messages; nil if one is missing.
func (t *Table) look(messages []Message) (*threading, said, []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(messages)
	x := &threading{n: n, dates: make([]uint64, n), subject: make([]textID, n), replies: make([]bool, n), byDate: make([]int32, n), known: t.words.len()}
	rows := make([]int, n)
	for i := range messages {
		var ok bool
		if rows[i], ok = t.row(messages[i].Email); !ok {
			return nil, said{}, nil
		}
		x.dates[i] = ordered(t.date(&messages[i], rows[i]))
		x.subject[i] = t.texts[subjects][rows[i]]
		x.replies[i] = t.flags[rows[i]]&replies != 0
		x.byDate[i] = int32(i)
	}
	return x, t.said(), rows
}

// orderedSubject is the algorithm ORDEREDSUBJECT: of the messages of one subject the first is the parent of all others, and
// threads are in the order of their first messages.
func (x *threading) orderedSubject() *Forest {
	f := newForest(x.n, 0)
	parents := make([]int32, x.n)
	heads := newRegister[textID](x.known, x.n)
	for _, m := range x.byDate {
		subject := x.subject[m]
		if parents[m] = heads.of(subject); parents[m] == none {
			heads.set(subject, m)
		}
	}
	for _, m := range slices.Backward(x.byDate) {
		f.prepend(parents[m], m)
	}
	return f
}

// references is the algorithm REFERENCES, from its step 2 on: what it does in step 1 is in links.go.
func (x *threading) references() *Forest {
	g := x.gather()
	g.merge()
	return g.forest()
}

// grove is the tree below the root as it is after step 3: a parent of each message, and the dummies at the top.
type grove struct {
	*threading
	parents []int32 // of messages, and of what was a dummy; none: at the top
	gone    []int32 // for dummies, by their place behind the messages: what has taken their children; none: they are there
	counts  []int32 // children of each dummy
}

// gather is steps 2 and 3. What is not there goes, and its children are those of its parent; but at the top
// it stays if it has more than one.
func (x *threading) gather() *grove {
	parents := x.links.parents
	g := &grove{threading: x, parents: make([]int32, x.n)}
	tops := make([]int32, len(parents)-x.n) // of each dummy: the message above it, or the dummy at the top; none: not known yet
	for i := range tops {
		tops[i] = none
	}
	var path []int32
	top := func(dummy int32) int32 {
		at := dummy
		path = path[:0]
		for int(at) >= x.n && tops[int(at)-x.n] == none && parents[at] != none {
			path = append(path, at)
			at = parents[at]
		}
		if int(at) >= x.n && tops[int(at)-x.n] != none {
			at = tops[int(at)-x.n]
		}
		for _, d := range path {
			tops[int(d)-x.n] = at
		}
		return at
	}
	g.counts, g.gone = make([]int32, len(tops)), make([]int32, len(tops))
	for i := range g.gone {
		g.gone[i] = none
	}
	for m := range x.n {
		p := parents[m]
		if int(p) >= x.n {
			p = top(p)
		}
		if g.parents[m] = p; int(p) >= x.n {
			g.counts[int(p)-x.n]++
		}
	}
	for m, p := range g.parents {
		if int(p) >= x.n && g.counts[int(p)-x.n] == 1 {
			g.parents[m] = none
		}
	}
	return g
}

// merge is steps 4 and 5: what is at the top and has the same subject becomes one thread.
func (g *grove) merge() {
	type head struct {
		node  int32
		first int32 // the message that its date and subject are of
	}
	var heads []head // in the order of step 4
	seen := make([]bool, len(g.counts))
	for _, m := range g.byDate {
		switch p := g.parents[m]; {
		case p == none:
			heads = append(heads, head{m, m})
		case int(p) >= g.n && !seen[int(p)-g.n]: // its first child by date is first met
			seen[int(p)-g.n] = true
			heads = append(heads, head{p, m})
		}
	}
	table := newRegister[textID](g.known, g.n) // what is there of the empty one is not used
	for _, h := range heads {
		subject := g.subject[h.first]
		switch known := table.of(subject); {
		case g.dummy(known):
		case known == none, g.dummy(h.node), g.replies[known] && !g.replies[h.node]:
			table.set(subject, h.node)
		}
	}
	for _, h := range heads {
		subject := g.subject[h.first]
		known := table.of(subject)
		if subject == 0 || known == h.node || !g.dummy(h.node) && g.parents[h.node] != none {
			continue // the last of them: it has been merged already
		}
		switch {
		case g.dummy(h.node): // and so is the other
			g.gone[int(h.node)-g.n] = known
		case g.dummy(known), g.replies[h.node] && !g.replies[known]:
			g.parents[h.node] = known
		default:
			both := int32(g.n + len(g.gone))
			g.gone, g.counts = append(g.gone, none), append(g.counts, 0)
			g.parents[h.node], g.parents[known] = both, both
			table.set(subject, both)
		}
	}
}

func (g *grove) dummy(node int32) bool { return int(node) >= g.n }

// forest is step 6: all siblings by date. Going backwards, each message comes before those that are listed already, and what
// stands for a dummy at the top with its first child.
func (g *grove) forest() *Forest {
	for i, p := range g.parents {
		if g.dummy(p) && g.gone[int(p)-g.n] != none {
			g.parents[i] = g.gone[int(p)-g.n]
		}
	}
	left := make([]int32, len(g.gone))
	for _, p := range g.parents {
		if g.dummy(p) {
			left[int(p)-g.n]++
		}
	}
	f := newForest(g.n, len(g.gone))
	for _, m := range slices.Backward(g.byDate) {
		p := g.parents[m]
		f.prepend(p, m)
		if !g.dummy(p) {
			continue
		}
		if left[int(p)-g.n]--; left[int(p)-g.n] == 0 {
			f.prepend(none, p)
		}
	}
	return f
}

// byArrival is what is there instead of steps 4 to 6 in the algorithm REFS.
func (g *grove) byArrival(messages []Message) *Forest {
	f := newForest(g.n, len(g.counts))
	tops, latest := g.tops(messages)
	places := make([]int32, len(tops))
	for i := range places {
		places[i] = int32(i)
	}
	sortBy(places, latest)
	for _, place := range slices.Backward(places) {
		f.prepend(none, tops[place])
	}
	for _, m := range slices.Backward(g.byDate) {
		if p := g.parents[m]; p != none {
			f.prepend(p, m)
		}
	}
	return f
}

// tops returns the first of each thread, in the order of their dates, and when the last message of each came.
func (g *grove) tops(messages []Message) (tops []int32, latest []uint64) {
	of := make([]int32, g.n+len(g.counts)) // the place in tops of what is above each node; none: not known yet
	for i := range of {
		of[i] = none
	}
	for _, m := range g.byDate {
		top := m
		if p := g.parents[m]; p != none {
			if top = p; !g.dummy(p) || of[p] != none { // its first child by date is first met
				continue
			}
		}
		of[top] = int32(len(tops))
		tops = append(tops, top)
	}
	latest = make([]uint64, len(tops))
	var path []int32
	for m := range g.n {
		at := int32(m)
		for path = path[:0]; of[at] == none; at = g.parents[at] {
			path = append(path, at)
		}
		thread := of[at]
		for _, node := range path {
			of[node] = thread
		}
		latest[thread] = max(latest[thread], ordered(messages[m].Arrival))
	}
	return tops, latest
}
