package quota

import (
	"slices"
	"strconv"
)

// Mark is a height of use that is warned of.
type Mark string

// The marks beside those of a part of the limit, such as "90%".
const (
	MarkSoft  Mark = "soft"  // more is used than the soft limit
	MarkGrace Mark = "grace" // and that for so long that nothing more is taken
	MarkFull  Mark = "full"  // nothing more fits
)

// Percent is the mark of a part of the limit.
func Percent(n int) Mark { return Mark(strconv.Itoa(n) + "%") }

// slack is the part of a limit that must be freed below a mark before it is cleared, in percent: so that use that goes to and fro at a
// mark is warned of once.
const slack = 2

// Use is what is used of a resource, and what that is held to.
type Use struct {
	Used        int64
	Limit, Soft *int64 // nil: none
	GraceOver   bool   // growth is refused for more is used than Soft
}

// Marks returns those that are raised where was were raised before, from the lowest up. at are the parts of the limit that are warned
// of, in percent; where there is a soft limit alone they are parts of that.
func (u Use) Marks(at []int, was []Mark) []Mark {
	var marks []Mark
	raise := func(m Mark, height, of int64) {
		if slices.Contains(was, m) {
			height -= share(of, slack)
		}
		if u.Used > 0 && u.Used >= height {
			marks = append(marks, m)
		}
	}
	whole := u.Limit
	if whole == nil {
		whole = u.Soft
	}
	if whole == nil {
		return nil
	}
	for _, n := range slices.Sorted(slices.Values(at)) {
		raise(Percent(n), share(*whole, int64(n)), *whole)
	}
	if u.Soft != nil && (u.Limit == nil || *u.Soft < *u.Limit) {
		raise(MarkSoft, *u.Soft+1, *u.Soft)
	}
	if u.GraceOver {
		marks = append(marks, MarkGrace)
	}
	if u.Limit != nil {
		raise(MarkFull, *u.Limit, *u.Limit)
	}
	return marks
}

// share is a part of an amount, in percent, rounded up.
func share(of, percent int64) int64 { return of/100*percent + (of%100*percent+99)/100 }
