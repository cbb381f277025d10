package local

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// The roles of a private PostgreSQL are those of production: an owner that
// migrates, and a login that serves and owns nothing.
const (
	SuperRole   = "postgres"
	OwnerRole   = "mailstead"
	ServingRole = "mailstead_serve"
	Database    = "mailstead"
)

// PostgresOptions says how a private PostgreSQL is run.
type PostgresOptions struct {
	Dir            string // everything lies in it; created if missing
	Log            string // file for what the server says; empty: Dir/postgres.log
	SharedBuffers  string // empty: 256MB
	MaxConnections int    // 0: 300
	Temporary      bool   // the folder is removed at the end: made without syncs, shut down without a checkpoint
}

// Postgres is a running private PostgreSQL. It listens on a Unix socket only.
type Postgres struct {
	*Process
	socket string
	unlock func()
}

// socketPort only names the socket file.
const socketPort = 5432

// StartPostgres starts PostgreSQL on the folder, which is set up first where
// there is none, with roles and an empty database. Whatever an earlier server on the same
// folder left behind, processes included, is cleared away. As root, the server runs as the user postgres.
func StartPostgres(ctx context.Context, o PostgresOptions) (_ *Postgres, err error) {
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	if o.Log == "" {
		o.Log = filepath.Join(o.Dir, "postgres.log")
	}
	if o.SharedBuffers == "" {
		o.SharedBuffers = "256MB"
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 300
	}
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := Lock(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	as, err := serverIdentity(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := as.own(o.Dir); err != nil {
		return nil, err
	}
	data := filepath.Join(o.Dir, "data")
	if err := endOrphans(ctx, data, as); err != nil {
		return nil, err
	}
	if err := initdb(ctx, o, bin, data, as); err != nil {
		return nil, err
	}
	socket, err := socketDir(o.Dir, as)
	if err != nil {
		return nil, err
	}

	for _, lock := range []string{filepath.Join(data, "postmaster.pid"), filepath.Join(socket, fmt.Sprintf(".s.PGSQL.%d.lock", socketPort))} {
		if err := dropDeadLock(lock); err != nil {
			return nil, err
		}
	}

	conf := filepath.Join(o.Dir, "postgresql.conf")
	if err := os.WriteFile(conf, settings(o, socket), 0o600); err != nil {
		return nil, err
	}
	if err := as.own(conf); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-c", "config_file="+conf)
	p := &Postgres{socket: socket, unlock: unlock}
	// A fast shutdown when the parent dies, or one that saves nothing; what is still
	// there at the next start ends before it.
	end := syscall.SIGINT
	if o.Temporary {
		end = syscall.SIGQUIT
	}
	if p.Process, err = as.start(cmd, o.Log, end); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	defer func() {
		if err != nil {
			p.Process.Stop(ctx, syscall.SIGINT)
			err = fmt.Errorf("%w\n%s", err, Tail(o.Log))
		}
	}()
	startCtx, cancel := context.WithTimeout(ctx, time.Minute) // crash recovery included
	defer cancel()
	err = p.await(startCtx, "PostgreSQL", func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, p.DSN(SuperRole, "postgres"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
	if err != nil {
		return nil, err
	}
	return p, p.provision(ctx)
}

// settings is the server's configuration file. What makes commits durable is on, always.
func settings(o PostgresOptions, socket string) []byte {
	return fmt.Appendf(nil, `# Written by mailstead at every start.
listen_addresses = ''
unix_socket_directories = '%s'
unix_socket_permissions = 0700
port = %d
fsync = on
synchronous_commit = on
full_page_writes = on
shared_buffers = %s
max_connections = %d
max_wal_size = 4GB
wal_compression = lz4
jit = off
timezone = UTC
log_timezone = UTC
log_line_prefix = '%%m [%%p] %%q%%u@%%d '
`, strings.ReplaceAll(socket, "'", "''"), socketPort, o.SharedBuffers, o.MaxConnections)
}

// DSN returns a connection string for a role and a database.
func (p *Postgres) DSN(role, database string) string { return SocketDSN(p.socket, role, database) }

// Socket is the folder of the server's socket.
func (p *Postgres) Socket() string { return p.socket }

// SocketDSN is the DSN of a private PostgreSQL whose socket lies in the folder socket.
func SocketDSN(socket, role, database string) string {
	return dsn(socket, socketPort, role, database)
}

func dsn(socket string, port int, role, database string) string {
	q := url.Values{"host": {socket}, "port": {strconv.Itoa(port)}, "user": {role}, "sslmode": {"disable"}}
	return "postgres:///" + url.PathEscape(database) + "?" + q.Encode()
}

// Stop shuts the server down.
func (p *Postgres) Stop(ctx context.Context) {
	p.Process.Stop(ctx, syscall.SIGINT)
	p.unlock()
}

// Release gives the folder free once the server has ended by itself, for a new StartPostgres.
func (p *Postgres) Release() { p.unlock() }

// provision makes the roles and the database that are missing.
func (p *Postgres) provision(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.DSN(SuperRole, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, Database).Scan(&there); err != nil || there {
		return err
	}
	const roles = `
		DO $$
		BEGIN
			IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mailstead') THEN
				CREATE ROLE mailstead LOGIN;
				CREATE ROLE mailstead_serving NOLOGIN;
				CREATE ROLE mailstead_serve LOGIN IN ROLE mailstead_serving;
			END IF;
		END
		$$`
	if _, err := conn.Exec(ctx, roles); err != nil {
		return fmt.Errorf("create roles: %w", err)
	}
	if _, err := conn.Exec(ctx, `CREATE DATABASE mailstead OWNER mailstead`); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}

// initdb makes the cluster. It is made beside its place and moved there, so
// that half a cluster is never taken for a whole one.
func initdb(ctx context.Context, o PostgresOptions, bin, data string, as identity) error {
	if _, err := os.Stat(data); err == nil {
		return nil
	}
	unfinished := data + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	args := []string{"-D", unfinished, "-U", SuperRole, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"}
	if o.Temporary {
		args = append(args, "--no-sync")
	}
	p, err := as.start(exec.Command(filepath.Join(bin, "initdb"), args...), o.Log, syscall.SIGKILL)
	if err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		_ = p.cmd.Process.Kill() // an error says that it has ended
		return ctx.Err()
	}
	if p.Err() != nil {
		return fmt.Errorf("initdb: %w\n%s", p.Err(), Tail(o.Log))
	}
	return os.Rename(unfinished, data)
}

// postgresBin finds the newest installed server.
func postgresBin() (string, error) {
	if dir := os.Getenv("MAILSTEAD_POSTGRES_BIN"); dir != "" {
		return dir, nil
	}
	best, version := "", 0
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is well-formed
	for _, path := range found {
		bin := filepath.Dir(path)
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(bin))); err == nil && n > version {
			best, version = bin, n
		}
	}
	if best != "" {
		return best, nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return "", errors.New("no PostgreSQL server found in /usr/lib/postgresql or PATH: run `make dev-deps`, or set MAILSTEAD_POSTGRES_BIN to its folder")
	}
	return filepath.Dir(path), nil
}
