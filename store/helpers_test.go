package store_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

func open(t testing.TB, s *store.Store, u store.User, name string) *store.Mailbox {
	t.Helper()
	m, err := s.Open(t.Context(), u, name, acl.All)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	return m
}

func text(n int) string {
	return fmt.Sprintf("From: a@one.test\r\nSubject: message %d\r\nMessage-ID: <%d@one.test>\r\n\r\nHello, this is number %d.\r\n", n, n, n)
}

// incoming is message n of the test.
func incoming(m *store.Mailbox, n int) store.Incoming {
	return store.Incoming{Content: m.Receive(text(n))}
}

func add(t testing.TB, m *store.Mailbox, n int, flags view.Flags, keywords ...string) id.UID {
	t.Helper()
	in := incoming(m, n)
	in.Flags, in.Keywords = flags, keywords
	a, err := m.Append(t.Context(), in)
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return a.UIDs.Max()
}

// fill appends n messages in one go.
func fill(t testing.TB, m *store.Mailbox, n int) {
	t.Helper()
	var all []store.Incoming
	for i := range n {
		all = append(all, incoming(m, i))
	}
	if _, err := m.Append(t.Context(), all...); err != nil {
		t.Fatalf("append %d messages: %v", n, err)
	}
}

func viewOf(t testing.TB, m *store.Mailbox) *view.View {
	t.Helper()
	v, err := m.View(t.Context())
	if err != nil {
		t.Fatalf("view of %s: %v", m.Name, err)
	}
	return v
}

func set(uids ...id.UID) view.UIDSet { return view.NewUIDSet(uids...) }

func between(first, last id.UID) view.UIDSet {
	return view.UIDSetOf(view.Range{First: first, Last: last})
}

func flag(t testing.TB, m *store.Mailbox, uids view.UIDSet, mode view.Mode, flags view.Flags, keywords ...string) store.FlagResult {
	t.Helper()
	r, err := m.SetFlags(t.Context(), store.FlagChange{UIDs: uids, Mode: mode, Flags: flags, Keywords: keywords, UnchangedSince: -1})
	if err != nil {
		t.Fatalf("set flags: %v", err)
	}
	return r
}

func sameView(a, b *view.View) bool {
	return a.ModSeq() == b.ModSeq() && a.UIDNext() == b.UIDNext() && a.Counts() == b.Counts() &&
		slices.Equal(a.Keywords(), b.Keywords()) &&
		slices.EqualFunc(slices.Collect(a.All()), slices.Collect(b.All()), sameMessage)
}

func sameMessage(a, b view.Message) bool {
	same := a.InternalDate.Equal(b.InternalDate) && a.SaveDate.Equal(b.SaveDate)
	a.InternalDate, a.SaveDate = b.InternalDate, b.SaveDate
	return same && a == b
}

// checkAccount proves what must always hold of an account: cached views are
// what the database loads anew, the rows' counters are those of the views, the
// account's their sum, every message has its email and its content.
func checkAccount(t testing.TB, s *store.Store, u store.User) {
	t.Helper()
	entries, err := s.List(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	var messages, octets int64
	emails := make(map[id.Email]bool)
	for _, e := range entries {
		if e.Mailbox == 0 || e.Owner != u.Account {
			continue
		}
		m := open(t, s, u, e.Name)
		cached := viewOf(t, m)
		s.ForgetViews()
		v := viewOf(t, m)
		if !sameView(cached, v) {
			t.Errorf("%s: the cached view at %d is not the loaded one at %d", e.Name, cached.ModSeq(), v.ModSeq())
		}
		status, err := s.Status(t.Context(), u, []string{e.Name})
		if err != nil {
			t.Fatal(err)
		}
		if row := status[e.Name]; row.Counts != v.Counts() || row.UIDNext != v.UIDNext() || row.HighestModSeq != v.ModSeq() {
			t.Errorf("%s: the row says %+v, the view %+v, UIDNEXT %d, MODSEQ %d", e.Name, row, v.Counts(), v.UIDNext(), v.ModSeq())
		}
		var count view.Counts
		for msg := range v.All() {
			emails[msg.Email] = true
			count.Messages++
			count.Bytes += msg.Size
			if msg.Flags&view.Seen == 0 {
				count.Unseen++
			}
			if msg.Flags&view.Deleted != 0 {
				count.Deleted++
				count.DeletedBytes += msg.Size
			}
		}
		if count != v.Counts() {
			t.Errorf("%s: counted %+v, the view says %+v", e.Name, count, v.Counts())
		}
		messages += count.Messages
		octets += count.Bytes
	}
	const query = `
		SELECT a.messages, a.bytes, (
			SELECT count(*)
			FROM email e
			JOIN blob b USING (tenant_id, digest)
			WHERE e.tenant_id = $1 AND e.account_id = $2 AND e.email_id = ANY ($3))
		FROM account_state a
		WHERE a.tenant_id = $1 AND a.account_id = $2`

	var gotMessages, gotOctets, gotEmails int64
	var list []id.Email
	for e := range emails {
		list = append(list, e)
	}
	err = s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), query, u.Tenant, u.Account, list).Scan(&gotMessages, &gotOctets, &gotEmails)
	})
	if err != nil {
		t.Fatal(err)
	}
	if gotMessages != messages || gotOctets != octets {
		t.Errorf("the account counts %d messages of %d octets, its mailboxes hold %d of %d", gotMessages, gotOctets, messages, octets)
	}
	if drift, _, err := s.AuditQuota(t.Context(), u.Tenant); err != nil || len(drift) > 0 {
		t.Errorf("quota counters: %v, %v", drift, err)
	}
	if gotEmails != int64(len(list)) {
		t.Errorf("%d of %d emails are there", gotEmails, len(list))
	}
}

func ptr[T any](v T) *T { return &v }
