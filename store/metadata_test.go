package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
)

func TestMetadataEntry(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"/private/comment", "/private/comment"},
		{"/SHARED/Comment", "/shared/comment"},
		{"/shared", "/shared"},
		{"/Private", "/private"},
		{"/private/vendor/cmu/a b/c", "/private/vendor/cmu/a b/c"},
		{"/private/" + strings.Repeat("x", 246), "/private/" + strings.Repeat("x", 246)},
		{"/private/" + strings.Repeat("x", 247), ""},
		{"", ""},
		{"/", ""},
		{"//", ""},
		{"comment", ""},
		{"private/comment", ""},
		{"/comment", ""},
		{"/public/comment", ""},
		{"/private/", ""},
		{"/private//comment", ""},
		{"//private/comment", ""},
		{"/private/a//b", ""},
		{"/private/a/", ""},
		{"/private/*", ""},
		{"/private/a%", ""},
		{"/private/a\tb", ""},
		{"/private/a\x00b", ""},
		{"/private/gr\u00fcn", ""},
		{"/private/a\x7f", ""},
		{"/privateer/a", ""},
	} {
		got, err := store.MetadataEntry(test.name)
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("MetadataEntry(%q) = %q, %v, want %q", test.name, got, err, test.want)
		}
	}
}

// annotate sets annotations that are given as entry=value, or entry alone to remove one.
func annotate(s *store.Store, t testing.TB, u store.User, mailbox string, set ...string) error {
	var all []store.Annotation
	for _, a := range set {
		entry, value, ok := strings.Cut(a, "=")
		annotation := store.Annotation{Entry: entry}
		if ok {
			annotation.Value = []byte(value)
		}
		all = append(all, annotation)
	}
	return s.SetMetadata(t.Context(), u, mailbox, all)
}

// annotated returns all annotations of a mailbox that a user sees.
func annotated(t testing.TB, s *store.Store, u store.User, mailbox string) string {
	t.Helper()
	found, err := s.Metadata(t.Context(), u, mailbox, store.MetadataQuery{Entries: []string{"/private", "/shared"}, Depth: -1, MaxSize: 1000})
	if err != nil {
		t.Fatalf("metadata of %s: %v", mailbox, err)
	}
	var all []string
	for _, a := range found {
		if a.Value == nil {
			a.Value = []byte(fmt.Sprint("of ", a.Size))
		}
		all = append(all, a.Entry+"="+string(a.Value))
	}
	return strings.Join(all, " ")
}

