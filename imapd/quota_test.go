package imapd

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/quota"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// Limits and what is used are told in the units of the wire, of each root its own.
func TestQuotaUnits(t *testing.T) {
	const login = "a@quota.test"
	s := storetest.New(t)
	u := storetest.Account(t, s, login)
	limitRoot(t, s, u, "account:"+login, quota.Limits{ptr[int64](3000), ptr[int64](10), ptr[int64](7), ptr[int64](2048)})
	limitRoot(t, s, u, "domain:quota.test", quota.Limits{ptr[int64](1 << 30)})
	c := serveStore(t, s, nil)(t)
	enter(c, login)
	c.want("APPEND INBOX {1025+}\r\n"+strings.Repeat("x", 1025), "OK ")
	c.want("SETMETADATA INBOX (/private/comment \"nice\")", "OK ")
	want := []string{
		`* QUOTAROOT "INBOX" "account:a@quota.test" "domain:quota.test" "tenant:quota.test"`,
		`* QUOTA "account:a@quota.test" (STORAGE 2 2 MESSAGE 1 10 MAILBOX 6 7 ANNOTATION-STORAGE 1 2)`,
		`* QUOTA "domain:quota.test" (STORAGE 2 1048576)`,
		`* QUOTA "tenant:quota.test" ()`,
	}
	if got := c.want("GETQUOTAROOT INBOX", "OK "); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A tenant's Shared mailboxes are of no domain, and so have two roots.
func TestQuotaOfSharedMailboxes(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "t@quota.test")
	if err := s.SetRole(t.Context(), u, store.RoleTenantAdmin); err != nil {
		t.Fatal(err)
	}
	c := serveStore(t, s, nil)(t)
	enter(c, u.Login)
	c.want("CREATE Shared/Sales", "OK ")
	root := fmt.Sprintf(`"account:shared:%d"`, u.Tenant)
	c.want("SETQUOTA "+root+" (MESSAGE 1)", "OK ")
	c.want("APPEND Shared/Sales {1+}\r\nx", "OK ")
	c.want("APPEND Shared/Sales {1+}\r\nx", "NO [OVERQUOTA]")
	want := []string{
		`* QUOTAROOT "Shared/Sales" ` + root + ` "tenant:quota.test"`,
		`* QUOTA ` + root + ` (MESSAGE 1 1)`,
		`* QUOTA "tenant:quota.test" ()`,
	}
	if got := c.want("GETQUOTAROOT Shared/Sales", "OK "); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What would take any root over a limit of any resource is refused, and nothing of it is left.
func TestQuotaOfAllRoots(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@quota.test")
	other := storetest.Account(t, s, "b@quota.test") // counts for the domain and the tenant, and for nothing of a's
	connect := serveStore(t, s, nil)
	c, d := connect(t), connect(t)
	enter(c, u.Login)
	enter(d, other.Login)
	d.want("APPEND INBOX {3+}\r\none", "OK ")
	d.want("SETMETADATA \"\" (/private/comment \"here\")", "OK ")
	c.want("APPEND INBOX {3+}\r\ntwo", "OK ")
	c.want("SELECT INBOX", "OK ")
	for _, test := range []struct {
		resource quota.Resource
		commands []string
	}{
		{quota.Storage, []string{"APPEND INBOX {1+}\r\nx", "APPEND INBOX {1+}\r\nx {1+}\r\ny", "COPY 1 Sent", "UID COPY 1:* INBOX", "REPLACE 1 INBOX {9+}\r\n123456789"}},
		{quota.Message, []string{"APPEND INBOX {1+}\r\nx", "COPY 1 Sent"}},
		{quota.Mailbox, []string{"CREATE new", "CREATE a/b/c", "RENAME Sent x/y", "RENAME INBOX old"}},
		{quota.AnnotationStorage, []string{"SETMETADATA INBOX (/private/comment \"x\")", "SETMETADATA \"\" (/private/comment \"x\")"}},
	} {
		for _, root := range []string{"account:" + u.Login, "domain:quota.test", "tenant:quota.test"} {
			r, err := s.FindQuota(t.Context(), u, root)
			if err != nil {
				t.Fatal(err)
			}
			limitRoot(t, s, u, root, quota.Limits{}.With(test.resource, ptr(r.Used.Of(test.resource))))
			for _, command := range test.commands {
				c.want(command, "NO [OVERQUOTA] Quota exceeded")
			}
			c.want("MOVE 1 INBOX", "OK ")
			after, err := s.FindQuota(t.Context(), u, root)
			if err != nil || after.Used != r.Used {
				t.Errorf("%s: uses %v after it, %v before, %v", root, after.Used, r.Used, err)
			}
			limitRoot(t, s, u, root, quota.Limits{})
		}
	}
	c.want("CREATE a/b/c", "OK ")
	c.want("DELETE a/b/c", "OK ")
	if drift, _, err := s.AuditQuota(t.Context(), u.Tenant); err != nil || len(drift) > 0 {
		t.Errorf("drift %v, %v", drift, err)
	}
}

// SETQUOTA is for those who administer more than the root, and discards the limits that it does not name.
func TestSetQuota(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@quota.test")
	storetest.Account(t, s, "z@elsewhere.test")
	for login, role := range map[string]store.Role{
		"d@quota.test": store.RoleDomainAdmin, "t@quota.test": store.RoleTenantAdmin, "p@quota.test": store.RolePlatformAdmin, "s@quota.test": store.RoleSupport,
	} {
		var domains []string
		if role == store.RoleDomainAdmin {
			domains = []string{"quota.test"}
		}
		if err := s.SetRole(t.Context(), storetest.Account(t, s, login), role, domains...); err != nil {
			t.Fatal(err)
		}
	}
	connect := serveStore(t, s, nil)
	for _, test := range []struct{ login, account, domain, tenant, elsewhere string }{
		{"a@quota.test", "NO [NOPERM]", "NO [NOPERM]", "NO [NOPERM]", "NO [NONEXISTENT]"},
		{"s@quota.test", "NO [NONEXISTENT]", "NO [NOPERM]", "NO [NOPERM]", "NO [NONEXISTENT]"},
		{"d@quota.test", "OK ", "NO [NOPERM]", "NO [NOPERM]", "NO [NONEXISTENT]"},
		{"t@quota.test", "OK ", "OK ", "NO [NOPERM]", "NO [NONEXISTENT]"},
		{"p@quota.test", "OK ", "OK ", "OK ", "OK "},
	} {
		c := connect(t)
		enter(c, test.login)
		for root, want := range map[string]string{
			"account:a@quota.test": test.account, "domain:quota.test": test.domain, "tenant:quota.test": test.tenant, "account:z@elsewhere.test": test.elsewhere,
		} {
			c.want("SETQUOTA "+root+" (MESSAGE 1000 STORAGE 1000)", want)
		}
		announced := strings.Contains(strings.Join(c.want("CAPABILITY", "OK "), " "), " QUOTASET")
		if want := test.account == "OK "; announced != want {
			t.Errorf("%s: QUOTASET announced: %v, want %v", test.login, announced, want)
		}
	}
	c := connect(t)
	enter(c, "t@quota.test")
	if got := c.want("SETQUOTA account:a@quota.test (MESSAGE 5)", "OK "); len(got) != 1 || got[0] != `* QUOTA "account:a@quota.test" (MESSAGE 0 5)` {
		t.Errorf("got %q", got)
	}
	c = connect(t)
	enter(c, u.Login)
	c.want("APPEND INBOX {1+}\r\n1 {1+}\r\n2 {1+}\r\n3 {1+}\r\n4 {1+}\r\n5 {1+}\r\n6", "NO [OVERQUOTA]")
	c.want("APPEND INBOX {1+}\r\n1 {1+}\r\n2 {1+}\r\n3 {1+}\r\n4 {1+}\r\n5", "OK ")
}

// Who may look a mailbox up and not read it is told its roots, and no number that says what is in it (RFC 9208
// section 6). To who may not look it up it is a name like any other that no mailbox has.
func TestQuotaRootRights(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@quota.test")
	storetest.Account(t, s, "b@quota.test")
	all := quota.Limits{ptr[int64](5000), ptr[int64](10), ptr[int64](7), ptr[int64](2048)}
	limitRoot(t, s, u, "account:"+u.Login, all)
	connect := serveStore(t, s, nil)
	c, d := connect(t), connect(t)
	enter(c, u.Login)
	enter(d, "b@quota.test")
	c.want("APPEND INBOX {1025+}\r\n"+strings.Repeat("x", 1025), "OK ")
	const name = "Other Users/a@quota.test/INBOX"
	for _, test := range []struct{ rights, owner, told string }{
		{`""`, "b", ""},
		{"l", "a", "MAILBOX 6 7"},
		{"lswipkxtea", "a", "MAILBOX 6 7"},
		{"lr", "a", "STORAGE 2 4 MESSAGE 1 10 MAILBOX 6 7 ANNOTATION-STORAGE 0 2"},
	} {
		c.want("SETACL INBOX b@quota.test "+test.rights, "OK ")
		want := []string{
			`* QUOTAROOT "` + name + `" "account:` + test.owner + `@quota.test" "domain:quota.test" "tenant:quota.test"`,
			`* QUOTA "account:` + test.owner + `@quota.test" (` + test.told + `)`,
			`* QUOTA "domain:quota.test" ()`,
			`* QUOTA "tenant:quota.test" ()`,
		}
		if got := d.want(`GETQUOTAROOT "`+name+`"`, "OK "); !slices.Equal(got, want) {
			t.Errorf("with %s: got\n%s\nwant\n%s", test.rights, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// Who makes a root exceed a soft limit is told so once, and who selects a mailbox of it as long as that is so; who selects one in
// which nothing more fits is told that (RFC 9208 section 4.3.1).
func TestOverQuotaTold(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@quota.test")
	storetest.Account(t, s, "b@quota.test")
	connect := serveStore(t, s, nil)
	c, d := connect(t), connect(t)
	enter(c, u.Login)
	enter(d, "b@quota.test")
	const soft, full = "* NO [OVERQUOTA] Soft quota has been exceeded", "* NO [OVERQUOTA] Quota is used up"
	told := func(c *client, command string, want ...string) {
		t.Helper()
		var got []string
		for _, line := range c.want(command, "OK ") {
			if strings.Contains(line, "OVERQUOTA") {
				got = append(got, line)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: told %q, want %q", command, got, want)
		}
	}
	terms := func(root string, softly, hard *int64) {
		t.Helper()
		r, err := s.FindQuota(t.Context(), u, root)
		if err == nil {
			_, err = s.ChangeQuota(t.Context(), r, func(q quota.Terms) (quota.Terms, error) {
				q.Soft = q.Soft.With(quota.Message, softly)
				return q.With(quota.Message, hard), nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.want("SETACL INBOX b@quota.test lri", "OK ")
	for _, root := range []string{"account:" + u.Login, "domain:quota.test", "tenant:quota.test"} {
		terms(root, ptr[int64](2), ptr[int64](5))
		told(c, "SELECT INBOX")
		told(c, "APPEND INBOX {1+}\r\n1 {1+}\r\n2")
		told(c, "APPEND INBOX {1+}\r\n3", soft)
		told(c, "APPEND INBOX {1+}\r\n4")
		told(c, "EXAMINE Sent", soft)
		told(d, `SELECT "Other Users/a@quota.test/INBOX"`, soft)
		told(c, "SELECT INBOX", soft)
		told(c, `STORE 1:2 +FLAGS (\Deleted)`)
		told(c, "EXPUNGE")
		if err := s.LookAtQuotas(t.Context()); err != nil { // that of a domain or tenant is noticed then
			t.Fatal(err)
		}
		told(c, "SELECT INBOX")
		told(c, "COPY 1 Sent", soft)
		told(c, "COPY 1:2 INBOX")
		if err := s.LookAtQuotas(t.Context()); err != nil {
			t.Fatal(err)
		}
		told(c, "SELECT INBOX", full)
		terms(root, nil, nil)
		if err := s.LookAtQuotas(t.Context()); err != nil {
			t.Fatal(err)
		}
		told(c, "SELECT Sent")
		told(c, `STORE 1:* +FLAGS (\Deleted)`)
		told(c, "EXPUNGE")
		told(c, "SELECT INBOX")
		told(c, `STORE 1:* +FLAGS (\Deleted)`)
		told(c, "EXPUNGE")
	}

	// REPLACE makes one exceed a soft limit of octets, and so does what is copied to another's mailbox, whose limit it is.
	r, err := s.FindQuota(t.Context(), u, "account:"+u.Login)
	if err == nil {
		_, err = s.ChangeQuota(t.Context(), r, func(q quota.Terms) (quota.Terms, error) {
			q.Soft = quota.Limits{ptr[int64](10)}
			return q, nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	told(c, "APPEND INBOX {4+}\r\n1234")
	told(c, "SELECT INBOX")
	told(c, "REPLACE 1 INBOX {12+}\r\n123456789012", soft)
	told(c, "REPLACE 1 INBOX {4+}\r\n1234")
	told(d, "APPEND INBOX {9+}\r\n123456789")
	told(d, "SELECT INBOX")
	told(d, `COPY 1 "Other Users/a@quota.test/INBOX"`, soft)
}

// limitRoot sets the limits of one of the user's quota roots.
func limitRoot(t testing.TB, s *store.Store, u store.User, name string, limits quota.Limits) {
	t.Helper()
	r, err := s.FindQuota(t.Context(), u, name)
	if err == nil {
		_, err = s.ChangeQuota(t.Context(), r, func(t quota.Terms) (quota.Terms, error) {
			t.Limits = limits
			return t, nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }
