package wire

import (
	"strconv"
	"strings"
)

// AppendString appends s as Encoder.String writes it: in quotes where it can
// be, else as a literal. A NUL, which no string can hold (RFC 9051 section 9,
// CHAR8), is left out.
func AppendString(b []byte, s string) []byte {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	if !quotable(s) {
		b = appendSize(append(b, '{'), len(s))
		return append(b, s...)
	}
	return appendQuoted(b, s)
}

// appendQuoted appends s in quotes.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for {
		n := strings.IndexAny(s, `"\`)
		if n < 0 {
			b = append(b, s...)
			return append(b, '"')
		}
		b = append(b, s[:n]...)
		b = append(b, '\\', s[n])
		s = s[n+1:]
	}
}

// appendSize appends what follows the brace of a literal.
func appendSize(b []byte, size int) []byte {
	b = strconv.AppendUint(b, uint64(size), 10)
	return append(b, "}\r\n"...)
}

// AppendNString appends s as AppendString does, or NIL for "".
func AppendNString(b []byte, s string) []byte {
	if s == "" {
		return append(b, "NIL"...)
	}
	return AppendString(b, s)
}

// AppendAString appends s as an atom where it can be one, else as a string.
func AppendAString(b []byte, s string) []byte {
	if s == "" {
		return AppendString(b, s)
	}
	for i := range len(s) {
		if !astringChars.has(s[i]) {
			return AppendString(b, s)
		}
	}
	return append(b, s...)
}
