package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/auth"
	"mailstead.dev/store"
)

// appPasswordView is an app password as --json prints it.
type appPasswordView struct {
	Login     string     `json:"login"`
	Name      string     `json:"name"`
	Protocols []string   `json:"protocols"`
	ReadOnly  bool       `json:"read_only"`
	Created   time.Time  `json:"created"`
	Expires   *time.Time `json:"expires"`
	LastUsed  *time.Time `json:"last_used"`          // to within an hour
	Password  string     `json:"password,omitempty"` // one that was just made
}

func (a *app) accountAppPassword() *cobra.Command {
	return group("app-password", "Passwords of an account for one program each",
		a.addAppPassword(),
		&cobra.Command{Use: "list LOGIN", Short: "List an account's app passwords, with when they were used last", Args: exactArgs("LOGIN"), RunE: a.onStore(listAppPasswords)},
		&cobra.Command{
			Use: "revoke LOGIN NAME", Short: "Take an app password away, and end the sessions that it has let in", Args: exactArgs("LOGIN", "NAME"),
			RunE: a.onStore(revokeAppPassword),
		})
}

// appPasswordOptions say what an app password is for.
type appPasswordOptions struct {
	protocols []string
	readOnly  bool
	expires   string

	certificate string
	cramMD5     bool
}

func (a *app) addAppPassword() *cobra.Command {
	var o appPasswordOptions
	c := &cobra.Command{
		Use:   "add LOGIN NAME",
		Short: "Make an app password and print it",
		Long: `Make a password for one program, beside that of the account's user, and print it: it cannot be shown again.

It lets in as the user, but never with the account's role.`,
		Args: exactArgs("LOGIN", "NAME"),
		RunE: a.onStore(func(j *job) error { return addAppPassword(j, o) }),
	}
	c.Flags().StringSliceVar(&o.protocols, "protocol", auth.Protocols, "what it lets in to: "+strings.Join(auth.Protocols, ", "))
	c.Flags().StringVar(&o.certificate, "certificate", "", "PEM `FILE` with the program's certificate, by which it logs in (EXTERNAL) instead of a password")
	c.Flags().BoolVar(&o.cramMD5, "cram-md5", false, "make it for CRAM-MD5 alone, which needs it to be kept as it is")
	c.MarkFlagsMutuallyExclusive("certificate", "cram-md5")
	c.Flags().BoolVar(&o.readOnly, "read-only", false, "let it change nothing")
	c.Flags().StringVar(&o.expires, "expires", "", "when it ends: a day such as 2030-12-31, or after how long, such as 720h; never by default")
	return c
}

func addAppPassword(j *job, o appPasswordOptions) error {
	for _, p := range o.protocols {
		if !slices.Contains(auth.Protocols, p) {
			return usageError{fmt.Errorf("--protocol %s: want some of %s", p, strings.Join(auth.Protocols, ", "))}
		}
	}
	if len(o.protocols) == 0 {
		return usageError{errors.New("--protocol: want one at least")}
	}
	expires, err := parseExpiry(o.expires, time.Now())
	if err != nil {
		return usageError{fmt.Errorf("--expires %s: %w", o.expires, err)}
	}
	account, err := j.account()
	if err != nil {
		return err
	}
	as, err := j.store.LookupLogin(j, account.Login)
	if err != nil {
		return about("account "+account.Login, err)
	}
	password, secret, err := o.make(as, mechanisms(j.config))
	if err != nil {
		return err
	}
	p := store.AppPassword{Name: j.args[1], Secret: secret, Protocols: o.protocols, ReadOnly: o.readOnly, Created: time.Now(), Expires: expires}
	if err := j.store.AddAppPassword(j, account.User(), p); err != nil {
		return about("app password "+p.Name+" of "+account.Login, err)
	}
	v := viewAppPassword(account, p)
	if v.Password = password; password == "" {
		return j.say(v, "The certificate %s lets in as %s.", p.Name, account.Login)
	}
	return j.say(v, "App password %s of %s made: %s", p.Name, account.Login, password)
}

// make returns what the program logs in by, and what that is kept as; the first is "" for a certificate.
func (o appPasswordOptions) make(of store.Login, mechanisms []string) (password, secret string, err error) {
	switch {
	case o.cramMD5:
		password, secret = auth.NewCramSecret()
		return password, secret, nil
	case o.certificate == "":
		return auth.NewAppSecret(of, mechanisms)
	}
	text, err := os.ReadFile(o.certificate)
	if err != nil {
		return "", "", err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", "", fmt.Errorf("no certificate in %s: want a PEM file", o.certificate)
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return "", "", fmt.Errorf("%s: %w", o.certificate, err)
	}
	return "", auth.CertificateSecret(block.Bytes), nil
}

// parseExpiry reads a day, whose end it means, or a time from now; "" is never.
func parseExpiry(text string, now time.Time) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	at, err := time.Parse(time.DateOnly, text)
	if err == nil {
		at = at.AddDate(0, 0, 1)
	} else {
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, errors.New("want a day such as 2030-12-31, or a time such as 720h")
		}
		at = now.Add(d)
	}
	if !at.After(now) {
		return nil, errors.New("that is over")
	}
	return &at, nil
}

func viewAppPassword(a store.Account, p store.AppPassword) appPasswordView {
	return appPasswordView{
		Login: a.Login, Name: p.Name, Protocols: p.Protocols, ReadOnly: p.ReadOnly, Created: p.Created, Expires: p.Expires, LastUsed: p.LastUsed,
	}
}

func listAppPasswords(j *job) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	all, err := j.store.AppPasswords(j, account.User())
	if err != nil {
		return err
	}
	views, t := []appPasswordView{}, table{header: []string{"name", "protocols", "access", "created", "expires", "last used"}}
	for _, p := range all {
		views = append(views, viewAppPassword(account, p))
		access := map[bool]string{true: "read-only", false: "full"}[p.ReadOnly]
		t.add(p.Name, strings.Join(p.Protocols, ","), access, day(p.Created), moment(p.Expires), moment(p.LastUsed))
	}
	return j.print(views, t)
}

// moment is how tables print times that may not be there.
func moment(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04")
}

func revokeAppPassword(j *job) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	name := j.args[1]
	if err := j.store.RevokeAppPassword(j, account.User(), name); err != nil {
		return about("app password "+name+" of "+account.Login, err)
	}
	return j.say(map[string]string{"login": account.Login, "revoked": name}, "App password %s of %s is gone.", name, account.Login)
}

// revokeAppPasswords takes all of an account's away.
func revokeAppPasswords(j *job, account store.Account) error {
	all, err := j.store.AppPasswords(j, account.User())
	if err != nil {
		return about("account "+account.Login, err)
	}
	for _, p := range all {
		if err := j.store.RevokeAppPassword(j, account.User(), p.Name); err != nil && !errors.Is(err, store.ErrNoAppPassword) {
			return about("app password "+p.Name+" of "+account.Login, err)
		}
	}
	return nil
}
