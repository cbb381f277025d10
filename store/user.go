package store

import "mailstead.dev/store/id"

// User is who acts: the session's user, not necessarily the owner of what they act on.
type User struct {
	Tenant  id.Tenant
	Account id.Account
	Login   string // local@domain
}
