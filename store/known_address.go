package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// From where an account has been logged in to lately, its user gets in also while others who come from there, or who guess at it from elsewhere, are
// kept out. Front ends note it behind the login, together for many, and of each once a day.

const (
	knownFor  = 90 * 24 * time.Hour // since it was noted
	mostKnown = 100                 // of an account
)

// KnownAddress is an account with an address from which it has been logged in to.
type KnownAddress struct {
	Account id.Account
	From    netip.Addr
}

// NoteKnownAddresses notes from where accounts of a tenant have been logged in to now.
func (s *Store) NoteKnownAddresses(ctx context.Context, t id.Tenant, all []KnownAddress) error {
	// An account that is being deleted is locked, and then is not there.
	const query = `
		WITH there AS (
			SELECT account_id FROM account
			WHERE tenant_id = $1 AND account_id = ANY ($2) AND NOT deleting
			ORDER BY account_id
			FOR SHARE
		)
		INSERT INTO known_address (tenant_id, account_id, address, at)
		SELECT DISTINCT $1, n.account_id, origin(n.address::inet), now()
		FROM unnest($2::bigint[], $3::text[]) AS n (account_id, address)
		JOIN there USING (account_id)
		ORDER BY 2, 3
		ON CONFLICT (tenant_id, account_id, address) DO UPDATE SET at = excluded.at`

	accounts, addresses := make([]id.Account, len(all)), make([]string, len(all))
	for i, k := range all {
		accounts[i], addresses[i] = k.Account, inet(k.From)
	}
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, query, t, accounts, addresses)
		return err
	})
}

// forgetKnownAddresses removes those that accounts have not been logged in to from for long, or of which they have too many.
func (s *Store) forgetKnownAddresses(ctx context.Context, t id.Tenant) error {
	const query = `
		DELETE FROM known_address k
		USING (
			SELECT account_id, address, row_number() OVER (PARTITION BY account_id ORDER BY at DESC) AS nth, at
			FROM known_address WHERE tenant_id = $1
		) o
		WHERE k.tenant_id = $1 AND k.account_id = o.account_id AND k.address = o.address AND (o.at < now() - $2::interval OR o.nth > $3)`

	return s.batch(ctx, t, func(b *pgx.Batch) { b.Queue(query, t, knownFor, mostKnown) })
}
