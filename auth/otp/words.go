package otp

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrPassword says that what stands where a password should is none.
var ErrPassword = errors.New("no one-time password")

var (
	errHex      = fmt.Errorf("%w: want 16 hexadecimal digits", ErrPassword)
	errWords    = fmt.Errorf("%w: want six words of the dictionary", ErrPassword)
	errChecksum = fmt.Errorf("%w: the checksum of the words is wrong", ErrPassword)
)

// parseHex reads 16 digits with white space anywhere.
func parseHex(text string) (p Password, err error) {
	octets, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil || len(octets) != len(p) {
		return p, errHex
	}
	return Password(octets), nil
}

// Words returns the password as six words: 11 bits each, the last two of which are a checksum (RFC 2289 section 6).
func (p Password) Words() string {
	n := binary.BigEndian.Uint64(p[:])
	words := make([]string, 6)
	for i := range 5 {
		words[i] = dictionary[n>>(53-11*i)&2047]
	}
	words[5] = dictionary[n<<2&2047|checksum(n)]
	return strings.Join(words, " ")
}

// parseWords reads six words.
func parseWords(text string) (p Password, err error) {
	words := strings.Fields(text)
	if len(words) != 6 {
		return p, errWords
	}
	var n, last uint64
	for i, w := range words {
		at, ok := place(strings.ToUpper(w))
		switch {
		case !ok:
			return p, errWords
		case i < 5:
			n = n<<11 | at
		default:
			n, last = n<<9|at>>2, at&3
		}
	}
	if checksum(n) != last {
		return p, errChecksum
	}
	binary.BigEndian.PutUint64(p[:], n)
	return p, nil
}

// place returns what a word stands for.
func place(word string) (uint64, bool) {
	from, part := 0, dictionary[:shortWords]
	if len(word) == 4 {
		from, part = shortWords, dictionary[shortWords:]
	}
	i, ok := slices.BinarySearch(part, word)
	return uint64(from + i), ok
}

// checksum is the sum of the pairs of bits, of which two bits are kept.
func checksum(n uint64) (sum uint64) {
	for ; n > 0; n >>= 2 {
		sum += n & 3
	}
	return sum & 3
}
