package store

import (
	"context"
	"net/netip"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// A tenant may name networks from which nobody is kept out, however many of its logins have failed: its offices, its webmail.

// Errors of such networks. Each is an ErrNotExist or an ErrExists.
var (
	ErrNoNetwork    error = missing("network")
	ErrNetworkTaken error = taken("the tenant has named that network")
)

// TenantNetworks returns the networks from which a tenant lets nobody be kept out.
func (s *Store) TenantNetworks(ctx context.Context, t id.Tenant) (all []netip.Prefix, err error) {
	const query = `SELECT network::text FROM tenant_network WHERE tenant_id = $1 ORDER BY network`

	err = s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t).Query(func(rows pgx.Rows) error {
			var text string
			all = nil
			_, err := pgx.ForEachRow(rows, []any{&text}, func() error {
				network, err := netip.ParsePrefix(text)
				all = append(all, network)
				return err
			})
			return err
		})
	})
	return all, err
}

// AddTenantNetwork has a tenant let nobody be kept out who comes from a network; ErrNetworkTaken.
func (s *Store) AddTenantNetwork(ctx context.Context, t id.Tenant, network netip.Prefix) error {
	const query = `INSERT INTO tenant_network (tenant_id, network) VALUES ($1, $2::text::cidr)`

	return s.transact(ctx, t, func(tx pgx.Tx) error {
		if err := lockTenant(ctx, tx, t); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, query, t, network.Masked().String()); err != nil {
			return unique(err, ErrNetworkTaken)
		}
		return audit(ctx, tx, t, Act{Action: "network.add", Object: network.Masked().String()})
	})
}

// RemoveTenantNetwork takes back AddTenantNetwork; ErrNoNetwork.
func (s *Store) RemoveTenantNetwork(ctx context.Context, t id.Tenant, network netip.Prefix) error {
	const query = `DELETE FROM tenant_network WHERE tenant_id = $1 AND network = $2::text::cidr`

	return s.transact(ctx, t, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, query, t, network.Masked().String())
		if err := affected(tag, err, ErrNoNetwork); err != nil {
			return err
		}
		return audit(ctx, tx, t, Act{Action: "network.remove", Object: network.Masked().String()})
	})
}
