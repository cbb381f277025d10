package store

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	inbox     = "INBOX"
	separator = "/"

	maxNameBytes = 1000 // room for five copies in one response line, and in an index row
)

// canonicalName returns name as it is stored: INBOX, whatever its case, also as the first component (RFC 9051 section 5.1).
func canonicalName(name string) string {
	first, rest, deeper := strings.Cut(name, separator)
	if !strings.EqualFold(first, inbox) {
		return name
	}
	if deeper {
		return inbox + separator + rest
	}
	return inbox
}

// checkName says whether there can be a mailbox of the name: UTF-8 without control
// characters, of components that are not empty, and of bounded length.
func checkName(name string) error {
	if name == "" || len(name) > maxNameBytes || !utf8.ValidString(name) {
		return ErrBadName
	}
	if strings.ContainsFunc(name, forbidden) {
		return ErrBadName
	}
	for c := range strings.SplitSeq(name, separator) {
		if c == "" {
			return ErrBadName
		}
	}
	return nil
}

// checkNewName is checkName for a name that is about to be given, which the options bound further.
func (s *Store) checkNewName(name string) error {
	if len(name) > s.options.MaxNameBytes || strings.Count(name, separator) >= s.options.MaxNameLevels {
		return ErrBadName
	}
	return checkName(name)
}

// forbidden are control characters and line and paragraph separators (RFC 9051 section 5.1, RFC 5198 section 2).
func forbidden(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == '\ufffe' || r == '\uffff'
}

// parents returns the names above name, topmost first.
func parents(name string) []string {
	var above []string
	for i := range len(name) {
		if name[i] == separator[0] {
			above = append(above, name[:i])
		}
	}
	return above
}
