package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/auth"
	"mailstead.dev/auth/directory"
	"mailstead.dev/store"
)

// directoryView is a tenant's directory as --json prints it.
type directoryView struct {
	Tenant string `json:"tenant"`
	directory.Settings
}

func (a *app) directoryCommand() *cobra.Command {
	test := &cobra.Command{
		Use: "test LOGIN", Short: "Ask the directory of a login's tenant whether a password is right, from here",
		Long: `Ask the directory of a login's tenant whether a password is right, as a server would, and say whose account it is for.
It is asked from where this command runs, with the secret in auth.secrets_folder here. Nothing is counted, and nobody let in.`,
		Args: exactArgs("LOGIN"),
	}
	stdin := test.Flags().Bool("password-stdin", false, "read the password from standard input; by default the terminal is asked")
	test.RunE = a.onStore(func(j *job) error { return testDirectory(j, *stdin) })
	return group("directory", "Directories of tenants that say who their users are: LDAP, or a database",
		a.setDirectory(),
		&cobra.Command{Use: "show TENANT", Short: "Show a tenant's directory", Args: exactArgs("TENANT"), RunE: a.onStore(showDirectory)},
		&cobra.Command{
			Use: "delete TENANT", Short: "Verify the passwords of a tenant's users by what is kept here again; ends all its sessions", Args: exactArgs("TENANT"),
			RunE: a.onStore(deleteDirectory),
		},
		test)
}

func (a *app) setDirectory() *cobra.Command {
	var s directory.Settings
	var timeout time.Duration
	var ca string
	c := &cobra.Command{
		Use:   "set TENANT URL",
		Short: "Have a directory say whether the passwords of a tenant's users are right; ends all its sessions",
		Long: `Have a directory say whether the passwords of a tenant's users are right, in the place of those that are kept here. App
passwords, certificates and tokens stay what they are.

Logins are asked about as they are kept here: in lower case, composed (NFC), the domain in its ASCII form (xn--…).

LDAP, with a URL of ldaps, or of ldap, which begins TLS as well (StartTLS): the user's entry is searched, and then
it is tried to bind as that with the password. What the filter asks for has to be readable, and the login to the letter, but for
case. The filter has {login} in it, or {user} and {domain}; with --attribute {user} will do.

  mailstead directory set acme ldaps://ldap.acme.example --base ou=people,dc=acme,dc=example --filter '(mail={login})' \
      --account cn=mail,dc=acme,dc=example --secret acme

SQL, with a URL of postgres: a query gets the login as $1, and returns one row or none: a hash in any form that
"account create --hash-stdin" takes, and perhaps the login of the account whose user it is.

  mailstead directory set acme 'postgres://mail@db.acme.example/people?sslmode=verify-full' --secret acme \
      --query 'SELECT password FROM person WHERE lower(address) = $1'

The secret is the password of who searches, or of the database's user. It is kept nowhere here: it is the name of a file in
the folder auth.secrets_folder of each server, read whenever it is needed.`,
		Args: exactArgs("TENANT", "URL"),
		RunE: a.onStore(func(j *job) error {
			s.URL, s.Timeout = j.args[1], directory.Duration(timeout)
			return setDirectory(j, s, ca)
		}),
	}
	f := c.Flags()
	f.StringVar(&s.Secret, "secret", "", "the `FILE` in auth.secrets_folder with the password of --account, or of the database's user")
	f.StringVar(&ca, "ca", "", "PEM `FILE` with the certificates of who signs the directory's, kept with the setting; by default whom the system trusts")
	f.DurationVar(&timeout, "timeout", 0, "how long it may take to answer; 5s by default")
	f.IntVar(&s.Connections, "connections", 0, "to the directory at once, of each server; 4 by default")
	f.BoolVar(&s.Create, "create", false, "make an account for who is right and has none")
	f.BoolVar(&s.Roles, "roles", false, "let users have their roles whose password the directory takes, but for those of the platform")
	f.StringVar(&s.Base, "base", "", "LDAP: below which entry users are searched for")
	f.StringVar(&s.Filter, "filter", "", "LDAP: by what they are found; {login}, {user} and {domain} stand for the login and its halves")
	f.StringVar(&s.Account, "account", "", "LDAP: as which entry it is searched; anonymously by default")
	f.StringVar(&s.Attribute, "attribute", "", "LDAP: which attribute names the user's account; by default it is the login")
	f.BoolVar(&s.Plaintext, "plaintext", false, "LDAP: no TLS, to a server on the same machine")
	f.StringVar(&s.Query, "query", "", "SQL: the query")
	return c
}

