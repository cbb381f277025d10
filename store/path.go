package store

import (
	"strconv"
	"strings"

	"mailstead.dev/store/id"
)

// The namespaces beside a user's own, whose names have no prefix (RFC 2342). A
// mailbox of another user is OtherUsers/<login>/<name>, as its owner calls it; one
// of the tenant as a whole is SharedFolders/<name>. Each mailbox has one name for each user.
const (
	OtherUsers    = "Other Users"
	SharedFolders = "Shared"
)

// path is where a name leads a user.
type path struct {
	space space
	owner string // login of the owner where that is not the user
	name  string // as the owner has it; "": what only has mailboxes below it
}

type space int

const (
	personal space = iota
	others
	common
)

// path reads a name. ErrBadName where no mailbox can have it.
func (u User) path(name string) (path, error) {
	p := path{name: canonicalName(name)}
	first, rest, deeper := strings.Cut(name, separator)
	switch first {
	case OtherUsers:
		p = path{space: others}
		p.owner, p.name, deeper = cutLogin(rest, deeper)
		p.name = canonicalName(p.name)
	case SharedFolders:
		p = path{space: common, owner: sharedLogin(u.Tenant), name: rest}
	}
	if p.space == others && (p.owner != "" || deeper) && checkName(p.owner) != nil {
		return p, ErrBadName
	}
	if p.space == personal || deeper {
		return p, checkName(p.name)
	}
	return p, nil
}

// cutLogin cuts what follows OtherUsers/. A login can have separators, but only before its @.
func cutLogin(rest string, deeper bool) (login, name string, named bool) {
	if !deeper {
		return "", "", false
	}
	end := max(0, strings.IndexByte(rest, '@'))
	slash := strings.Index(rest[end:], separator)
	if slash < 0 {
		return rest, "", false
	}
	return rest[:end+slash], rest[end+slash+1:], true
}

// Owner returns the login of the user whose mailbox it would be that has a name, among those of other users; "" where it is of none.
func Owner(name string) string {
	first, rest, deeper := strings.Cut(name, separator)
	if first != OtherUsers {
		return ""
	}
	login, _, _ := cutLogin(rest, deeper)
	if !strings.Contains(login, "@") {
		return ""
	}
	return login
}

// isPersonal tells whether a name is one of the user's own.
func isPersonal(u User, name string) bool {
	p, err := u.path(name)
	return err == nil && p.space == personal
}

// full returns the name as the user has it.
func (p path) full() string {
	var parts []string
	switch p.space {
	case others:
		parts = []string{OtherUsers, p.owner}
	case common:
		parts = []string{SharedFolders}
	}
	return strings.Trim(strings.Join(append(parts, p.name), separator), separator)
}

// sharedPrefix begins the login of an account that belongs to nobody: a tenant's own, with its Shared
// mailboxes. It is no address, so it can neither log in nor get mail.
const sharedPrefix = "shared:"

func sharedLogin(t id.Tenant) string { return sharedPrefix + strconv.FormatInt(int64(t), 10) }

// isShared tells whether the login is that of a tenant's own account.
func isShared(login string) bool { return strings.HasPrefix(login, sharedPrefix) }

// above tells whether the other path leads to something below this one.
func (p path) above(other path) bool {
	return strings.HasPrefix(other.full(), p.full()+separator)
}
