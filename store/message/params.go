package message

import "strings"

// DecodeParams returns parameters without the continuations and charsets of RFC 2231
// (sections 3 and 4): the pieces a*0, a*1 and so on are one a; where a charset is
// named, they are one "a*", in UTF-8 (RFC 9051 section 7.5.2). Each stands where its first piece stood.
func DecodeParams(params []Param) []Param {
	var out []Param
	for i, p := range params {
		name, _, starred := strings.Cut(p.Name, "*")
		switch {
		case !starred:
			if out != nil {
				out = append(out, p)
			}
			continue
		case out == nil: // most have none, and stay as they are
			out = append(make([]Param, 0, len(params)), params[:i]...)
		}
		if hasPiece(params[:i], name) {
			continue
		}
		v := decodeValue(params, name)
		switch {
		case !v.found: // such as "a*x", which is nothing
			out = append(out, p)
		case v.extended:
			out = append(out, Param{name + "*", v.decode()})
		default:
			out = append(out, Param{name, v.decode()})
		}
	}
	if out == nil {
		return params
	}
	return out
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
