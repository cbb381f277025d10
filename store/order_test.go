package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/order"
	"mailstead.dev/store/storetest"
)

func messagesOf(t *testing.T, m *store.Mailbox) (messages []order.Message) {
	t.Helper()
	for msg := range viewOf(t, m).All() {
		messages = append(messages, order.Message{Email: msg.Email})
	}
	return messages
}

// ordered sorts all of a mailbox, and returns how many emails had to be read for it.
func ordered(t *testing.T, m *store.Mailbox) (read int, err error) {
	t.Helper()
	messages := messagesOf(t, m)
	before := -1
	table, err := m.Order(t.Context(), messages, func(done int) {
		if before < 0 {
			before = 0
		}
		read = done - before
	})
	if err != nil {
		return read, err
	}
	if _, ok := table.Sort(messages, []order.Key{{By: order.Subject}}); !ok {
		t.Error("some emails are missing")
	}
	return read, nil
}

// What mail is sorted by is read once.
func TestOrderIsReadOnce(t *testing.T) {
	s := storetest.New(t)
	a, b := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@two.test")
	mine, others := open(t, s, a, "INBOX"), open(t, s, b, "INBOX")
	fill(t, mine, 3)
	fill(t, others, 2)
	for _, want := range []struct {
		of   *store.Mailbox
		read int
	}{{mine, 3}, {mine, 0}, {others, 2}, {mine, 0}} {
		if read, err := ordered(t, want.of); read != want.read || err != nil {
			t.Errorf("%s: %d emails are read, not %d: %v", want.of.Name, read, want.read, err)
		}
	}
	add(t, mine, 4, 0)
	if read, err := ordered(t, mine); read == 0 || err != nil {
		t.Errorf("a new message is not read: %v", err)
	}
	if _, _, err := mine.Expunge(t.Context(), ptr(set(1))); err != nil {
		t.Fatal(err)
	}
	if read, err := ordered(t, mine); read != 0 || err != nil {
		t.Errorf("after an expunge %d emails are read: %v", read, err)
	}
	// What is gone is empty, and stays so.
	gone := []order.Message{{Email: id.Email(1000)}}
	for range 2 {
		table, err := mine.Order(t.Context(), gone, func(int) {})
		if err != nil || len(table.Missing(slices.Values([]id.Email{1000}))) > 0 {
			t.Errorf("an email that is gone: %v", err)
		}
	}
}

// The accounts that were sorted last are kept, and none that is too large.
func TestOrderMemory(t *testing.T) {
	const roomy = 20_000 // octets: for one of the accounts, not for two
	s := storetest.New(t, func(o *store.Options) { o.OrderCacheBytes = roomy })
	var boxes []*store.Mailbox
	for _, login := range []string{"a@one.test", "b@one.test", "c@one.test"} {
		boxes = append(boxes, open(t, s, storetest.Account(t, s, login), "INBOX"))
		fill(t, boxes[len(boxes)-1], 20)
	}
	for _, want := range []struct{ of, read int }{{0, 20}, {0, 0}, {1, 20}, {1, 0}, {2, 20}, {0, 20}} {
		if read, err := ordered(t, boxes[want.of]); read != want.read || err != nil {
			t.Errorf("account %d: %d emails are read, not %d: %v", want.of, read, want.read, err)
		}
	}
	fill(t, boxes[1], 300)
	if _, err := ordered(t, boxes[1]); !errors.Is(err, store.ErrOrder) {
		t.Errorf("of what is too large: %v", err)
	}
	if read, err := ordered(t, boxes[0]); read != 0 || err != nil {
		t.Errorf("it cost another account its place: %d, %v", read, err)
	}
}

// Of mailboxes of an account that are too much together each is sorted, also by many at once.
func TestOrderOfOneAtATime(t *testing.T) {
	c := storetest.Config(t)
	roomy := storetest.Open(t, c)
	user := storetest.Account(t, roomy, "a@one.test")
	if _, err := roomy.Create(t.Context(), user, "Other", nil); err != nil {
		t.Fatal(err)
	}
	names := []string{"INBOX", "Other"}
	var weights []int64 // of one mailbox, and of both
	for _, name := range names {
		m := open(t, roomy, user, name)
		fill(t, m, 200)
		table, err := m.Order(t.Context(), messagesOf(t, m), func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		weights = append(weights, table.Weight())
	}
	tight := storetest.Open(t, c, func(o *store.Options) { o.OrderCacheBytes = (weights[0] + weights[1]) / 2 })
	for _, i := range []int{0, 1, 1, 0} {
		if _, err := ordered(t, open(t, tight, user, names[i])); err != nil {
			t.Errorf("%s: %v", names[i], err)
		}
	}
	if read, err := ordered(t, open(t, tight, user, names[0])); read != 0 || err != nil {
		t.Errorf("of what was sorted last %d emails are read: %v", read, err)
	}
	var sorting errgroup.Group
	for i := range 4 {
		m := open(t, tight, user, names[i%2])
		messages := messagesOf(t, m)
		sorting.Go(func() error {
			for range 10 {
				table, err := m.Order(t.Context(), messages, func(int) {})
				if err != nil {
					return err
				}
				if _, ok := table.Sort(messages, []order.Key{{By: order.Subject}}); !ok {
					return fmt.Errorf("some emails of %s are missing", m.Name)
				}
			}
			return nil
		})
	}
	if err := sorting.Wait(); err != nil {
		t.Error(err)
	}
}
