package store

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Lengths in octets (RFC 5321 section 4.5.3.1).
const (
	maxLocalPart = 64
	maxAddress   = 254
)

// domainNames maps a domain as people write it to its one ASCII form in lower
// case (RFC 5891 section 4.4, RFC 5895).
var domainNames = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

// normalizeDomain returns the form in which a domain is kept and compared.
func normalizeDomain(domain string) (string, error) {
	ascii, err := domainNames.ToASCII(strings.TrimSuffix(domain, "."))
	if err != nil {
		return "", &InvalidError{"domain", domain, "want a host name such as example.org"}
	}
	return ascii, nil
}

// normalizeAddress returns an address in the form in which it is kept and
// compared: without regard to case, also in the local part. local keeps its
// case, for the folder that it may name.
func normalizeAddress(address string) (local, domain string, err error) {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || !utf8.ValidString(address) || strings.ContainsFunc(address, unicode.IsControl) {
		return "", "", &InvalidError{"address", address, "want local@domain"}
	}
	domain, err = normalizeDomain(address[at+1:])
	if err != nil {
		return "", "", &InvalidError{"address", address, "its domain is not a host name"}
	}
	local = norm.NFC.String(address[:at])
	if len(local) > maxLocalPart || len(local)+1+len(domain) > maxAddress {
		return "", "", &InvalidError{"address", address, "it is too long"}
	}
	return local, domain, nil
}

// fold makes a local part comparable.
func fold(local string) string {
	return norm.NFC.String(strings.ToLower(local))
}

// newAddress checks an address that is to be made, of an account or an alias,
// and returns its normal form. What a header field would have to quote is not allowed.
func newAddress(address string) (normal, domain string, err error) {
	local, domain, err := normalizeAddress(address)
	if err != nil {
		return "", "", err
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" || strings.ContainsFunc(atom, notAtext) {
			return "", "", &InvalidError{"address", address, "the part before the @ may have letters, digits, !#$%&'*+/=?^_`{|}~- and single dots between them"}
		}
	}
	return fold(local) + "@" + domain, domain, nil
}

// atext (RFC 5322 section 3.2.3), with letters beyond ASCII (RFC 6532 section 3.2)
func notAtext(r rune) bool {
	switch {
	case r >= utf8.RuneSelf:
		return !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r)
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}

// DisplayDomain returns a domain as people write it.
func DisplayDomain(domain string) string {
	if unicode, err := idna.Display.ToUnicode(domain); err == nil {
		return unicode
	}
	return domain
}
