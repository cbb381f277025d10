package backup

import (
	"iter"

	"github.com/emersion/go-imap/v2"
)

// uids yields the UIDs of a set in order.
func uids(set imap.UIDSet) iter.Seq[imap.UID] {
	return func(yield func(imap.UID) bool) {
		for _, r := range set {
			for uid := r.Start; ; uid++ {
				if !yield(uid) {
					return
				}
				if uid == r.Stop {
					break
				}
			}
		}
	}
}

// minus returns what is in a and not in b. Both are sorted, as imap keeps sets; it takes as
// long as they have ranges, whatever those span.
func minus(a, b imap.UIDSet) imap.UIDSet {
	var left imap.UIDSet
	for _, r := range a {
		start, open := r.Start, true
		for len(b) > 0 && b[0].Stop < start {
			b = b[1:]
		}
		for i := 0; open && i < len(b) && b[i].Start <= r.Stop; i++ {
			if b[i].Start > start {
				left = append(left, imap.UIDRange{Start: start, Stop: b[i].Start - 1})
			}
			open = b[i].Stop < r.Stop
			start = b[i].Stop + 1
		}
		if open {
			left = append(left, imap.UIDRange{Start: start, Stop: r.Stop})
		}
	}
	return left
}

// count returns how many UIDs a set has.
func count(set imap.UIDSet) int {
	n := 0
	for _, r := range set {
		n += int(r.Stop-r.Start) + 1
	}
	return n
}

// sane reports whether a server's set is one of UIDs of a mailbox: a server can say 1:4294967295.
func sane(set imap.UIDSet, messages uint32) bool {
	for _, r := range set {
		if r.Start == 0 || r.Stop < r.Start {
			return false
		}
	}
	const slack = 100_000 // may have come since
	return count(set) <= int(messages)+slack
}
