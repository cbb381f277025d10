package store

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Errors of issuers. Each is an ErrNotExist or an ErrExists.
var (
	ErrNoIssuer    error = missing("issuer")
	ErrIssuerTaken error = taken("the tenant has named that issuer")
)

// Issuer is one whose tokens let users of a tenant in (OpenID Connect).
type Issuer struct {
	URL      string `db:"url"`      // as it stands in its tokens
	Audience string `db:"audience"` // that they have to be for
	Scope    string `db:"scope"`    // that they have to have; "": any
	Claim    string `db:"claim"`    // that says whose they are: a login; one of IssuerClaims

	Unverified bool `db:"unverified"` // an address of the claim email is believed that the issuer does not say it has verified
	Roles      bool `db:"roles"`      // who comes by its tokens has the account's role, if that is one of the tenant
}

// IssuerClaims are the claims that may say whose a token is.
var IssuerClaims = []string{"email", "preferred_username", "upn", "sub"}

// AddIssuer has a tenant believe an issuer; ErrIssuerTaken.
func (s *Store) AddIssuer(ctx context.Context, t id.Tenant, i Issuer) error {
	const query = `
		INSERT INTO token_issuer (tenant_id, url, audience, scope, claim, unverified, roles)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`

	u, err := url.Parse(i.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())):
		return &InvalidError{"issuer", i.URL, "want a URL of https"}
	case !slices.Contains(IssuerClaims, i.Claim):
		return &InvalidError{"claim", i.Claim, "want one of " + strings.Join(IssuerClaims, ", ")}
	case i.Audience == "":
		return &InvalidError{"issuer", i.URL, "want the audience that its tokens are for"}
	}
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		if err := lockTenant(ctx, tx, t); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, query, t, i.URL, i.Audience, i.Scope, i.Claim, i.Unverified, i.Roles); err != nil {
			return unique(err, ErrIssuerTaken)
		}
		return audit(ctx, tx, t, Act{Action: "issuer.add", Object: i.URL, Detail: map[string]any{
			"audience": i.Audience, "scope": i.Scope, "claim": i.Claim, "unverified": i.Unverified, "roles": i.Roles,
		}})
	})
}

// isLoopback tells whether nobody can read along on the way to a host.
func isLoopback(host string) bool { return host == "127.0.0.1" || host == "::1" || host == "localhost" }

// Issuers returns those that a tenant has named.
func (s *Store) Issuers(ctx context.Context, t id.Tenant) (all []Issuer, err error) {
	const query = `SELECT url, audience, scope, claim, unverified, roles FROM token_issuer WHERE tenant_id = $1 ORDER BY url`

	err = s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t).Query(func(rows pgx.Rows) (err error) {
			all, err = pgx.CollectRows(rows, pgx.RowToStructByName[Issuer])
			return err
		})
	})
	return all, err
}

// RemoveIssuer has a tenant believe an issuer no more, and ends the tenant's sessions, of which those that its tokens have let in
// are not told apart; ErrNoIssuer.
func (s *Store) RemoveIssuer(ctx context.Context, t id.Tenant, issuer string) error {
	const (
		lock   = `SELECT FROM tenant WHERE tenant_id = $1 FOR NO KEY UPDATE`
		remove = `DELETE FROM token_issuer WHERE tenant_id = $1 AND url = $2`
	)
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lock, t); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, remove, t, issuer)
		if err := affected(tag, err, ErrNoIssuer); err != nil {
			return err
		}
		if err := revokeTenant(ctx, tx, t); err != nil {
			return err
		}
		return audit(ctx, tx, t, Act{Action: "issuer.remove", Object: issuer})
	})
}
