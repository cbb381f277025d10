package auth

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// knownAgain is how soon it is noted again that an account is used from an address.
const knownAgain = 24 * time.Hour

// mostWaiting bounds what waits to be noted. What is dropped comes with the next login.
const mostWaiting = 10_000

// known are accounts with addresses that they have been logged in to from. They are noted behind the logins, all that have come within a second together.
type known struct {
	mu      sync.Mutex // guards what follows
	waiting map[knownKey]struct{}
}

type knownKey struct {
	tenant  id.Tenant
	account id.Account
	from    netip.Addr
}

// succeeded remembers from where the account is used.
func (t *attempt) succeeded() {
	if !t.from.IsValid() || time.Since(t.account.Known) < knownAgain {
		return
	}
	k := &t.a.known
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.waiting == nil {
		k.waiting = make(map[knownKey]struct{})
	}
	if len(k.waiting) < mostWaiting {
		k.waiting[knownKey{t.account.User.Tenant, t.account.User.Account, t.from}] = struct{}{}
	}
}

// noteKnown notes what waits.
func (a *Authenticator) noteKnown(ctx context.Context) error {
	a.known.mu.Lock()
	waiting := a.known.waiting
	a.known.waiting = nil
	a.known.mu.Unlock()
	tenants := make(map[id.Tenant][]store.KnownAddress)
	for k := range waiting {
		tenants[k.tenant] = append(tenants[k.tenant], store.KnownAddress{Account: k.account, From: k.from})
	}
	for t, all := range tenants {
		if err := a.directory.NoteKnownAddresses(ctx, t, all); err != nil {
			return err // the others come again as well
		}
	}
	return nil
}