func TestMetadata(t *testing.T) {
	s := storetest.New(t, func(o *store.Options) { o.MaxMetadata, o.MaxMetadataSize = 10, 2000 })
	u := storetest.Account(t, s, "a@one.test")
	must := func(mailbox string, set ...string) {
		t.Helper()
		if err := annotate(s, t, u, mailbox, set...); err != nil {
			t.Fatalf("%s: %v", mailbox, err)
		}
	}
	is := func(mailbox, want string) {
		t.Helper()
		if got := annotated(t, s, u, mailbox); got != want {
			t.Errorf("%q has %s, want %s", mailbox, got, want)
		}
	}
	fails := func(want error, mailbox string, set ...string) {
		t.Helper()
		if err := annotate(s, t, u, mailbox, set...); !errors.Is(err, want) {
			t.Errorf("%s: %.100q: %v, want %v", mailbox, set, err, want)
		}
	}
	must("INBOX", "/shared/comment=a", "/private/comment=b", "/private/empty=", "/private/nul=\x00")
	must("inbox", "/shared/comment=c", "/private/comment", "/private/none")
	is("INBOX", "/private/empty= /private/nul=\x00 /shared/comment=c")
	must("INBOX", "/private/nul=1", "/private/nul", "/private/empty", "/private/empty=2") // the last counts
	is("INBOX", "/private/empty=2 /shared/comment=c")
	is("Drafts", `/private/specialuse=\Drafts`)
	is("", "")

	// Each change is one of the mailbox (RFC 7162 section 3.2); where all is as it was there is none.
	at := func() id.ModSeq {
		t.Helper()
		m, err := s.Open(t.Context(), u, "INBOX", acl.Read)
		if err != nil {
			t.Fatal(err)
		}
		v, err := m.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v.ModSeq()
	}
	before := at()
	must("INBOX", "/shared/comment=d", "/private/none")
	must("INBOX", "/shared/comment=d", "/private/none", "/private/empty=2")
	fails(store.ErrBadEntry, "INBOX", "/shared/comment=e", "/private=x")
	must("INBOX", "/shared/comment=c", "/private/other=1")
	must("INBOX", "/private/other")
	if after := at(); after != before+3 {
		t.Errorf("MODSEQ %d, want %d", after, before+3)
	}

	// A special use is that of one mailbox.
	must("Sent", `/private/specialuse`)
	is("Sent", "")
	fails(store.ErrSpecialUse, "Drafts", "/private/x=y", `/private/specialuse=\Junk`)
	is("Drafts", `/private/specialuse=\Drafts`)
	must("Drafts", `/private/specialuse=\Sent  \Drafts`)
	is("Drafts", `/private/specialuse=\Sent \Drafts`)
	if _, err := s.Create(t.Context(), u, "New", []string{`\Sent`}); !errors.Is(err, store.ErrSpecialUse) {
		t.Errorf("a second mailbox of a special use: %v", err)
	}
	must("Drafts", `/private/specialuse=\Drafts`)

	// With all below an entry, or what is right below it.
	must("Sent", "/private/a=1", "/private/a/b=2", "/private/a/b/c=3", "/private/ab=4", "/shared/a/b=5")
	for _, test := range []struct {
		entry string
		depth int
		want  string
	}{
		{"/private/a", 0, "/private/a"}, {"/private/a", 1, "/private/a /private/a/b"}, {"/private/a", -1, "/private/a /private/a/b /private/a/b/c"},
		{"/private", 0, ""}, {"/private", 1, "/private/a /private/ab"}, {"/shared", 1, ""}, {"/shared", -1, "/shared/a/b"}, {"/private/a_", -1, ""},
	} {
		found, err := s.Metadata(t.Context(), u, "Sent", store.MetadataQuery{Entries: []string{test.entry}, Depth: test.depth, MaxSize: 1000})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range found {
			got = append(got, a.Entry)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s with depth %d: %s, want %s", test.entry, test.depth, got, test.want)
		}
	}

	// The bounds, and that nothing is done where one is met.
	fails(store.ErrMetadataSize, "Sent", "/private/a=9", "/private/x="+strings.Repeat("x", 2001))
	fails(store.ErrBadEntry, "Sent", "/private/a=9", "/private=x")
	fails(store.ErrBadEntry, "Sent", "/private/vendor/x=1")
	fails(store.ErrBadEntry, "Sent", "/shared/vendor=1")
	fails(store.ErrNotExist, "Nowhere", "/private/a=1")
	fails(store.ErrNotExist, "a\x00b", "/private/a=1")
	must("Sent", "/private/long="+strings.Repeat("x", 2000), "/private/vendor/x/y=1")
	is("Sent", "/private/a=1 /private/a/b=2 /private/a/b/c=3 /private/ab=4 /private/long=of 2000 /private/vendor/x/y=1 /shared/a/b=5")
	must("Sent", "/private/1=", "/private/2=", "/private/3=", "/private/4=")
	fails(store.ErrMetadataTooMany, "Sent", "/private/5=")
	fails(store.ErrMetadataTooMany, "Sent", "/private/5=", "/private/6=", "/private/a")
	must("Sent", "/private/4=new", "/shared/c=d") // which count by themselves
	must("Sent", "/private/5=", "/private/1")

	// They go where the mailbox goes; INBOX keeps what its copy gets.
	rename := func(from, to string) {
		t.Helper()
		if err := s.Rename(t.Context(), u, from, to); err != nil {
			t.Fatal(err)
		}
	}
	had := annotated(t, s, u, "Sent")
	rename("Sent", "Old/Sent")
	is("Old/Sent", had)
	is("Old", "")
	rename("INBOX", "Old/INBOX")
	is("INBOX", "/private/empty=2 /shared/comment=c")
	is("Old/INBOX", "/private/empty=2 /shared/comment=c")
	if err := s.Delete(t.Context(), u, "Old/Sent"); err != nil {
		t.Fatal(err)
	}
	fails(store.ErrNotExist, "Old/Sent", "/private/a=1")
	if _, err := s.Create(t.Context(), u, "Old/Sent", nil); err != nil {
		t.Fatal(err)
	}
	is("Old/Sent", "")
	if _, err := s.Fsck(t.Context(), u.Tenant, func(f store.Finding) { t.Error(f) }); err != nil {
		t.Error(err)
	}
}

