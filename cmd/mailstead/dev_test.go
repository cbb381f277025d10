package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// devProcess is a running `mailstead dev`.
type devProcess struct {
	t        *testing.T
	cmd      *exec.Cmd
	exited   chan error
	mu       sync.Mutex
	output   []string
	children map[string][]int // process ids of each child, the newest last
	changed  chan struct{}    // a value: there is more output
}

func startDev(t *testing.T, data string, base int, args ...string) *devProcess {
	t.Helper()
	d := &devProcess{t: t, exited: make(chan error, 1), children: map[string][]int{}, changed: make(chan struct{}, 1)}
	d.cmd = exec.Command(os.Args[0], append([]string{"dev", "--data", data, "--port-base", strconv.Itoa(base)}, args...)...)
	d.cmd.Env = append(os.Environ(), asMailstead+"=1")
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = d.cmd.Stdout
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.cmd.Process.Kill() }) // if it still runs
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			d.line(lines.Text())
		}
		d.exited <- d.cmd.Wait()
	}()
	d.waitFor("ready", func() bool { return d.has("ready ") })
	return d
}

func (d *devProcess) line(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.output = append(d.output, line)
	var name string
	var pid int
	if n, err := fmt.Sscanf(line, "child %s %d", &name, &pid); n == 2 && err == nil {
		d.children[name] = append(d.children[name], pid)
	}
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

func (d *devProcess) has(prefix string) bool {
	for _, line := range d.output {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

// waitFor returns when done, which is called with the output locked, says so.
func (d *devProcess) waitFor(what string, done func() bool) {
	d.t.Helper()
	deadline := time.After(time.Minute)
	for {
		d.mu.Lock()
		ok, output := done(), strings.Join(d.output, "\n")
		d.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-d.changed:
		case err := <-d.exited:
			d.t.Fatalf("waiting for %s: dev ended: %v\n%s", what, err, output)
		case <-deadline:
			d.t.Fatalf("no %s\n%s", what, output)
		}
	}
}

// newest returns the process id of a child, and how many it has had.
func (d *devProcess) newest(name string) (pid, starts int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	pids := d.children[name]
	if len(pids) == 0 {
		d.t.Fatalf("no child %s in\n%s", name, strings.Join(d.output, "\n"))
	}
	return pids[len(pids)-1], len(pids)
}

// wait returns the exit status of dev, and fails while a child of it lives.
func (d *devProcess) wait() error {
	d.t.Helper()
	var result error
	select {
	case result = <-d.exited:
	case <-time.After(time.Minute):
		d.t.Fatal("dev does not end")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, pids := range d.children {
		for _, pid := range pids {
			for deadline := time.Now().Add(20 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					d.t.Errorf("child %s %d outlives dev", name, pid)
					break
				}
			}
		}
	}
	return result
}

// alive reports whether a process runs, zombies aside.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// freePorts returns a base with n free ports from it.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	for base := 20000 + os.Getpid()%20000; base < 60000; base += n {
		free := true
		for port := base; port < base+n && free; port++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if free = err == nil; free {
				l.Close()
			}
		}
		if free {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

// login logs in, over TLS or without, once the port answers.
func login(t *testing.T, data string, port int, overTLS bool, user, password string) *imapclient.Client {
	t.Helper()
	address := fmt.Sprintf("localhost:%d", port)
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var c *imapclient.Client
		if overTLS {
			c, err = imapclient.DialTLS(address, &imapclient.Options{TLSConfig: trusting(t, data)})
		} else {
			c, err = imapclient.DialInsecure(address, nil)
		}
		if err != nil {
			continue
		}
		if err = c.Login(user, password).Wait(); err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
		c.Close()
	}
	t.Fatalf("login as %s at %s: %v", user, address, err)
	return nil
}

func trusting(t *testing.T, data string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(data, "tls", caFile))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool}
}

