package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Alias is an address that stands for others of the same tenant.
type Alias struct {
	Address string    `db:"address"`
	Targets []string  `db:"targets"`
	Created time.Time `db:"created_at"`
}

// CreateAlias makes an alias; ErrAddressTaken, ErrNoDomain.
func (s *Store) CreateAlias(ctx context.Context, address string, targets ...string) (Alias, error) {
	const query = `
		INSERT INTO alias (tenant_id, domain_id, address, targets)
		VALUES ($1, $2, $3, $4)
		RETURNING created_at`

	address, name, err := newAddress(address)
	if err != nil {
		return Alias{}, err
	}
	t, domain, err := s.findDomain(ctx, name)
	if err != nil {
		return Alias{}, err
	}
	a := Alias{Address: address}
	if a.Targets, err = s.checkTargets(ctx, t, address, targets); err != nil {
		return Alias{}, err
	}
	err = s.transact(ctx, t, func(tx pgx.Tx) error {
		if err := lockTenant(ctx, tx, t); err != nil {
			return err
		}
		if err := lockDomain(ctx, tx, t, domain); err != nil {
			return err
		}
		if err := addressIsFree(ctx, tx, t, address); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, query, t, domain, address, a.Targets).Scan(&a.Created); err != nil {
			return err
		}
		return audit(ctx, tx, t, Act{Action: "alias.create", Object: address, Detail: map[string]any{"targets": a.Targets}})
	})
	return a, unique(err, ErrAddressTaken)
}

// SetAlias gives an alias other targets; ErrNoAlias.
func (s *Store) SetAlias(ctx context.Context, address string, targets ...string) error {
	const query = `UPDATE alias SET targets = $3 WHERE tenant_id = $1 AND address = $2`

	address, name, err := newAddress(address)
	if err != nil {
		return err
	}
	t, _, err := s.findDomain(ctx, name)
	if err != nil {
		return err
	}
	if targets, err = s.checkTargets(ctx, t, address, targets); err != nil {
		return err
	}
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, query, t, address, targets)
		if err := affected(tag, err, ErrNoAlias); err != nil {
			return err
		}
		return audit(ctx, tx, t, Act{Action: "alias.set", Object: address, Detail: map[string]any{"targets": targets}})
	})
}

// DeleteAlias removes an alias; ErrNoAlias.
func (s *Store) DeleteAlias(ctx context.Context, address string) error {
	const query = `DELETE FROM alias WHERE tenant_id = $1 AND address = $2`

	address, name, err := newAddress(address)
	if err != nil {
		return err
	}
	t, _, err := s.findDomain(ctx, name)
	if err != nil {
		return err
	}
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, query, t, address)
		if err := affected(tag, err, ErrNoAlias); err != nil {
			return err
		}
		return audit(ctx, tx, t, Act{Action: "alias.delete", Object: address})
	})
}

// Aliases lists a tenant's aliases by address.
func (s *Store) Aliases(ctx context.Context, t id.Tenant) ([]Alias, error) {
	const query = `SELECT address, targets, created_at FROM alias WHERE tenant_id = $1 ORDER BY address`

	var aliases []Alias
	err := s.snapshot(ctx, t, func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(ctx, query, t) // CollectRows reports the error
		aliases, err = pgx.CollectRows(rows, pgx.RowToStructByName[Alias])
		return err
	})
	return aliases, err
}

// checkTargets returns the normal forms of what an alias is to stand for.
func (s *Store) checkTargets(ctx context.Context, t id.Tenant, address string, targets []string) ([]string, error) {
	if len(targets) == 0 || len(targets) > maxAliasTargets {
		return nil, &InvalidError{"alias", address, "it needs between 1 and 1000 targets"}
	}
	normal := make([]string, 0, len(targets))
	for _, target := range targets {
		target, err := s.checkTarget(ctx, t, target)
		if err != nil {
			return nil, err
		}
		if target == address {
			return nil, &InvalidError{"alias", address, "it cannot stand for itself"}
		}
		if !slices.Contains(normal, target) {
			normal = append(normal, target)
		}
	}
	return normal, nil
}

// checkTarget returns the normal form of an address that mail may be sent on
// to: of the same tenant, for nothing is sent out. The account may come later.
func (s *Store) checkTarget(ctx context.Context, t id.Tenant, address string) (string, error) {
	normal, name, err := newAddress(address)
	if err != nil {
		return "", err
	}
	owner, _, err := s.findDomain(ctx, name)
	if errors.Is(err, ErrNoDomain) || err == nil && owner != t {
		return "", &InvalidError{"target", address, "its domain is not one of this tenant"}
	}
	return normal, err
}

// addressIsFree guards that no address is both an account's and an alias's. It
// needs the domain's lock; within a table a unique key does the same.
func addressIsFree(ctx context.Context, tx pgx.Tx, t id.Tenant, address string) error {
	const query = `
		SELECT EXISTS (SELECT FROM account WHERE tenant_id = $1 AND login = $2)
		    OR EXISTS (SELECT FROM alias WHERE tenant_id = $1 AND address = $2)`

	var used bool
	if err := tx.QueryRow(ctx, query, t, address).Scan(&used); err != nil {
		return err
	}
	if used {
		return ErrAddressTaken
	}
	return nil
}

// domainOf returns the domain of an address in normal form.
func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }
