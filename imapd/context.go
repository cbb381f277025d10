package imapd

// CONTEXT=SEARCH and CONTEXT=SORT: searches whose results the client is kept up to date of.
//
// RFC 5267 section 4.3. What is told of them is in context_updates.go.

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

	holder holder // who has octets for it, of what all of them may have
	octets int64

	matches view.UIDSet // between tellRemoved and tellAdded: of what may have changed
}

// context returns the place of a search that is kept up to date, -1 if there is none.
func (m *selected) context(tag string) int {
	return slices.IndexFunc(m.contexts, func(c *searchContext) bool { return c.tag == tag })
}

// keepUpdated begins to tell of changes, or says that it does not (RFC 5267 section 4.3.1).
func (s *session) keepUpdated(c *searchContext) {
	c.known, c.modSeq, c.at = c.at.UIDs(), c.at.ModSeq(), nil
	c.search.answers = nil
	c.holder = s.holder
	refused := c.search.key.unsteady()
	switch {
	case refused != "":
	case slices.ContainsFunc(c.keys, func(k order.Key) bool { return k.By == order.Relevancy }):
		refused = "An order by relevancy is not kept up to date"
	case len(s.selected.contexts) >= s.server.o.MaxContexts:
		refused = "Too many searches are kept up to date"
	case !s.weigh(c):
		refused = tooLarge
	}
	if refused != "" {
		s.tellNoUpdate(c, refused)
		return
	}
	s.selected.contexts = append(s.selected.contexts, c)
}

// unsteady says why what a key finds is not kept up to date; "" where it is. Message numbers stand for
// the messages that had them when the command came (RFC 5267 section 4.3).
func (k *searchKey) unsteady() string {
	switch {
	case k.op == opOlder, k.op == opYounger:
		return "What is older or younger than a time changes by itself, and is not kept up to date"
	case k.op == opSet && k.set.saved:
		return "What $ stands for changes with the next search that saves, and is not kept up to date"
	}
	for _, kid := range k.kids {
		if why := kid.unsteady(); why != "" {
			return why
		}
	}
	return ""
}

// tellNoUpdate says that a search is not kept up to date, or not any more.
func (s *session) tellNoUpdate(c *searchContext, why string) {
	s.enc.Raw("* NO [NOUPDATE ").String(c.tag).Raw("] ").Raw(why).CRLF()
}

const tooLarge = "The result is too large to be kept up to date"

// weigh counts how much memory a context takes; it reports false where there is not so much.
func (s *session) weigh(c *searchContext) bool {
	octets := c.weight()
	if more := octets - c.octets; more <= 0 {
		s.server.kept.give(c.holder, -more)
	} else if s.server.kept.take(c.holder, more) != nil {
		return false
	}
	c.octets = octets
	return true
}

// drop ends a context.
func (s *session) drop(c *searchContext) {
	s.server.kept.give(c.holder, c.octets)
	s.selected.contexts = slices.DeleteFunc(s.selected.contexts, func(other *searchContext) bool { return other == c })
}

// fail ends a context whose result cannot be told any more: its client is told so, and asks again.
func (s *session) fail(ctx context.Context, c *searchContext, err error) {
	s.log.WarnContext(ctx, "keeping a search up to date failed", "err", err)
	s.tellNoUpdate(c, "The result could not be kept up to date")
	s.drop(c)
}

// weight returns how much memory the context takes, in octets about.
func (c *searchContext) weight() int64 {
	return 2000 + c.search.weight() + 12*int64(len(c.known.Ranges())+len(c.found.set.Ranges())) + 8*int64(len(c.found.sorted))
}

// weight returns how much memory the program of a search takes, in octets about.
func (c *searchCmd) weight() int64 {
	octets := c.key.weight()
	for _, q := range c.queries {
		octets += 100 + int64(len(q.Field)+len(q.Text))
	}
	return octets
}

func (k *searchKey) weight() int64 {
	octets := 300 + int64(len(k.keyword)+len(k.filter)) + 8*int64(len(k.set.seqs)+len(k.set.uids)) + 12*int64(len(k.uids.Ranges()))
	for _, kid := range k.kids {
		octets += kid.weight()
	}
	return octets
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
