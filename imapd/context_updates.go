package imapd

// What is told of searches that are kept up to date (context.go).
//
// RFC 5267 section 4.3. The client is told where it is told what happened in the mailbox, also in IDLE, whoever has changed it.
// Of a message that has come, or of which something else has changed than its place, it is looked whether it matches now; all
// others are as they were. What is gone is told before its EXPUNGE, and also where no EXPUNGE may be told
// yet; what has come, behind its EXISTS.

import (
	"context"
	"slices"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// tellRemoved tells of all contexts what has left their results up to v, before the changes themselves are told.
func (s *session) tellRemoved(ctx context.Context, v *view.View) {
	s.eachBehind(ctx, v, func(ctx context.Context, c *searchContext, turn func() error) (err error) {
		gone, changed := c.known.Minus(v.UIDs()), c.mayHaveChanged(v)
		if c.matches, err = c.evaluate(ctx, s, v, changed, turn); err != nil {
			return err
		}
		c.remove(s, gone.Union(changed.Minus(c.matches)))
		return nil
	})
}

// tellAdded tells what has joined the results, behind the changes.
func (s *session) tellAdded(ctx context.Context, v *view.View) {
	s.eachBehind(ctx, v, func(ctx context.Context, c *searchContext, turn func() error) error {
		arrived, err := c.evaluate(ctx, s, v, v.UIDs().Minus(c.known), turn)
		if err == nil {
			err = c.add(ctx, s, v, arrived.Union(c.matches).Minus(c.found.set), turn)
		}
		if err != nil {
			return err
		}
		c.known, c.modSeq, c.matches = v.UIDs(), v.ModSeq(), view.UIDSet{}
		if !s.weigh(c) {
			s.tellNoUpdate(c, tooLarge)
			s.drop(c)
		}
		return nil
	})
}

// eachBehind calls do for each context that is behind v. All of them have the time of one search, and one turn, which
// begins where one is to be evaluated; what is held for one is given back behind it.
func (s *session) eachBehind(ctx context.Context, v *view.View, do func(ctx context.Context, c *searchContext, turn func() error) error) {
	var behind []*searchContext
	for _, c := range s.selected.contexts {
		if v.ModSeq() > c.modSeq {
			behind = append(behind, c)
		}
	}
	if len(behind) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.server.o.SearchTimeout)
	defer cancel()
	turn, end := s.lateTurn(ctx)
	defer end()
	held := s.reserved.octets
	for _, c := range behind {
		if err := do(ctx, c, turn); err != nil {
			s.fail(ctx, c, err)
		}
		s.releaseTo(held)
	}
}

// mayHaveChanged returns those messages that the client knows which may have begun or ceased to match.
func (c *searchContext) mayHaveChanged(v *view.View) view.UIDSet {
	var changed []id.UID
	if c.search.key.changes() {
		for m := range v.ChangedSince(c.modSeq) {
			changed = append(changed, m.UID)
		}
	}
	renamed := c.search.key.rebind(v.UIDs().Max())
	return view.NewUIDSet(changed...).Union(renamed.Intersect(v.UIDs())).Intersect(c.known)
}

// changes tells whether a message that is there may begin or cease to match, by its flags or its MODSEQ.
func (k *searchKey) changes() bool {
	switch k.op {
	case opFlags, opUnflags, opKeyword, opRecent, opModSeq:
		return true
	}
	return slices.ContainsFunc(k.kids, (*searchKey).changes)
}

// rebind lets "*" stand for top, the last message now, and returns the UIDs that have come into the sets of a key, or left them.
func (k *searchKey) rebind(top id.UID) (moved view.UIDSet) {
	if k.op == opSet && slices.ContainsFunc(k.set.uids, func(r imap.UIDRange) bool { return r.Start == 0 || r.Stop == 0 }) {
		uids := everyUID(k.set.uids, top)
		moved = uids.Minus(k.uids).Union(k.uids.Minus(uids))
		k.uids = uids
	}
	for _, kid := range k.kids {
		moved = moved.Union(kid.rebind(top))
	}
	return moved
}

// evaluate returns those of some messages that match.
func (c *searchContext) evaluate(ctx context.Context, s *session, v *view.View, uids view.UIDSet, turn func() error) (view.UIDSet, error) {
	if uids.Empty() {
		return uids, nil
	}
	if err := turn(); err != nil {
		return uids, err
	}
	c.search.progress, c.search.done = s.startProgress(uids.Len()), 0
	defer func() { c.search.answers = nil }()
	return c.search.search(ctx, s, v, uids)
}

