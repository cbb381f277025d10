package quota

import "math"

// Usage returns what is used of a resource as clients are told it. Octets are
// told in units of 1024 (RFC 9208 section 5.1), and a part of one counts as one: what is not empty is not told as 0.
func (r Resource) Usage(used int64) int64 {
	unit := r.unit()
	return used/unit + min(used%unit, 1)
}

// Limit returns a limit as clients are told it: of a unit of 1024 octets only whole ones, so that nobody is promised more than there is.
func (r Resource) Limit(limit int64) int64 { return limit / r.unit() }

// FromWire returns a limit that a client sets, in what is counted; ok is false where that is more than can be counted.
func (r Resource) FromWire(limit int64) (n int64, ok bool) {
	unit := r.unit()
	if limit < 0 || limit > math.MaxInt64/unit {
		return 0, false
	}
	return limit * unit, true
}
