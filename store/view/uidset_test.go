package view

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"mailstead.dev/store/id"
)

func TestUIDSetString(t *testing.T) {
	for _, c := range []struct {
		ranges []Range
		want   string
	}{
		{nil, ""},
		{[]Range{{0, 0}}, ""},
		{[]Range{{0, 3}}, "1:3"},
		{[]Range{{5, 3}}, "3:5"},
		{[]Range{{7, 7}, {1, 2}, {3, 3}}, "1:3,7"},
		{[]Range{{1, 10}, {2, 3}, {5, 12}}, "1:12"},
		{[]Range{{math.MaxUint32, math.MaxUint32}, {1, math.MaxUint32 - 1}}, "1:4294967295"},
	} {
		if got := UIDSetOf(c.ranges...).String(); got != c.want {
			t.Errorf("UIDSetOf(%v) = %q, want %q", c.ranges, got, c.want)
		}
	}
	if got := NewUIDSet(9, 1, 2, 9, 3, 0).String(); got != "1:3,9" {
		t.Errorf("NewUIDSet = %q", got)
	}
}

func TestUIDSetAllOfThem(t *testing.T) {
	all := UIDSetOf(Range{1, math.MaxUint32})
	if all.Len() != math.MaxUint32 || all.Select(math.MaxUint32) != math.MaxUint32 || all.Rank(math.MaxUint32) != math.MaxUint32 {
		t.Errorf("Len, Select, Rank = %d, %d, %d", all.Len(), all.Select(math.MaxUint32), all.Rank(math.MaxUint32))
	}
	if got := all.Minus(NewUIDSet(5, math.MaxUint32)).String(); got != "1:4,6:4294967294" {
		t.Errorf("Minus = %q", got)
	}
	n := 0
	for range UIDSetOf(Range{math.MaxUint32 - 2, math.MaxUint32}).All() {
		n++
	}
	if n != 3 {
		t.Errorf("All yields %d, want 3", n)
	}
}

// TestUIDSetModel compares sets with maps.
func TestUIDSetModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		limit := 1 + rnd.IntN(90)
		draw := func() (UIDSet, map[id.UID]bool) {
			model := make(map[id.UID]bool)
			var uids []id.UID
			for range rnd.IntN(limit) {
				uid := id.UID(1 + rnd.IntN(limit))
				model[uid] = true
				uids = append(uids, uid)
			}
			return NewUIDSet(uids...), model
		}
		a, am := draw()
		b, bm := draw()
		checkSet(t, "a", a, func(uid id.UID) bool { return am[uid] }, limit)
		checkSet(t, "union", a.Union(b), func(uid id.UID) bool { return am[uid] || bm[uid] }, limit)
		checkSet(t, "intersection", a.Intersect(b), func(uid id.UID) bool { return am[uid] && bm[uid] }, limit)
		checkSet(t, "difference", a.Minus(b), func(uid id.UID) bool { return am[uid] && !bm[uid] }, limit)
		if t.Failed() {
			t.Fatalf("a = %s, b = %s", a, b)
		}
	}
}

func checkSet(t *testing.T, what string, s UIDSet, in func(id.UID) bool, limit int) {
	t.Helper()
	rank := 0
	var want []id.UID
	for uid := id.UID(1); uid <= id.UID(limit)+1; uid++ {
		if in(uid) {
			rank++
			want = append(want, uid)
			if got := s.Select(rank); got != uid {
				t.Errorf("%s: Select(%d) = %d, want %d", what, rank, got, uid)
			}
		}
		if s.Contains(uid) != in(uid) || s.Rank(uid) != rank {
			t.Errorf("%s: Contains(%d), Rank = %v, %d, want %v, %d", what, uid, s.Contains(uid), s.Rank(uid), in(uid), rank)
		}
	}
	if got := slices.Collect(s.All()); !slices.Equal(got, want) {
		t.Errorf("%s: All = %v, want %v", what, got, want)
	}
	if s.Len() != rank || s.Empty() != (rank == 0) || s.Select(rank+1) != 0 || s.Select(0) != 0 {
		t.Errorf("%s: Len = %d, want %d", what, s.Len(), rank)
	}
	for i, r := range s.Ranges() {
		if r.First > r.Last || i > 0 && r.First <= s.ranges[i-1].Last+1 {
			t.Errorf("%s: ranges %v", what, s.ranges)
		}
	}
}
