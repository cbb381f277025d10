package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"mailstead.dev/quota"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// undelete brings messages back.
func (p *packed) undelete(which store.Undelete) store.Undeleted {
	p.t.Helper()
	back, err := p.mailbox.Undelete(p.t.Context(), which)
	if err != nil {
		p.t.Fatalf("undelete: %v", err)
	}
	return back
}

func TestUndelete(t *testing.T) {
	p := newPacked(t)
	texts := p.deliver(10)
	date := time.Date(2001, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600))
	dated := incoming(p.mailbox, 11)
	dated.InternalDate = date
	if _, err := p.mailbox.Append(t.Context(), dated); err != nil {
		t.Fatal(err)
	}
	flag(t, p.mailbox, set(2, 11), view.Add, view.Seen|view.Flagged, "$one", "$two")
	was := make(map[id.UID]view.Message)
	for m := range viewOf(t, p.mailbox).All() {
		was[m.UID] = m
	}
	if _, err := p.mailbox.Move(t.Context(), set(4), open(t, p.Store, p.user, "Archive")); err != nil {
		t.Fatal(err)
	}
	p.expunge(set(2, 3, 11))
	p.do(func() error { return p.mailbox.Fold(t.Context()) })
	p.expunge(set(5)) // in the log
	p.elapse(time.Hour)
	p.expunge(set(6))

	back := p.undelete(store.Undelete{Since: time.Now().Add(-30 * time.Minute)})
	if !slices.Equal(back.From, []id.UID{6}) || !slices.Equal(back.To, []id.UID{12}) || back.UIDValidity != p.mailbox.UIDValidity {
		t.Errorf("since half an hour: %+v; want 6 as 12", back)
	}
	uids := set(3, 5, 7)
	back = p.undelete(store.Undelete{UIDs: &uids})
	if !slices.Equal(back.From, []id.UID{3, 5}) || !slices.Equal(back.To, []id.UID{13, 14}) {
		t.Errorf("3, 5 and 7, which is there: %+v; want 3 and 5 as 13 and 14", back)
	}
	back = p.undelete(store.Undelete{})
	if !slices.Equal(back.From, []id.UID{2, 11}) || !slices.Equal(back.To, []id.UID{15, 16}) || back.Elsewhere != 1 {
		t.Errorf("all: %+v; want 2 and 11 as 15 and 16, and that 4 is elsewhere", back)
	}
	if back := p.undelete(store.Undelete{}); len(back.To) != 0 {
		t.Errorf("a second time: %+v", back)
	}
	moved := set(4)
	if back := p.undelete(store.Undelete{UIDs: &moved}); !slices.Equal(back.To, []id.UID{17}) {
		t.Errorf("a message that was moved, asked for by its UID: %+v", back)
	}
	v := viewOf(t, p.mailbox)
	for old, now := range map[id.UID]id.UID{6: 12, 3: 13, 5: 14, 2: 15, 11: 16, 4: 17} {
		want := was[old]
		got, ok := v.Find(now)
		want.UID, want.ModSeq = got.UID, got.ModSeq
		if !ok || !sameMessage(got, want) {
			t.Errorf("%d is back as %+v, want %+v", old, got, want)
		}
		if _, offset := got.InternalDate.Zone(); old == 11 && offset != 3600 {
			t.Errorf("it came back with the time zone %d", offset)
		}
	}
	want := between(2, 6).Union(set(11))
	if gone, err := p.mailbox.Vanished(t.Context(), 1, nil); err != nil || !gone.Equal(want) {
		t.Errorf("vanished: %s, %v; want %s", gone, err, want)
	}
	checkAccount(t, p.Store, p.user)
	p.readable(texts, false)

	p.expunge(set(12, 13))
	p.elapse(15 * days)
	p.sweep()
	if back := p.undelete(store.Undelete{}); len(back.To) != 0 {
		t.Errorf("after the window: %+v", back)
	}
	p.clean()
}

