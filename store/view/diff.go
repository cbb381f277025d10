package view

import (
	"slices"

	"mailstead.dev/store/id"
)

// Told is what one client has been told of a mailbox. The zero value is a
// client that knows nothing.
type Told struct {
	// UIDs are what the client counts as messages, in order.
	UIDs UIDSet

	// ModSeq is up to where flags and arrivals have been told; Covered is up
	// to where everything has, expunges too. A HIGHESTMODSEQ sent to the client
	// must not exceed Covered, or it would never ask again for what was
	// withheld (RFC 7162 section 6).
	ModSeq, Covered id.ModSeq

	// Keywords is how many of the keyword table the client has seen in FLAGS.
	Keywords int
}

// Update is Expunged, Exists, Changed or FlagsDefined.
type Update interface{ update() }

type (
	// FlagsDefined says that the keyword table has grown (FLAGS response).
	FlagsDefined struct{ Keywords []string }

	// Expunged says that messages are gone. Numbers are those of the EXPUNGE
	// responses to send, in this order: descending, so that none shifts another.
	Expunged struct {
		UIDs    UIDSet
		Numbers []uint32
	}

	// Exists says that there are new messages, and how many there are now.
	Exists struct {
		Messages uint32
		New      UIDSet
	}

	// Changed says that the flags of a message that the client has been told
	// of are others now (FETCH response).
	Changed struct {
		Number  uint32
		Message Message
	}
)

func (FlagsDefined) update() {}
func (Expunged) update()     {}
func (Exists) update()       {}
func (Changed) update()      {}

// Diff returns what brings a client from what it has been told to now, in the
// order in which to send it, and what it has been told then. Where no EXPUNGE
// may be sent (RFC 9051 section 7.5.1) messages that are gone stay in it until
// the next time. A view older than what the client has been told changes
// nothing.
func Diff(told Told, now *View, expunges bool) ([]Update, Told) {
	withheld := told.Covered < told.ModSeq
	if now.modSeq < told.ModSeq || now.modSeq == told.ModSeq && !(withheld && expunges) {
		return nil, told
	}
	var gone, arrived UIDSet
	if !told.UIDs.same(now.uids) {
		gone = told.UIDs.Minus(now.uids)
		arrived = now.uids.Minus(told.UIDs)
	}

	var updates []Update
	next := Told{UIDs: now.uids, ModSeq: now.modSeq, Covered: now.modSeq, Keywords: len(now.keywords)}
	if told.Keywords < next.Keywords {
		updates = append(updates, FlagsDefined{now.keywords})
	}
	withheld = !gone.Empty() && !expunges
	if withheld {
		next.UIDs = told.UIDs.Union(arrived)
		next.Covered = told.Covered // the expunges are behind it
	} else if !gone.Empty() {
		updates = append(updates, Expunged{gone, numbers(told.UIDs, gone)})
	}
	if !arrived.Empty() {
		updates = append(updates, Exists{uint32(next.UIDs.Len()), arrived})
	}
	if arrived.Len() == now.Len() {
		return updates, next // there is nothing else, and SELECT need not look at each
	}
	for i, m := range now.changedSince(told.ModSeq) {
		if arrived.Contains(m.UID) {
			continue
		}
		number := i + 1
		if withheld {
			number = next.UIDs.Rank(m.UID)
		}
		updates = append(updates, Changed{uint32(number), m})
	}
	return updates, next
}

// numbers returns the message numbers of gone in all, descending.
func numbers(all, gone UIDSet) []uint32 {
	numbers := make([]uint32, 0, gone.Len())
	for _, r := range gone.ranges { // the range is in one range of all, so its numbers follow each other
		first := all.Rank(r.First)
		for i := range r.len() {
			numbers = append(numbers, uint32(first+i))
		}
	}
	slices.Reverse(numbers)
	return numbers
}
