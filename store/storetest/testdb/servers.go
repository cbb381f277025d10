package testdb

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"mailstead.dev/deploy/local"
)

// ServersVariable is the environment variable by which `make test` tells the
// tests of all packages the servers that it has started for them.
const ServersVariable = "MAILSTEAD_TEST_SERVERS"

// Servers says where the PostgreSQL and the S3 server of the tests are.
type Servers struct {
	Socket   string // folder of PostgreSQL's socket
	Endpoint string // host:port of S3
	Status   string // host:port of devs3's counters and bucket creation
	Access   string
	Secret   string
}

const (
	testAccess = "storetest"
	testSecret = "storetest-secret"
)

// Start starts servers that end with this process, and whose folder is removed then.
func Start(ctx context.Context) (Servers, error) {
	dir, err := os.MkdirTemp("", "mailstead-test-")
	if err != nil {
		return Servers{}, err
	}
	// Others may pass, for the user postgres when root tests; what is inside is closed to them.
	if err := os.Chmod(dir, 0o711); err != nil {
		return Servers{}, err
	}
	if err := removeAtExit(dir); err != nil {
		return Servers{}, err
	}
	postgres, err := local.StartPostgres(ctx, local.PostgresOptions{Dir: filepath.Join(dir, "postgres"), Temporary: true})
	if err != nil {
		return Servers{}, err
	}
	s3, err := local.StartS3(ctx, local.S3Options{
		Dir: filepath.Join(dir, "s3"), Listen: "127.0.0.1:0", Status: "127.0.0.1:0",
		Access: testAccess, Secret: testSecret,
	})
	if err != nil {
		return Servers{}, err
	}
	return Servers{Socket: postgres.Socket(), Endpoint: s3.Endpoint, Status: s3.Status, Access: testAccess, Secret: testSecret}, nil
}

// Environ returns the environment entry that hands s to tests.
func (s Servers) Environ() (string, error) {
	text, err := json.Marshal(s)
	return ServersVariable + "=" + string(text), err
}

// servers are those of `make test`, or this process's own.
var servers = sync.OnceValues(func() (Servers, error) {
	if text := os.Getenv(ServersVariable); text != "" {
		var s Servers
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return Servers{}, fmt.Errorf("%s: %w", ServersVariable, err)
		}
		return s, nil
	}
	// They outlive the test that asks first.
	return Start(context.Background())
})

// removeAtExit has a shell remove dir when this process has ended, also when it is killed,
// and the server in it has.
func removeAtExit(dir string) error {
	const script = `read -r _; i=0
		while [ -e "$1/postgres/data/postmaster.pid" ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
		rm -rf "$1"`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	held, err := cmd.StdinPipe() // its other end closes when this process ends
	if err != nil {
		return err
	}
	atExit = append(atExit, held)
	return cmd.Start()
}

// atExit keeps pipes open until the process ends.
var atExit []any
