package directory

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// What the environment and the home directory of this process say is of its own database, and counts for no other: neither a certificate that it shows,
// nor how it knows whom it talks to. So all is said that pgx would look for there.

// inURL are the parameters that a URL may have.
var inURL = []string{"host", "port", "user", "dbname", "sslmode", "sslnegotiation", "target_session_attrs"}

// unlessSaid is what else pgx looks for, and what is meant where the URL does not say it.
var unlessSaid = map[string]string{
	"sslmode": "prefer", "sslnegotiation": "", "target_session_attrs": "any",
	"sslcertmode": "disable", "sslcert": "", "sslkey": "", "sslpassword": "", "sslrootcert": "", "sslsni": "", "passfile": "", "connect_timeout": "0",
	"min_protocol_version": "", "max_protocol_version": "", "channel_binding": "", "require_auth": "",
}

// connString returns the URL with all that is meant by it.
func (s Settings) connString() (string, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return "", err
	}
	said := u.Query()
	for key := range said {
		if !slices.Contains(inURL, key) {
			return "", fmt.Errorf("%s in the URL: want only %s", key, strings.Join(inURL, ", "))
		}
	}
	if u.Port() == "" && !said.Has("port") {
		said.Set("port", "5432")
	}
	for key, value := range unlessSaid {
		if !said.Has(key) {
			said.Set(key, value)
		}
	}
	u.RawQuery = strings.ReplaceAll(said.Encode(), "+", "%20") // as pgx reads it
	return u.String(), nil
}
