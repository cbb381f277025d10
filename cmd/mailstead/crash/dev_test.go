//go:build crash

package crash

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/deploy/local"
)

// Ports of `mailstead dev`, counted from its base; those of the second front end are frontEndPorts higher.
const (
	portIMAP      = 0
	portLMTP      = 2
	portHTTP      = 3
	frontEndPorts = 10
)

// accountPassword is that of all accounts of --accounts.
const accountPassword = "pass"

// devServer is a running `mailstead dev` with two front ends.
type devServer struct {
	binary, dir string
	portBase    int
	settings    []string // variables of its environment

	mu      sync.Mutex // guards what follows
	changed *sync.Cond
	pids    map[string]int
	starts  map[string]int // how often each child has been started
	ready   bool
	socket  string // folder of PostgreSQL's socket
	cmd     *exec.Cmd
	ended   chan struct{}

	metrics map[string]map[string]float64 // by process and name; of the test's own goroutine
}

// change is text of the program that is replaced, for a mistake that is to be found, or for what takes too long.
type change struct{ file, old, new string }

// earlyAnswer has LMTP answer 250 a moment before it delivers.
var earlyAnswer = []change{
	{
		file: "../../../lmtpd/delivery.go",
		old:  "_, err := to.Mailbox.Append(ctx, store.Incoming{",
		new:  "err := appendLater(ctx, to.Mailbox, store.Incoming{",
	},
	{
		file: "../../../lmtpd/delivery.go",
		old:  "func (d *delivery) append(",
		new: `func appendLater(ctx context.Context, m *store.Mailbox, in store.Incoming) error {
	go func() {
		time.Sleep(300 * time.Millisecond)
		_, _ = m.Append(context.WithoutCancel(ctx), in)
	}()
	return nil
}

func (d *delivery) append(`,
	},
	{file: "../../../lmtpd/delivery.go", old: "if err := c.Close(); err != nil {", new: "if err := error(nil); c == nil {"},
}

// buildMailstead builds the program, with changes.
func buildMailstead(t *testing.T, changes ...change) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"build", "-o", filepath.Join(dir, "mailstead")}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for i, c := range changes {
		path, err := filepath.Abs(c.file)
		if err != nil {
			t.Fatal(err)
		}
		from := path
		if changed, ok := overlay.Replace[path]; ok {
			from = changed
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), c.old); n != 1 {
			t.Fatalf("%s has %d times what is to be changed: %q", c.file, n, c.old)
		}
		changed := filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(changed, []byte(strings.Replace(string(text), c.old, c.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[path] = changed
	}
	if len(changes) > 0 {
		data, err := json.Marshal(overlay)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "overlay.json")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-overlay", file)
	}
	if output, err := exec.CommandContext(t.Context(), "go", append(args, "..")...).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	return filepath.Join(dir, "mailstead")
}

// forgetful has mail that was expunged go within seconds, and its content and objects soon after.
var forgetful = []string{
	"MAILSTEAD_STORE_RETENTION=2s", "MAILSTEAD_STORE_EXPUNGE_HORIZON=10s", "MAILSTEAD_STORE_STORED_RATIO=1.001",
	"MAILSTEAD_STORE_SWEEP_EVERY=2s", "MAILSTEAD_STORE_TIDY_EVERY=3s", "MAILSTEAD_STORE_OBJECT_GRACE=10s",
}

// shortLeases has the work of a process that was killed wait for another one no longer than there is
// between two kills: with leases as long as they are, hardly a sweep would come to its end.
var shortLeases = change{
	file: "../../../store/lease.go",
	old:  "leaseTime = 30 * time.Second",
	new:  "leaseTime = 2 * time.Second",
}

