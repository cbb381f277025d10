package imapd

// SEARCH=FUZZY: what is like that which is searched for, and how much it is.
//
// RFC 6203. Of the keys only those with a string are matched fuzzily, each for itself: by the same words in any order, by other forms of them, by
// words with up to two slips (index.Likeness). All other keys are exact, which section 5 allows. A search finds the same
// each time. Messages are the more relevant the less has to be forgiven for them to be found.

import (
	"context"

	"mailstead.dev/index"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// search-key =/ "FUZZY" SP search-key
func (r *searchReader) readFuzzy() (k *searchKey) {
	before := r.fuzzy
	r.fuzzy, r.cmd.fuzzy = true, true
	r.d.Nest(func() { k = r.key() })
	r.fuzzy = before
	return k
}

// errNoScores is of the client (sections 4 and 6).
var errNoScores = bad("RELEVANCY takes a FUZZY key")

// relevancy is how relevant a message is, from 1 to 100, that is found when no more is forgiven.
var relevancy = [index.Loosest + 1]uint8{index.Exactly: 100, index.SameWords: 80, index.SameForms: 60, index.OneSlip: 40, index.TwoSlips: 20}

// scores are the messages found, by what has to be forgiven for that.
type scores [index.Loosest + 1]view.UIDSet

func (s *scores) of(uid id.UID) uint8 {
	for like := range s {
		if s[like].Contains(uid) {
			return relevancy[like]
		}
	}
	return 0
}

// score searches among what was found again, with nothing forgiven at first.
func (c *searchCmd) score(ctx context.Context, s *session, v *view.View, found view.UIDSet) (all scores, err error) {
	defer c.forgive(index.Loosest)
	for like := index.Exactly; like < index.Loosest && !found.Empty(); like++ {
		c.forgive(like)
		c.progress = s.startProgress(found.Len())
		if all[like], err = c.search(ctx, s, v, found); err != nil {
			return all, err
		}
		found = found.Minus(all[like])
	}
	all[index.Loosest] = found
	return all, nil
}

// forgive sets how like the strings of FUZZY keys what is found has to be.
func (c *searchCmd) forgive(like index.Likeness) {
	for _, i := range c.fuzzyTexts {
		c.queries[i].Like = like
	}
}

// tellScores writes how relevant the messages are that are returned, in their order.
//
// search-return-data =/ "RELEVANCY" SP "(" [score *(SP score)] ")"
func (c *searchCmd) tellScores(s *session, f finding, all, part results) {
	if c.partial != nil {
		all = part
	}
	b := append(s.scratch[:0], " RELEVANCY ("...)
	first := true
	for uid := range all.each() {
		if !first {
			b = append(b, ' ')
		}
		first = false
		if b = appendNumber(b, uint32(f.of(uid))); len(b) >= flushAt {
			s.enc.Bytes(b)
			b = b[:0]
		}
	}
	b = append(b, ')')
	s.enc.Bytes(b)
	s.scratch = b[:0]
}
