package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// PgBouncer is a running PgBouncer in transaction mode.
type PgBouncer struct {
	*Process
	dir string
}

const bouncerPort = 6432

// StartPgBouncer starts Debian's PgBouncer, in transaction mode, before the private PostgreSQL
// whose socket lies in the folder socket. poolSize is how many connections each role and database share.
func StartPgBouncer(ctx context.Context, dir, socket string, poolSize int) (_ *PgBouncer, err error) {
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path = "/usr/sbin/pgbouncer" // not in the path of every user
		if _, err := os.Stat(path); err != nil {
			return nil, errors.New("no pgbouncer found: run `make test-deps`")
		}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	as, err := serverIdentity(dir)
	if err != nil {
		return nil, err
	}
	listen, err := socketDir(dir, as)
	if err != nil {
		return nil, err
	}
	users := filepath.Join(dir, "users")
	files := []struct {
		path, text string
	}{
		{filepath.Join(dir, "pgbouncer.ini"), fmt.Sprintf(`[databases]
* = host=%s port=%d
[pgbouncer]
listen_addr =
unix_socket_dir = %s
listen_port = %d
pool_mode = transaction
default_pool_size = %d
max_client_conn = 1000
auth_type = trust
auth_file = %s
`, socket, socketPort, listen, bouncerPort, poolSize, users)},
		{users, fmt.Sprintf("%q \"\"\n%q \"\"\n", OwnerRole, ServingRole)},
	}
	for _, file := range files {
		if err := os.WriteFile(file.path, []byte(file.text), 0o600); err != nil {
			return nil, err
		}
		if err := as.own(file.path); err != nil {
			return nil, err
		}
	}
	log := filepath.Join(dir, "pgbouncer.log")
	b := &PgBouncer{dir: listen}
	if b.Process, err = as.start(exec.Command(path, files[0].path), log, syscall.SIGKILL); err != nil {
		return nil, fmt.Errorf("start PgBouncer: %w", err)
	}
	startCtx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = b.await(startCtx, "PgBouncer", func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(listen, ".s.PGSQL."+strconv.Itoa(bouncerPort)))
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		b.Stop(ctx)
		return nil, fmt.Errorf("%w\n%s", err, Tail(log))
	}
	return b, nil
}

// DSN returns a connection string for a role and a database through PgBouncer.
func (b *PgBouncer) DSN(role, database string) string { return dsn(b.dir, bouncerPort, role, database) }

// Stop ends PgBouncer.
func (b *PgBouncer) Stop(ctx context.Context) { b.Process.Stop(ctx, syscall.SIGTERM) }
