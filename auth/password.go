package auth

import (
	"crypto/rand"

	"golang.org/x/text/secure/precis"
)

// password is one as it was given.
type password struct {
	given    string
	prepared string // in the one form in which it is hashed
}

// maxPassword is the longest password, in octets: some hashes of other systems take long for each.
const maxPassword = 1024

// newPassword prepares a password, so that the same one typed on systems that compose letters differently is the same
// (RFC 8265 section 4.2; RFC 4616 section 2 asks for its predecessor). What the profile does not allow is taken as it is.
func newPassword(given string) password {
	if prepared, err := precis.OpaqueString.String(given); err == nil {
		return password{given, prepared}
	}
	return password{given, given}
}

// Generate returns a random password of 120 bits that can be typed.
func Generate() string { return rand.Text()[:24] }
