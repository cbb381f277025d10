package config

import (
	"crypto/x509"
	"os"
	"strings"
)

// ACMEChallenge is by what a name is proven to an authority.
type ACMEChallenge string

// The challenges.
const (
	ChallengeHTTP ACMEChallenge = "http-01"
	ChallengeTLS  ACMEChallenge = "tls-alpn-01"
)

func (c *ACMEChallenge) UnmarshalText(text []byte) error {
	return oneOf((*string)(c), text, string(ChallengeHTTP), string(ChallengeTLS))
}

// Roots are the authorities by which that of certificates is known; nil: the system's.
func (a ACME) Roots() (*x509.CertPool, error) {
	if a.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(a.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, &os.PathError{Op: "read", Path: a.CAFile, Err: errNoCertificate}
	}
	return roots, nil
}

// checkACME finds what is wrong between the settings by which certificates are ordered.
func (l *loader) checkACME(c *Config, at func(string) string) {
	a := c.ACME
	if _, err := a.Roots(); err != nil {
		l.problem(at("acme.ca_file"), "%v", err)
	}
	if a.Contact != "" && !isAddress(a.Contact) {
		l.problem(at("acme.contact"), "%s: want an address such as postmaster@example.org", a.Contact)
	}
	if a.Listen != "" && c.TLS.CertFile == "" {
		l.problem(at("acme.listen"), "acme.listen needs tls.cert_file: only what serves TLS proves names")
	}
	if a.Directory == "" {
		return
	}
	if !strings.HasPrefix(string(a.Directory), "https://") {
		l.problem(at("acme.directory"), "%s is not encrypted: want a URL of https", a.Directory)
	}
	if !a.Agree {
		l.problem(at("acme.agree"), "certificates are ordered by who agrees to the terms of the authority: set acme.agree to true if you do")
	}
	if c.TLS.SealFile == "" {
		l.problem(at("acme.directory"), "certificates that are ordered lie in the database: acme.directory needs tls.seal_file")
	}
}
