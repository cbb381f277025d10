package imapd

// CONTEXT=SEARCH and CONTEXT=SORT: searches whose results the client is kept up to date of.
//
// RFC 5267 section 4.3. The client is told where it is told what happened in the mailbox, also in IDLE, whoever has changed it.
// Of a message that has come, or of which something else has changed than its place, it is looked whether it matches now; all
// others are as they were. What is gone is told before its EXPUNGE, and also where no EXPUNGE may be told
// yet; what has come, behind its EXISTS.

import (
	"context"
	"slices"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store/id"
	"mailstead.dev/store/order"
	"mailstead.dev/store/view"
)

// searchContext is a search and what the client knows of its result.
type searchContext struct {
	tag    string
	search *searchCmd
	keys   []order.Key // by which the result is sorted; none: it is in the order of the mailbox
	at     *view.View  // of which the result is, when it begins; of it only what follows is kept
	known  view.UIDSet // the messages of the mailbox then
	modSeq id.ModSeq
	found  results

	holder holder // who has octets of the budget for it
	octets int64

	matches view.UIDSet // between tellRemoved and tellAdded: of what has changed
}

// context returns the place of a search that is kept up to date, -1 if there is none.
func (m *selected) context(tag string) int {
	return slices.IndexFunc(m.contexts, func(c *searchContext) bool { return c.tag == tag })
}

// keepUpdated begins to tell of changes, or says that it does not (RFC 5267 section 4.3.1).
func (s *session) keepUpdated(c *searchContext) {
	c.known, c.modSeq, c.at = c.at.UIDs(), c.at.ModSeq(), nil
	c.search.answers = nil
	c.holder, c.octets = s.holder, c.weight()
	refused := ""
	if c.search.key.ages() {
		refused = "What is older or younger than a time changes by itself, and is not kept up to date"
	} else if len(s.selected.contexts) >= s.server.o.MaxContexts {
		refused = "Too many searches are kept up to date"
	} else if err := s.server.budget.take(c.holder, c.octets); err != nil {
		refused = "The result is too large to be kept up to date"
	}
	if refused != "" {
		s.tellNoUpdate(c, refused)
		return
	}
	s.selected.contexts = append(s.selected.contexts, c)
}

// tellNoUpdate says that a search is not kept up to date, or not any more.
func (s *session) tellNoUpdate(c *searchContext, why string) {
	s.enc.Raw("* NO [NOUPDATE ").String(c.tag).Raw("] ").Raw(why).CRLF()
}

// drop ends a context.
func (s *session) drop(c *searchContext) {
	s.server.budget.give(c.holder, c.octets)
	s.selected.contexts = slices.DeleteFunc(s.selected.contexts, func(other *searchContext) bool { return other == c })
}

// fail ends a context whose result cannot be told any more: its client is told so, and asks again.
func (s *session) fail(ctx context.Context, c *searchContext, err error) {
	s.log.WarnContext(ctx, "keeping a search up to date failed", "err", err)
	s.tellNoUpdate(c, "The result could not be kept up to date")
	s.drop(c)
}

// weight returns how much memory the context takes when it begins, in octets about.
func (c *searchContext) weight() int64 {
	return 2000 + 12*int64(len(c.known.Ranges())+len(c.found.set.Ranges())) + 8*int64(len(c.found.sorted))
}

// cancelupdate = "CANCELUPDATE" 1*(SP quoted)
//
// What is not kept up to date, or not any more, needs no end.
func readCancelUpdate(d *wire.Decoder) (run, error) {
	var tags []string
	for len(tags) == 0 || d.Peek() == ' ' {
		d.SP()
		tags = append(tags, d.String())
		if d.Err() != nil {
			break
		}
	}
	return do(func(_ context.Context, s *session) error {
		for _, tag := range tags {
			if i := s.selected.context(tag); i >= 0 {
				s.drop(s.selected.contexts[i])
			}
		}
		return nil
	}), d.End()
}

