package store

import (
	"mailstead.dev/acl"
	"mailstead.dev/store/id"
)

// User is who acts: the session's user, not necessarily the owner of what they act on.
type User struct {
	Tenant  id.Tenant
	Account id.Account
	Login   string // local@domain
	Role    Role
	Subject string // of who has logged in: names the account as none was or will be named here, also none of the same login

	ReadOnly  bool   // somebody who only looks: nothing is changed, not even \Seen
	Anonymous bool   // nobody knows who: no "anyone" of the tenant
	Guest     bool   // somebody of another cell: no "anyone" of the tenant either
	Actor     string // login of the admin who acts as this user; "": it is the user
}

// permitted returns what is left of rights to a user who only looks.
func (u User) permitted(r acl.Rights) acl.Rights {
	if u.ReadOnly {
		return r & (acl.Lookup | acl.Read)
	}
	return r
}

// mayChange refuses a user who only looks what no right to a mailbox stands for.
func (u User) mayChange() error {
	if u.ReadOnly {
		return &acl.DeniedError{Missing: acl.Write}
	}
	return nil
}
