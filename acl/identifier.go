package acl

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

// Identifier says whom an entry is about, in the one form in which it is kept and
// compared: the login of a user, "group:" and a name, or "anyone"; behind a dash,
// those from whom rights are taken (RFC 4314 section 2).
type Identifier string

// Anyone is every user of the tenant.
const Anyone Identifier = "anyone"

const (
	groupPrefix = "group:"
	negative    = "-"

	maxIdentifier = 320 // octets: a login has 254 at most
)

// ErrIdentifier says that a string can name nobody.
var ErrIdentifier = errors.New("no identifier")

// ParseIdentifier prepares an identifier, as it must be before it is used (RFC 4314
// section 3). For SASLprep stands what has replaced it, OpaqueString of PRECIS (RFC 8265
// section 4.2), and case is folded, as it is in logins. ErrIdentifier where that fails.
// Whether there is such a user or group is the store's to know.
func ParseIdentifier(s string) (Identifier, error) {
	subject, taken := strings.CutPrefix(s, negative)
	if len(subject) > maxIdentifier || !utf8.ValidString(subject) {
		return "", ErrIdentifier
	}
	prepared, err := precis.OpaqueString.String(subject)
	if err != nil {
		return "", ErrIdentifier
	}
	subject = fold(prepared)
	if subject == "" || subject == groupPrefix || len(subject) > maxIdentifier {
		return "", ErrIdentifier
	}
	if taken {
		return negative + Identifier(subject), nil
	}
	return Identifier(subject), nil
}

// fold makes names comparable as logins are.
func fold(s string) string { return norm.NFC.String(strings.ToLower(s)) }

// User is the identifier of who logs in as login, in its normal form. One that begins with a dash
// cannot be told from a negative one, so such users have rights only as owners and as part of more.
func User(login string) Identifier { return Identifier(login) }

// Group is the identifier of who is in the group, by its normal name.
func Group(name string) Identifier { return groupPrefix + Identifier(name) }

// Negative tells whether the entry takes rights away.
func (i Identifier) Negative() bool { return strings.HasPrefix(string(i), negative) }

// Subject is the identifier without its dash: whom it grants rights or takes them from.
func (i Identifier) Subject() Identifier {
	return Identifier(strings.TrimPrefix(string(i), negative))
}

// Group returns the name of the group that the identifier is about, if it is about one.
func (i Identifier) Group() (name string, ok bool) {
	if name, ok = strings.CutPrefix(string(i.Subject()), groupPrefix); !ok {
		return "", false
	}
	return name, true
}

// Login returns the login of the user whom the identifier is about, if it is about one.
func (i Identifier) Login() (login string, ok bool) {
	if _, group := i.Group(); group || i.Subject() == Anyone {
		return "", false
	}
	return string(i.Subject()), true
}

// standsFor tells whether i, which has no dash, is about a user.
func (i Identifier) standsFor(login string, groups []string) bool {
	if name, ok := i.Group(); ok {
		return slices.Contains(groups, name)
	}
	return i == Anyone || i == User(login)
}
