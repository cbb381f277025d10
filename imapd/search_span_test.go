package imapd

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// A run of messages is evaluated as each of them is.
func TestEvalSpan(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 5))
	zones := []*time.Location{time.UTC, time.FixedZone("", 14*3600), time.FixedZone("", -11*3600-1800)}
	var messages []view.Message
	for uid := id.UID(1); len(messages) < 3000; uid += id.UID(1 + r.IntN(3)) {
		// Around midnight of a few days, and before the epoch.
		day := time.Date(1969, 12, 30+r.IntN(4), 0, 0, r.IntN(3)-1, 0, zones[r.IntN(3)])
		messages = append(messages, view.Message{
			UID: uid, Email: id.Email(uid), Flags: view.Flags(r.IntN(32)), Keywords: view.KeywordBit(r.IntN(2)),
			InternalDate: day, SaveDate: day.AddDate(0, 0, r.IntN(3)).UTC(), Size: int64(r.IntN(100)),
		})
	}
	v, err := view.New(1, 6, []string{"$one", "$two"}).Apply(7, view.Record{view.Append{Messages: messages}})
	if err != nil {
		t.Fatal(err)
	}
	top := messages[len(messages)-1].UID
	recent := view.UIDSetOf(view.Range{First: 40, Last: 900}, view.Range{First: 2000, Last: top})
	some := view.UIDSetOf(view.Range{First: 5, Last: 70}, view.Range{First: 71, Last: 1500}, view.Range{First: top - 100, Last: top})
	leaves := []string{
		"ALL", "SEEN", "UNSEEN", "DELETED", "ANSWERED", "KEYWORD $one", "UNKEYWORD $two", "KEYWORD $three", "NEW", "OLD", "RECENT", "UID 10:20,400:2100", "LARGER 50", "SMALLER 20",
		"BEFORE 31-Dec-1969", "ON 1-Jan-1970", "SINCE 31-Dec-1969", "SAVEDON 2-Jan-1970", "SAVEDBEFORE 1-Jan-1970", "SAVEDSINCE 1-Jan-1970", "MODSEQ 7", "MODSEQ 8",
		"BODY x", "SENTSINCE 1-Jan-1970", "FROM y", "EMAILID M1",
	}
	var tree func(depth int) string
	tree = func(depth int) string {
		switch n := r.IntN(6); {
		case depth == 0 || n < 2:
			return leaves[r.IntN(len(leaves))]
		case n == 2:
			return "NOT " + tree(depth-1)
		case n == 3:
			return "OR " + tree(depth-1) + " " + tree(depth-1)
		default:
			return "(" + strings.Join([]string{tree(depth - 1), tree(depth - 1), tree(depth - 1)}[:1+r.IntN(3)], " ") + ")"
		}
	}
	queries := make([]string, 0, 300)
	queries = append(queries, leaves...)
	for len(queries) < cap(queries) {
		queries = append(queries, tree(4))
	}
	for _, query := range queries {
		d := decoderOf(" " + query)
		c := readSearchCmd(d, false)
		if err := d.End(); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		uids := view.UIDSetOf(view.Range{First: 10, Last: 20}, view.Range{First: 400, Last: 2100})
		bindAll(c.key, uids)
		c.key.resolve(v)
		n := 0
		for span := range v.Spans(some) {
			yes, open := c.key.evalSpan(span, recent)
			isIn := func(s spanSet, i int) bool { return s[i/64]>>(i%64)&1 == 1 }
			for i := range span.Len() {
				n++
				m := span.Message(i)
				want := c.key.eval(&m, recent, nil)
				if isIn(yes, i) != (want == isTrue) || isIn(open, i) != (want == isOpen) {
					t.Fatalf("%s: UID %d: yes %v, open %v; want %v", query, m.UID, isIn(yes, i), isIn(open, i), want)
				}
			}
			if last := fmt.Sprint(yes, open); span.Len() < view.SpanSize && (isIn(yes, span.Len()) || isIn(open, span.Len())) {
				t.Fatalf("%s: more than there are: %s", query, last)
			}
		}
		if n != some.Intersect(v.UIDs()).Len() {
			t.Fatalf("%d messages, want %d", n, some.Intersect(v.UIDs()).Len())
		}
	}
}

// bindAll has all keys that name messages name these.
func bindAll(k *searchKey, uids view.UIDSet) {
	k.uids = uids
	for _, kid := range k.kids {
		bindAll(kid, uids)
	}
}
