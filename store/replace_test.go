package store_test

import (
	"errors"
	"fmt"
	"testing"

	"mailstead.dev/quota"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// replace replaces a message by message n of the test.
func replace(t testing.TB, m *store.Mailbox, uid id.UID, to *store.Mailbox, n int) store.Appended {
	t.Helper()
	in := incoming(to, n)
	in.Flags, in.Keywords = view.Seen, []string{"new"}
	a, err := m.Replace(t.Context(), uid, to, in)
	if err != nil {
		t.Fatalf("replace: %v", err)
	}
	return a
}

func TestReplace(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m, sent := open(t, s, u, "Drafts"), open(t, s, u, "Sent")
	for n := range 3 {
		add(t, m, n, view.Draft|view.Deleted)
	}
	since := viewOf(t, m).ModSeq()

	a := replace(t, m, 2, m, 7)
	if a.UIDValidity != m.UIDValidity || a.UIDs.String() != "4" {
		t.Errorf("replaced by %+v", a)
	}
	v := viewOf(t, m)
	if got := v.UIDs().String(); got != "1,3:4" || v.ModSeq() != a.ModSeq {
		t.Errorf("UIDs %s at %d, replaced at %d", got, v.ModSeq(), a.ModSeq)
	}
	msg, _ := v.Find(4)
	if msg.Flags != view.Seen || msg.Size != int64(len(text(7))) {
		t.Errorf("in its place is %+v", msg)
	}
	gone, err := m.Vanished(t.Context(), since, nil)
	if err != nil || gone.String() != "2" {
		t.Errorf("vanished: %s, %v", gone, err)
	}
	checkAccount(t, s, u)

	a = replace(t, m, 4, sent, 8)
	if a.UIDValidity != sent.UIDValidity || a.UIDs.String() != "1" {
		t.Errorf("replaced by %+v", a)
	}
	if got, there := viewOf(t, m).UIDs().String(), viewOf(t, sent).UIDs().String(); got != "1,3" || there != "1" {
		t.Errorf("UIDs %s and %s", got, there)
	}
	checkAccount(t, s, u)
	s.ForgetViews()
	replace(t, m, 1, sent, 8) // with a content that is there
	fold(t, m)
	replace(t, m, 3, m, 9)
	checkAccount(t, s, u)

	// Where either cannot be done, neither is.
	before, there := viewOf(t, m), viewOf(t, sent)
	for _, uid := range []id.UID{1, 99} {
		if _, err := m.Replace(t.Context(), uid, sent, incoming(m, 1)); !errors.Is(err, store.ErrExpunged) {
			t.Errorf("replacing what is gone: %v", err)
		}
	}
	old := open(t, s, u, "Archive")
	if err := s.Delete(t.Context(), u, "Archive"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Replace(t.Context(), before.UIDs().Max(), old, incoming(m, 1)); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("replacing by a message in a mailbox that is gone: %v", err)
	}
	if !sameView(before, viewOf(t, m)) || !sameView(there, viewOf(t, sent)) {
		t.Error("something was changed by what failed")
	}
	checkAccount(t, s, u)
}

// Only the difference counts.
func TestReplaceWithinQuota(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m, sent := open(t, s, u, "INBOX"), open(t, s, u, "Sent")
	add(t, m, 1, 0)
	add(t, m, 2, 0)
	used := viewOf(t, m).Counts().Bytes
	limit := func(messages, octets int64) {
		t.Helper()
		if err := s.SetLimits(t.Context(), u, &messages, &octets); err != nil {
			t.Fatal(err)
		}
	}
	limit(2, used)
	replace(t, m, 1, m, 3)
	replace(t, m, 2, sent, 4)
	checkAccount(t, s, u)

	_, err := m.Replace(t.Context(), 3, sent, incoming(m, 10)) // which is longer
	var over *quota.OverError
	if !errors.As(err, &over) || over.Resource != quota.Storage || over.Limit != used {
		t.Errorf("replaced by what is larger: %v", err)
	}
	if _, err := m.Append(t.Context(), incoming(m, 5)); !errors.As(err, &over) {
		t.Errorf("appended over quota: %v", err)
	}
	// Who is over it can still clear away.
	limit(1, 10)
	replace(t, m, 3, m, 6)
	checkAccount(t, s, u)
}

// Of a tenant that is full, too: what one account is freed of, another has room for, but for no octet more; also in both directions at once.
func TestReplaceAcrossAccountsWhenFull(t *testing.T) {
	s := storetest.New(t)
	storetest.Domain(t, s, "one.test", "two.test")
	users := []store.User{storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@one.test"), storetest.Account(t, s, "c@two.test")}
	boxes := make([]*store.Mailbox, len(users))
	uids := make([]id.UID, len(users))
	for i, u := range users {
		boxes[i] = open(t, s, u, "INBOX")
		uids[i] = add(t, boxes[i], 1, 0)
	}
	r, err := s.FindQuota(t.Context(), users[0], "tenant:one.test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ChangeQuota(t.Context(), r, func(l quota.Terms) (quota.Terms, error) {
		return l.With(quota.Storage, ptr(r.Used.Of(quota.Storage))).With(quota.Message, ptr(r.Used.Of(quota.Message))), nil
	}); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		together(t, len(users), func(i int) error {
			to := (i + 1) % len(users)
			_, err := boxes[i].Replace(t.Context(), uids[i], boxes[to], incoming(boxes[to], 1))
			return err
		})
		for i, m := range boxes {
			uids[i] = viewOf(t, m).UIDs().Max()
		}
	}
	var over *quota.OverError
	if _, err := boxes[0].Replace(t.Context(), uids[0], boxes[1], incoming(boxes[1], 10)); !errors.As(err, &over) || over.Resource != quota.Storage {
		t.Errorf("replaced by what is larger: %v", err)
	}
	if n := viewOf(t, boxes[0]).Len(); n != 1 {
		t.Errorf("%d messages where one was to stay", n)
	}
	for _, u := range users {
		checkAccount(t, s, u)
	}
}

// Of two who replace the same message one does, and no message is lost or doubled.
func TestConcurrentReplaces(t *testing.T) {
	stores, u := frontEnds(t, 2)
	const clients, rounds = 4, 12
	boxes := make([]*store.Mailbox, clients)
	for i := range boxes {
		boxes[i] = open(t, stores[i%2], u, "INBOX")
	}
	uid := add(t, boxes[0], 0, 0)
	for round := range rounds {
		won := make([]id.UID, clients)
		together(t, clients, func(i int) error {
			to := boxes[i]
			if i == 3 { // which is locked in the other order
				to = open(t, stores[i%2], u, "Sent")
			}
			a, err := boxes[i].Replace(t.Context(), uid, to, incoming(to, round))
			if errors.Is(err, store.ErrExpunged) {
				return nil
			}
			if err == nil {
				won[i] = a.UIDs.Max()
			}
			return err
		})
		winners := 0
		for i, uid := range won {
			if uid > 0 {
				winners++
			}
			if uid > 0 && i == 3 { // it is in Sent: back with it
				back := open(t, stores[0], u, "Sent")
				if _, err := back.Move(t.Context(), set(uid), boxes[0]); err != nil {
					t.Fatal(err)
				}
			}
		}
		v := viewOf(t, boxes[0])
		if winners != 1 || v.Len() != 1 {
			t.Fatalf("round %d: %d have replaced it, and there are %d messages", round, winners, v.Len())
		}
		uid = v.UIDs().Max()
	}
	for i, s := range stores {
		t.Run(fmt.Sprint(i), func(t *testing.T) { checkAccount(t, s, u) })
	}
}
