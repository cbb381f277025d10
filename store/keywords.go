package store

import (
	"strings"

	"mailstead.dev/store/view"
)

// keywordIndex returns the place of a keyword in a table, -1 if it is not
// there. Keywords are compared without regard to case (RFC 9051 section 2.3.2).
func keywordIndex(table []string, name string) int {
	for i, k := range table {
		if strings.EqualFold(k, name) {
			return i
		}
	}
	return -1
}

// keywordSet returns the bits of names in a table, and which names are not in it.
func keywordSet(table []string, names []string) (set view.Keywords, missing []string) {
	for _, name := range names {
		if i := keywordIndex(table, name); i >= 0 {
			set = set.Union(view.KeywordBit(i))
		} else if keywordIndex(missing, name) < 0 {
			missing = append(missing, name)
		}
	}
	return set, missing
}

// defineKeywords returns the operations that add names to a table, and the
// table with them. ErrKeywords where it would have more than most.
func defineKeywords(table []string, names []string, most int) (view.Record, []string, error) {
	if len(names) > 0 && len(table)+len(names) > most {
		return nil, nil, ErrKeywords
	}
	var r view.Record
	for _, name := range names {
		r = append(r, view.DefineKeyword{Name: name})
	}
	return r, append(table[:len(table):len(table)], names...), nil
}
