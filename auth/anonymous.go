package auth

import (
	"context"
	"fmt"

	"github.com/emersion/go-sasl"

	"mailstead.dev/store"
)

// ANONYMOUS: RFC 4505. Who has no name here is let in as one account, and may only look: at what is
// in it, and what is shared with it by its name or its groups, not with everyone of its tenant. What they say of themselves is neither kept nor logged.

func startAnonymous(ctx context.Context, a *Authenticator, ch Channel, granted *Grant) sasl.Server {
	return sasl.NewAnonymousServer(func(string) (err error) {
		*granted, err = a.anonymously(ctx)
		return err
	})
}

func (a *Authenticator) anonymously(ctx context.Context) (Grant, error) {
	account, err := a.lookup(ctx, a.anonymous)
	if err != nil {
		return Grant{}, fmt.Errorf("%w: the account for ANONYMOUS: %w", store.ErrUnavailable, err)
	}
	g, err := admit(account)
	g.User.Role, g.User.ReadOnly, g.User.Anonymous = store.RoleNone, true, true
	return g, err
}
