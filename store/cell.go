package store

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A cell is a database with a bucket and index nodes, and holds whole tenants. Each knows of the domains of others where they live, so that a
// front end knows where a login belongs that is none of its own. What of that is here is never there: where a domain moves, it is taken
// away in one cell, and noted there, when it has been made in the other.

// RemoteDomain is a domain that lives in another cell.
type RemoteDomain struct {
	Name string `db:"name"` // its ASCII form; see DisplayDomain
	Cell string `db:"cell"`
}

// RemoteDomains lists the domains that live in other cells, by name.
func (s *Store) RemoteDomains(ctx context.Context) ([]RemoteDomain, error) {
	return lookup[RemoteDomain](ctx, s, `SELECT name, cell FROM list_remote_domains()`)
}

// remoteDomains is the first number of the locks under which it is decided whether a domain is here or there; the second is that of its name.
const remoteDomains = 2221

// notElsewhere returns ErrDomainElsewhere for a domain that is noted to live in another cell. Nobody notes it until tx ends.
func notElsewhere(ctx context.Context, tx pgx.Tx, name string) error {
	const (
		lock  = `SELECT pg_advisory_xact_lock($1, hashtext($2))`
		query = `SELECT EXISTS (SELECT FROM list_remote_domains() r WHERE r.name = $1)`
	)
	if _, err := tx.Exec(ctx, lock, remoteDomains, name); err != nil {
		return err
	}
	var elsewhere bool
	if err := tx.QueryRow(ctx, query, name).Scan(&elsewhere); err != nil {
		return err
	}
	if elsewhere {
		return ErrDomainElsewhere
	}
	return nil
}

// SetRemoteDomain notes in which cell a domain lives; ErrDomainTaken where it is one of this cell's.
func (s *Store) SetRemoteDomain(ctx context.Context, name, cell string) error {
	name, err := normalizeDomain(name)
	if err != nil {
		return err
	}
	if err := CheckCell(cell); err != nil {
		return err
	}
	const query = `
		WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock($3, hashtext($1)))
		SELECT set_remote_domain($1, $2) AS done FROM locked`

	return s.whether(ctx, ErrDomainTaken, query, name, cell, remoteDomains)
}

// DeleteRemoteDomain takes back SetRemoteDomain; ErrNoDomain.
func (s *Store) DeleteRemoteDomain(ctx context.Context, name string) error {
	name, err := normalizeDomain(name)
	if err != nil {
		return err
	}
	return s.whether(ctx, ErrNoDomain, `SELECT delete_remote_domain($1) AS done`, name)
}

// whether runs a function that tells whether it has done something, and returns not where it has not.
func (s *Store) whether(ctx context.Context, not error, query string, args ...any) error {
	type row struct{ Done bool }
	rows, err := lookupOnce[row](ctx, s, query, args)
	if err == nil && !rows[0].Done {
		err = not
	}
	return err
}

// maxCell is the longest name of a cell.
const maxCell = 63

// CheckCell says what is wrong with the name of a cell.
func CheckCell(name string) error {
	if name == "" || len(name) > maxCell || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return &InvalidError{"cell", name, "want letters a to z, digits and -, 63 at the most"}
	}
	return nil
}
