package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

func TestSetFlags(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 5)
	r := flag(t, m, set(2, 3), view.Add, view.Seen)
	if r.ModSeq != 3 || r.Changed.String() != "2:3" || r.View.Counts().Unseen != 3 || r.Before.ModSeq() != 2 {
		t.Errorf("first: %+v", r)
	}
	// Only what really changes is in the record, and gets a MODSEQ.
	r = flag(t, m, between(1, 100), view.Add, view.Seen, "work")
	if r.Changed.String() != "1:5" || r.ModSeq != 4 {
		t.Errorf("all: %+v", r)
	}
	r = flag(t, m, between(1, 100), view.Add, view.Seen, "Work")
	if !r.Changed.Empty() || r.ModSeq != 0 || r.View.ModSeq() != 4 {
		t.Errorf("nothing: %+v", r)
	}
	r = flag(t, m, set(1, 4, 77), view.Remove, 0, "work", "unknown")
	if r.Changed.String() != "1,4" || r.ModSeq != 5 || len(r.View.Keywords()) != 1 {
		t.Errorf("remove: %+v", r)
	}
	r = flag(t, m, set(4, 5), view.Replace, view.Flagged, "new")
	if got, _ := r.View.Find(5); r.Changed.String() != "4:5" || got.Flags != view.Flagged || got.Keywords != (view.Keywords{0b10}) || got.ModSeq != 6 {
		t.Errorf("replace: %+v, %+v", r, got)
	}
	checkAccount(t, s, u)
}

// RFC 7162 section 3.1.3: what was changed since fails, and only that.
func TestSetFlagsUnchangedSince(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 4)                           // MODSEQ 2
	flag(t, m, set(2), view.Add, view.Seen) // MODSEQ 3
	r, err := m.SetFlags(t.Context(), store.FlagChange{UIDs: between(1, 4), Flags: view.Flagged, UnchangedSince: 2})
	if err != nil || r.Changed.String() != "1,3:4" || r.Modified.String() != "2" {
		t.Errorf("unchanged since 2: %+v, %v", r, err)
	}
	r, err = m.SetFlags(t.Context(), store.FlagChange{UIDs: between(1, 4), Flags: view.Answered, UnchangedSince: 0})
	if err != nil || !r.Changed.Empty() || r.Modified.Len() != 4 || r.ModSeq != 0 {
		t.Errorf("unchanged since 0: %+v, %v", r, err)
	}
	checkAccount(t, s, u)
}

func TestSetFlagsTooManyKeywords(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 1)
	var many []string
	for i := range view.MaxKeywords {
		many = append(many, fmt.Sprintf("k%d", i))
	}
	flag(t, m, set(1), view.Add, 0, many...)
	_, err := m.SetFlags(t.Context(), store.FlagChange{UIDs: set(1), Keywords: []string{"more"}, UnchangedSince: -1})
	if !errors.Is(err, store.ErrKeywords) {
		t.Errorf("one more: %v", err)
	}
	r := flag(t, m, set(1), view.Remove, 0, "more", "K5")
	if got, _ := r.View.Find(1); got.Keywords.Has(5) || !got.Keywords.Has(127) {
		t.Errorf("keywords %b", got.Keywords)
	}
	checkAccount(t, s, u)
}

func TestCopyAndMove(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m, to := open(t, s, u, "INBOX"), open(t, s, u, "Archive")
	for i := range 6 {
		add(t, m, i, view.Seen, fmt.Sprintf("k%d", i))
	}
	add(t, to, 9, 0, "K3")
	c, err := m.Copy(t.Context(), set(2, 4, 6, 8), to)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(c.From, c.To, c.UIDValidity, c.ModSeq) != fmt.Sprint([]id.UID{2, 4, 6}, []id.UID{2, 3, 4}, to.UIDValidity, 3) {
		t.Errorf("copied %+v", c)
	}
	source, dest := viewOf(t, m), viewOf(t, to)
	if got := strings.Join(dest.Keywords(), " "); got != "K3 k1 k5" {
		t.Errorf("keywords of the destination: %s", got)
	}
	for i, uid := range c.From {
		a, _ := source.Find(uid)
		b, _ := dest.Find(c.To[i])
		if a.Email != b.Email || a.Flags != b.Flags || a.Size != b.Size || !a.InternalDate.Equal(b.InternalDate) {
			t.Errorf("copy of %+v is %+v", a, b)
		}
	}
	if got := dest.At(2).Keywords; got != (view.Keywords{1}) {
		t.Errorf("k3 became %b", got)
	}

	c, err = m.Move(t.Context(), between(1, 3), to)
	if err != nil || len(c.To) != 3 || c.SourceView.UIDs().String() != "4:6" {
		t.Errorf("move: %+v, %v", c, err)
	}
	c, err = m.Move(t.Context(), between(1, 3), to)
	if err != nil || len(c.To) != 0 || c.SourceView.Len() != 3 {
		t.Errorf("move of what is gone: %+v, %v", c, err)
	}
	if _, err := m.CopyAll(t.Context(), between(3, 4), to); !errors.Is(err, store.ErrExpunged) {
		t.Errorf("copy of all, one of which is gone: %v", err)
	}
	if _, err := m.MoveAll(t.Context(), between(3, 4), to); !errors.Is(err, store.ErrExpunged) {
		t.Errorf("move of all, one of which is gone: %v", err)
	}
	gone, err := m.Expunged(t.Context(), c.SourceView, 7, set(1, 2, 4))
	if err != nil || len(gone) != 2 || gone[0].UID != 1 || gone[1].Email != 2 || gone[1].Flags != view.Seen {
		t.Errorf("expunged: %+v, %v", gone, err)
	}
	if gone, err := m.Expunged(t.Context(), c.SourceView, 8, set(1, 2)); err != nil || len(gone) != 0 {
		t.Errorf("expunged after that: %+v, %v", gone, err)
	}
	c, err = to.Move(t.Context(), between(1, 99), m) // locks in the other order than it names
	if err != nil || len(c.To) != 7 || c.SourceView.Len() != 0 {
		t.Errorf("move back: %+v, %v", c, err)
	}
	checkAccount(t, s, u)
}

func TestCopyAndMoveWithin(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 3)
	c, err := m.Copy(t.Context(), set(2), m)
	if err != nil || fmt.Sprint(c.From, c.To) != "[2] [4]" {
		t.Errorf("copy: %+v, %v", c, err)
	}
	c, err = m.Move(t.Context(), set(1, 3), m)
	if err != nil || fmt.Sprint(c.From, c.To) != "[1 3] [5 6]" || c.SourceView.UIDs().String() != "2,4:6" {
		t.Errorf("move: %+v, %v", c, err)
	}
	checkAccount(t, s, u)
}

func TestExpunge(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 6)
	flag(t, m, set(1, 3, 5), view.Add, view.Deleted)
	among := set(2, 3, 4, 5)
	v, gone, err := m.Expunge(t.Context(), &among)
	if err != nil || gone.String() != "3,5" || v.UIDs().String() != "1:2,4,6" {
		t.Errorf("expunged %s, left %s, %v", gone, v.UIDs(), err)
	}
	v, gone, err = m.Expunge(t.Context(), nil)
	if err != nil || gone.String() != "1" || v.Len() != 3 {
		t.Errorf("expunged %s, left %s, %v", gone, v.UIDs(), err)
	}
	v, gone, err = m.Expunge(t.Context(), nil)
	if err != nil || !gone.Empty() || v.ModSeq() != 5 {
		t.Errorf("expunged %s at %d, %v", gone, v.ModSeq(), err)
	}
	checkAccount(t, s, u)
}
