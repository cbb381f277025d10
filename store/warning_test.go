package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"slices"
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

// hook takes events, but for those that it is to refuse.
type hook struct {
	refuse int
	tries  int
	ids    []string
	taken  []store.Warning
}

func (h *hook) Post(_ context.Context, id string, body []byte) error {
	h.tries++
	if h.refuse > 0 {
		h.refuse--
		return errors.New("not now")
	}
	var w store.Warning
	if err := json.Unmarshal(body, &w); err != nil || w.ID != id {
		return fmt.Errorf("event %s: %s, %w", id, body, err)
	}
	h.ids = append(h.ids, id)
	h.taken = append(h.taken, w)
	return nil
}

// What is used passes marks up and down: each is told once, by mail to whom it is of where it was raised, and by the webhook, which gets it again until it takes it.
func TestWarnings(t *testing.T) {
	h := &hook{}
	c := storetest.Config(t)
	s := storetest.Open(t, c, func(o *store.Options) { o.WarnAt, o.MailWarnings, o.Webhook = []int{80, 90, 95}, true, h })
	u := storetest.Account(t, s, "a@one.test")
	domainAdmin, tenantAdmin := storetest.Account(t, s, "d@one.test"), storetest.Account(t, s, "t@one.test")
	if err := errors.Join(s.SetRole(t.Context(), domainAdmin, store.RoleDomainAdmin, "one.test"), s.SetRole(t.Context(), tenantAdmin, store.RoleTenantAdmin)); err != nil {
		t.Fatal(err)
	}
	inbox, archive := open(t, s, u, "INBOX"), open(t, s, u, "Archive")
	put := func(octets int) {
		t.Helper()
		if _, err := archive.Append(t.Context(), store.Incoming{Content: archive.Receive(strings.Repeat("x", octets))}); err != nil {
			t.Fatal(err)
		}
	}
	hold := func(root string, change func(q *quota.Terms)) {
		t.Helper()
		_, err := s.ChangeQuota(t.Context(), findQuota(t, s, u, root), func(q quota.Terms) (quota.Terms, error) {
			change(&q)
			return q, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// look returns the events that are new, as the webhook gets them.
	look := func(want ...string) []store.Warning {
		t.Helper()
		for range 2 { // the second finds nothing
			if err := errors.Join(s.LookAtQuotas(t.Context()), s.PostEvents(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for _, w := range h.taken {
			got = append(got, fmt.Sprintf("%s %s %s %s", w.Root, w.Resource, w.Mark, w.State))
		}
		taken := h.taken
		h.taken = nil
		if !slices.Equal(got, want) {
			t.Errorf("events:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return taken
	}
	mails := func(m *store.Mailbox, want int) {
		t.Helper()
		if got := viewOf(t, m).Len(); got != want {
			t.Errorf("%d mails, want %d", got, want)
		}
	}

	const account = "account:a@one.test"
	hold(account, func(q *quota.Terms) { q.Limits = quota.Limits{ptr[int64](100_000)} })
	put(70_000)
	look()
	put(10_500)
	events := look(account + " STORAGE 80% raised")
	if len(events) == 1 {
		if w := events[0]; w.Tenant != "one.test" || w.Used != 80_500 || *w.Limit != 100_000 || w.Soft != nil || w.GraceUntil != nil || time.Since(w.At) > time.Minute {
			t.Errorf("%+v", w)
		}
	}
	mails(inbox, 1)
	put(15_000) // one mail for both
	look(account+" STORAGE 90% raised", account+" STORAGE 95% raised")
	mails(inbox, 2)

	// The mail is one that people can read, and no program answers.
	if h := mailHeader(t, inbox, 2); h.Get("Subject") != "Your mail account is 95% full" || h.Get("Auto-Submitted") != "auto-generated" || h.Get("Return-Path") != "<>" ||
		h.Get("To") != "<a@one.test>" || !strings.Contains(h.Get("From"), "<postmaster@one.test>") || h.Get("Message-Id") == "" {
		t.Errorf("%v", h)
	}

	// Below a mark by less than what clears it, and by more.
	hold(account, func(q *quota.Terms) { q.Limits[0] = ptr[int64](102_500) })
	look()
	flag(t, archive, between(3, 3), view.Add, view.Deleted)
	if _, _, err := archive.Expunge(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	look(account+" STORAGE 90% cleared", account+" STORAGE 95% cleared")
	mails(inbox, 2)

	// A soft limit that is exceeded, and then for too long: the mail that says so does not fit.
	hold(account, func(q *quota.Terms) { q.Soft[0] = ptr[int64](50_000) })
	events = look(account + " STORAGE soft raised")
	if len(events) == 1 && (events[0].GraceUntil == nil || time.Until(*events[0].GraceUntil) < 6*24*time.Hour) {
		t.Errorf("grace until %v", events[0].GraceUntil)
	}
	mails(inbox, 3)
	expireGrace(t, s, u)
	look(account + " STORAGE grace raised")
	mails(inbox, 3)
	if done := s.Maintained(); done.WarningMailsDropped != 1 || done.WarningMails != 3 || done.Warnings != 7 {
		t.Errorf("%+v", done)
	}
	hold(account, func(q *quota.Terms) { q.Limits, q.Soft = quota.Limits{}, quota.Limits{} })
	look(account+" STORAGE 80% cleared", account+" STORAGE soft cleared", account+" STORAGE grace cleared")

	// Those of a domain and a tenant go to their admins. Here the mail itself fills them, and the next does not fit.
	for root, admin := range map[string]store.User{"domain:one.test": domainAdmin, "tenant:one.test": tenantAdmin} {
		used := findQuota(t, s, u, root).Used.Of(quota.Message)
		hold(root, func(q *quota.Terms) { q.Limits[1] = ptr(used + 1) })
		look(root+" MESSAGE 80% raised", root+" MESSAGE 90% raised", root+" MESSAGE 95% raised", root+" MESSAGE full raised")
		mails(open(t, s, admin, "INBOX"), 1)
		if got, want := mailHeader(t, open(t, s, admin, "INBOX"), 1).Get("Subject"), map[string]string{
			"domain:one.test": "Mail of the domain one.test is 80% full", "tenant:one.test": "Mail of one.test is 80% full",
		}[root]; got != want {
			t.Errorf("subject %q, want %q", got, want)
		}
		hold(root, func(q *quota.Terms) { q.Limits[1] = nil })
		look(root+" MESSAGE 80% cleared", root+" MESSAGE 90% cleared", root+" MESSAGE 95% cleared", root+" MESSAGE full cleared")
	}
	checkAccount(t, s, u)
}

// mailHeader returns the header of a mail.
func mailHeader(t *testing.T, m *store.Mailbox, uid id.UID) mail.Header {
	t.Helper()
	for e := range viewOf(t, m).In(between(uid, uid)) {
		text, err := contentOf(t.Context(), m, e.Email, 0, e.Size)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return parsed.Header
	}
	t.Fatalf("there is no mail %d", uid)
	return nil
}

// An event that is not taken is posted again, with pauses; and given up after three days.
func TestWarningsPosted(t *testing.T) {
	h := &hook{refuse: 2}
	s := storetest.New(t, func(o *store.Options) { o.Webhook = h })
	u := storetest.Account(t, s, "a@one.test")
	for _, domain := range []string{"one.test", "two.test"} { // another tenant's waits behind it
		u := u
		if domain == "two.test" {
			u = storetest.Account(t, s, "b@"+domain)
		}
		fill(t, open(t, s, u, "INBOX"), 2)
		_, err := s.ChangeQuota(t.Context(), findQuota(t, s, u, "account:"+u.Login), func(q quota.Terms) (quota.Terms, error) {
			return q.With(quota.Message, ptr[int64](2)), nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.LookAtQuotas(t.Context()); err != nil {
		t.Fatal(err)
	}
	post := func(tries, taken int) {
		t.Helper()
		if err := s.PostEvents(t.Context()); err != nil {
			t.Fatal(err)
		}
		if h.tries != tries || len(h.taken) != taken {
			t.Errorf("%d tries, %d taken; want %d and %d", h.tries, len(h.taken), tries, taken)
		}
	}
	later := func(age string) {
		t.Helper()
		err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `UPDATE quota_event SET post_at = post_at - interval '1 hour', at = at - $1::interval`, age)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	post(1, 0) // the other tenant's is not tried where this was refused
	post(2, 0) // and it is the first whose turn it is, while this one pauses
	post(2, 0)
	h.refuse = 1
	later("4 days")
	post(3, 0)
	later("0")
	post(3, 0)
	if done := s.Maintained(); done.PostsDropped != 1 || done.PostFailures != 2 || done.Posts != 0 {
		t.Errorf("%+v", done)
	}
	err := s.DeleteAccount(t.Context(), u)
	if err == nil {
		err = s.LookAtQuotas(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}