func startDev(t *testing.T, binary string, settings ...string) *devServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "mailstead-crash-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // PostgreSQL's user passes
		t.Fatal(err)
	}
	d := &devServer{binary: binary, dir: dir, portBase: freePorts(t), settings: settings, pids: map[string]int{}, starts: map[string]int{}, metrics: map[string]map[string]float64{}}
	d.changed = sync.NewCond(&d.mu)
	t.Cleanup(func() {
		d.stop(t)
		if t.Failed() {
			t.Logf("the data is kept in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	d.start(t)
	return d
}

// freePorts returns a base that the ports of two front ends are likely to be free from.
func freePorts(t *testing.T) int {
	t.Helper()
	for base := 21000; base < 31000; base += 100 {
		free := true
		for port := base; port < base+20 && free; port++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				free = false
				break
			}
			l.Close()
		}
		if free {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

// start starts the program and waits for its ready line.
func (d *devServer) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(d.binary, "dev", "--data", d.dir, "--port-base", fmt.Sprint(d.portBase),
		"--front-ends", "2", "--accounts", "10", "--plaintext-login")
	// Packs and folds happen while it is killed, too.
	cmd.Env = append(os.Environ(), "MAILSTEAD_STORE_PACK_SIZE=256KiB", "MAILSTEAD_STORE_FOLD_MIN=2KiB")
	cmd.Env = append(cmd.Env, d.settings...)
	cmd.Stderr = os.Stderr
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.cmd, d.ready, d.ended = cmd, false, make(chan struct{})
	ended := d.ended
	d.mu.Unlock()
	go func() {
		defer close(ended)
		d.follow(output)
		_ = cmd.Wait() // it is killed, or asked to end
		d.mu.Lock()
		d.changed.Broadcast()
		d.mu.Unlock()
	}()
	d.await(t, "be ready", func() bool { return d.ready })
}

// follow reads what the program says of its children.
func (d *devServer) follow(output io.Reader) {
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		line := lines.Text()
		d.mu.Lock()
		var name string
		var pid int
		if _, err := fmt.Sscanf(line, "child %s %d", &name, &pid); err == nil {
			d.pids[name] = pid
			d.starts[name]++
		}
		if _, dsn, ok := strings.Cut(line, "psql '"); ok {
			if u, err := url.Parse(strings.TrimSuffix(dsn, "'")); err == nil {
				d.socket = u.Query().Get("host")
			}
		}
		if strings.HasPrefix(line, "ready") {
			d.ready = true
		}
		d.changed.Broadcast()
		d.mu.Unlock()
	}
}

// await waits until done, which is called with the lock held.
func (d *devServer) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	timer := time.AfterFunc(2*time.Minute, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.changed.Broadcast()
	})
	defer timer.Stop()
	deadline := time.Now().Add(2*time.Minute - time.Second)
	d.mu.Lock()
	defer d.mu.Unlock()
	for !done() {
		if time.Now().After(deadline) || d.cmd.ProcessState != nil {
			t.Fatalf("mailstead dev does not %s", what)
		}
		d.changed.Wait()
	}
}

// kill kills a child and waits until it has been started again.
func (d *devServer) kill(t *testing.T, name string) {
	t.Helper()
	d.mu.Lock()
	pid, n := d.pids[name], d.starts[name]
	d.mu.Unlock()
	if pid == 0 {
		t.Fatalf("no child %s", name)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s, process %d: %v", name, pid, err)
	}
	d.await(t, "start "+name+" again", func() bool { return d.starts[name] > n })
}

// killEverything kills the program and all its children.
func (d *devServer) killEverything(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	pids := []int{d.cmd.Process.Pid}
	for _, pid := range d.pids {
		pids = append(pids, pid)
	}
	ended := d.ended
	d.mu.Unlock()
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			t.Fatal(err)
		}
	}
	<-ended
}

// stop asks the program to end, and waits for it.
func (d *devServer) stop(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	cmd, ended := d.cmd, d.ended
	d.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("mailstead dev does not end")
		_ = cmd.Process.Kill()
		<-ended
	}
}

func (d *devServer) restart(t *testing.T) {
	t.Helper()
	d.stop(t)
	d.start(t)
}

// fsck returns what the program's own check finds.
func (d *devServer) fsck(t *testing.T) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	output, err := exec.CommandContext(ctx, d.binary, "fsck", "--config", filepath.Join(d.dir, "front-1.yaml")).CombinedOutput()
	if err != nil {
		return []string{fmt.Sprintf("fsck: %v\n%s", err, output)}
	}
	return nil
}