// esearch begins a response.
func (c *searchContext) esearch(s *session, item string) {
	c.search.beginExtended(s, c.tag)
	if c.search.uid {
		s.enc.Raw(" UID")
	}
	s.enc.SP().Raw(item).Raw(" (")
}

// remove tells what has left the result. Of a result in the order of the mailbox the client finds it by itself; of
// another it is told the places, from the end on, so that none is another's by then.
//
// ret-data-removefrom = "REMOVEFROM" SP "(" context-position SP sequence-set *(SP context-position SP sequence-set) ")"
func (c *searchContext) remove(s *session, uids view.UIDSet) {
	left := uids.Intersect(c.found.set)
	if left.Empty() {
		return
	}
	c.esearch(s, "REMOVEFROM")
	c.found.set = c.found.set.Minus(left)
	if c.keys == nil {
		s.enc.Raw("0 ").Raw(c.search.sequence(s, results{set: left})).Raw(")").CRLF()
		return
	}
	var runs []contextRun
	kept := make([]id.UID, 0, len(c.found.sorted)-left.Len())
	for i, uid := range c.found.sorted {
		if !left.Contains(uid) {
			kept = append(kept, uid)
			continue
		}
		runs = addToRuns(runs, i+1, uid)
	}
	slices.Reverse(runs)
	c.writeRuns(s, runs)
	c.found.sorted = kept
}

// add tells what has joined the result.
//
// ret-data-addto = "ADDTO" SP "(" context-position SP sequence-set *(SP context-position SP sequence-set) ")"
func (c *searchContext) add(ctx context.Context, s *session, v *view.View, uids view.UIDSet, turn func() error) error {
	if uids.Empty() {
		return nil
	}
	if c.keys == nil {
		c.found.set = c.found.set.Union(uids)
		c.esearch(s, "ADDTO")
		s.enc.Raw("0 ").Raw(c.search.sequence(s, results{set: uids})).Raw(")").CRLF()
		return nil
	}
	if err := turn(); err != nil {
		return err
	}
	merged, err := c.merge(ctx, s, v, uids)
	if err != nil {
		return err
	}
	c.found = results{c.found.set.Union(uids), merged}
	var runs []contextRun
	for i, uid := range merged {
		if uids.Contains(uid) {
			runs = addToRuns(runs, i+1, uid)
		}
	}
	c.esearch(s, "ADDTO")
	c.writeRuns(s, runs)
	return nil
}

// contextRun are messages that follow each other in a result, and the place of the first.
type contextRun struct {
	at   int
	uids []id.UID
}

func addToRuns(runs []contextRun, at int, uid id.UID) []contextRun {
	if n := len(runs); n > 0 && runs[n-1].at+len(runs[n-1].uids) == at {
		runs[n-1].uids = append(runs[n-1].uids, uid)
		return runs
	}
	return append(runs, contextRun{at, []id.UID{uid}})
}

func (c *searchContext) writeRuns(s *session, runs []contextRun) {
	for i, r := range runs {
		if i > 0 {
			s.enc.SP()
		}
		s.enc.Number(uint64(r.at)).SP().Raw(c.search.sortedSequence(s, r.uids))
	}
	s.enc.Raw(")").CRLF()
}

// insertions is up to how many messages are put into a sorted result one by one, for so many that are there: each takes
// about as long as it takes to sort those.
const insertions = 1024

// merge returns the sorted result with more messages in it.
func (c *searchContext) merge(ctx context.Context, s *session, v *view.View, uids view.UIDSet) ([]id.UID, error) {
	by := sortCmd{searchCmd: *c.search, keys: c.keys}
	by.progress = s.startProgress(uids.Len())
	if uids.Len() > 1+len(c.found.sorted)/insertions {
		return by.sorted(ctx, s, finding{view: v, uids: c.found.set.Union(uids)})
	}
	added, err := by.sorted(ctx, s, finding{view: v, uids: uids})
	if err != nil {
		return nil, err
	}
	merged := make([]id.UID, 0, len(c.found.sorted)+len(added))
	rest := c.found.sorted
	for _, uid := range added {
		n, _ := slices.BinarySearchFunc(rest, uid, func(there, uid id.UID) int {
			first, failed := by.sorted(ctx, s, finding{view: v, uids: view.NewUIDSet(there, uid)})
			switch {
			case failed != nil:
				err = failed
				return 0
			case first[0] == there:
				return -1
			}
			return 1
		})
		if err != nil {
			return nil, err
		}
		merged = append(append(merged, rest[:n]...), uid)
		rest = rest[n:]
	}
	return append(merged, rest...), nil
}
