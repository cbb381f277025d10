package view

import (
	"cmp"
	"iter"
	"slices"
	"sort"
	"strconv"

	"mailstead.dev/store/id"
)

// UIDSet is a set of UIDs as ascending, disjoint, non-adjacent ranges. It is
// a value: no method changes it.
type UIDSet struct {
	ranges []Range
	before []uint32 // before[i]: UIDs in ranges[:i]; nil where the ranges are few
	n      int
}

// Range is an inclusive range of UIDs.
type Range struct{ First, Last id.UID }

func (r Range) len() int { return int(r.Last-r.First) + 1 }

// few is up to how many ranges a set is counted through instead of indexed.
const few = 8

// NewUIDSet returns the set of uids, which come in any order.
func NewUIDSet(uids ...id.UID) UIDSet {
	if !slices.IsSorted(uids) {
		uids = slices.Clone(uids)
		slices.Sort(uids)
	}
	var b rangeBuilder
	for _, uid := range uids {
		b.add(Range{uid, uid})
	}
	return b.set()
}

// UIDSetOf returns the set of the UIDs in ranges, which come in any order and
// may overlap. A range whose ends are swapped is the same range (RFC 9051
// section 9, seq-range). Zero is no UID and is left out.
func UIDSetOf(ranges ...Range) UIDSet {
	ranges = slices.Clone(ranges)
	for i, r := range ranges {
		if r.First > r.Last {
			ranges[i] = Range{r.Last, r.First}
		}
	}
	slices.SortFunc(ranges, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	var b rangeBuilder
	for _, r := range ranges {
		b.add(r)
	}
	return b.set()
}

// rangeBuilder collects ranges whose First ascends.
type rangeBuilder struct{ ranges []Range }

func (b *rangeBuilder) add(r Range) {
	if r.Last == 0 {
		return
	}
	r.First = max(r.First, 1)
	if n := len(b.ranges); n > 0 {
		// Compared without adding one, which could overflow.
		if last := &b.ranges[n-1]; r.First <= last.Last || r.First-last.Last == 1 {
			last.Last = max(last.Last, r.Last)
			return
		}
	}
	b.ranges = append(b.ranges, r)
}

// set returns what was collected; the builder is not used after it.
func (b *rangeBuilder) set() UIDSet {
	s := UIDSet{ranges: b.ranges}
	if len(s.ranges) <= few {
		s.n = s.count(len(s.ranges))
		return s
	}
	s.before = make([]uint32, len(s.ranges))
	n := uint32(0)
	for i, r := range s.ranges {
		s.before[i] = n
		n += uint32(r.Last-r.First) + 1
	}
	s.n = int(n)
	return s
}

// Ranges returns the ranges of the set, which must not be changed.
func (s UIDSet) Ranges() []Range { return s.ranges }

// minusBase returns the set with all UIDs, which are above base, lower by it.
func (s UIDSet) minusBase(base id.UID) UIDSet {
	b := rangeBuilder{make([]Range, 0, len(s.ranges))}
	for _, r := range s.ranges {
		b.add(Range{r.First - base, r.Last - base})
	}
	return b.set()
}

// Len returns the number of UIDs in the set.
func (s UIDSet) Len() int { return s.n }

// Empty reports whether no UID is in the set.
func (s UIDSet) Empty() bool { return s.n == 0 }

// Min returns the lowest UID of the set, 0 if it is empty.
func (s UIDSet) Min() id.UID {
	if s.n == 0 {
		return 0
	}
	return s.ranges[0].First
}

// Max returns the highest UID of the set, 0 if it is empty.
func (s UIDSet) Max() id.UID {
	if s.n == 0 {
		return 0
	}
	return s.ranges[len(s.ranges)-1].Last
}

// Contains reports whether uid is in the set.
func (s UIDSet) Contains(uid id.UID) bool {
	i := seek(s.ranges, 0, uid)
	return i < len(s.ranges) && s.ranges[i].First <= uid
}

// Rank returns how many UIDs of the set are not above uid. For a uid in the
// set of a mailbox's UIDs that is its message number.
func (s UIDSet) Rank(uid id.UID) int {
	i := sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i].First > uid })
	if i == 0 {
		return 0
	}
	r := s.ranges[i-1]
	return s.count(i-1) + Range{r.First, min(r.Last, uid)}.len()
}

// count returns the number of UIDs in the first i ranges.
func (s UIDSet) count(i int) int {
	if s.before != nil {
		return int(s.before[i])
	}
	n := 0
	for _, r := range s.ranges[:i] {
		n += r.len()
	}
	return n
}

// Select returns the n-th UID of the set, counted from 1: the UID of message
// number n. It is 0 if there is none.
func (s UIDSet) Select(n int) id.UID {
	if n < 1 || n > s.n {
		return 0
	}
	i := 0
	if s.before != nil {
		i = sort.Search(len(s.before), func(i int) bool { return int(s.before[i]) >= n }) - 1
		n -= int(s.before[i])
	}
	for n > s.ranges[i].len() {
		n -= s.ranges[i].len()
		i++
	}
	return s.ranges[i].First + id.UID(n-1)
}

