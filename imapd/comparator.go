package imapd

// COMPARATOR: how strings are compared in SEARCH, SORT and THREAD.
//
// RFC 5255 section 4. There is one way: i;unicode-casemap (RFC 5051).

import (
	"context"
	"strings"

	"mailstead.dev/imapd/wire"
)

const comparator = "i;unicode-casemap"

// comparator-cmd  = "COMPARATOR" *(SP comp-order-quoted)
// comparator-data = "COMPARATOR" SP comp-sel-quoted [SP "(" comp-id-quoted *(SP comp-id-quoted) ")"]
func readComparator(d *wire.Decoder) (run, error) {
	matches := true // where nothing is asked for
	for asked := false; d.TrySP(); asked = true {
		pattern := d.AString()
		matches = asked && matches || pattern == "default" || matchesComparator(strings.TrimPrefix(pattern, "+"), comparator)
		if d.Err() != nil {
			break
		}
	}
	return do(func(_ context.Context, s *session) error {
		if !matches {
			return no("BADCOMPARATOR", "There is no such comparator")
		}
		s.enc.Raw("* COMPARATOR ").String(comparator).CRLF()
		return nil
	}), d.End()
}

// matchesComparator tells whether a name is what a pattern stands for, in which "*" is any octets (RFC 4790 section 3.2).
func matchesComparator(pattern, name string) bool {
	pieces := strings.Split(pattern, "*")
	last := len(pieces) - 1
	if last == 0 {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, pieces[0])
	for _, piece := range pieces[1:last] {
		if ok {
			_, name, ok = strings.Cut(name, piece)
		}
	}
	return ok && strings.HasSuffix(name, pieces[last])
}
