package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Errors of the directory. Each of the first is an ErrNotExist, each of the second an ErrExists.
var (
	ErrNoTenant  error = missing("tenant")
	ErrNoDomain  error = missing("domain")
	ErrNoAccount error = missing("account")
	ErrNoAlias   error = missing("alias")

	ErrTenantTaken error = taken("a tenant of that name exists")
	ErrDomainTaken error = taken("the domain exists, perhaps as another tenant's")
	// ErrDomainElsewhere: what is here is never there, and who lives there is not to be taken in here by mistake.
	ErrDomainElsewhere error = taken("the domain is noted to live in another cell, which has to be forgotten first")
	ErrAddressTaken    error = taken("an account or an alias has that address")

	// ErrInUse: a domain that still has accounts or aliases.
	ErrInUse = errors.New("the domain still has accounts or aliases")
)

type missing string

func (m missing) Error() string        { return "no such " + string(m) }
func (m missing) Is(target error) bool { return target == ErrNotExist }

type taken string

func (t taken) Error() string        { return string(t) }
func (t taken) Is(target error) bool { return target == ErrExists }

// An InvalidError says what is wrong with a name that was to be made.
type InvalidError struct {
	What, Value, Why string
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s %q: %s", e.What, e.Value, e.Why) }

// lookup asks one of the functions that answer before the tenant is known
// (migration 0005). What only reads is asked once more where a connection broke.
func lookup[T any](ctx context.Context, s *Store, query string, args ...any) ([]T, error) {
	found, err := lookupOnce[T](ctx, s, query, args)
	if errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
		found, err = lookupOnce[T](ctx, s, query, args)
	}
	return found, err
}

func lookupOnce[T any](ctx context.Context, s *Store, query string, args []any) ([]T, error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	rows, _ := conn.Query(ctx, query, args...) // CollectRows reports the error
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
	return found, s.lost(ctx, conn, err, unsent)
}

// unique turns the database's word on a name that is there already into err.
func unique(err, taken error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == "23505" {
		return taken
	}
	return err
}

// noRow returns missing where a query found no row.
func noRow(err, missing error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return missing
	}
	return err
}

// affected returns missing where a statement found no row.
func affected(tag pgconn.CommandTag, err, missing error) error {
	if err == nil && tag.RowsAffected() == 0 {
		return missing
	}
	return err
}
