package testdb

import (
	"context"
	"os"
	"testing"

	"mailstead.dev/deploy/local"
)

// PgBouncer starts a PgBouncer in transaction mode before the servers of c, with fewer connections
// than clients will have, and returns the serving role's DSN through it. It ends with the test.
func (c *Cluster) PgBouncer(t testing.TB) string {
	t.Helper()
	// Not t.TempDir: its name is too long for a socket, and closed to the user postgres.
	dir, err := os.MkdirTemp("", "mailstead-pgb-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	b, err := local.StartPgBouncer(t.Context(), dir, c.Socket, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop(context.Background()) }) // the test's context has ended by now
	return b.DSN(local.ServingRole, c.Database)
}
