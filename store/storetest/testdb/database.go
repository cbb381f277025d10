package testdb

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/deploy/local"
	"mailstead.dev/migrations"
)

// Cluster is a fresh database and an empty bucket: enough to start stores, or
// processes, that serve as one.
type Cluster struct {
	OwnerDSN   string // of the role that owns the tables
	ServingDSN string // of the role as which servers log in
	SuperDSN   string // of the database's superuser, to whom row-level security does not apply
	Socket     string // folder of PostgreSQL's socket, for PgBouncer
	Database   string

	Endpoint       string // host:port of S3, plain HTTP
	Region         string
	Bucket         string
	Access, Secret string
	Status         string // host:port of devs3's counters
}

// New makes a database, of the newest schema, and a bucket for one test. It
// fails the test where the servers cannot be started.
func New(t testing.TB) *Cluster {
	t.Helper()
	s := started(t)
	if err := template(t.Context(), s); err != nil {
		t.Fatalf("make the template database: %v", err)
	}
	return from(t, s, "mailstead_template")
}

// Older is New with a schema of an older version; 0: none at all.
func Older(t testing.TB, version int64) *Cluster {
	t.Helper()
	c := from(t, started(t), "template0")
	if version > 0 {
		if _, err := migrations.UpTo(t.Context(), c.OwnerDSN, version); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Execute runs a statement as the owner of the tables.
func (c *Cluster) Execute(t testing.TB, statement string) {
	t.Helper()
	if err := execute(t.Context(), c.OwnerDSN, statement); err != nil {
		t.Fatal(err)
	}
}

func started(t testing.TB) Servers {
	t.Helper()
	s, err := servers()
	if err != nil {
		t.Fatalf("start the test servers: %v", err)
	}
	return s
}

// from makes a database from another one, and a bucket.
func from(t testing.TB, s Servers, template string) *Cluster {
	t.Helper()
	ctx := t.Context()
	name := "test_" + strings.ToLower(rand.Text()[:12])
	super := local.SocketDSN(s.Socket, local.SuperRole, "postgres")
	if err := execute(ctx, super, "CREATE DATABASE "+name+" TEMPLATE "+template+" OWNER "+local.OwnerRole); err != nil {
		t.Fatalf("create the test database: %v", err)
	}
	t.Cleanup(func() {
		// The test's context has ended by now.
		if err := execute(context.Background(), super, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the test database: %v", err)
		}
	})
	bucket := strings.ReplaceAll(name, "_", "-")
	if err := local.MakeBucket(ctx, s.Status, bucket); err != nil {
		t.Fatal(err)
	}
	return &Cluster{
		OwnerDSN:   local.SocketDSN(s.Socket, local.OwnerRole, name),
		ServingDSN: local.SocketDSN(s.Socket, local.ServingRole, name),
		SuperDSN:   local.SocketDSN(s.Socket, local.SuperRole, name),
		Socket:     s.Socket, Database: name,
		Endpoint: s.Endpoint, Region: local.Region, Bucket: bucket, Access: s.Access, Secret: s.Secret, Status: s.Status,
	}
}

// templateLock orders the test processes that find no template yet.
const templateLock = 0x6d61696c

var templateOnce struct {
	sync.Mutex
	done bool
}

// template migrates a database once for all tests of all processes on the servers s.
func template(ctx context.Context, s Servers) error {
	templateOnce.Lock()
	defer templateOnce.Unlock()
	if templateOnce.done {
		return nil
	}
	conn, err := pgx.Connect(ctx, local.SocketDSN(s.Socket, local.SuperRole, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) // and with it goes the lock
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, templateLock); err != nil {
		return err
	}
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'mailstead_template')`).Scan(&there); err != nil {
		return err
	}
	if !there {
		for _, step := range []func() error{
			func() error {
				_, err := conn.Exec(ctx, `DROP DATABASE IF EXISTS mailstead_unfinished WITH (FORCE)`)
				return err
			},
			func() error {
				_, err := conn.Exec(ctx, `CREATE DATABASE mailstead_unfinished OWNER `+local.OwnerRole)
				return err
			},
			func() error {
				_, err := migrations.Up(ctx, local.SocketDSN(s.Socket, local.OwnerRole, "mailstead_unfinished"))
				return err
			},
			func() error {
				_, err := conn.Exec(ctx, `ALTER DATABASE mailstead_unfinished RENAME TO mailstead_template`)
				return err
			},
		} {
			if err := step(); err != nil {
				return err
			}
		}
	}
	templateOnce.done = true
	return nil
}

func execute(ctx context.Context, dsn, statement string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}
