package message

import (
	"slices"
	"strings"
)

// DecodeParams returns parameters without the continuations and charsets of RFC 2231
// (sections 3 and 4): the pieces a*0, a*1 and so on are one a; where a charset is
// named, they are one "a*", in UTF-8 (RFC 9051 section 7.5.2). Each stands where its first piece stood.
func DecodeParams(params []Param) []Param {
	first := slices.IndexFunc(params, func(p Param) bool { return strings.Contains(p.Name, "*") })
	if first < 0 {
		return params // most are so
	}
	out := append(make([]Param, 0, len(params)), params[:first]...)
	index, done := indexParams(params), make(map[string]bool)
	for _, p := range params[first:] {
		name, _, starred := strings.Cut(p.Name, "*")
		if !starred {
			out = append(out, p)
			continue
		}
		if done[name] {
			continue
		}
		done[name] = true
		v := index.value(name)
		switch {
		case !v.found: // such as "a*x", which is nothing
			out = append(out, p)
		case v.extended:
			out = append(out, Param{name + "*", v.decode()})
		default:
			out = append(out, Param{name, v.decode()})
		}
	}
	return out
}
