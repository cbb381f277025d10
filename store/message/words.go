package message

import (
	"slices"
	"strconv"
	"strings"
)

// DecodeHeader decodes the encoded words of an unstructured field value (RFC
// 2047) to UTF-8; what cannot be decoded stays. Octets beyond ASCII outside of
// encoded words are UTF-8 (RFC 6532), or else taken for windows-1252.
func DecodeHeader(s string) string {
	if !strings.Contains(s, "=?") {
		return lenientUTF8(s)
	}
	var out strings.Builder
	for len(s) > 0 {
		i := strings.Index(s, "=?")
		if i < 0 {
			break
		}
		w, n := encodedWord(s[i:])
		if n == 0 {
			out.WriteString(lenientUTF8(s[:i+2]))
			s = s[i+2:]
			continue
		}
		out.WriteString(lenientUTF8(s[:i]))
		s = s[i+n:]
		// White space between encoded words is not text (RFC 2047 section 6.2).
		// Words of one charset are decoded together: against section 5, some
		// programs cut characters in two.
		for {
			gap := len(s) - len(strings.TrimLeft(s, " \t\r\n"))
			next, n := encodedWord(s[gap:])
			if n == 0 {
				break
			}
			s = s[gap+n:]
			if next.charset == w.charset {
				w.text = append(w.text, next.text...)
				continue
			}
			out.WriteString(w.decode())
			w = next
		}
		out.WriteString(w.decode())
	}
	out.WriteString(lenientUTF8(s))
	return out.String()
}

// word is an encoded word without its transfer encoding.
type word struct {
	charset string
	text    []byte
}

func (w word) decode() string { return decodeCharset(w.charset, w.text) }

// encodedWord reads the encoded word that s begins with, and returns its length, 0 where there is none.
//
//	encoded-word = "=?" charset ["*" language] "?" encoding "?" encoded-text "?="
func encodedWord(s string) (word, int) {
	if !strings.HasPrefix(s, "=?") {
		return word{}, 0
	}
	charset, rest, ok := strings.Cut(s[2:], "?")
	if !ok || charset == "" || len(charset) > 64 || strings.ContainsAny(charset, " \t") || len(rest) < 2 || rest[1] != '?' {
		return word{}, 0
	}
	encoding := rest[0]
	text, _, ok := strings.Cut(rest[2:], "?=")
	if !ok {
		return word{}, 0
	}
	n := 2 + len(charset) + 1 + 2 + len(text) + 2
	charset, _, _ = strings.Cut(strings.ToLower(charset), "*") // RFC 2231 section 5
	switch encoding {
	case 'b', 'B':
		return word{charset, decodeBase64([]byte(text))}, n
	case 'q', 'Q':
		return word{charset, decodeQ(text)}, n
	}
	return word{}, 0
}

// decodeQ decodes the Q encoding (RFC 2047 section 4.2).
func decodeQ(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			out = append(out, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// fileName returns the decoded file name of a part, by its disposition or its content
// type, and the field that it stands in, in lower case; "" where there is none.
// Continuations and charsets of RFC 2231 are understood, and encoded words, which do
// not belong there but are common.
func (p *Part) fileName() (name, field string) {
	if name := decodeParam(p.DispositionParams, "filename"); name != "" {
		return name, "content-disposition"
	}
	return decodeParam(p.Params, "name"), "content-type"
}

// decodeParam decodes a parameter (RFC 2231 sections 3 and 4). A tab in it counts as a space, as a fold that is made with
// one does in the field (fieldText): many programs fold in the place of a space of a file name. One that is encoded stays.
func decodeParam(params []Param, name string) string {
	params = slices.Clone(params)
	for i := range params {
		params[i].Value = strings.ReplaceAll(params[i].Value, "\t", " ")
	}
	v := decodeValue(params, name)
	switch {
	case !v.found:
		return DecodeHeader(paramValue(params, name))
	case v.charset == "":
		return DecodeHeader(string(v.text))
	}
	return v.decode()
}

// extendedValue is the value of a parameter put together from its pieces.
type extendedValue struct {
	text     []byte
	charset  string
	extended bool // a piece says that it has a charset, named or not
	found    bool // there is a piece
}

func (v extendedValue) decode() string { return decodeCharset(v.charset, v.text) }

func decodeValue(params []Param, name string) extendedValue {
	if !hasPiece(params, name) { // most have none
		return extendedValue{}
	}
	return indexParams(params).value(name)
}

// hasPiece tells whether there is a piece of a parameter.
func hasPiece(params []Param, name string) bool {
	for _, p := range params {
		if base, _, starred := strings.Cut(p.Name, "*"); starred && base == name {
			return true
		}
	}
	return false
}

// paramIndex finds parameters by their names.
type paramIndex struct {
	params []Param
	first  map[string]int // where the first of a name stands
}

func indexParams(params []Param) paramIndex {
	x := paramIndex{params, make(map[string]int, len(params))}
	for i, p := range params {
		if _, ok := x.first[p.Name]; !ok {
			x.first[p.Name] = i
		}
	}
	return x
}

// value puts a value together.
func (x paramIndex) value(name string) (v extendedValue) {
	for n := 0; n <= len(x.params); n++ {
		value, extended, ok := x.piece(name, n)
		if !ok {
			if n == 0 {
				continue // there may be a "name*1" without it, but "name*0*" is what n = 1 means
			}
			break
		}
		v.found = true
		v.extended = v.extended || extended
		if extended {
			if v.charset == "" {
				if cs, rest, ok := strings.Cut(value, "'"); ok {
					if _, rest, ok := strings.Cut(rest, "'"); ok {
						v.charset, value = strings.ToLower(cs), rest
					}
				}
			}
			v.text = append(v.text, unescapePercent(value)...)
		} else {
			v.text = append(v.text, value...)
		}
		if n == 0 {
			break // not a continued one
		}
	}
	return v
}

// piece returns the n-th piece of a parameter: 0 is the whole in "name*", 1
// and on are "name*0" or "name*0*" and on.
func (x paramIndex) piece(name string, n int) (value string, extended, ok bool) {
	name += "*"
	if n > 0 {
		name += strconv.Itoa(n - 1)
	}
	at, ok := x.first[name]
	extended = n == 0
	if n > 0 {
		if i, starred := x.first[name+"*"]; starred && (!ok || i < at) {
			at, extended, ok = i, true, true
		}
	}
	if !ok {
		return "", false, false
	}
	return x.params[at].Value, extended, true
}

func unescapePercent(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0 {
			out = append(out, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
		} else {
			out = append(out, s[i])
		}
	}
	return out
}
