package imapd

import (
	"iter"
	"slices"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// results are messages that were found, in the order that was asked for.
type results struct {
	set    view.UIDSet
	sorted []id.UID // nil: in that of the mailbox
}

// resultsOf are messages in an order of their own.
func resultsOf(sorted []id.UID) results { return results{view.NewUIDSet(sorted...), sorted} }

func (r results) first() id.UID {
	if r.sorted == nil {
		return r.set.Min()
	}
	return r.sorted[0]
}

func (r results) last() id.UID {
	if r.sorted == nil {
		return r.set.Max()
	}
	return r.sorted[len(r.sorted)-1]
}

// each are the messages in their order.
func (r results) each() iter.Seq[id.UID] {
	if r.sorted != nil {
		return slices.Values(r.sorted)
	}
	return r.set.All()
}

// part returns those at some places.
func (r results) part(p *partial) results {
	if r.sorted == nil {
		return results{set: p.of(r.set)}
	}
	first, last, ok := p.within(len(r.sorted))
	if !ok {
		return results{}
	}
	return resultsOf(r.sorted[first-1 : last])
}

// sequence returns results as a set.
func (c *searchCmd) sequence(s *session, r results) string {
	if r.sorted != nil {
		return c.sortedSequence(s, r.sorted)
	}
	if c.uid {
		return r.set.String()
	}
	return s.numbersOf(r.set).String()
}

// sortedSequence returns messages as a set that keeps their order: what is a range there ascends (RFC 5267 section 3.2).
func (c *searchCmd) sortedSequence(s *session, uids []id.UID) string {
	var b []byte
	for i := 0; i < len(uids); {
		first := c.numberOf(s, uids[i])
		last := first
		for i++; i < len(uids) && c.numberOf(s, uids[i]) == last+1; i++ {
			last++
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = appendNumber(b, first)
		if last > first {
			b = appendNumber(append(b, ':'), last)
		}
	}
	return string(b)
}
