// Package migrations holds the database schema as numbered SQL files, forward
// only: each must be safe while the previous release still runs.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	_ "github.com/jackc/pgx/v5/stdlib" // goose speaks database/sql
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed *.sql
var files embed.FS

// Up brings the database to the newest schema, as the owner role that dsn logs
// in as, and returns the version reached. Concurrent callers take turns.
func Up(ctx context.Context, dsn string) (int64, error) {
	newest, err := Newest()
	if err != nil {
		return 0, err
	}
	return UpTo(ctx, dsn, newest)
}

// UpTo is Up to a version. A database that has a newer one stays as it is.
func UpTo(ctx context.Context, dsn string, version int64) (int64, error) {
	provider, db, err := open(dsn)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	if _, err := provider.UpTo(ctx, version); err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	return provider.GetDBVersion(ctx)
}

// Newest returns the version of the newest schema.
func Newest() (int64, error) {
	names, err := fs.Glob(files, "*.sql") // in their order
	if err != nil {
		return 0, err
	}
	return goose.NumericComponent(names[len(names)-1])
}

func open(dsn string) (*goose.Provider, *sql.DB, error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, nil, fmt.Errorf("migrate: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		db.Close()
		return nil, nil, fmt.Errorf("migrate: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
	if err != nil {
		db.Close()
		return nil, nil, fmt.Errorf("migrate: %w", err)
	}
	return provider, db, nil
}
