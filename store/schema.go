package store

import (
	"context"
	"errors"
	"fmt"
)

// SchemaError says that the database has an older schema than this program needs.
type SchemaError struct {
	Have int64 // 0: none at all
	Want int64
}

func (e *SchemaError) Error() string {
	have := "the database has no schema yet"
	if e.Have > 0 {
		have = fmt.Sprintf("the database has schema version %d", e.Have)
	}
	return fmt.Sprintf("%s, and this program needs %d: run `mailstead migrate` of this version first", have, e.Want)
}

var errSchemaUnreadable = errors.New("the serving role may not read which version the schema has: use a role that is a member of mailstead_serving, and a database that `mailstead migrate` of this version has made")

// Ready returns nil when the database answers and has the schema of Options.Schema or a newer one, which only adds what
// this program can do without; a *SchemaError where it is older. Where the database is away its error wraps ErrUnavailable.
func (s *Store) Ready(ctx context.Context) error {
	// The table is that of the migrations.
	const query = `SELECT coalesce(max(version_id), 0) FROM goose_db_version`

	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var have int64
	err = conn.QueryRow(ctx, query).Scan(&have)
	switch {
	case isState(err, "42P01"): // no such table
	case isState(err, "42501"): // insufficient privilege
		return errSchemaUnreadable
	case err != nil:
		return s.lost(ctx, conn, err, unsent)
	}
	if have < s.options.Schema {
		return &SchemaError{have, s.options.Schema}
	}
	return nil
}
