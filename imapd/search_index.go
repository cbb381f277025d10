package imapd

import (
	"context"
	"errors"

	"github.com/RoaringBitmap/roaring/v2"

	"mailstead.dev/index"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// How a search uses the index of the account whose mailbox it is. The index
// knows of each text which emails hold it, for certain or perhaps, up to an email that it names;
// the texts that it keeps decide about the second. Whatever it cannot tell, or has not reached yet, is
// read as if there were none: so the answer is the same, with an index or without.

// searchIndex answers which emails of an account hold texts.
type searchIndex interface {
	Search(ctx context.Context, t id.Tenant, account id.Account, queries []index.Query) (index.Result, error)
	Verify(ctx context.Context, t id.Tenant, account id.Account, queries []index.Query, emails *roaring.Bitmap, yield func(email id.Email, found, settled []bool) bool) error
}

// fewOpen is up to how many messages are read without asking an index.
const fewOpen = 32

// answers are what an index knows of the queries of a search.
type answers struct {
	upTo    id.Email
	matches []*roaring.Bitmap // of each query: emails that match,
	maybe   []*roaring.Bitmap // and those of which it is not known
}

// of tells whether an email matches a query.
func (a *answers) of(query int, email id.Email) truth {
	switch {
	case a == nil || email > a.upTo:
		return isOpen
	case a.matches[query].Contains(uint32(email)):
		return isTrue
	case a.maybe[query].Contains(uint32(email)):
		return isOpen
	}
	return isFalse
}

// undecided tells whether any query is open for an email that the index knows.
func (a *answers) undecided(email id.Email) bool {
	if email > a.upTo {
		return false
	}
	for _, maybe := range a.maybe {
		if maybe.Contains(uint32(email)) {
			return true
		}
	}
	return false
}

// askIndex asks the index of the account, if there is one, about the texts. That it cannot answer is no
// failure of the search; that is over if nobody waits for it any more.
func (c *searchCmd) askIndex(ctx context.Context, s *session) (*answers, error) {
	if s.server.o.Index == nil || len(c.queries) == 0 {
		return nil, nil
	}
	r, err := s.server.o.Index.Search(ctx, s.selected.Tenant, s.selected.Owner, c.queries)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		s.indexFailed(ctx, err)
		return nil, nil
	}
	a := &answers{upTo: r.UpTo}
	for _, q := range r.Answers {
		a.matches, a.maybe = append(a.matches, q.Matches), append(a.maybe, q.Maybe)
	}
	return a, nil
}

func (s *session) indexFailed(ctx context.Context, err error) {
	if !errors.Is(err, index.ErrNone) {
		s.log.WarnContext(ctx, "searching without the index", "error", err)
	}
}

// checkEvery is after how many messages it is looked whether anybody still waits.
const checkEvery = 1024

// searchIndex evaluates messages with what the index knows, if there is one. open are those that are still to be read.
func (c *searchCmd) searchIndex(ctx context.Context, s *session, v *view.View, uids view.UIDSet) (found, open view.UIDSet, err error) {
	if c.answers, err = c.askIndex(ctx, s); c.answers == nil {
		return found, uids, err
	}
	if may := c.key.mayMatch(c.answers); may != nil {
		upTo := c.answers.upTo
		uids = v.WithEmail(uids, func(email id.Email) bool { return email > upTo || may.Contains(uint32(email)) })
	}
	known := evidence{answers: c.answers}
	var matching, unsettled []id.UID
	var undecided []view.Message
	n := 0
	for m := range v.In(uids) {
		if n++; n%checkEvery == 0 && ctx.Err() != nil {
			return found, open, ctx.Err()
		}
		switch c.key.eval(&m, s.selected.recent, &known) {
		case isTrue:
			matching = append(matching, m.UID)
		case isOpen:
			if c.answers.undecided(m.Email) {
				undecided = append(undecided, m)
			} else {
				unsettled = append(unsettled, m.UID)
			}
		}
	}
	if len(undecided) > 0 {
		if err := c.decide(ctx, s, undecided); err != nil {
			return found, open, err
		}
	}
	for _, m := range undecided {
		switch c.key.eval(&m, s.selected.recent, &known) {
		case isTrue:
			matching = append(matching, m.UID)
		case isOpen:
			unsettled = append(unsettled, m.UID)
		}
	}
	return view.NewUIDSet(matching...), view.NewUIDSet(unsettled...), nil
}

// mayMatch returns the emails that can match a key, of those that the index knows; nil for any.
func (k *searchKey) mayMatch(a *answers) *roaring.Bitmap {
	switch k.op {
	case opText:
		return roaring.Or(a.matches[k.query], a.maybe[k.query])
	case opAnd, opOr:
	default:
		return nil
	}
	var may *roaring.Bitmap
	for i, kid := range k.kids {
		of := kid.mayMatch(a)
		switch {
		case of == nil && k.op == opOr:
			return nil
		case of == nil:
		case may == nil && (i == 0 || k.op == opAnd):
			may = of
		case k.op == opAnd:
			may.And(of)
		default:
			may.Or(of)
		}
	}
	return may
}

// decide lets the texts that the index keeps decide about messages.
func (c *searchCmd) decide(ctx context.Context, s *session, messages []view.Message) error {
	emails := roaring.New()
	for i := range messages {
		emails.Add(uint32(messages[i].Email))
	}
	a, decided := c.answers, 0
	err := s.server.o.Index.Verify(ctx, s.selected.Tenant, s.selected.Owner, c.queries, emails, func(email id.Email, found, settled []bool) bool {
		for i, known := range settled {
			if known && a.maybe[i].CheckedRemove(uint32(email)) && found[i] {
				a.matches[i].Add(uint32(email))
			}
		}
		decided++
		c.progress.reached(c.done + decided)
		return true
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil: // what it has decided is true; the rest is read
		s.indexFailed(ctx, err)
	}
	return nil
}
