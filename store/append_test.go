package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/quota"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

func TestAppend(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "inbox")
	zone := time.FixedZone("", 2*60*60)
	date := time.Date(2001, 2, 3, 4, 5, 6, 7, zone)
	in := incoming(m, 1)
	in.Flags, in.InternalDate, in.Prefix = view.Seen|view.Deleted, date, []byte("Return-Path: <>\r\n")
	a, err := m.Append(t.Context(), in, incoming(m, 2), incoming(m, 1))
	if err != nil {
		t.Fatal(err)
	}
	if a.UIDValidity != m.UIDValidity || a.UIDs.String() != "1:3" || a.ModSeq != 2 {
		t.Errorf("appended %+v", a)
	}
	v := viewOf(t, m)
	first := v.At(0)
	if first.Flags != in.Flags || !first.InternalDate.Equal(date.Truncate(time.Second)) || first.Size != int64(len(text(1))+len(in.Prefix)) {
		t.Errorf("first message %+v", first)
	}
	if _, offset := first.InternalDate.Zone(); offset != 2*60*60 {
		t.Errorf("zone offset %d", offset)
	}
	if got := v.Counts(); got.Messages != 3 || got.Unseen != 2 || got.Deleted != 1 || got.DeletedBytes != first.Size {
		t.Errorf("counts %+v", got)
	}
	if n := count(t, s, u.Tenant, "blob"); n != 2 {
		t.Errorf("%d blobs for 3 messages of 2 contents", n)
	}
	checkAccount(t, s, u)
}

func TestAppendKeywords(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	add(t, m, 1, 0, "$Forwarded", "work")
	add(t, m, 2, 0, "WORK", "$forwarded", "Work")
	add(t, m, 3, 0, "play", "work")
	v := viewOf(t, m)
	if got := strings.Join(v.Keywords(), " "); got != "$Forwarded work play" {
		t.Errorf("keyword table %s", got)
	}
	for i, want := range []view.Keywords{{0b11}, {0b11}, {0b110}} {
		if got := v.At(i).Keywords; got != want {
			t.Errorf("keywords of message %d: %b, want %b", i+1, got, want)
		}
	}
	var many []string
	for i := range view.MaxKeywords - 2 {
		many = append(many, fmt.Sprintf("k%d", i))
	}
	in := incoming(m, 4)
	in.Keywords = many
	if _, err := m.Append(t.Context(), in); !errors.Is(err, store.ErrKeywords) {
		t.Errorf("too many keywords: %v", err)
	}
	in.Keywords = many[1:]
	if _, err := m.Append(t.Context(), in); err != nil {
		t.Errorf("as many keywords as there can be: %v", err)
	}
	checkAccount(t, s, u)
}

// A stopped append leaves nothing, and who is over the limit can still clear away.
func TestAppendOverQuota(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	fill(t, m, 3)
	limit := func(column string, value any) {
		t.Helper()
		err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `UPDATE account_state SET `+column+` = $1`, value)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	limit("message_limit", 4)
	var over *quota.OverError
	if _, err := m.Append(t.Context(), incoming(m, 4), incoming(m, 5)); !errors.As(err, &over) {
		t.Fatalf("append: %v", err)
	}
	if want := (quota.OverError{Resource: quota.Message, Level: quota.Account, Used: 3, Limit: 4, Wanted: 2}); *over != want {
		t.Errorf("over %+v, want %+v", *over, want)
	}
	if _, err := m.Copy(t.Context(), between(1, 2), open(t, s, u, "Archive")); !errors.As(err, &over) {
		t.Errorf("copy: %v", err)
	}
	if _, err := m.Move(t.Context(), between(1, 2), open(t, s, u, "Archive")); err != nil {
		t.Errorf("move: %v", err)
	}
	limit("message_limit", nil)
	limit("storage_limit", 1)
	if _, err := m.Append(t.Context(), incoming(m, 4)); !errors.As(err, &over) || over.Resource != quota.Storage {
		t.Errorf("append: %v", err)
	}
	flag(t, m, between(1, 9), view.Add, view.Deleted)
	if _, gone, err := m.Expunge(t.Context(), nil); err != nil || gone.String() != "3" {
		t.Errorf("expunge while over the limit: %s, %v", gone, err)
	}
	checkAccount(t, s, u)
}

func TestAppendToWhatIsGone(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "Trash")
	add(t, m, 1, 0)
	if err := s.Delete(t.Context(), u, "Trash"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Append(t.Context(), incoming(m, 2)); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("append: %v", err)
	}
	if _, err := m.View(t.Context()); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("view: %v", err)
	}
	if _, err := m.SetFlags(t.Context(), store.FlagChange{UIDs: set(1), Flags: view.Seen, UnchangedSince: -1}); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("flags: %v", err)
	}
	checkAccount(t, s, u)
}

// The last UID is never given out: there is always a next one.
func TestAppendFull(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE mailbox SET uidnext = 4294967294, folded_uidnext = 4294967294 WHERE mailbox_id = $1`, m.ID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if uid := add(t, m, 1, 0); uid != 4294967294 {
		t.Errorf("UID %d", uid)
	}
	if _, err := m.Append(t.Context(), incoming(m, 2)); !errors.Is(err, store.ErrFull) {
		t.Errorf("append: %v", err)
	}
	if _, err := m.Copy(t.Context(), set(4294967294), m); !errors.Is(err, store.ErrFull) {
		t.Errorf("copy: %v", err)
	}
	checkAccount(t, s, u)
}

// count returns how many rows of a table a tenant has.
func count(t testing.TB, s *store.Store, tenant id.Tenant, table string) int {
	t.Helper()
	var n int
	err := s.Transact(t.Context(), tenant, func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// An opened mailbox takes messages for as long as its name leads to it and the rights are those it was opened with.
func TestAppendToWhatWasOpened(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	for what, change := range map[string]func(m *store.Mailbox) error{
		"renamed": func(m *store.Mailbox) error { return s.Rename(t.Context(), u, m.Name, "elsewhere") },
		"deleted": func(m *store.Mailbox) error { return s.Delete(t.Context(), u, m.Name) },
		"shared otherwise": func(m *store.Mailbox) error {
			return s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), `UPDATE mailbox SET acl_epoch = acl_epoch + 1 WHERE tenant_id = $1 AND mailbox_id = $2`, m.Tenant, m.ID)
				return err
			})
		},
	} {
		if _, err := s.Create(t.Context(), u, what, nil); err != nil {
			t.Fatal(err)
		}
		m := open(t, s, u, what)
		add(t, m, 1, 0)
		if err := change(m); err != nil {
			t.Fatal(err)
		}
		for _, keywords := range [][]string{nil, {"new"}} { // the two ways of Append
			in := incoming(m, 2)
			in.Keywords = keywords
			if _, err := m.Append(t.Context(), in); !errors.Is(err, store.ErrNotExist) {
				t.Errorf("append to a mailbox that was %s: %v", what, err)
			}
		}
	}
	checkAccount(t, s, u)
}
