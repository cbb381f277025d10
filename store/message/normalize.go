package message

import (
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Normalize maps s for comparison as i;unicode-casemap does (RFC 5051 section
// 2): each character to its titlecase, and that to its decomposition. Invalid
// octets stay as they are.
func Normalize(s string) string {
	i := 0
	for i < len(s) && s[i] < utf8.RuneSelf && (s[i] < 'a' || s[i] > 'z') {
		i++
	}
	if i == len(s) {
		return s
	}
	out := make([]byte, i, len(s)+len(s)/8)
	copy(out, s)
	return string(appendNormalized(out, s[i:]))
}

func appendNormalized(out []byte, s string) []byte {
	table := casemap()
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if 'a' <= c && c <= 'z' {
				c -= 'a' - 'A'
			}
			out = append(out, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			out = append(out, c)
		case int(r) < len(table):
			out = append(out, table[r]...)
		default:
			out = appendRune(out, r)
		}
		i += n
	}
	return out
}

// casemap is Normalize for the characters of up to two octets in UTF-8: Latin, Greek, Cyrillic and more.
var casemap = sync.OnceValue(func() *[0x800]string {
	var t [0x800]string
	for r := range t {
		t[r] = string(appendRune(nil, rune(r)))
	}
	return &t
})

func appendRune(out []byte, r rune) []byte {
	title := unicode.ToTitle(r)
	var buf [utf8.UTFMax]byte
	n := utf8.EncodeRune(buf[:], title)
	if d := norm.NFKD.Properties(buf[:n]).Decomposition(); d != nil {
		return append(out, d...)
	}
	return append(out, buf[:n]...)
}
