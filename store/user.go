package store

import "mailstead.dev/store/id"

// User is who acts: the session's user, not necessarily the owner of what they act on.
type User struct {
	Tenant  id.Tenant
	Account id.Account
	Login   string // local@domain
	Role    Role

	ReadOnly bool   // somebody who only looks: nothing is changed, not even \Seen
	Actor    string // login of the admin who acts as this user; "": it is the user
}
