package imapd

// SORT and UID SORT.
//
// RFC 5256 section 3; DISPLAYFROM and DISPLAYTO: RFC 5957; RELEVANCY: RFC 6203 section 6; RETURN: RFC 5267 section 3; MODSEQ: RFC 7162
// section 3.1.9. What is searched is read, and found, as in SEARCH. What mail is sorted by stays in memory (package order).

import (
	"context"
	"fmt"
	"slices"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/order"
)

// orderer is what SORT and THREAD need of a mailbox.
type orderer interface {
	Order(ctx context.Context, messages []order.Message, reached func(done int)) (*order.Table, error)
}

var _ orderer = (*store.Mailbox)(nil)

type sortCmd struct {
	searchCmd
	keys []order.Key
}

var sortCriteria = map[string]order.Criterion{
	"ARRIVAL": order.Arrival, "CC": order.Cc, "DATE": order.Date, "DISPLAYFROM": order.DisplayFrom, "DISPLAYTO": order.DisplayTo,
	"FROM": order.From, "RELEVANCY": order.Relevancy, "SIZE": order.Size, "SUBJECT": order.Subject, "TO": order.To,
}

func readSort(d *wire.Decoder) (run, error)    { return parseSort(d, false) }
func readUIDSort(d *wire.Decoder) (run, error) { return parseSort(d, true) }

// sort          = ["UID" SP] "SORT" SP sort-criteria SP search-criteria
// extended-sort = ["UID" SP] "SORT" search-return-opts SP sort-criteria SP search-criteria
func parseSort(d *wire.Decoder, uid bool) (run, error) {
	c := &sortCmd{searchCmd: searchCmd{uid: uid, key: &searchKey{op: opAnd}}}
	d.SP()
	if d.Peek() != '(' {
		if word := d.Keyword(); d.Err() == nil && word != "RETURN" {
			d.Fail("Expected RETURN or a list of sort criteria instead of %.40q", word)
		}
		d.SP()
		c.readReturns(d)
		d.SP()
	}
	c.readKeys(d)
	d.SP()
	c.readCriteria(d)
	return c, d.End()
}

// sort-criteria  = "(" sort-criterion *(SP sort-criterion) ")"
// sort-criterion = ["REVERSE" SP] sort-key
func (c *sortCmd) readKeys(d *wire.Decoder) {
	d.List(func() {
		var k order.Key
		name := d.Keyword()
		if k.Reverse = name == "REVERSE"; k.Reverse {
			d.SP()
			name = d.Keyword()
		}
		var ok bool
		if k.By, ok = sortCriteria[name]; !ok && d.Err() == nil {
			d.Fail("Unknown sort criterion %.40q", name)
		}
		c.scored = c.scored || k.By == order.Relevancy
		if !slices.ContainsFunc(c.keys, func(o order.Key) bool { return o.By == k.By }) { // what it would decide is decided
			c.keys = append(c.keys, k)
		}
	})
	if len(c.keys) == 0 {
		d.Fail("SORT needs a criterion")
	}
}

func (c *sortCmd) run(ctx context.Context, s *session) error {
	return c.saving(s, func() error { return c.find(ctx, s, c.tellSorted) })
}

func (c *sortCmd) tellSorted(ctx context.Context, s *session, f finding) error {
	uids, err := c.sorted(ctx, s, f)
	if err != nil {
		return err
	}
	if c.extended {
		all := resultsOf(uids)
		if err := c.tellExtended(s, f, all); err != nil || c.returns&returnUpdate == 0 {
			return err
		}
		s.keepUpdated(&searchContext{tag: s.tag, search: &c.searchCmd, keys: c.keys, at: f.view, found: all})
		return nil
	}
	c.tell(s, "SORT", f, slices.Values(uids))
	return nil
}

// sorted returns the messages that were found in the order that is asked for.
func (c *sortCmd) sorted(ctx context.Context, s *session, f finding) (sorted []id.UID, err error) {
	if err := s.hold(int64(f.uids.Len()) * int64(48+8*len(c.keys))); err != nil {
		return nil, err
	}
	uids, messages := f.ordered()
	table := order.NewTable()
	sort := func() (ok bool, err error) {
		places, ok := table.Sort(messages, c.keys)
		sorted = make([]id.UID, len(places))
		for i, place := range places {
			sorted[i] = uids[place]
		}
		return ok, nil
	}
	if !slices.ContainsFunc(c.keys, order.Key.Stored) {
		_, err := sort()
		return sorted, err
	}
	return sorted, c.inOrder(ctx, s, messages, func(t *order.Table) (bool, error) {
		table = t
		return sort()
	})
}

// ordered returns what was found as it is sorted and threaded.
func (f finding) ordered() ([]id.UID, []order.Message) {
	uids, messages := make([]id.UID, 0, f.uids.Len()), make([]order.Message, 0, f.uids.Len())
	for m := range f.view.In(f.uids) {
		uids = append(uids, m.UID)
		messages = append(messages, order.Message{Email: m.Email, Arrival: m.InternalDate.Unix(), Size: m.Size, Relevancy: f.of(m.UID)})
	}
	return uids, messages
}

// maxOrderings is how often a command finds that what it needs has gone from memory again.
const maxOrderings = 5

// inOrder calls do with a table that has the emails of messages, until it says that all were there.
func (c *searchCmd) inOrder(ctx context.Context, s *session, messages []order.Message, do func(*order.Table) (ok bool, err error)) error {
	for range maxOrderings {
		table, err := s.selected.Order(ctx, messages, c.progress.reached)
		if err != nil {
			return err
		}
		if ok, err := do(table); ok || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: what is sorted by does not stay in memory", store.ErrUnavailable)
}
