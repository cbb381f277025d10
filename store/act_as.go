package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// ActAs lets somebody act as another user (an authorization identity: RFC 4616
// section 2), where their role reaches that far: support only looks, admins
// do all that the user may do, but not what a role of the user's would let them.
// ErrActAs where it does not, also where there is no such account: who may not
// act as a user need not know whether there is one. The audit log of the user's
// tenant has it before anybody acts.
//
// What the other's session rests on, beside the actor's own login, is the Standing.
func (s *Store) ActAs(ctx context.Context, actor User, login string) (User, Standing, error) {
	target, err := s.LookupLogin(ctx, login)
	if errors.Is(err, ErrNotExist) {
		return User{}, Standing{}, ErrActAs
	}
	if err != nil {
		return User{}, Standing{}, err
	}
	u := target.User
	if u.Account == actor.Account {
		return actor, target.Standing, nil
	}
	administers, err := s.Administers(ctx, actor, u)
	if err != nil {
		return User{}, Standing{}, err
	}
	switch {
	case !administers && !actor.looksAt(u):
		return User{}, Standing{}, ErrActAs
	case target.Disabled:
		return User{}, Standing{}, ErrDisabled
	}
	u.Actor, u.Role, u.ReadOnly = actor.Login, RoleNone, !administers
	return u, target.Standing, s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		return audit(ctx, tx, u.Tenant, Act{Actor: actor.Login, Action: "act-as", Object: u.Login, Detail: map[string]bool{"read_only": u.ReadOnly}})
	})
}

// looksAt tells whether support may look at a user's mail.
func (u User) looksAt(user User) bool {
	switch u.Role {
	case RoleSupport:
		return user.Role == RoleNone && user.Tenant == u.Tenant
	case RolePlatformSupport:
		return user.Role == RoleNone
	}
	return false
}
