package imapurl

import "strings"

// enc-search = 1*bchar
//
// What it encodes follows SEARCH in a command, so whoever sends it has to know that it is the rest of one command and no more: the only ends of lines
// in it are those of non-synchronizing literals, all of whose octets are there. Synchronizing literals are not allowed (RFC 5092 section 5).
// Texts can have any charset.
func (u *URL) readSearch(text string) (err error) {
	const part = "search"

	if u.Search, err = decode(part, text, inPath); err != nil {
		return err
	}
	begins := true // a string can begin here
	for rest := u.Search; rest != ""; {
		c := rest[0]
		switch {
		case begins && c == '"':
			rest, err = afterQuoted(rest)
		case begins && c == '{':
			rest, err = afterLiteral(rest)
		case c == '"' || c == '{':
			err = &SyntaxError{part, "no string can begin at " + quote(rest)}
		case c < ' ' || c == 0x7f:
			err = &SyntaxError{part, "it has a control character"}
		default:
			rest = rest[1:]
		}
		if err != nil {
			return err
		}
		begins = c == ' ' || c == '('
	}
	return nil
}

// afterQuoted returns what stands behind the quoted string that a text begins with.
//
//	quoted = DQUOTE *QUOTED-CHAR DQUOTE
func afterQuoted(text string) (string, error) {
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return text[i+1:], nil
		case c < ' ' || c == 0x7f:
			return "", &SyntaxError{"search", "a quoted string has a control character"}
		case c == '\\':
			if i++; i == len(text) || text[i] != '"' && text[i] != '\\' {
				return "", &SyntaxError{"search", "a quoted string has a \\ before what is neither \" nor \\"}
			}
		}
	}
	return "", &SyntaxError{"search", "a quoted string has no end"}
}

// afterLiteral returns what stands behind the literal that a text begins with.
//
//	literal = "{" number "+}" CRLF *CHAR8
func afterLiteral(text string) (string, error) {
	size, rest, found := strings.Cut(text[1:], "}\r\n")
	digits, whole := strings.CutSuffix(size, "+")
	if !found || !whole {
		return "", &SyntaxError{"search", quote(text) + " begins no literal that can be sent at once"}
	}
	n, err := number("search", digits, 0, MaxLength)
	switch {
	case err != nil:
		return "", err
	case n > uint64(len(rest)):
		return "", &SyntaxError{"search", "its end is in a literal"}
	case strings.Contains(rest[:n], "\x00"):
		return "", &SyntaxError{"search", "a literal has a NUL"}
	}
	return rest[n:], nil
}