// A message that is moved from here to there all the time is always somewhere, and does not come back besides.
func TestUndeleteMeetsMoves(t *testing.T) {
	p := newPacked(t)
	p.deliver(1)
	archive, trash := open(t, p.Store, p.user, "Archive"), open(t, p.Store, p.user, "Trash")
	if _, err := p.mailbox.Move(t.Context(), set(1), archive); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	together(t, 2, func(i int) error {
		if i == 1 {
			defer close(ended)
			for range 60 {
				if back, err := p.mailbox.Undelete(t.Context(), store.Undelete{}); err != nil || len(back.To) > 0 {
					return fmt.Errorf("undelete: %+v, %w", back, err)
				}
			}
			return nil
		}
		for from, to := archive, trash; ; from, to = to, from {
			select {
			case <-ended:
				return nil
			default:
			}
			if _, err := from.Move(t.Context(), between(1, 1<<20), to); err != nil {
				return err
			}
		}
	})
	checkAccount(t, p.Store, p.user)
}

// What comes back is charged, all or nothing.
func TestUndeleteOverQuota(t *testing.T) {
	p := newPacked(t)
	p.deliver(6)
	p.expunge(between(1, 3))
	p.do(func() error { return p.SetLimits(t.Context(), p.user, ptr(int64(5)), nil) })
	var over *quota.OverError
	if _, err := p.mailbox.Undelete(t.Context(), store.Undelete{}); !errors.As(err, &over) || over.Wanted != 3 {
		t.Errorf("undelete over the quota: %v", err)
	}
	if v := viewOf(t, p.mailbox); v.Len() != 3 {
		t.Errorf("%d messages, want 3", v.Len())
	}
	p.do(func() error { return p.SetLimits(t.Context(), p.user, ptr(int64(6)), nil) })
	if back := p.undelete(store.Undelete{}); len(back.To) != 3 {
		t.Errorf("within the quota: %+v", back)
	}
	checkAccount(t, p.Store, p.user)
}

// At the end of the window a message comes back, or it goes: never both.
func TestUndeleteMeetsSweep(t *testing.T) {
	p := newPacked(t, func(o *store.Options) {
		o.Retention, o.ExpungeHorizon, o.OrphanGrace = time.Nanosecond, time.Nanosecond, time.Nanosecond
	})
	came := 0
	for n := range 40 {
		text := p.deliver(1)[0]
		uids := set(viewOf(t, p.mailbox).UIDNext() - 1)
		p.expunge(uids)
		var back store.Undeleted
		together(t, 2, func(i int) (err error) {
			if i == 0 {
				_, err = p.Sweep(t.Context(), p.user.Tenant)
				return err
			}
			time.Sleep(time.Duration(n%10) * 2 * time.Millisecond)
			back, err = p.mailbox.Undelete(t.Context(), store.Undelete{UIDs: &uids})
			return err
		})
		if len(back.To) == 0 {
			continue
		}
		came++
		if got, err := p.read(text); err != nil || got != text {
			t.Errorf("it is back, and reads %q, %v", got, err)
		}
	}
	t.Logf("%d of 40 came back", came)
	p.elapse(time.Minute)
	p.sweep()
	p.collect()
	checkAccount(t, p.Store, p.user)
	p.clean()
}

