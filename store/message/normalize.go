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
	if hangulFirst <= title && title <= hangulLast {
		return appendHangul(out, title-hangulFirst)
	}
	var buf [utf8.UTFMax]byte
	n := utf8.EncodeRune(buf[:], title)
	if d := norm.NFKD.Properties(buf[:n]).Decomposition(); d != nil {
		return append(out, d...)
	}
	return append(out, buf[:n]...)
}

// Syllables of Hangul are composed by a rule instead of a table (Unicode
// section 3.12), of which norm.Properties tells nothing: of an initial, a vowel
// and possibly a final. Some programs write them one way, some the other.
const (
	hangulFirst = 0xac00
	hangulLast  = 0xd7a3
	initials    = 0x1100
	vowels      = 0x1161
	finals      = 0x11a7 // the first of them stands for none
	vowelCount  = 21
	finalCount  = 28
)

// appendHangul appends the letters of the n-th syllable.
func appendHangul(out []byte, n rune) []byte {
	out = utf8.AppendRune(out, initials+n/(vowelCount*finalCount))
	out = utf8.AppendRune(out, vowels+n%(vowelCount*finalCount)/finalCount)
	if final := n % finalCount; final > 0 {
		out = utf8.AppendRune(out, finals+final)
	}
	return out
}
