package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"mailstead.dev/auth"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/storetest/testdb"
)

// site is a database and a bucket with command lines that work on them.
type site struct {
	t       *testing.T
	store   *store.Store
	environ []string
}

func newSite(t *testing.T) *site {
	t.Helper()
	return newSiteOn(t, storetest.Config(t))
}

func newSiteOn(t *testing.T, c *testdb.Cluster) *site {
	t.Helper()
	return &site{t: t, store: storetest.Open(t, c), environ: environOf(c)}
}

func environOf(c *testdb.Cluster) []string {
	return []string{
		"MAILSTEAD_DATABASE_URL=" + c.ServingDSN,
		"MAILSTEAD_OBJECTS_ENDPOINT=http://" + c.Endpoint,
		"MAILSTEAD_OBJECTS_REGION=" + c.Region,
		"MAILSTEAD_OBJECTS_BUCKET=" + c.Bucket,
		"MAILSTEAD_OBJECTS_ACCESS_KEY=" + c.Access,
		"MAILSTEAD_OBJECTS_SECRET_KEY=" + c.Secret,
		"MAILSTEAD_OBJECTS_PATH_STYLE=true",
		"MAILSTEAD_IMAP_LISTEN_TLS=off",
	}
}

// run runs a command line with something on standard input.
func (s *site) run(stdin, line string) (string, error) {
	s.t.Helper()
	var out, errors bytes.Buffer
	a := &app{in: strings.NewReader(stdin), out: &out, err: &errors, environ: s.environ}
	root := a.root()
	root.SetArgs(strings.Fields(line))
	err := root.ExecuteContext(s.t.Context())
	return out.String(), err
}

// want runs a command line that must go well and say something.
func (s *site) want(line, said string) string {
	s.t.Helper()
	out, err := s.run("", line)
	if err != nil || !strings.Contains(out, said) {
		s.t.Errorf("mailstead %s: %v\n%s\nwant %q", line, err, out, said)
	}
	return out
}

// refuse runs a command line that must fail and say why.
func (s *site) refuse(line, said string) {
	s.t.Helper()
	if out, err := s.run("", line); err == nil || !strings.Contains(err.Error(), said) {
		s.t.Errorf("mailstead %s: %v, want %q\n%s", line, err, said, out)
	}
}

func (s *site) login(login, password string) error {
	s.t.Helper()
	_, err := auth.New(s.store, auth.Options{}).Login(s.t.Context(), auth.Channel{Protocol: auth.IMAP}, login, password)
	return err
}

func TestDirectoryCommands(t *testing.T) {
	s := newSite(t)
	s.want("tenant create acme", "Tenant acme made.")
	s.refuse("tenant create acme", "tenant acme: a tenant of that name exists")
	s.refuse("tenant create Acme", `tenant "Acme": want up to 63`)
	s.refuse("domain create acme.test", "--tenant NAME is missing")
	s.refuse("domain create acme.test --tenant acne", "tenant acne: no such tenant")
	s.want("domain create acme.test --tenant acme", "Domain acme.test is now acme's.")
	s.refuse("account create a@other.test --no-password", "account a@other.test: no such domain")

	if out, err := s.run("secret\n", "account create a@acme.test --password-stdin --storage 1MiB"); err != nil {
		t.Fatalf("account create: %v\n%s", err, out)
	}
	if err := s.login("a@acme.test", "secret"); err != nil {
		t.Errorf("login with the password given: %v", err)
	}
	var made accountView
	if err := json.Unmarshal([]byte(s.want("account create b@acme.test --json", "password")), &made); err != nil {
		t.Fatal(err)
	}
	if err := s.login("b@acme.test", made.Password); err != nil || made.Login != "b@acme.test" {
		t.Errorf("login with the password made for %+v: %v", made, err)
	}
	if _, err := s.run("", "account passwd a@acme.test --password-stdin"); err == nil {
		t.Error("an empty password was taken")
	}
	if _, err := s.run("new\r\n", "account passwd a@acme.test --password-stdin"); err != nil {
		t.Error(err)
	}
	if err := s.login("a@acme.test", "new"); err != nil {
		t.Errorf("login with the new password: %v", err)
	}
	s.want("account show a@acme.test", "1MiB")
	s.refuse("account limits a@acme.test", "which limit?")
	s.refuse("account limits a@acme.test --storage much", "want a number of bytes")
	s.want("account limits a@acme.test --storage none --messages 5", "are set")
	s.want("account show a@acme.test --json", `"message_limit": 5`)
	s.want("account disable a@acme.test", "is disabled")
	if err := s.login("a@acme.test", "new"); err == nil {
		t.Error("a disabled account could log in")
	}
	s.want("account enable a@acme.test", "is active")
	s.want("account list --tenant acme", "b@acme.test")
	s.refuse("account show c@acme.test", "account c@acme.test: no such account")

	s.want("alias create all@acme.test a@acme.test b@acme.test", "all@acme.test stands for a@acme.test, b@acme.test.")
	s.want("alias set all@acme.test b@acme.test", "stands for b@acme.test.")
	s.want("alias list", "all@acme.test")
	s.want("domain catch-all acme.test --to b@acme.test", "goes to b@acme.test")
	s.refuse("domain catch-all acme.test", "either --to ADDRESS or --none")
	s.want("domain show acme.test", "b@acme.test")
	s.want("domain catch-all acme.test --none", "is refused")
	s.want("domain list", "acme.test")

	s.refuse("account delete a@acme.test", "repeat with --yes")
	s.want("account delete a@acme.test --yes", "is gone")
	s.want("alias delete all@acme.test --yes", "is gone")
	s.refuse("domain delete acme.test --yes", "still has accounts or aliases")
	s.want("tenant show acme", "acme.test")
	s.want("tenant annotate acme /Shared/Admin mailto:help@acme.test", `/shared/admin is "mailto:help@acme.test"`)
	s.want("tenant show acme", "mailto:help@acme.test")
	s.want("tenant show acme --json", `"/shared/admin": "mailto:help@acme.test"`)
	s.want("tenant annotate acme /shared/admin", "has no /shared/admin")
	for _, line := range []string{"tenant annotate acme", "tenant annotate acme /private/comment x", "tenant annotate acme comment x", "tenant annotate acme /shared x", "tenant annotate none /shared/comment x"} {
		if _, err := s.run("", line); err == nil {
			t.Errorf("mailstead %s: no error", line)
		}
	}
	s.want("tenant disable acme", "is disabled")
	s.want("tenant enable acme", "is active")
	s.want("tenant delete acme --yes", "is gone")
	if out := s.want("tenant list --json", ""); strings.TrimSpace(out) != "[]" {
		t.Errorf("tenant list --json: %s", out)
	}
}
