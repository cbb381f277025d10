package index

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/blevesearch/bleve/v2/index/scorch"
	"github.com/blevesearch/bleve/v2/index/scorch/mergeplan"
	segment "github.com/blevesearch/scorch_segment_api/v2"
)

const (
	// maxSegment is at how many emails a segment is not merged any more, for what one takes in memory grows with it.
	maxSegment = 60_000
	// perMerge is how many segments are merged into one.
	perMerge = 10
)

// What is merged into one segment is bounded, too, by its words and by the octets of its files: the dictionary of the new one is
// made in memory, of some 12 octets a word where each word is in one email only. Mail of people has fewer words than that
// in maxSegment emails. Tests make both smaller.
var (
	maxMergedWords = int64(5 << 20)
	maxMergedFiles = int64(128 << 20)
)

// bleve's planner of merges counts emails only. It is told of the other bounds by what it asks: how good it would be to merge
// some segments (less is better), and how many there may be. It asks with its options, which have the engine's number in
// the one of them that is of use for vectors only, of which there are none.
func init() {
	mergeplan.DefaultMergePlanOptions.ScoreSegments = func(list []mergeplan.Segment, o *mergeplan.MergePlanOptions) float64 {
		if len(list) < 2 || tooLarge(list) { // one alone would leave the planner to go on
			return math.Inf(1)
		}
		return mergeplan.ScoreSegments(list, o)
	}
	mergeplan.DefaultMergePlanOptions.CalcBudget = func(total, least int64, o *mergeplan.MergePlanOptions) int {
		budget := mergeplan.CalcBudget(total, least, o)
		if e, ok := numbered.Load(o.MaxSegmentFileSize); ok {
			return max(budget, e.(*engine).leastSegments(total))
		}
		return budget
	}
}

// lastNumber is the number of the engine that was opened last; numbered finds it.
var (
	lastNumber atomic.Int64
	numbered   sync.Map
)

// leastSegments returns to how many segments those could be brought by a merge, of which bleve wants to merge some: they have
// so many emails in all. Where nothing can be merged, or they are not those any more, that is no number; bleve asks again.
func (e *engine) leastSegments(total int64) int {
	const none = math.MaxInt
	r, err := e.Reader()
	if err != nil {
		return none
	}
	defer r.Close()
	var list []mergeplan.Segment
	for _, s := range r.(*scorch.IndexSnapshot).Segments() {
		if _, ok := s.Segment().(segment.PersistedSegment); ok && s.LiveSize() > 0 && s.LiveSize() < maxSegment/2 {
			list = append(list, s)
			total -= s.LiveSize()
		}
	}
	switch {
	case total != 0:
		return none
	case !tooLarge(list):
		return 0
	}
	// As the planner does it, from each on: those after it that there is room for.
	slices.SortFunc(list, func(x, y mergeplan.Segment) int {
		return cmp.Or(cmp.Compare(y.LiveSize(), x.LiveSize()), cmp.Compare(x.Id(), y.Id()))
	})
	for from := range list {
		var group []mergeplan.Segment
		emails := int64(0)
		for _, s := range list[from:] {
			if len(group) < perMerge && emails+s.LiveSize() < maxSegment {
				group = append(group, s)
				emails += s.LiveSize()
			}
		}
		if len(group) > 1 && !tooLarge(group) {
			return len(list) - 1 // one merge at a time: what is left may not have another
		}
	}
	return none
}

// tooLarge tells whether segments are too large to be merged into one.
func tooLarge(list []mergeplan.Segment) bool {
	words, octets := int64(0), int64(0)
	for _, s := range list {
		words += wordsOf(s.(*scorch.SegmentSnapshot))
		octets += s.FileSize()
	}
	return words > maxMergedWords || octets > maxMergedFiles
}

// wordsOf returns how many words a segment has, of each field.
func wordsOf(s *scorch.SegmentSnapshot) (n int64) {
	for _, field := range indexFields {
		if dict, err := s.Segment().Dictionary(field); err == nil { // else the merge fails by it
			n += int64(dict.Cardinality())
		}
	}
	return n
}
