package imapd

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/sync/errgroup"

	"mailstead.dev/index"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
	"mailstead.dev/store/view"
)

// How a search is answered: first from the view alone, which settles most
// messages; then, for those that it leaves open, from the index of the account (search_index.go); from what was kept of the parsed
// message; and only for those that are still open from the content.

// truth is what is known of a key for a message.
type truth uint8

const (
	isFalse truth = iota
	isTrue
	isOpen // more has to be read to tell
)

func truthOf(b bool) truth {
	if b {
		return isTrue
	}
	return isFalse
}

// evidence is what has been read of a message beyond the view, nil for nothing.
type evidence struct {
	email   *store.Email
	answers *answers // of the index
	found   []bool   // answers to the queries
	settled []bool   // which of them are known; nil: all
}

// search returns the UIDs of those of some messages that match.
func (c *searchCmd) search(ctx context.Context, s *session, v *view.View, among view.UIDSet) (view.UIDSet, error) {
	c.key.resolve(v)
	c.key.order()
	c.answers = nil // of the mailbox before, which may be another account's
	found, open := view.UIDSet{}, among
	if c.key.kids[0].cost() < textCost { // else the view cannot settle anything
		var err error
		if found, open, err = c.searchView(ctx, s, v, among); err != nil {
			return found, err
		}
	}
	if open.Len() > fewOpen {
		more, rest, err := c.searchIndex(ctx, s, v, open)
		if err != nil {
			return found, err
		}
		found, open = found.Union(more), rest
	}
	c.done = among.Len() - open.Len()
	if open.Empty() {
		return found, nil
	}
	more, err := c.searchEmails(ctx, s, v, open)
	return found.Union(more), err
}

// searchView evaluates messages by the view alone. open are those that are not settled by that.
func (c *searchCmd) searchView(ctx context.Context, s *session, v *view.View, uids view.UIDSet) (found, open view.UIDSet, err error) {
	var matching, unsettled []id.UID
	n := 0
	next := 0
	for span := range v.Spans(uids) {
		if n >= next {
			if ctx.Err() != nil {
				return found, open, ctx.Err()
			}
			c.progress.reached(n - len(unsettled))
			next = n + checkEvery
		}
		n += span.Len()
		if span.Len() < fewOfSpan { // where every other message is gone
			for i := range span.Len() {
				m := span.Message(i)
				switch c.key.eval(&m, s.selected.recent, nil) {
				case isTrue:
					matching = append(matching, m.UID)
				case isOpen:
					unsettled = append(unsettled, m.UID)
				}
			}
			continue
		}
		yes, maybe := c.key.evalSpan(span, s.selected.recent)
		of := span.UIDs()
		yes.each(func(i int) { matching = append(matching, of[i]) })
		maybe.each(func(i int) { unsettled = append(unsettled, of[i]) })
	}
	return view.NewUIDSet(matching...), view.NewUIDSet(unsettled...), nil
}

// searchEmails returns those of the messages uids that match, looking at their emails.
func (c *searchCmd) searchEmails(ctx context.Context, s *session, v *view.View, uids view.UIDSet) (view.UIDSet, error) {
	matcher := index.NewMatcher(c.queries)
	var found []id.UID
	err := s.selected.eachBatch(ctx, v.In(uids), func(b emailsOf) error {
		matches, err := c.searchBatch(ctx, s, matcher, b)
		for i, m := range matches {
			if m {
				found = append(found, b.messages[i].UID)
			}
		}
		return err
	})
	return view.NewUIDSet(found...), err
}

