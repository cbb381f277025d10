package store

import (
	"crypto/rand"
	"encoding/base32"

	"mailstead.dev/store/id"
)

// lowerBase32 has no padding; RFC 8474 section 7 wants identifiers that differ in more than the case of letters.
var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newObject draws an identifier that no other object has: a letter that says
// what it is of (F mailbox, M email, T thread), and 120 random bits.
func newObject(kind string) id.Object {
	var random [15]byte
	rand.Read(random[:]) // never fails
	return objectOf(kind, random[:])
}

func objectOf(kind string, octets []byte) id.Object {
	return id.Object(kind + lowerBase32.EncodeToString(octets))
}