// All yields the UIDs of the set, ascending.
func (s UIDSet) All() iter.Seq[id.UID] {
	return func(yield func(id.UID) bool) {
		for _, r := range s.ranges {
			for uid := r.First; ; uid++ {
				if !yield(uid) {
					return
				}
				if uid == r.Last {
					break // here, since uid++ may wrap round
				}
			}
		}
	}
}

// Equal reports whether both sets hold the same UIDs.
func (s UIDSet) Equal(o UIDSet) bool {
	return s.n == o.n && (s.same(o) || slices.Equal(s.ranges, o.ranges))
}

// same reports whether both are one value: a quick test that may say no of
// equal sets.
func (s UIDSet) same(o UIDSet) bool {
	return len(s.ranges) == len(o.ranges) && (len(s.ranges) == 0 || &s.ranges[0] == &o.ranges[0])
}

// Union returns the UIDs that are in s or in o.
func (s UIDSet) Union(o UIDSet) UIDSet {
	switch {
	case o.n == 0:
		return s
	case s.n == 0:
		return o
	}
	b := rangeBuilder{make([]Range, 0, len(s.ranges)+len(o.ranges))}
	i, j := 0, 0
	if s.ranges[len(s.ranges)-1].First <= o.ranges[0].First {
		b.ranges = append(b.ranges, s.ranges...) // new mail, as a rule
		i = len(s.ranges)
	}
	for i < len(s.ranges) || j < len(o.ranges) {
		if j == len(o.ranges) || i < len(s.ranges) && s.ranges[i].First <= o.ranges[j].First {
			b.add(s.ranges[i])
			i++
		} else {
			b.add(o.ranges[j])
			j++
		}
	}
	return b.set()
}

// Intersect returns the UIDs that are in both s and o.
func (s UIDSet) Intersect(o UIDSet) UIDSet {
	if s.same(o) {
		return s
	}
	var b rangeBuilder
	i, j := 0, 0
	for i < len(s.ranges) && j < len(o.ranges) {
		x, y := s.ranges[i], o.ranges[j]
		switch {
		case x.Last < y.First:
			i = seek(s.ranges, i, y.First)
		case y.Last < x.First:
			j = seek(o.ranges, j, x.First)
		default:
			b.add(Range{max(x.First, y.First), min(x.Last, y.Last)})
			if x.Last < y.Last {
				i++
			} else {
				j++
			}
		}
	}
	return b.set()
}

// Minus returns the UIDs of s that are not in o.
func (s UIDSet) Minus(o UIDSet) UIDSet {
	switch {
	case s.n == 0 || o.n == 0:
		return s
	case s.same(o):
		return UIDSet{}
	}
	left, right := trim(s.ranges, o.ranges)
	var kept []Range
	if len(left) > len(right) {
		kept = make([]Range, 0, len(left)+len(right)) // each range of o splits one of s
	}
	i, j := 0, 0
	from := id.UID(0) // the UIDs of s below it are dealt with
	keep := func(to int) {
		if i < to {
			kept = append(kept, Range{max(from, left[i].First), left[i].Last})
			kept = append(kept, left[i+1:to]...)
			i = to
		}
	}
	for i < len(left) {
		j = seek(right, j, max(from, left[i].First))
		if j == len(right) {
			break
		}
		y := right[j]
		keep(seek(left, i, y.First))
		for ; i < len(left) && left[i].First <= y.Last; i++ {
			if first := max(from, left[i].First); first < y.First {
				kept = append(kept, Range{first, y.First - 1})
			}
			if left[i].Last > y.Last {
				from = y.Last + 1
				break
			}
		}
	}
	keep(len(left))
	b := rangeBuilder{kept}
	return b.set()
}

// trim leaves out the ranges that two sets have in common at the beginning
// and at the end. Of sets that are states of one mailbox little remains.
func trim(a, b []Range) ([]Range, []Range) {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	a, b = a[n:], b[n:]
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a, b
}

// seek returns the index of the first range from i on that ends at or behind
// uid. It gallops, so that a walk with small steps is as cheap as one with
// large ones.
func seek(ranges []Range, i int, uid id.UID) int {
	step := 1
	for i+step < len(ranges) && ranges[i+step-1].Last < uid {
		i += step
		step *= 2
	}
	rest := ranges[i:min(i+step, len(ranges))]
	return i + sort.Search(len(rest), func(k int) bool { return rest[k].Last >= uid })
}

// String returns the set in the form of a sequence-set (RFC 9051 section 9),
// "" if it is empty.
func (s UIDSet) String() string {
	var b []byte
	for i, r := range s.ranges {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(r.First), 10)
		if r.Last != r.First {
			b = append(b, ':')
			b = strconv.AppendUint(b, uint64(r.Last), 10)
		}
	}
	return string(b)
}
