package store_test

import (
	"testing"
	"time"

	"mailstead.dev/store/storetest"
)

// A recent view is one that was the newest when somebody asked, not the last that was published.
func TestRecentView(t *testing.T) {
	c := storetest.Config(t)
	s, other := storetest.Open(t, c), storetest.Open(t, c)
	u := storetest.Account(t, s, "a@one.test")
	m, elsewhere := open(t, s, u, "INBOX"), open(t, other, u, "INBOX")
	if v := m.RecentView(time.Hour); v != nil {
		t.Errorf("a view at %d of a mailbox that nobody asked for", v.ModSeq())
	}
	first := viewOf(t, m)
	add(t, elsewhere, 1, 0)
	if v := m.RecentView(time.Hour); v != first {
		t.Error("the recent view is not the one that was read")
	}
	if v := m.RecentView(0); v != nil {
		t.Error("a view of just now, without asking")
	}
	if v := viewOf(t, m); v.Len() != 1 || m.RecentView(time.Hour) != v {
		t.Errorf("%d messages, or not the view that was read last", v.Len())
	}
	add(t, m, 2, 0)
	if v := m.RecentView(time.Hour); v == nil || v.Len() != 2 {
		t.Error("the recent view lacks what this process has appended")
	}
}
