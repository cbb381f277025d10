package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/auth"
	"mailstead.dev/auth/directory/slapd"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest/testdb"
)

// A tenant's directory is LDAP, which is killed and started again in the middle.
func TestDirectoryOfLDAP(t *testing.T) {
	ldap := slapd.New(t)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := errors.Join(os.WriteFile(ca, []byte(ldap.CA), 0o600), os.WriteFile(filepath.Join(dir, "acme"), []byte(slapd.Secret+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s := newServing(t, map[string]string{"auth.secrets_folder": dir, "auth.mechanisms": "[PLAIN, LOGIN, SCRAM-SHA-256]"})
	s.environ = append(s.environ, "MAILSTEAD_AUTH_SECRETS_FOLDER="+dir, "MAILSTEAD_AUTH_MECHANISMS=PLAIN,LOGIN,SCRAM-SHA-256")
	s.want("tenant create acme", "")
	s.want("domain create acme.test --tenant acme", "")
	s.want("tenant create other", "")
	s.want("domain create other.test --tenant other", "")
	for login, password := range map[string]string{"jane@acme.test": "kept", "none@acme.test": "kept", "jane@other.test": "kept"} {
		if out, err := s.run(password+"\n", "account create "+login+" --password-stdin"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	app := strings.Fields(s.want("account app-password add jane@acme.test phone", ""))
	set := "directory set acme " + ldap.URL + " --ca " + ca + " --base " + slapd.Base + " --filter (mail={login}) --account " + slapd.Account + " --secret acme --timeout 2s"
	s.refuse("directory show acme", "no such directory")
	s.refuse("directory set acme "+ldap.URL+" --filter (mail=jane)", "want {login} in it")
	s.start(nil)
	s.hears("READY=1")
	before := s.dial("imap")
	before.await("* OK")
	before.say("a LOGIN jane@acme.test kept\r\n")
	before.await("a OK")
	s.want(set, "The passwords of acme are those of its directory.")
	before.await("* BYE") // who has come in by what does not count any more
	s.want("directory show acme", "(mail={login})")
	s.want("directory show acme --json", `"timeout": "2s"`)
	for _, test := range []struct{ stdin, line, said, refused string }{
		{"right\n", "directory test jane@acme.test --password-stdin", "for the account jane@acme.test", ""},
		{"right\n", "directory test joe@acme.test --password-stdin", "there is no account joe@acme.test", ""},
		{"wrong\n", "directory test jane@acme.test --password-stdin", "", "does not take the password"},
		{"right\n", "directory test jane@other.test --password-stdin", "", "no such directory"},
		{"", "directory test jane@acme.test", "", "want --password-stdin"},
	} {
		out, err := s.run(test.stdin, test.line)
		if !strings.Contains(out, test.said) || (err == nil) != (test.refused == "") || err != nil && !strings.Contains(err.Error(), test.refused) {
			t.Errorf("mailstead %s: %q, %v", test.line, out, err)
		}
	}

	says := func(login, password, answer string) {
		t.Helper()
		c := s.dial("imap") // each its own: so many are refused
		defer c.Close()
		c.await("* OK")
		c.say("a LOGIN " + login + " " + password + "\r\n")
		c.await("a " + answer)
	}
	phone := app[len(app)-1]
	for _, test := range []struct{ login, password, answer string }{
		{"jane@acme.test", "right", "OK"},
		{"jane@acme.test", "wrong", "NO [AUTHENTICATIONFAILED]"},
		{"jane@acme.test", "kept", "NO [AUTHENTICATIONFAILED]"},
		{"jane@acme.test", phone, "OK"},
		{"joe@acme.test", "right", "NO [AUTHENTICATIONFAILED]"}, // has no account
		{"none@acme.test", "right", "NO [AUTHENTICATIONFAILED]"},
		{"nobody@acme.test", "right", "NO [AUTHENTICATIONFAILED]"},
		{"jane@other.test", "right", "NO [AUTHENTICATIONFAILED]"},
		{"jane@other.test", "kept", "OK"},
	} {
		says(test.login, test.password, test.answer)
	}
	ldap.Stop()
	for _, test := range []struct{ login, password, answer string }{
		{"jane@acme.test", "right", "OK"}, // verified lately
		{"jane@acme.test", phone, "OK"},
		{"jane@acme.test", "wrong", "NO [UNAVAILABLE]"},
		{"nobody@acme.test", "wrong", "NO [UNAVAILABLE]"},
		{"jane@other.test", "kept", "OK"},
	} {
		says(test.login, test.password, test.answer)
	}
	ldap.Start()
	says("jane@acme.test", "wrong", "NO [AUTHENTICATIONFAILED]")
	s.want(set+" --create", "")
	says("joe@acme.test", "right", "OK")
	s.want("account show joe@acme.test", "")
	s.want("audit list acme", "directory.set")

	s.want("directory delete acme", "those that are kept here")
	says("jane@acme.test", "right", "NO [AUTHENTICATIONFAILED]")
	says("jane@acme.test", "kept", "OK")
	s.refuse("directory delete acme", "no such directory")
}

// A tenant's directory is a database. What it says of a role counts only where it may.
func TestDirectoryOfSQL(t *testing.T) {
	people := testdb.New(t)
	owner, err := pgx.Connect(t.Context(), people.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(t.Context())
	for _, statement := range []string{
		`CREATE TABLE person (address text, password text, account text)`,
		`INSERT INTO person VALUES ('jane@acme.test', '{SSHA}K3EQulENlbNDLTrc5uMOENR9tVlzYWx0eQ==', NULL), ('alias@acme.test', '{SSHA}K3EQulENlbNDLTrc5uMOENR9tVlzYWx0eQ==', 'Jane@Acme.test'),
		                           ('thief@acme.test', '{SSHA}K3EQulENlbNDLTrc5uMOENR9tVlzYWx0eQ==', 'jane@other.test'), ('odd@acme.test', 'word', NULL)`,
		`INSERT INTO person VALUES ('bcrypt@acme.test', '{BLF-CRYPT}$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2', 'jane@acme.test'),
		                           ('scram@acme.test', '{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=', 'jane@acme.test'),
		                           ('token@acme.test', '{SHA256}n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=', 'jane@acme.test'),
		                           ('joe@acme.test', '{SSHA}K3EQulENlbNDLTrc5uMOENR9tVlzYWx0eQ==', NULL), ('jim@acme.test', '{SSHA}K3EQulENlbNDLTrc5uMOENR9tVlzYWx0eQ==', NULL)`,
		`GRANT SELECT ON person TO PUBLIC`,
	} {
		if _, err := owner.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t)
	for _, line := range []string{
		"tenant create acme", "domain create acme.test --tenant acme", "account create jane@acme.test --no-password",
		"tenant create other", "domain create other.test --tenant other", "account create jane@other.test --no-password",
	} {
		s.want(line, "")
	}
	s.want("account role jane@acme.test tenant-admin", "")
	set := "directory set acme " + people.ServingDSN + " --query SELECT/**/password,account/**/FROM/**/person/**/WHERE/**/address=$1"
	s.want(set, "")
	var log bytes.Buffer
	a := auth.New(s.store, auth.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	from := auth.Channel{Protocol: auth.IMAP, Private: true, From: netip.MustParseAddr("192.0.2.1")}
	failed := 0
	login := func(login, password string, want error) auth.Grant {
		t.Helper()
		g, err := a.Login(t.Context(), from, login, password)
		if !errors.Is(err, want) {
			t.Errorf("%s with %q: %v, want %v", login, password, err, want)
		}
		if errors.Is(want, store.ErrAuth) {
			failed++
		}
		return g
	}
	if g := login("jane@acme.test", "right", nil); g.User.Role != store.RoleNone {
		t.Errorf("the directory gives a role: %v", g.User.Role)
	}
	if g := login("alias@acme.test", "right", nil); g.User.Login != "jane@acme.test" {
		t.Errorf("an alias is let in as %q", g.User.Login)
	}
	login("jane@acme.test", "wrong", store.ErrAuth)
	login("jane@acme.test", "", store.ErrAuth)
	login("thief@acme.test", "right", store.ErrAuth) // of another tenant
	login("bcrypt@acme.test", "correct horse", nil)  // hashes in the words of others
	login("scram@acme.test", "pencil", nil)
	if log.Len() > 0 {
		t.Errorf("of what is well: %s", &log)
	}
	for name, password := range map[string]string{"odd@acme.test": "word", "token@acme.test": "test"} { // which is for what cannot be guessed
		login(name, password, store.ErrAuth)
		if !strings.Contains(log.String(), `"a directory has a hash that verifies nobody" tenant=`) || strings.Contains(log.String(), name) || strings.Contains(log.String(), "n4bQ") {
			t.Errorf("of the hash of %s: %s", name, &log)
		}
		log.Reset()
	}
	login("nobody@acme.test", "right", store.ErrAuth)
	people.SetAway(t, true)
	for range 7 { // more than it takes until it is left alone
		login("jane@acme.test", "other", store.ErrUnavailable)
		login("nobody@acme.test", "other", store.ErrUnavailable)
	}
	login("jane@acme.test", "right", nil) // verified lately
	names, err := s.store.FailedNames(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(names, func(n store.FailedName) bool { return n.Name == "tenant:acme" && n.Failures == failed }) {
		t.Errorf("failed are %+v, want %d of the tenant", names, failed)
	}
	people.SetAway(t, false)
	s.want(set+" --roles --timeout 3s", "") // with which it is another, that has not been away
	if g := login("jane@acme.test", "right", nil); g.User.Role != store.RoleTenantAdmin {
		t.Errorf("jane is %v", g.User.Role)
	}
	s.want("account role jane@acme.test platform-admin", "")
	if g := login("jane@acme.test", "right", nil); g.User.Role != store.RoleNone {
		t.Errorf("a tenant's directory makes a %v", g.User.Role)
	}

	s.want(set+" --create", "")
	login("joe@acme.test", "right", nil)
	s.want("account delete joe@acme.test --yes", "")
	people.SetAway(t, true)
	login("joe@acme.test", "right", store.ErrUnavailable) // that they were right some minutes ago makes them no account
	people.SetAway(t, false)
	s.want("tenant disable acme", "")
	s.want(set+" --create --timeout 3s", "")
	login("jim@acme.test", "right", store.ErrDisabled)
	s.refuse("account show jim@acme.test", "no such account")
	s.want("tenant delete acme --yes", "is gone")
}