// Everything that dies comes back where it was; what was killed with all its
// children starts again with all its data; what is asked to end leaves nothing.
func TestDev(t *testing.T) {
	data, err := os.MkdirTemp("", "mailstead-dev-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(data); err != nil {
			t.Error(err)
		}
	})
	const accounts = "20"
	base := freePorts(t, 20)
	d := startDev(t, data, base, "--accounts", accounts, "--plaintext-login", "--front-ends", "2")
	if err := login(t, data, base, false, "user0001@demo.test", "pass").Create("Kept", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	login(t, data, base+10+portIMAPS, true, "user0002@other.test", "pass")
	if out, err := mailstead(t, nil, "-c", filepath.Join(data, operatorFile), "account", "list"); err != nil || !strings.Contains(out, "user0001@demo.test") {
		t.Errorf("the operator's file: %v\n%s", err, out)
	}

	for _, name := range []string{"front-1", "postgres", "s3", "front-2"} {
		pid, starts := d.newest(name)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		d.waitFor("restart of "+name, func() bool { return len(d.children[name]) > starts })
	}
	login(t, data, base+portIMAPS, true, "user0001@demo.test", "pass")
	login(t, data, base+10, false, "user0001@demo.test", "pass")

	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := d.wait(); err == nil {
		t.Error("dev ended well by SIGKILL")
	}
	state, err := loadDevState(filepath.Join(data, "dev.json"), devOptions{demo: firstDemo}.users())
	if err != nil {
		t.Fatal(err)
	}

	// A second start, now with one front end in dev itself.
	d = startDev(t, data, base, "--accounts", accounts, "--plaintext-login")
	if status, err := login(t, data, base, false, "user0001@demo.test", "pass").Status("Kept", &imap.StatusOptions{NumMessages: true}).Wait(); err != nil {
		t.Errorf("STATUS of what was made before: %+v, %v", status, err)
	}
	login(t, data, base+portIMAPS, true, "demo1@demo.test", state.Passwords["demo1@demo.test"])
	second := exec.Command(os.Args[0], "dev", "--data", data, "--port-base", strconv.Itoa(base))
	second.Env = append(os.Environ(), asMailstead+"=1")
	if out, err := second.CombinedOutput(); err == nil {
		t.Errorf("a second dev on the same folder started: %s", out)
	}
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := d.wait(); err != nil {
		t.Errorf("dev ended with %v by SIGINT", err)
	}
}

// Certificates are kept while they hold, and renewed as a whole.
func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	read := func(now time.Time) string {
		t.Helper()
		if err := makeCertificates(dir, now); err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, certFile), filepath.Join(dir, keyFile))
		if err != nil {
			t.Fatal(err)
		}
		ca, err := os.ReadFile(filepath.Join(dir, caFile))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: "localhost", Roots: roots, CurrentTime: now}); err != nil {
			t.Errorf("at %v: %v", now, err)
		}
		return string(ca)
	}
	now := time.Now()
	first := read(now)
	if read(now.AddDate(1, 0, 0)) != first {
		t.Error("a certificate that holds was replaced")
	}
	later := read(now.AddDate(3, 0, 0))
	if later == first {
		t.Error("a certificate that has expired was kept")
	}
	if err := os.Remove(filepath.Join(dir, keyFile)); err != nil { // as after a crash
		t.Fatal(err)
	}
	read(now)
}

// A port that is taken is named before anything is started, whatever answers there.
func TestDevPortTaken(t *testing.T) {
	base := freePorts(t, 10)
	for _, port := range []int{base + portLMTP, base + portS3} {
		data := t.TempDir()
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		out, err := mailstead(t, nil, "dev", "--data", data, "--port-base", strconv.Itoa(base))
		if want := fmt.Sprintf("127.0.0.1:%d: bind: address already in use", port); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--port-base") {
			t.Errorf("with port %d taken: %v, want %s and what to do", port, err, want)
		}
		if strings.Contains(out, "child") {
			t.Errorf("with port %d taken: %s", port, out)
		}
		l.Close()
	}
}

func TestDevOptions(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"dev --port-base 65530", "--port-base 65530: want a port between"},
		{"dev --front-ends 0", "--front-ends 0: want 1 to 100"},
		{"dev --accounts -1", "--accounts -1"},
		{"dev --cells 3", "--cells 3: want 1 or 2"},
		{"dev --cells 2 --front-ends 6", "--cells 2: the ports from 14300 to 14399"},
		{"dev --cells 2 --demo east", "--demo east: it is the other cell's"},
		{"dev --demo a.b", "--demo: cell"},
		{"dev now", `what is "now"?`},
	} {
		if _, err := mailstead(t, nil, strings.Fields(test.line)...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("mailstead %s: %v, want %s", test.line, err, test.want)
		}
	}
}
