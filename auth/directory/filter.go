package directory

import (
	"slices"
	"strings"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
	"golang.org/x/text/unicode/norm"
)

// A filter finds by the rules of the directory, which take for equal what logins keep apart: blanks that lead (RFC 4518 section 2.6.1), letters of full width, in some é and e.
// So an entry that is found is of a login only where it says so itself: where a value that the filter asks for is the same to the letter, but for case.

// halves are the parts of a login, as bits.
type halves uint8

const (
	userPart   halves = 1 << iota // before the @
	domainPart                    // behind it
)

// placeholders of a filter, and what of a login stands for each.
var placeholders = []struct {
	name string
	of   halves
}{
	{"{login}", userPart | domainPart}, {"{user}", userPart}, {"{domain}", domainPart},
}

// fill puts a login in the place of placeholders.
func fill(text, login string, as func(string) string) string {
	before, after := login, ""
	if i := strings.LastIndex(login, "@"); i >= 0 {
		before, after = login[:i], login[i+1:]
	}
	var pairs []string
	for i, value := range []string{login, before, after} {
		pairs = append(pairs, placeholders[i].name, as(value))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// filter is that by which a login is found: whatever is in it means itself.
func (s Settings) filter(login string) string { return fill(s.Filter, login, ldap.EscapeFilter) }

// assertion is a part of a filter by which an attribute has a value that tells of whom the entry is.
type assertion struct {
	attribute, value string // with placeholders
	tells            halves
}

// assertions returns those of a filter.
func (s Settings) assertions() ([]assertion, error) {
	p, err := ldap.CompileFilter(s.Filter)
	if err != nil {
		return nil, err
	}
	return assertionsIn(p), nil
}

func assertionsIn(p *ber.Packet) (all []assertion) {
	switch p.Tag {
	case ldap.FilterAnd, ldap.FilterOr:
		for _, child := range p.Children {
			all = append(all, assertionsIn(child)...)
		}
	case ldap.FilterEqualityMatch:
		a := assertion{attribute: ber.DecodeString(p.Children[0].Data.Bytes()), value: ber.DecodeString(p.Children[1].Data.Bytes())}
		for _, p := range placeholders {
			if strings.Contains(a.value, p.name) {
				a.tells |= p.of
			}
		}
		if a.tells != 0 {
			all = append(all, a)
		}
	}
	return all
}

// told is what of a login an entry has to tell: all of it, unless an attribute names the account.
func (s Settings) told() halves {
	if s.Attribute != "" {
		return userPart
	}
	return userPart | domainPart
}

// isOf tells whether an entry says that it is of a login.
func (d *ldapDirectory) isOf(entry *ldap.Entry, login string) bool {
	var tells halves
	for _, a := range d.assertions {
		want := fold(fill(a.value, login, func(s string) string { return s }))
		if slices.ContainsFunc(entry.GetEqualFoldAttributeValues(a.attribute), func(v string) bool { return fold(v) == want }) {
			tells |= a.tells
		}
	}
	return tells&d.settings.told() == d.settings.told()
}

// fold makes values comparable as logins are.
func fold(value string) string { return norm.NFC.String(strings.ToLower(norm.NFC.String(value))) }
