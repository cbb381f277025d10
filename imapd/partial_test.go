package imapd

import (
	"testing"

	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

func TestPartial(t *testing.T) {
	var all []id.UID
	for uid := id.UID(3); uid < 100; uid += 1 + uid%4 {
		all = append(all, uid)
	}
	n := len(all)
	for first := -n - 3; first <= n+3; first++ {
		for last := -n - 3; last <= n+3; last++ {
			if first*last <= 0 {
				continue // 0, or of both ends
			}
			p := partial{first: uint32(max(first, -first)), last: uint32(max(last, -last)), fromEnd: first < 0}
			var want []id.UID
			for i, uid := range all {
				place := i + 1
				if first < 0 {
					place = i - n
				}
				if place >= min(first, last) && place <= max(first, last) {
					want = append(want, uid)
				}
			}
			if got := p.of(view.NewUIDSet(all...)); !got.Equal(view.NewUIDSet(want...)) {
				t.Errorf("%s of %d: %s, want %s", &p, n, got, view.NewUIDSet(want...))
			}
		}
	}
	if got := (&partial{first: 1, last: 5}).of(view.UIDSet{}); !got.Empty() {
		t.Errorf("a part of nothing: %s", got)
	}
}