// searchBatch tells which messages of a batch match. A message that is gone does not.
func (c *searchCmd) searchBatch(ctx context.Context, s *session, matcher *index.Matcher, b emailsOf) ([]bool, error) {
	matches := make([]bool, len(b.messages))
	var open []int // those whose content decides
	var ids []id.Email
	for i := range b.messages {
		m, email := &b.messages[i], &b.emails[i]
		if email.Meta == nil {
			continue
		}
		known := evidence{email: email, answers: c.answers}
		known.found, known.settled = matcher.FromMeta(ctx, email.Meta)
		switch c.key.eval(m, s.selected.recent, &known) {
		case isTrue:
			matches[i] = true
		case isOpen:
			open, ids = append(open, i), append(ids, m.Email)
		}
	}
	c.done += len(b.messages) - len(open)
	c.progress.reached(c.done)
	if len(open) == 0 {
		return matches, nil
	}
	files := s.server.o.Files(s.selected.Tenant)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	err := s.selected.Contents(ctx, ids, func(email id.Email, content message.Reader) error {
		for b.messages[open[0]].Email != email { // gone
			open = open[1:]
			c.done++
		}
		i := open[0]
		open = open[1:]
		c.progress.reached(c.done)
		c.done++
		m, kept := &b.messages[i], &b.emails[i]
		g.Go(func() (err error) {
			defer recovered(&err)
			found, err := matcher.Match(ctx, kept.Meta, func() (message.Reader, error) { return content, nil }, files)
			if isExpunged(err) {
				return nil
			}
			matches[i] = err == nil && c.key.eval(m, s.selected.recent, &evidence{email: kept, answers: c.answers, found: found}) == isTrue
			return err
		})
		return nil
	})
	if failed := g.Wait(); failed != nil {
		return matches, failed // which may be why reading ended
	}
	return matches, err
}

// bind looks up which messages keys name, as the client knows them; of UIDs also those of which there is no message yet.
func (k *searchKey) bind(s *session) {
	if k.op == opSet {
		switch {
		case k.set.saved:
			k.uids = s.saved()
		case k.set.uid:
			k.uids = everyUID(k.set.uids, s.selected.told.UIDs.Max())
		default:
			k.uids = s.lenientNumbers(k.set.seqs)
		}
	}
	for _, kid := range k.kids {
		kid.bind(s)
	}
}

// resolve looks up in a view what else keys name: keywords, and what the time is.
func (k *searchKey) resolve(v *view.View) {
	switch k.op {
	case opOlder, opYounger:
		k.then = time.Now().Unix() - k.number
	case opKeyword:
		k.bit = slices.IndexFunc(v.Keywords(), func(name string) bool { return strings.EqualFold(name, k.keyword) })
	}
	for _, kid := range k.kids {
		kid.resolve(v)
	}
}

// lenientNumbers returns the UIDs of message numbers. In a search, a number of
// which there is no message matches none: many clients ask for 1:* whatever there is.
func (s *session) lenientNumbers(set imap.SeqSet) view.UIDSet {
	told := s.selected.told.UIDs
	count := uint32(told.Len())
	var ranges []view.Range
	for _, r := range set {
		first, last := r.Start, r.Stop
		if first == 0 {
			first = count
		}
		if last == 0 {
			first, last = min(first, count), max(first, count)
		}
		if last = min(last, count); first <= last && first > 0 {
			ranges = append(ranges, view.Range{First: told.Select(int(first)), Last: told.Select(int(last))})
		}
	}
	return view.UIDSetOf(ranges...).Intersect(told)
}

// order puts cheap keys first, so that the others are often not asked.
func (k *searchKey) order() {
	for _, kid := range k.kids {
		kid.order()
	}
	slices.SortStableFunc(k.kids, func(a, b *searchKey) int { return cmp.Compare(a.cost(), b.cost()) })
}

// textCost is the cost of a key that asks for a text.
const textCost = 2

func (k *searchKey) cost() int {
	switch {
	case k.op >= opText:
		return textCost
	case k.op >= opSentBefore:
		return 1
	}
	cost := 0
	for _, kid := range k.kids {
		cost = max(cost, kid.cost())
	}
	return cost
}

