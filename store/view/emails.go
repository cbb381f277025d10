package view

import "mailstead.dev/store/id"

// WithEmail returns which of the UIDs are of messages whose email is wanted.
func (v *View) WithEmail(uids UIDSet, wanted func(id.Email) bool) UIDSet {
	var b rangeBuilder
	for k, span := range spans(v.chunks, uids) {
		f := v.chunks[k].fixed
		for i := span.from; i < span.to; i++ {
			if wanted(f.emails[i]) {
				b.add(Range{f.uids[i], f.uids[i]})
			}
		}
	}
	return b.set()
}