// sample reads the metrics of both front ends, those without labels: of a process that is
// killed later it is the last that is known.
func (d *devServer) sample() {
	client := http.Client{Timeout: 5 * time.Second}
	for i := range 2 {
		name := fmt.Sprintf("front-%d", i+1)
		d.mu.Lock()
		process := fmt.Sprint(name, " ", d.starts[name])
		d.mu.Unlock()
		answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", d.portBase+portHTTP+frontEndPorts*i))
		if err != nil {
			continue // it is being started
		}
		values := map[string]float64{}
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			var metric string
			var value float64
			if n, _ := fmt.Sscan(lines.Text(), &metric, &value); n == 2 { // else it is a comment
				values[metric] = value
			}
		}
		answer.Body.Close()
		d.metrics[process] = values
	}
}

// counted returns how much of a metric all processes have counted, up to when they were last asked.
func (d *devServer) counted(metric string) (sum float64) {
	for _, values := range d.metrics {
		sum += values[metric]
	}
	return sum
}

// database runs f with the rights of PostgreSQL's superuser, whom row-level security does not bind.
func (d *devServer) database(t *testing.T, f func(ctx context.Context, conn *pgx.Conn) error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), local.SocketDSN(d.socket, local.SuperRole, local.Database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := f(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
}

// stagedTables are where small content waits for its pack.
var stagedTables = []string{"staged_0", "staged_1", "staged_2", "staged_3"}

// loseStagedRow deletes a row of staging that is needed.
func loseStagedRow(t *testing.T, d *devServer) func() {
	t.Helper()
	var table string
	var tenant int64
	var digest, data []byte
	d.database(t, func(ctx context.Context, conn *pgx.Conn) error {
		for _, table = range stagedTables {
			err := conn.QueryRow(ctx, `
				DELETE FROM `+table+` s USING (
					SELECT b.tenant_id, b.digest
					FROM blob b JOIN `+table+` USING (tenant_id, digest)
					JOIN email e USING (tenant_id, digest)
					JOIN mailbox_log l ON l.tenant_id = b.tenant_id AND l.email_base = e.email_id - 1
					WHERE b.slot IS NOT NULL
					LIMIT 1) AS one
				WHERE s.tenant_id = one.tenant_id AND s.digest = one.digest
				RETURNING s.tenant_id, s.digest, s.data`).Scan(&tenant, &digest, &data)
			if err != pgx.ErrNoRows {
				return err
			}
		}
		return fmt.Errorf("nothing is staged")
	})
	return func() {
		d.database(t, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `INSERT INTO `+table+` (tenant_id, digest, data) VALUES ($1, $2, $3)`, tenant, digest, data)
			return err
		})
	}
}

// flipByte changes a byte in the middle of the largest object.
func flipByte(t *testing.T, d *devServer) func() {
	t.Helper()
	var path string
	var size int64
	err := filepath.WalkDir(filepath.Join(d.dir, "s3"), func(p string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Size() > size && !strings.HasSuffix(p, ".log") {
			path, size = p, info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	flip := func() {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		one := make([]byte, 1)
		if _, err := f.ReadAt(one, size/2); err != nil {
			t.Fatal(err)
		}
		one[0] ^= 0x10
		if _, err := f.WriteAt(one, size/2); err != nil {
			t.Fatal(err)
		}
	}
	flip()
	return flip
}

// miscount makes a mailbox count a message too many as unseen.
func miscount(t *testing.T, d *devServer) func() {
	t.Helper()
	count := func(n int) {
		d.database(t, func(ctx context.Context, conn *pgx.Conn) error {
			tag, err := conn.Exec(ctx, `UPDATE mailbox SET unseen = unseen + $1 WHERE name = 'crash-0-a'`, n)
			if err == nil && tag.RowsAffected() != 1 {
				err = fmt.Errorf("%d mailboxes", tag.RowsAffected())
			}
			return err
		})
	}
	count(1)
	return func() { count(-1) }
}