// The server's: one's own, and what the operator says to all of a tenant.
func TestServerMetadata(t *testing.T) {
	s := storetest.New(t)
	a, b := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@one.test")
	other := storetest.Account(t, s, "c@two.test")
	if err := annotate(s, t, a, "", "/private/comment=a's"); err != nil {
		t.Fatal(err)
	}
	err := annotate(s, t, a, "", "/private/comment=b's", "/shared/comment=b's")
	var denied *acl.DeniedError
	if !errors.As(err, &denied) {
		t.Errorf("a user tells all others: %v", err)
	}
	if err := s.SetTenantMetadata(t.Context(), a.Tenant, store.Annotation{Entry: "/shared/admin", Value: []byte("tel:1")}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetTenantMetadata(t.Context(), a.Tenant, store.Annotation{Entry: "/private/comment", Value: []byte("x")}); !errors.Is(err, store.ErrBadEntry) {
		t.Errorf("something private of a tenant: %v", err)
	}
	for _, test := range []struct {
		u    store.User
		want string
	}{
		{a, "/private/comment=a's /shared/admin=tel:1"}, {b, "/shared/admin=tel:1"}, {other, ""},
	} {
		if got := annotated(t, s, test.u, ""); got != test.want {
			t.Errorf("%s sees %s, want %s", test.u.Login, got, test.want)
		}
	}
	if got, err := s.TenantMetadata(t.Context(), a.Tenant); err != nil || len(got) != 1 || got[0].Entry != "/shared/admin" {
		t.Errorf("of the tenant: %v, %v", got, err)
	}

	// Nothing is left of who is gone.
	if err := annotate(s, t, a, "INBOX", "/private/comment=x", "/shared/comment=x"); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteAccount(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, a.Tenant, "metadata"); n != 1 {
		t.Errorf("%d annotations are left, of which the tenant's is one", n)
	}
	if err := annotate(s, t, a, "", "/private/comment=x"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("annotation of an account that is gone: %v", err)
	}
	if err := s.DeleteTenant(t.Context(), a.Tenant); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, a.Tenant, "metadata"); n != 0 {
		t.Errorf("%d annotations are left", n)
	}
}

// What a user who goes has noted of others' mailboxes goes too, and those are charged for it no more.
func TestAnnotationsOfOthersMailboxes(t *testing.T) {
	s := storetest.New(t)
	ann, bob := storetest.Account(t, s, "ann@one.test"), storetest.Account(t, s, "bob@one.test")
	carl := storetest.Account(t, s, "carl@one.test")
	if _, err := s.Create(t.Context(), carl, "Gone", nil); err != nil {
		t.Fatal(err)
	}
	for _, of := range []struct {
		owner   store.User
		mailbox string
	}{{ann, "INBOX"}, {ann, "Sent"}, {carl, "INBOX"}, {carl, "Gone"}} {
		grant(t, s, of.owner, of.mailbox, acl.User(bob.Login), "lr")
		if err := annotate(s, t, bob, others(of.owner, of.mailbox), "/private/comment=bob's"); err != nil {
			t.Fatal(err)
		}
	}
	if err := annotate(s, t, ann, "INBOX", "/private/comment=ann's", "/shared/comment=ann's"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), carl, "Gone"); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteAccount(t.Context(), bob); err != nil {
		t.Fatal(err)
	}
	if drift, _, err := s.AuditQuota(t.Context(), ann.Tenant); err != nil || len(drift) > 0 {
		t.Errorf("drift %v, %v", drift, err)
	}
	if n := count(t, s, ann.Tenant, "metadata"); n != 2 {
		t.Errorf("%d annotations are left, of which ann's are two", n)
	}
	if _, _, err := s.UndeleteMailbox(t.Context(), carl, "Gone", ""); err != nil {
		t.Fatal(err)
	}
	checkAccount(t, s, ann)
	checkAccount(t, s, carl)
}