// tellRemoved tells of all contexts what has left their results up to v, before the changes themselves are told.
func (s *session) tellRemoved(ctx context.Context, v *view.View) {
	ctx, cancel := context.WithTimeout(ctx, s.server.o.SearchTimeout) // for all of them
	defer cancel()
	for _, c := range slices.Clone(s.selected.contexts) {
		if v.ModSeq() <= c.modSeq {
			continue
		}
		gone := c.known.Minus(v.UIDs())
		var changed []id.UID
		if c.search.key.changes() {
			for m := range v.ChangedSince(c.modSeq) {
				if c.known.Contains(m.UID) {
					changed = append(changed, m.UID)
				}
			}
		}
		var err error
		if c.matches, err = c.evaluate(ctx, s, v, view.NewUIDSet(changed...)); err != nil {
			s.fail(ctx, c, err)
			continue
		}
		c.remove(s, gone.Union(view.NewUIDSet(changed...).Minus(c.matches)))
	}
}

// tellAdded tells what has joined the results, behind the changes.
func (s *session) tellAdded(ctx context.Context, v *view.View) {
	ctx, cancel := context.WithTimeout(ctx, s.server.o.SearchTimeout)
	defer cancel()
	for _, c := range slices.Clone(s.selected.contexts) {
		if v.ModSeq() <= c.modSeq {
			continue
		}
		arrived, err := c.evaluate(ctx, s, v, v.UIDs().Minus(c.known))
		if err == nil {
			err = c.add(ctx, s, v, arrived.Union(c.matches).Minus(c.found.set))
		}
		if err != nil {
			s.fail(ctx, c, err)
			continue
		}
		c.known, c.modSeq, c.matches = v.UIDs(), v.ModSeq(), view.UIDSet{}
	}
}

// changes tells whether a message that is there may begin or cease to match, by its flags or its MODSEQ.
func (k *searchKey) changes() bool {
	switch k.op {
	case opFlags, opUnflags, opKeyword, opRecent, opModSeq:
		return true
	}
	return slices.ContainsFunc(k.kids, (*searchKey).changes)
}

// evaluate returns those of some messages that match.
func (c *searchContext) evaluate(ctx context.Context, s *session, v *view.View, uids view.UIDSet) (view.UIDSet, error) {
	if uids.Empty() {
		return uids, nil
	}
	c.search.progress, c.search.done = s.startProgress(uids.Len()), 0
	defer func() { c.search.answers = nil }()
	return c.search.search(ctx, s, v, uids)
}

// ages tells whether a message may begin or cease to match by time alone.
func (k *searchKey) ages() bool {
	return k.op == opOlder || k.op == opYounger || slices.ContainsFunc(k.kids, (*searchKey).ages)
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
func (c *searchContext) add(ctx context.Context, s *session, v *view.View, uids view.UIDSet) error {
	if uids.Empty() {
		return nil
	}
	if c.keys == nil {
		c.found.set = c.found.set.Union(uids)
		c.esearch(s, "ADDTO")
		s.enc.Raw("0 ").Raw(c.search.sequence(s, results{set: uids})).Raw(")").CRLF()
		return nil
	}
	merged, runs, err := c.merge(ctx, s, v, uids)
	if err != nil {
		return err
	}
	c.found = results{c.found.set.Union(uids), merged}
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

// merge puts messages into a sorted result. It compares them with each other, and each with few of those that are there.
func (c *searchContext) merge(ctx context.Context, s *session, v *view.View, uids view.UIDSet) (merged []id.UID, runs []contextRun, err error) {
	by := sortCmd{searchCmd: *c.search, keys: c.keys}
	added, err := by.sorted(ctx, s, finding{v, uids})
	if err != nil {
		return nil, nil, err
	}
	merged = make([]id.UID, 0, len(c.found.sorted)+len(added))
	rest := c.found.sorted
	for _, uid := range added {
		n, _ := slices.BinarySearchFunc(rest, uid, func(there, uid id.UID) int {
			first, failed := by.sorted(ctx, s, finding{v, view.NewUIDSet(there, uid)})
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
			return nil, nil, err
		}
		merged = append(append(merged, rest[:n]...), uid)
		runs = addToRuns(runs, len(merged), uid)
		rest = rest[n:]
	}
	return append(merged, rest...), runs, nil
}
