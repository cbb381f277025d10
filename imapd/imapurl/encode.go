package imapurl

import (
	"strings"
	"unicode/utf8"
)

// RFC 5092 section 11; RFC 3986 section 2.

const (
	alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	unreserved   = alphanumeric + "-._~"

	// achar = unreserved / sub-delims-sh / pct-encoded / "&" / "="
	// bchar = achar / ":" / "@" / "/"
	inUser = unreserved + "!$'()*+,&="
	inPath = inUser + ":@/"
)

// encode encodes all that is not among plain.
func encode(text, plain string) string {
	const hex = "0123456789ABCDEF"

	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

// encodeMailbox encodes a name, and what of it could be taken for something else in a URL (RFC 5092 section 7): a slash at its beginning, and
// levels that are dots.
func encodeMailbox(name string) string {
	levels := strings.Split(encode(name, inPath), "/")
	for i, level := range levels {
		if level == "." || level == ".." {
			levels[i] = strings.ReplaceAll(level, ".", "%2E")
		}
	}
	text := strings.Join(levels, "/")
	if rest, ok := strings.CutPrefix(text, "/"); ok {
		return "%2F" + rest
	}
	return text
}

// decode takes the encoding off what has nothing but plain characters besides.
func decode(part, text, plain string) (string, error) {
	if text == "" {
		return "", &SyntaxError{part, "it is empty"}
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '%' && i+2 < len(text) && digit(text[i+1]) < 16 && digit(text[i+2]) < 16:
			c = digit(text[i+1])<<4 | digit(text[i+2])
			i += 2
		case c == '%':
			return "", &SyntaxError{part, "two hexadecimal digits have to follow %"}
		case strings.IndexByte(plain, c) < 0:
			return "", &SyntaxError{part, "it has a character that has to be encoded: " + quote(string(rune(c)))}
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

// decodeText is decode for what is UTF-8, and no control characters.
func decodeText(part, text, plain string) (string, error) {
	decoded, err := decode(part, text, plain)
	switch {
	case err != nil:
		return "", err
	case !utf8.ValidString(decoded):
		return "", &SyntaxError{part, "it is not UTF-8"}
	case strings.ContainsFunc(decoded, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", &SyntaxError{part, "it has a control character"}
	}
	return decoded, nil
}

// digit returns the value of a hexadecimal digit, 16 of anything else.
func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}