// Of those who set annotations at once each finds the bound, of a mailbox and of the account.
func TestConcurrentMetadata(t *testing.T) {
	for name, test := range map[string]struct {
		bound     func(o *store.Options)
		mailboxes []string
		entry     func(i, n int) string
	}{
		"mailbox": {
			func(o *store.Options) { o.MaxMetadata = 10 }, []string{"INBOX", "INBOX", "INBOX", "INBOX"},
			func(i, n int) string { return fmt.Sprintf("/private/%d/%d=x", i, n) },
		},
		"account": {
			func(o *store.Options) { o.MaxAccountMetadata = 1000 }, []string{"INBOX", "Sent", "Drafts", ""},
			func(_, n int) string { return fmt.Sprintf("/private/%d=%s", n, strings.Repeat("x", 90)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			stores, u := frontEnds(t, 2, test.bound)
			refused := make([]int, len(test.mailboxes))
			together(t, len(refused), func(i int) error {
				for n := range 5 {
					err := annotate(stores[i%2], t, u, test.mailboxes[i], test.entry(i, n))
					if errors.Is(err, store.ErrMetadataTooMany) {
						refused[i]++
					} else if err != nil {
						return err
					}
				}
				return nil
			})
			sum := 0
			for _, n := range refused {
				sum += n
			}
			if n := count(t, stores[0], u.Tenant, "metadata"); n != 10 || sum != 10 {
				t.Errorf("%d annotations of at most 10, %d refused of 20", n, sum)
			}
		})
	}
}

// All annotations of an account together are bounded, with their names: those that are the user's, and those that are shared of the
// user's mailboxes. Who has too many can clear away, and a copy of INBOX's is not for nothing.
func TestAccountMetadata(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c, func(o *store.Options) { o.MaxAccountMetadata = 10_000 })
	u, other := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@one.test")
	of := func(octets int) string { return "=" + strings.Repeat("x", octets-len("/private/a")) }
	set := func(s *store.Store, want error, mailbox string, all ...string) {
		t.Helper()
		if err := annotate(s, t, u, mailbox, all...); !errors.Is(err, want) {
			t.Errorf("%s: %.30q: %v, want %v", mailbox, all, err, want)
		}
	}
	set(s, nil, "INBOX", "/private/a"+of(3000), "/shared/ab"+of(2000))
	set(s, nil, "Sent", "/shared/ab"+of(3000))
	set(s, nil, "", "/private/a"+of(2000))
	set(s, store.ErrMetadataTooMany, "Drafts", "/private/b=")
	set(s, store.ErrMetadataTooMany, "", "/private/b=")
	set(s, store.ErrMetadataTooMany, "Sent", "/shared/ab"+of(3001))
	set(s, nil, "Sent", "/shared/ab"+of(2999))
	set(s, nil, "Sent", "/shared/ab"+of(3000), "/private/b=x", "/private/b")
	if err := annotate(s, t, other, "INBOX", "/private/a"+of(5000)); err != nil {
		t.Errorf("of another account: %v", err)
	}
	if err := s.SetTenantMetadata(t.Context(), u.Tenant, store.Annotation{Entry: "/shared/admin", Value: make([]byte, 12_000)}); err != nil {
		t.Errorf("of the tenant: %v", err)
	}
	if err := s.Rename(t.Context(), u, "INBOX", "Old"); !errors.Is(err, store.ErrMetadataTooMany) {
		t.Errorf("a copy of INBOX's: %v", err)
	}

	less := storetest.Open(t, c, func(o *store.Options) { o.MaxAccountMetadata = 5000 })
	set(less, store.ErrMetadataTooMany, "INBOX", "/private/b=")
	set(less, nil, "INBOX", "/private/a"+of(2000))
	set(less, nil, "INBOX", "/private/a")
	if err := less.Delete(t.Context(), u, "Sent"); err != nil {
		t.Fatal(err)
	}
	if err := less.Rename(t.Context(), u, "INBOX", "Old"); !errors.Is(err, store.ErrMetadataTooMany) {
		t.Errorf("a copy of INBOX's: %v", err)
	}
	set(less, nil, "INBOX", "/private/b=")
}
