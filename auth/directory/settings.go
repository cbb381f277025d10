package directory

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Settings say where a tenant's directory is, and how it is asked. Zero fields mean the defaults.
type Settings struct {
	URL         string   `json:"url"`                   // ldap and ldaps: LDAP; postgres and postgresql: SQL
	Secret      string   `json:"secret,omitempty"`      // the file in the folder of secrets that has the password of whoever asks; "": there is none
	CA          string   `json:"ca,omitempty"`          // PEM: who signs its certificate; "": whom the system trusts
	Timeout     Duration `json:"timeout,omitempty"`     // of each answer; 5 s by default
	Connections int      `json:"connections,omitempty"` // at once, of each process; 4 by default

	Create bool `json:"create,omitempty"` // who is right and has no account gets one
	Roles  bool `json:"roles,omitempty"`  // who is right has the account's role, if that is one of the tenant

	// LDAP:
	Base      string `json:"base,omitempty"`      // below which users are searched for
	Filter    string `json:"filter,omitempty"`    // by which; placeholders are replaced
	Account   string `json:"account,omitempty"`   // the entry that searches; "": nobody, anonymously
	Attribute string `json:"attribute,omitempty"` // that has the address of the user's account; "": it is what they log in with
	Plaintext bool   `json:"plaintext,omitempty"` // no StartTLS, which is only for a server on this machine

	// SQL:
	Query string `json:"query,omitempty"` // of the login, $1; see sql
}

// Duration is a time.Duration that is written as one.
type Duration time.Duration

func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// Bounds of settings.
const (
	defaultTimeout, maxTimeout         = 5 * time.Second, 30 * time.Second
	defaultConnections, maxConnections = 4, 64
)

// Hashes tells whether the directory gives hashes of passwords, and does not verify them itself.
func (s Settings) Hashes() bool { return s.Query != "" }

// Parse reads settings that String has written.
func Parse(text string) (s Settings, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields() // of a newer release, which means something by it
	return s, d.Decode(&s)
}

func (s Settings) String() string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // of texts and numbers
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Check tells what is wrong with settings, and returns them with their defaults.
func (s Settings) Check() (Settings, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return s, errors.New("want a URL") // its error has the URL, and so a password that may be in it
	}
	if s.Timeout == 0 {
		s.Timeout = Duration(defaultTimeout)
	}
	if s.Connections == 0 {
		s.Connections = defaultConnections
	}
	_, hasPassword := u.User.Password()
	hasPassword = hasPassword || u.Query().Has("password")
	switch {
	case hasPassword:
		return s, errors.New("the URL has a password in it, which would be kept as it is: put it into a file, and name that as the secret")
	case s.Secret != "" && (s.Secret != filepath.Base(s.Secret) || strings.HasPrefix(s.Secret, ".")):
		return s, fmt.Errorf("secret %q: want the name of a file, without folders", s.Secret)
	case s.Timeout < 0 || time.Duration(s.Timeout) > maxTimeout:
		return s, fmt.Errorf("timeout %v: want at most %v", time.Duration(s.Timeout), maxTimeout)
	case s.Connections < 0 || s.Connections > maxConnections:
		return s, fmt.Errorf("%d connections: want at most %d", s.Connections, maxConnections)
	case s.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(s.CA)):
		return s, errors.New("there is no certificate among those of the authority: want PEM")
	}
	switch u.Scheme {
	case "ldap", "ldaps":
		return s, s.checkLDAP(u)
	case "postgres", "postgresql":
		return s, s.checkSQL(u)
	}
	return s, fmt.Errorf("%s: want a URL of ldaps, ldap or postgres", u.Scheme)
}

func (s Settings) checkLDAP(u *url.URL) error {
	switch {
	case u.Hostname() == "":
		return errors.New("the URL names no host")
	case u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		return errors.New("the URL has more than scheme, host and port")
	case s.Query != "":
		return errors.New("a query is for SQL; LDAP has a filter")
	case s.Filter == "":
		return errors.New("want a filter by which users are found, such as (mail={login})")
	case s.Account == "" && s.Secret != "":
		return errors.New("a secret is for an account that searches")
	case s.Account != "" && s.Secret == "":
		return errors.New("the account that searches has no secret")
	case s.Plaintext && (u.Scheme != "ldap" || !isLoopback(u.Hostname())):
		return errors.New("passwords are sent without TLS on this machine alone")
	}
	if _, err := ldap.ParseDN(s.Base); err != nil {
		return fmt.Errorf("base %s: %w", s.Base, err)
	}
	if _, err := ldap.ParseDN(s.Account); err != nil {
		return fmt.Errorf("account %s: %w", s.Account, err)
	}
	asserted, err := s.assertions()
	if err != nil {
		return fmt.Errorf("filter %s: %w", s.Filter, err)
	}
	var told halves
	for _, a := range asserted {
		told |= a.tells
	}
	if told&s.told() != s.told() { // as by (uid={user}), which jane has in all of the tenant's domains
		return fmt.Errorf("filter %s: want {login} in it, as in (mail={login}), or {user} and {domain}; {user} alone only with the attribute that names the account", s.Filter)
	}
	return nil
}

func (s Settings) checkSQL(u *url.URL) error {
	switch {
	case u.Hostname() == "" && !u.Query().Has("host"):
		return errors.New("the URL names no host")
	case u.User.Username() == "" && !u.Query().Has("user") || strings.Trim(u.Path, "/") == "":
		return errors.New("want a URL with a user and a database")
	case s.Base != "" || s.Filter != "" || s.Account != "" || s.Attribute != "" || s.Plaintext:
		return errors.New("base, filter, account, attribute and plaintext are of LDAP; SQL has a query")
	case !strings.Contains(s.Query, "$1"):
		return errors.New("want a query of the login, $1, such as SELECT password FROM person WHERE lower(address) = $1")
	}
	_, err := s.pool("")
	return err
}

// isLoopback tells whether nobody can read along on the way to a host.
func isLoopback(host string) bool {
	address := net.ParseIP(host)
	return host == "localhost" || address != nil && address.IsLoopback()
}

// trust has a configuration of TLS trust whom the settings say.
func (s Settings) trust(c *tls.Config) *tls.Config {
	if s.CA != "" {
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AppendCertsFromPEM([]byte(s.CA))
	}
	return c
}
