package store_test

import (
	commandline "flag" // flag is a helper here
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailstead.dev/quota"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

var quotaRate = commandline.Duration("quota.rate", 0, "how long TestPooledRate delivers, for each of its ten rounds; 0: it only delivers once")

// 16 accounts of one tenant, which has limits at all three levels, take mail at 0.8 times the rate of 16 accounts of
// as many tenants, or more: they do not wait for each other.
func TestPooledRate(t *testing.T) {
	s := storetest.New(t)
	var pooled, apart []*store.Mailbox
	for i := range quotaRacers {
		u := storetest.Account(t, s, fmt.Sprintf("user%d@pooled.test", i))
		pooled = append(pooled, open(t, s, u, "INBOX"))
		u = storetest.Account(t, s, fmt.Sprintf("user@tenant%d.test", i))
		apart = append(apart, open(t, s, u, "INBOX"))
	}
	for _, m := range []*store.Mailbox{pooled[0], apart[0]} {
		roots, err := s.QuotaRoots(t.Context(), m.Tenant, m.Owner)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range roots {
			_, err := s.ChangeQuota(t.Context(), r, func(l quota.Terms) (quota.Terms, error) {
				return l.With(quota.Storage, ptr[int64](1<<40)).With(quota.Message, ptr[int64](1<<30)), nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	var ratios []float64
	for range 5 {
		together := deliverAll(t, pooled)
		alone := deliverAll(t, apart)
		ratios = append(ratios, together/alone)
		t.Logf("%.0f/s in one tenant, %.0f/s in %d", together, alone, quotaRacers)
		if *quotaRate == 0 {
			return
		}
	}
	slices.Sort(ratios)
	t.Logf("ratios %.2f", ratios)
	if ratios[len(ratios)/2] < 0.8 {
		t.Errorf("the median of %.2f is below 0.8", ratios)
	}
}

// deliverAll delivers messages of 3 kB to all mailboxes at once, and returns how many there were in a second.
func deliverAll(t *testing.T, mailboxes []*store.Mailbox) float64 {
	body := strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz\r\n", 80)
	var n atomic.Int64
	began := time.Now()
	var work sync.WaitGroup
	for i, m := range mailboxes {
		work.Go(func() {
			for k := 0; k == 0 || time.Since(began) < *quotaRate; k++ {
				in := store.Incoming{Content: m.Receive(fmt.Sprintf("Subject: %d.%d.%d\r\n\r\n%s", began.UnixNano(), i, k, body))}
				in.Prefix = []byte("Return-Path: <>\r\n")
				if _, err := m.Append(t.Context(), in); err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	work.Wait()
	return float64(n.Load()) / time.Since(began).Seconds()
}
