package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Domain is a mail domain of a tenant.
type Domain struct {
	ID       id.Domain `db:"domain_id"`
	Tenant   id.Tenant `db:"tenant_id"`
	Name     string    `db:"name"`      // its ASCII form; see DisplayDomain
	CatchAll string    `db:"catch_all"` // address that gets what has no account and no alias; "" for none
	Created  time.Time `db:"created_at"`
	Accounts int64     `db:"accounts"`
	Aliases  int64     `db:"aliases"`
}

const selectDomain = `
	SELECT d.domain_id, d.tenant_id, d.name, coalesce(d.catch_all, '') AS catch_all, d.created_at,
	       (SELECT count(*) FROM account a WHERE a.tenant_id = d.tenant_id AND a.domain_id = d.domain_id) AS accounts,
	       (SELECT count(*) FROM alias l WHERE l.tenant_id = d.tenant_id AND l.domain_id = d.domain_id) AS aliases
	FROM domain d`

// CreateDomain gives a tenant a domain; ErrDomainTaken, ErrDomainElsewhere.
func (s *Store) CreateDomain(ctx context.Context, t id.Tenant, name string) (Domain, error) {
	const query = `INSERT INTO domain (tenant_id, name) VALUES ($1, $2) RETURNING domain_id, created_at`

	name, err := normalizeDomain(name)
	if err != nil {
		return Domain{}, err
	}
	d := Domain{Tenant: t, Name: name}
	err = s.transact(ctx, t, func(tx pgx.Tx) error {
		if err := lockTenant(ctx, tx, t); err != nil {
			return err
		}
		if err := notElsewhere(ctx, tx, name); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, query, t, name).Scan(&d.ID, &d.Created); err != nil {
			return err
		}
		return audit(ctx, tx, t, Act{Action: "domain.create", Object: name})
	})
	return d, unique(err, ErrDomainTaken)
}

// Domains lists a tenant's domains by name.
func (s *Store) Domains(ctx context.Context, t id.Tenant) ([]Domain, error) {
	const query = selectDomain + ` WHERE d.tenant_id = $1 ORDER BY d.name`

	var domains []Domain
	err := s.snapshot(ctx, t, func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(ctx, query, t) // CollectRows reports the error
		domains, err = pgx.CollectRows(rows, pgx.RowToStructByName[Domain])
		return err
	})
	return domains, err
}

// Domain finds a domain by its name, whatever its tenant; ErrNoDomain.
func (s *Store) Domain(ctx context.Context, name string) (Domain, error) {
	const query = selectDomain + ` WHERE d.tenant_id = $1 AND d.domain_id = $2`

	t, domain, err := s.findDomain(ctx, name)
	if err != nil {
		return Domain{}, err
	}
	var d Domain
	err = s.snapshot(ctx, t, func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(ctx, query, t, domain) // CollectExactlyOneRow reports the error
		d, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Domain])
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) { // deleted between the two
		err = ErrNoDomain
	}
	return d, err
}

func (s *Store) findDomain(ctx context.Context, name string) (id.Tenant, id.Domain, error) {
	name, err := normalizeDomain(name)
	if err != nil {
		return 0, 0, err
	}
	type row struct {
		TenantID id.Tenant
		DomainID id.Domain
	}
	found, err := lookup[row](ctx, s, `SELECT tenant_id, domain_id FROM lookup_domain($1)`, name)
	if err != nil {
		return 0, 0, err
	}
	if len(found) == 0 {
		return 0, 0, ErrNoDomain
	}
	return found[0].TenantID, found[0].DomainID, nil
}

// SetCatchAll says who gets mail of a domain that has neither account nor
// alias: an address of the same tenant, or "" for nobody.
func (s *Store) SetCatchAll(ctx context.Context, domainName, address string) error {
	const query = `UPDATE domain SET catch_all = NULLIF($3, '') WHERE tenant_id = $1 AND domain_id = $2`

	t, domain, err := s.findDomain(ctx, domainName)
	if err != nil {
		return err
	}
	if address != "" {
		if address, err = s.checkTarget(ctx, t, address); err != nil {
			return err
		}
	}
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, query, t, domain, address)
		if err := affected(tag, err, ErrNoDomain); err != nil {
			return err
		}
		return audit(ctx, tx, t, Act{Action: "domain.catch-all", Object: domainName, Detail: map[string]string{"address": address}})
	})
}

// DeleteDomain removes a domain that has neither accounts nor aliases; ErrInUse.
func (s *Store) DeleteDomain(ctx context.Context, name string) error {
	const query = `
		SELECT EXISTS (SELECT FROM account WHERE tenant_id = $1 AND domain_id = $2)
		    OR EXISTS (SELECT FROM alias WHERE tenant_id = $1 AND domain_id = $2)`

	t, domain, err := s.findDomain(ctx, name)
	if err != nil {
		return err
	}
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		if err := lockDomain(ctx, tx, t, domain); err != nil {
			return err
		}
		var used bool
		if err := tx.QueryRow(ctx, query, t, domain).Scan(&used); err != nil {
			return err
		}
		if used {
			return ErrInUse
		}
		for _, query := range []string{
			`DELETE FROM domain_admin WHERE tenant_id = $1 AND domain_id = $2`,
			`DELETE FROM quota_slot WHERE tenant_id = $1 AND root = $2`,
			`DELETE FROM quota_root WHERE tenant_id = $1 AND level = 1 AND root = $2`,
			`DELETE FROM quota_mark WHERE tenant_id = $1 AND level = 1 AND root = $2`,
			`DELETE FROM quota_event WHERE tenant_id = $1 AND level = 1 AND root = $2`,
			`DELETE FROM domain WHERE tenant_id = $1 AND domain_id = $2`,
		} {
			if _, err := tx.Exec(ctx, query, t, domain); err != nil {
				return err
			}
		}
		return audit(ctx, tx, t, Act{Action: "domain.delete", Object: name})
	})
}

// lockDomain orders what is made under a domain with one another and with its deletion.
func lockDomain(ctx context.Context, tx pgx.Tx, t id.Tenant, domain id.Domain) error {
	const query = `SELECT FROM domain WHERE tenant_id = $1 AND domain_id = $2 FOR UPDATE`

	tag, err := tx.Exec(ctx, query, t, domain)
	return affected(tag, err, ErrNoDomain)
}
