package quota

import "strings"

// Level is what a root holds together.
type Level string

// The levels, from the inside out.
const (
	Account Level = "account"
	Domain  Level = "domain"
	Tenant  Level = "tenant"
)

// Levels lists all levels, in the order in which they are told.
var Levels = [...]Level{Account, Domain, Tenant}

// Root is the name of a quota root: what level, and of whom. A mailbox has three roots: its owner's account,
// that account's domain, and its tenant. To clients it is one opaque string (RFC 9208 section 3.2), and never
// changes as long as what it names keeps its name.
type Root struct {
	Level Level
	Name  string // the login, the domain, the tenant's name
}

// String returns the root as clients are told it: account:user@domain, domain:name, tenant:name.
func (r Root) String() string { return string(r.Level) + ":" + r.Name }

// ParseRoot reads what String writes; ok is false where it is none.
func ParseRoot(s string) (r Root, ok bool) {
	level, name, found := strings.Cut(s, ":")
	for _, l := range Levels {
		if found && name != "" && level == string(l) {
			return Root{l, name}, true
		}
	}
	return Root{}, false
}