func setDirectory(j *job, s directory.Settings, ca string) error {
	tenant, err := j.tenant(j.args[0])
	if err != nil {
		return err
	}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return fmt.Errorf("--ca: %w", err)
		}
		s.CA = string(text)
	}
	if s, err = s.Check(); err != nil {
		return usageError{fmt.Errorf("directory of %s: %w", tenant.Name, err)}
	}
	if err := j.store.SetTenantDirectory(j, tenant.ID, s.String()); err != nil {
		return about("directory of "+tenant.Name, err)
	}
	return j.say(directoryView{tenant.Name, s}, "The passwords of %s are those of its directory.", tenant.Name)
}

func showDirectory(j *job) error {
	tenant, err := j.tenant(j.args[0])
	if err != nil {
		return err
	}
	text, err := j.store.TenantDirectory(j, tenant.ID)
	if err != nil {
		return about("directory of "+tenant.Name, err)
	}
	s, err := directory.Parse(text)
	if err != nil {
		return fmt.Errorf("directory of %s: %w", tenant.Name, err)
	}
	t := table{}
	t.add("url", s.URL)
	for _, row := range []struct{ name, value string }{
		{"base", s.Base}, {"filter", s.Filter}, {"account", s.Account}, {"attribute", s.Attribute}, {"query", s.Query}, {"secret", s.Secret}, {"ca", s.CA},
	} {
		if row.value != "" {
			t.add(row.name, row.value)
		}
	}
	t.add("timeout", time.Duration(s.Timeout))
	t.add("connections", s.Connections)
	t.add("plaintext", s.Plaintext)
	t.add("create", s.Create)
	t.add("roles", s.Roles)
	return j.print(directoryView{tenant.Name, s}, t)
}

func deleteDirectory(j *job) error {
	tenant, err := j.tenant(j.args[0])
	if err != nil {
		return err
	}
	if err := j.store.RemoveTenantDirectory(j, tenant.ID); err != nil {
		return about("directory of "+tenant.Name, err)
	}
	return j.say(map[string]string{"tenant": tenant.Name}, "The passwords of %s are those that are kept here.", tenant.Name)
}

func testDirectory(j *job, stdin bool) (err error) {
	var password string
	switch {
	case stdin:
		password, err = firstLine(j.in)
	case isTerminal(j.in):
		password, err = j.readPassword("Password: ")
	default:
		err = usageError{errors.New("there is no terminal to ask for the password: want --password-stdin")}
	}
	if err != nil {
		return err
	}
	whose, err := auth.New(j.store, authOptions(j.config, j.logger(j.config))).TryDirectory(j, j.args[0], password)
	switch {
	case errors.Is(err, store.ErrAuth):
		return fmt.Errorf("%s: the directory does not take the password, or does not know the login", j.args[0])
	case err != nil:
		return about(j.args[0], err)
	}
	account, err := j.store.LookupLogin(j, whose)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return about("account "+whose, err)
	}
	view := map[string]any{"login": j.args[0], "account": whose, "exists": err == nil}
	if err != nil {
		return j.say(view, "The directory takes it, and there is no account %s.", whose)
	}
	return j.say(view, "The directory takes it, for the account %s.", account.User.Login)
}
