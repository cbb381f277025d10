package testdb

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// A serving role sees nothing before it has named a tenant, and only that tenant then.
func TestClusterRoles(t *testing.T) {
	c := New(t)
	ctx := t.Context()
	if err := execute(ctx, c.OwnerDSN, `INSERT INTO tenant (name) VALUES ('one'), ('two')`); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, c.ServingDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var n int
	if err := conn.QueryRow(ctx, `SELECT count(*) FROM tenant`).Scan(&n); err == nil {
		t.Errorf("without a tenant: %d rows, want an error", n)
	}
	if _, err := conn.Exec(ctx, `SELECT set_config('mailstead.tenant', '1', false)`); err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(ctx, `SELECT count(*) FROM tenant`).Scan(&n); err != nil || n != 1 {
		t.Errorf("with a tenant: %d rows, %v; want 1", n, err)
	}
	if _, err := conn.Exec(ctx, `DROP TABLE tenant`); err == nil {
		t.Error("the serving role could drop a table")
	}
}

func TestClustersAreApart(t *testing.T) {
	a, b := New(t), New(t)
	if a.Database == b.Database || a.Bucket == b.Bucket {
		t.Errorf("two clusters share %s, %s", a.Database, a.Bucket)
	}
}

// Through PgBouncer a transaction's setting is gone with the transaction, whoever gets the connection next.
func TestPgBouncer(t *testing.T) {
	c := New(t)
	ctx := t.Context()
	if err := execute(ctx, c.OwnerDSN, `INSERT INTO tenant (name) VALUES ('one')`); err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(c.PgBouncer(t))
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	for range 8 { // more clients than PgBouncer has connections
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		var n int
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM tenant`).Scan(&n); err == nil {
			t.Fatalf("without a tenant: %d rows, want an error", n)
		}
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, `SELECT set_config('mailstead.tenant', '1', true)`); err != nil {
			t.Fatal(err)
		}
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM tenant`).Scan(&n); err != nil || n != 1 {
			t.Fatalf("with a tenant: %d rows, %v; want 1", n, err)
		}
		if err := tx.Commit(ctx); err != nil {
			t.Fatal(err)
		}
	}
}