// eval tells whether a message matches, as far as known tells.
func (k *searchKey) eval(m *view.Message, recent view.UIDSet, known *evidence) truth {
	switch k.op {
	case opAnd:
		return k.all(isTrue, m, recent, known)
	case opOr:
		return k.all(isFalse, m, recent, known)
	case opNot:
		return k.kids[0].eval(m, recent, known).not()
	case opAll:
		return isTrue
	case opSet:
		return truthOf(k.uids.Contains(m.UID))
	case opFlags:
		return truthOf(m.Flags&k.flags == k.flags)
	case opUnflags:
		return truthOf(m.Flags&k.flags == 0)
	case opKeyword:
		return truthOf(k.bit >= 0 && m.Keywords.Has(k.bit))
	case opRecent:
		return truthOf(recent.Contains(m.UID))
	case opBefore, opOn, opSince:
		return truthOf(k.compareDay(m.InternalDate, k.op-opBefore))
	case opSavedBefore, opSavedOn, opSavedSince:
		return truthOf(k.compareDay(m.SaveDate, k.op-opSavedBefore))
	case opOlder:
		return truthOf(m.InternalDate.Unix() <= k.then)
	case opYounger:
		return truthOf(m.InternalDate.Unix() >= k.then)
	case opLarger:
		return truthOf(m.Size > k.number)
	case opSmaller:
		return truthOf(m.Size < k.number)
	case opModSeq:
		return truthOf(int64(m.ModSeq) >= k.number)
	}
	switch {
	case known == nil:
		return isOpen
	case k.op == opText:
		return k.evalText(m, known)
	case known.email == nil:
		return isOpen
	case k.op == opEmailID:
		return truthOf(known.email.EmailID == k.object)
	case k.op == opThreadID:
		return truthOf(known.email.ThreadID == k.object)
	}
	sent := known.email.Meta.SentDate
	return truthOf(!sent.IsZero() && k.compareDay(sent, k.op-opSentBefore))
}

// evalText tells whether a message holds the text.
func (k *searchKey) evalText(m *view.Message, known *evidence) truth {
	if t := known.answers.of(k.query, m.Email); t != isOpen {
		return t
	}
	if known.found == nil || known.settled != nil && !known.settled[k.query] {
		return isOpen
	}
	return truthOf(known.found[k.query])
}

// all tells whether all kids are goal; one that is the opposite decides.
func (k *searchKey) all(goal truth, m *view.Message, recent view.UIDSet, known *evidence) truth {
	result := goal
	for _, kid := range k.kids {
		switch kid.eval(m, recent, known) {
		case goal:
		case isOpen:
			result = isOpen
		default:
			return goal.not()
		}
	}
	return result
}

func (t truth) not() truth {
	switch t {
	case isTrue:
		return isFalse
	case isFalse:
		return isTrue
	}
	return isOpen
}

// compareDay compares the day of t with the key's: before, on, since.
func (k *searchKey) compareDay(t time.Time, how searchOp) bool {
	return k.isDay(dayOf(t), how)
}

func (k *searchKey) isDay(day int64, how searchOp) bool {
	switch how {
	case 0:
		return day < k.day
	case 1:
		return day == k.day
	}
	return day >= k.day
}

// dayOf returns the day that t names in its own zone, as a number that orders
// days: searches disregard time and zone (RFC 3501 section 6.4.4).
func dayOf(t time.Time) int64 {
	_, offset := t.Zone()
	return dayAt(t.Unix(), int64(offset))
}

// dayAt is dayOf of a time in seconds after the epoch, in a zone so many seconds ahead of UTC.
func dayAt(unix, offset int64) int64 {
	const day = 24 * 60 * 60
	local := unix + offset
	if local < 0 {
		local -= day - 1
	}
	return local / day
}

func appendNumber[N ~uint32 | ~int64](b []byte, n N) []byte {
	return strconv.AppendUint(b, uint64(n), 10)
}
