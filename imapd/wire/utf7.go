package wire

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Modified UTF-7, the form of mailbox names (RFC 3501 section 5.1.3): printable
// US-ASCII stands for itself but for "&", which is "&-"; all else is "&", base64 of
// UTF-16BE with "," for "/" and without padding, "-".

var base64UTF7 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").
	WithPadding(base64.NoPadding).Strict()

// Errors of DecodeUTF7.
var (
	errUnprintable = errors.New("an octet that is not printable US-ASCII")
	errUnclosed    = errors.New("a & without its -")
	errBase64      = errors.New("wrong base64 between & and -")
	errUTF16       = errors.New("wrong UTF-16 between & and -")
	errNeedless    = errors.New("a character is encoded that stands for itself")
	errNUL         = errors.New("NUL")
	errAdjacent    = errors.New("two encoded runs where one would do")
)

// EncodeUTF7 returns a name in modified UTF-7. What is not UTF-8 becomes U+FFFD.
func EncodeUTF7(name string) string {
	var b strings.Builder
	for name != "" {
		n := strings.IndexFunc(name, func(r rune) bool { return !printable(r) || r == '&' })
		if n < 0 {
			n = len(name)
		}
		b.WriteString(name[:n])
		name = name[n:]
		if strings.HasPrefix(name, "&") {
			b.WriteString("&-")
			name = name[1:]
			continue
		}
		n = strings.IndexFunc(name, printable)
		if n < 0 {
			n = len(name)
		}
		if n > 0 {
			b.WriteByte('&')
			b.WriteString(base64UTF7.EncodeToString(utf16BE(name[:n])))
			b.WriteByte('-')
			name = name[n:]
		}
	}
	return b.String()
}

func printable(r rune) bool { return r >= ' ' && r <= '~' }

func utf16BE(s string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = append(b, byte(unit>>8), byte(unit))
	}
	return b
}

// DecodeUTF7 returns a name from modified UTF-7. Each name has one form
// only: what EncodeUTF7 would not have written is an error.
func DecodeUTF7(s string) (string, error) {
	var b strings.Builder
	encoded := false // s stands right behind an encoded run
	for s != "" {
		if s[0] != '&' {
			if !printable(rune(s[0])) {
				return "", errUnprintable
			}
			b.WriteByte(s[0])
			s, encoded = s[1:], false
			continue
		}
		run, rest, ok := strings.Cut(s[1:], "-")
		if !ok {
			return "", errUnclosed
		}
		s = rest
		if run == "" {
			b.WriteByte('&')
			encoded = false
			continue
		}
		if encoded {
			return "", errAdjacent
		}
		if err := decodeRun(&b, run); err != nil {
			return "", err
		}
		encoded = true
	}
	return b.String(), nil
}

// decodeMixed is DecodeUTF7, but in UTF-8 what is not US-ASCII can stand for itself: so
// clients send it that know that the server knows UTF-8, whether they have enabled it or not (RFC 6855 section 3).
func decodeMixed(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errUnprintable
	}
	var b strings.Builder
	for s != "" {
		n := strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
		if n < 0 {
			n = len(s)
		}
		ascii, err := DecodeUTF7(s[:n])
		if err != nil {
			return "", err
		}
		b.WriteString(ascii)
		s = s[n:]
		n = strings.IndexFunc(s, func(r rune) bool { return r < utf8.RuneSelf })
		if n < 0 {
			n = len(s)
		}
		b.WriteString(s[:n])
		s = s[n:]
	}
	return b.String(), nil
}

func decodeRun(b *strings.Builder, run string) error {
	if strings.ContainsAny(run, "\r\n") { // which base64 would pass over
		return errBase64
	}
	raw, err := base64UTF7.DecodeString(run)
	if err != nil || len(raw)%2 != 0 {
		return errBase64
	}
	units := make([]uint16, len(raw)/2)
	for i := range units {
		units[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
	}
	for i := 0; i < len(units); i++ {
		r := rune(units[i])
		if utf16.IsSurrogate(r) {
			if i+1 == len(units) {
				return errUTF16
			}
			i++
			if r = utf16.DecodeRune(r, rune(units[i])); r == utf8.RuneError {
				return errUTF16
			}
		}
		switch {
		case r == 0:
			return errNUL
		case printable(r):
			return errNeedless
		}
		b.WriteRune(r)
	}
	return nil
}
