package message

import "strings"

// maxParams bounds the parameters of one field. A file name comes in hundreds of pieces (RFC 2231 section 3) where
// each has but a letter or two.
const maxParams = 1000

// contentType reads a Content-Type value (RFC 2045 section 5.1). What has no
// subtype is told as text/plain, the default for what cannot be read (section
// 5.2), but a multipart stays one.
func contentType(value string) (typ, subtype string, params []Param) {
	l := lexer{s: value}
	l.skipCFWS()
	typ = strings.ToLower(l.readWhile(isToken))
	l.skipCFWS()
	if !l.end() && l.peek() == '/' {
		l.i++
		l.skipCFWS()
		subtype = strings.ToLower(l.readWhile(isToken))
	}
	params = l.readParams()
	switch {
	case typ == "multipart" && subtype == "":
		subtype = "mixed"
	case typ == "" || subtype == "":
		typ, subtype = "text", "plain"
	}
	return typ, subtype, params
}

// disposition reads a Content-Disposition value (RFC 2183 section 2).
func disposition(value string) (string, []Param) {
	l := lexer{s: value}
	l.skipCFWS()
	kind := strings.ToLower(l.readWhile(isToken))
	return kind, l.readParams()
}

// languages reads a Content-Language value (RFC 3282 section 2).
func languages(value string) []string {
	var list []string
	l := lexer{s: value}
	for l.skipCFWS(); !l.end() && len(list) < maxParams; l.skipCFWS() {
		if tag := l.readWhile(isToken); tag != "" {
			list = append(list, tag)
		} else {
			l.i++
		}
	}
	return list
}

// token reads the one token of a value, in lower case.
func token(value string) string {
	l := lexer{s: value}
	l.skipCFWS()
	return strings.ToLower(l.readWhile(isToken))
}

func isToken(c byte) bool {
	return c > ' ' && c != 0x7f && strings.IndexByte(`()<>@,;:\"/[]?=`, c) < 0
}

// readParams reads *(";" parameter) from the next semicolon on.
func (l *lexer) readParams() []Param {
	var params []Param
	for !l.end() && len(params) < maxParams {
		l.readWhile(func(c byte) bool { return c != ';' })
		if l.end() {
			break
		}
		l.i++
		l.skipCFWS()
		name := strings.ToLower(l.readWhile(func(c byte) bool { return c > ' ' && c != '=' && c != ';' && c != '(' }))
		l.skipCFWS()
		if l.end() || l.peek() != '=' {
			continue
		}
		l.i++
		l.skipCFWS()
		value := l.readParamValue()
		if name != "" {
			params = append(params, Param{name, value})
		}
	}
	return params
}

// readParamValue reads a value. One without quotes runs up to the semicolon,
// or a comment, whatever specials it holds: file names with spaces are common.
func (l *lexer) readParamValue() string {
	if !l.end() && l.peek() == '"' {
		return l.readQuoted()
	}
	value := l.readWhile(func(c byte) bool { return c != ';' })
	if i := strings.Index(value, " ("); i >= 0 {
		value = value[:i]
	}
	return strings.TrimRight(value, " \t")
}
