// Package otp makes and reads one-time passwords: RFC 2289, with the extended responses of RFC 2243. What they are for, and who has which, is
// package auth's to say.
//
// Not there: MD4, and the alternate dictionaries of RFC 2289 appendix B, which servers should take, and no generator is known to send.
package otp

import (
	"crypto/md5"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// An Algorithm is a hash that passwords are made with, by its name in challenges.
type Algorithm string

// These are the algorithms that there are.
const (
	MD5  Algorithm = "md5" // which all clients have (RFC 2444 section 3)
	SHA1 Algorithm = "sha1"
)

// MaxSequence is the largest sequence number: they have up to four digits (RFC 2243 section 4.1).
const MaxSequence = 9999

// Password is a one-time password.
type Password [8]byte

// String returns the password in hexadecimal.
func (p Password) String() string { return hex.EncodeToString(p[:]) }

// Next returns the password that comes after p where passwords are made, and before it where they are used.
func (a Algorithm) Next(p Password) Password { return a.hash(p[:]) }

// hash hashes, and folds to 64 bits (RFC 2289 appendix A).
func (a Algorithm) hash(octets []byte) (p Password) {
	if a == SHA1 {
		sum := sha1.Sum(octets)
		word := func(i int) uint32 { return binary.BigEndian.Uint32(sum[4*i:]) }
		binary.LittleEndian.PutUint32(p[:4], word(0)^word(2)^word(4))
		binary.LittleEndian.PutUint32(p[4:], word(1)^word(3))
		return p
	}
	sum := md5.Sum(octets)
	for i := range p {
		p[i] = sum[i] ^ sum[i+8]
	}
	return p
}

// Params say which password of a pass phrase is meant.
type Params struct {
	Algorithm Algorithm
	Sequence  int    // how often the hash is taken
	Seed      string // that makes passwords of the same phrase differ; in lower case
}

// Errors of params.
var (
	ErrAlgorithm = errors.New("the algorithm is not md5 or sha1")
	ErrSequence  = errors.New("the sequence number is out of its range")
	ErrSeed      = errors.New("a seed has 1 to 16 letters and digits")
)

// ParseParams reads "md5 499 ke1234", with any white space between.
func ParseParams(text string) (p Params, err error) {
	words := strings.Fields(text)
	if len(words) != 3 {
		return p, fmt.Errorf("want an algorithm, a sequence number and a seed, got %d words", len(words))
	}
	p.Algorithm = Algorithm(strings.ToLower(words[0]))
	if p.Algorithm != MD5 && p.Algorithm != SHA1 {
		return p, ErrAlgorithm
	}
	if p.Sequence, err = parseSequence(words[1]); err != nil {
		return p, err
	}
	p.Seed, err = ParseSeed(words[2])
	return p, err
}

func parseSequence(text string) (n int, err error) {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, ErrSequence
		}
		if n = 10*n + int(c-'0'); n > MaxSequence {
			return 0, ErrSequence
		}
	}
	return n, nil
}

// ParseSeed returns a seed in lower case.
func ParseSeed(text string) (string, error) {
	if len(text) < 1 || len(text) > 16 {
		return "", ErrSeed
	}
	seed := strings.ToLower(text)
	for _, c := range []byte(seed) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "", ErrSeed
		}
	}
	return seed, nil
}

// Challenge is what a client is asked with, which may answer by an extended response (RFC 2243 section 2.1).
func (p Params) Challenge() string {
	return fmt.Sprintf("otp-%s %d %s ext", p.Algorithm, p.Sequence, p.Seed)
}

// Password returns the one of a pass phrase.
func (p Params) Password(phrase string) Password {
	password := p.Algorithm.hash([]byte(p.Seed + phrase))
	for range p.Sequence {
		password = p.Algorithm.Next(password)
	}
	return password
}
