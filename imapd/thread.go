package imapd

// THREAD and UID THREAD.
//
// RFC 5256 section 3; REFS: draft-ietf-morg-inthread-01 section 4. What is searched is read, and found, as in SEARCH.

import (
	"context"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store/order"
)

type threadCmd struct {
	searchCmd
	by order.Algorithm
}

var threadAlgorithms = map[string]order.Algorithm{"ORDEREDSUBJECT": order.OrderedSubject, "REFERENCES": order.References, "REFS": order.Refs}

func readThread(d *wire.Decoder) (run, error)    { return parseThread(d, false) }
func readUIDThread(d *wire.Decoder) (run, error) { return parseThread(d, true) }

// thread = ["UID" SP] "THREAD" SP thread-alg SP search-criteria
func parseThread(d *wire.Decoder, uid bool) (run, error) {
	c := &threadCmd{searchCmd: searchCmd{uid: uid, key: &searchKey{op: opAnd}}}
	d.SP()
	name := d.Keyword()
	var ok bool
	if c.by, ok = threadAlgorithms[name]; !ok && d.Err() == nil {
		d.Fail("Unknown threading algorithm %.40q", name)
	}
	d.SP()
	c.readCriteria(d)
	return c, d.End()
}

func (c *threadCmd) run(ctx context.Context, s *session) error {
	if c.numbers && s.uidOnly {
		return errUIDRequired
	}
	return c.find(ctx, s, c.tellThreads)
}

func (c *threadCmd) tellThreads(ctx context.Context, s *session, f finding) error {
	if err := s.hold(int64(f.uids.Len()) * 32); err != nil {
		return err
	}
	uids, messages := f.ordered()
	var threads *order.Forest
	err := c.inOrder(ctx, s, messages, func(t *order.Table) (ok bool, err error) {
		if err := s.hold(t.ThreadWeight(messages)); err != nil {
			return false, err
		}
		threads, ok, err = t.Thread(ctx, messages, c.by)
		return ok, err
	})
	if err != nil {
		return err
	}
	c.tellForest(s, threads, func(place int) uint32 { return c.numberOf(s, uids[place]) })
	return nil
}

// thread-data    = "THREAD" [SP 1*thread-list]
// thread-list    = "(" (thread-members / thread-nested) ")"
// thread-members = nz-number *(SP nz-number) [SP thread-nested]
// thread-nested  = 2*thread-list
func (c *threadCmd) tellForest(s *session, f *order.Forest, number func(place int) uint32) {
	b := append(s.scratch[:0], "* THREAD"...)
	before := order.Member
	for step, place := range f.Walk() {
		if step != order.Close && before == order.Member {
			b = append(b, ' ')
		}
		switch before = step; step {
		case order.Open:
			b = append(b, '(')
		case order.Close:
			b = append(b, ')')
		case order.Member:
			b = appendNumber(b, number(place))
		}
		if len(b) >= flushAt {
			s.enc.Bytes(b)
			b = b[:0]
		}
	}
	b = append(b, "\r\n"...)
	s.enc.Bytes(b)
	s.scratch = b[:0]
}