func TestUndeleteMailbox(t *testing.T) {
	p := newPacked(t)
	inbox := p.mailbox
	create := func(name string, uses ...string) *store.Mailbox {
		t.Helper()
		m, err := p.Create(t.Context(), p.user, name, uses)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	remove := func(name string) { t.Helper(); p.do(func() error { return p.Delete(t.Context(), p.user, name) }) }
	p.mailbox = create("a/Work", `\Important`, `\Flagged`)
	texts := p.deliver(5)
	flag(t, p.mailbox, set(2), view.Add, view.Seen, "$one")
	p.do(func() error { return p.mailbox.Fold(t.Context()) })
	texts = append(texts, p.deliver(2)...)
	before, old := viewOf(t, p.mailbox), p.mailbox
	remove("a/Work")
	remove("a")
	list, err := p.DeletedMailboxes(t.Context(), p.user)
	if err != nil || len(list) != 2 || list[0].Name != "a" || list[1].MailboxID != old.ID || list[1].Messages != 7 {
		t.Errorf("deleted mailboxes: %+v, %v", list, err)
	}
	if _, _, err := p.UndeleteMailbox(t.Context(), p.user, "Nowhere", ""); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("a name that never was: %v", err)
	}
	p.do(func() error { return p.SetLimits(t.Context(), p.user, ptr(int64(6)), nil) })
	var over *quota.OverError
	if _, _, err := p.UndeleteMailbox(t.Context(), p.user, "a/Work", ""); !errors.As(err, &over) {
		t.Errorf("over the quota: %v", err)
	}
	p.do(func() error { return p.SetLimits(t.Context(), p.user, nil, nil) })
	m, taken, err := p.UndeleteMailbox(t.Context(), p.user, "a/Work", "")
	if err != nil {
		t.Fatal(err)
	}
	if m.ID != old.ID || m.UIDValidity != old.UIDValidity || m.ObjectID != old.ObjectID || !sameView(viewOf(t, m), before) || len(taken) > 0 {
		t.Errorf("it is back as %+v, want %+v", m, old)
	}
	open(t, p.Store, p.user, "a") // made anew
	p.mailbox = m
	p.deliver(1)
	checkAccount(t, p.Store, p.user)

	// The name is taken, and then has had a higher UIDVALIDITY; one of its special uses is another's.
	remove("a/Work")
	second := create("a/Work", `\Important`)
	if _, _, err := p.UndeleteMailbox(t.Context(), p.user, "a/Work", ""); !errors.Is(err, store.ErrExists) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, _, err := p.UndeleteMailbox(t.Context(), p.user, "a/Work", "INBOX"); !errors.Is(err, store.ErrExists) {
		t.Errorf("as INBOX: %v", err)
	}
	p.do(func() error { return p.Rename(t.Context(), p.user, "a/Work", "b") })
	m, taken, err = p.UndeleteMailbox(t.Context(), p.user, "a/Work", "")
	if err != nil || m.ID != old.ID || m.UIDValidity <= second.UIDValidity || !slices.Equal(taken, []string{`\Important`}) {
		t.Errorf("a name that another mailbox had: %+v, without %v, %v; its UIDVALIDITY was %d", m, taken, err, second.UIDValidity)
	}
	entries, err := p.List(t.Context(), p.user)
	if err != nil {
		t.Fatal(err)
	}
	uses := make(map[string][]string)
	for _, e := range entries {
		uses[e.Name] = e.SpecialUse
	}
	if !slices.Equal(uses["a/Work"], []string{`\Flagged`}) || !slices.Equal(uses["b"], []string{`\Important`}) {
		t.Errorf("the special uses are %v", uses)
	}
	remove("a/Work")
	if m, _, err = p.UndeleteMailbox(t.Context(), p.user, "a/Work", "c/d"); err != nil || m.Name != "c/d" || viewOf(t, m).Len() != 8 {
		t.Errorf("under another name: %+v, %v", m, err)
	}
	checkAccount(t, p.Store, p.user)
	p.readable(texts, false)

	remove("c/d")
	p.elapse(15 * days)
	p.mailbox = inbox
	p.sweep()
	if _, _, err := p.UndeleteMailbox(t.Context(), p.user, "c/d", ""); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("after the window: %v", err)
	}
	checkAccount(t, p.Store, p.user)
}

// A mailbox that comes back counts among those that an account can have.
func TestUndeleteMailboxTooMany(t *testing.T) {
	p := newPacked(t, func(o *store.Options) { o.MaxMailboxes = 6 }) // as a new account has
	p.do(func() error { return p.Delete(t.Context(), p.user, "Archive") })
	if _, err := p.Create(t.Context(), p.user, "new", nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.UndeleteMailbox(t.Context(), p.user, "Archive", ""); !errors.Is(err, store.ErrMailboxes) {
		t.Errorf("one mailbox too many: %v, want %v", err, store.ErrMailboxes)
	}
}
