package store_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// BenchmarkAppend appends messages of 3 kB, each client to a mailbox of its own.
func BenchmarkAppend(b *testing.B) {
	for _, clients := range []int{1, 8} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			s := storetest.New(b)
			body := strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz\r\n", 80)
			var number atomic.Int64
			each(b, s, clients, func(m *store.Mailbox) error {
				c := m.Receive(text(int(number.Add(1))) + body)
				_, err := m.Append(b.Context(), store.Incoming{Content: c})
				return err
			})
		})
	}
}

// BenchmarkSetFlags turns \Flagged on and off on one message of a mailbox of each client.
func BenchmarkSetFlags(b *testing.B) {
	for _, clients := range []int{1, 8} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			s := storetest.New(b)
			var number atomic.Int64
			modes := new(sync.Map)
			each(b, s, clients, func(m *store.Mailbox) error {
				mode, there := modes.Load(m.ID)
				if !there {
					add(b, m, int(number.Add(1)), 0)
					mode = view.Remove
				}
				next := view.Add + view.Remove - mode.(view.Mode)
				modes.Store(m.ID, next)
				_, err := m.SetFlags(b.Context(), store.FlagChange{UIDs: view.NewUIDSet(1), Mode: next, Flags: view.Flagged, UnchangedSince: -1})
				return err
			})
		})
	}
}

// each runs f for so many clients at once until b has had enough.
func each(b *testing.B, s *store.Store, clients int, f func(m *store.Mailbox) error) {
	var mailboxes []*store.Mailbox
	for i := range clients {
		u := storetest.Account(b, s, fmt.Sprintf("user%d@one.test", i))
		mailboxes = append(mailboxes, open(b, s, u, "INBOX"))
	}
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var work sync.WaitGroup
	for _, m := range mailboxes {
		work.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(m); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}
