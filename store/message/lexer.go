package message

import "strings"

// lexer reads the tokens of unfolded structured field values (RFC 5322 section
// 3.2, RFC 2045 section 5.1). It never fails: what is not closed ends with the value.
type lexer struct {
	s     string
	i     int
	start int // of the token read last
	last  int // for callers: where something they remember ended
}

func (l *lexer) end() bool  { return l.i >= len(l.s) }
func (l *lexer) peek() byte { return l.s[l.i] }

func (l *lexer) readWhile(ok func(byte) bool) string {
	l.start = l.i
	for !l.end() && ok(l.peek()) {
		l.i++
	}
	return l.s[l.start:l.i]
}

// skipCFWS passes over white space and comments.
func (l *lexer) skipCFWS() {
	for !l.end() {
		switch c := l.peek(); {
		case c == '(':
			l.readComment()
		case c <= ' ':
			l.i++
		default:
			return
		}
	}
}

// readComment reads a comment with those inside it, and returns its text.
func (l *lexer) readComment() string {
	l.start = l.i
	var text strings.Builder
	depth := 0
	for !l.end() {
		c := l.peek()
		l.i++
		switch {
		case c == '\\' && !l.end():
			text.WriteByte(l.peek())
			l.i++
			continue
		case c == '(':
			depth++
			if depth == 1 {
				continue
			}
		case c == ')':
			depth--
			if depth == 0 {
				return strings.TrimSpace(text.String())
			}
		}
		text.WriteByte(c)
	}
	return strings.TrimSpace(text.String())
}

// readQuoted reads a quoted string, and returns it without quotes and backslashes.
func (l *lexer) readQuoted() string {
	l.start = l.i
	l.i++
	from, escaped := l.i, false
	for !l.end() {
		switch l.peek() {
		case '\\':
			escaped = true
			l.i++
			if l.end() {
				return unescape(l.s[from:], escaped)
			}
		case '"':
			l.i++
			return unescape(l.s[from:l.i-1], escaped)
		}
		l.i++
	}
	return unescape(l.s[from:], escaped)
}

func unescape(s string, escaped bool) string {
	if !escaped {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// readLiteral reads a domain literal with its brackets.
func (l *lexer) readLiteral() string {
	l.start = l.i
	if n := strings.IndexByte(l.s[l.i:], ']'); n >= 0 {
		l.i += n + 1
	} else {
		l.i = len(l.s)
	}
	return strings.ReplaceAll(l.s[l.start:l.i], " ", "")
}

// readEncodedWord reads an encoded word (RFC 2047 section 2) as one atom,
// whatever specials its text holds against the rules; without an end, "=?".
func (l *lexer) readEncodedWord() string {
	l.start = l.i
	rest := l.s[l.i+2:]
	n := 0
	for range 2 { // charset and encoding
		mark := strings.IndexByte(rest[n:], '?')
		if mark < 0 {
			l.i += 2
			return l.s[l.start:l.i]
		}
		n += mark + 1
	}
	stop := strings.Index(rest[n:], "?=")
	if stop < 0 || strings.IndexByte(rest[:n+stop], ' ') >= 0 {
		l.i += 2
		return l.s[l.start:l.i]
	}
	l.i += 2 + n + stop + 2
	return l.s[l.start:l.i]
}
