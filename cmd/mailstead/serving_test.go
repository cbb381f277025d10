package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serving is a running `mailstead serve`, which takes the test for systemd.
type serving struct {
	*site
	file     string            // its configuration
	settings map[string]string // in that file, by key
	cmd      *exec.Cmd
	log      journal       // what it has written, before it told systemd whatever that has heard
	told     *net.UnixConn // what it tells systemd
	exited   chan error
}

// patience is how long anything may take that should happen at once.
const patience = 30 * time.Second

func newServing(t *testing.T, settings map[string]string) *serving {
	t.Helper()
	return newSite(t).newServing(settings)
}

func (s *site) newServing(settings map[string]string) *serving {
	s.t.Helper()
	dir := s.t.TempDir()
	p := &serving{site: s, file: filepath.Join(dir, "mailstead.yaml"), log: journal(filepath.Join(dir, "log"))}
	p.settings = map[string]string{
		"roles": "[imap, lmtp, index, admin]", "search.folder": filepath.Join(dir, "index"), "imap.listen": "127.0.0.1:0", "imap.listen_tls": "off", "imap.plaintext_login": "true",
		"lmtp.listen": "127.0.0.1:0", "http.listen": "127.0.0.1:0",
	}
	maps.Copy(p.settings, settings)
	p.configure(nil)
	return p
}

// configure writes the file with some settings changed.
func (s *serving) configure(changed map[string]string) {
	s.t.Helper()
	maps.Copy(s.settings, changed)
	var top, sections strings.Builder
	last := ""
	for _, key := range slices.Sorted(maps.Keys(s.settings)) {
		section, name, nested := strings.Cut(key, ".")
		if !nested {
			fmt.Fprintf(&top, "%s: %s\n", key, s.settings[key])
			continue
		}
		if section != last {
			last = section
			fmt.Fprintf(&sections, "%s:\n", section)
		}
		fmt.Fprintf(&sections, "  %s: %s\n", name, s.settings[key])
	}
	if err := os.WriteFile(s.file, []byte(top.String()+sections.String()), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// start starts the process; environ is added to its environment, and files are its descriptors from 3.
func (s *serving) start(environ []string, files ...*os.File) {
	s.t.Helper()
	socket := filepath.Join(s.t.TempDir(), "notify")
	var err error
	if s.told, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.told.Close() })
	settings := slices.DeleteFunc(slices.Clone(s.environ), func(entry string) bool { return strings.HasPrefix(entry, "MAILSTEAD_IMAP_") })
	// The shell keeps its process id, which systemd's variables have to name.
	s.cmd = exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$0" serve --config "$1"`, os.Args[0], s.file)
	s.cmd.Env = slices.Concat(os.Environ(), settings, []string{asMailstead + "=1", "NOTIFY_SOCKET=" + socket}, environ)
	log, err := os.OpenFile(string(s.log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.ExtraFiles = log, log, files
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, exited := s.cmd, make(chan error, 1)
	s.exited = exited
	go func() { exited <- cmd.Wait(); close(exited) }()
	s.t.Cleanup(func() {
		cmd.Process.Kill() // if it still runs
		for range exited { // its database goes after it
		}
	})
}

// hears returns what systemd is told next that has a line of this beginning.
func (s *serving) hears(beginning string) string {
	s.t.Helper()
	if err := s.told.SetReadDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	for {
		n, err := s.told.Read(buffer)
		if err != nil {
			s.t.Fatalf("systemd does not hear %s: %v\n%s", beginning, err, s.log)
		}
		for line := range strings.SplitSeq(string(buffer[:n]), "\n") {
			if strings.HasPrefix(line, beginning) {
				return string(buffer[:n])
			}
		}
	}
}

// get returns what HTTP answers, with this status.
func (s *serving) get(path string, status int) string {
	s.t.Helper()
	answer, err := http.Get("http://" + s.address("http") + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != status {
		s.t.Errorf("%s: %s %s, %v, want %d", path, answer.Status, body, err, status)
	}
	return string(body)
}

func (s *serving) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// reload has the configuration read again, with some settings changed.
func (s *serving) reload(changed map[string]string) {
	s.t.Helper()
	s.configure(changed)
	s.signal(syscall.SIGHUP)
	s.hears("RELOADING=1")
	s.hears("READY=1")
}

// ends returns how the process ends.
func (s *serving) ends() error {
	s.t.Helper()
	select {
	case err := <-s.exited:
		return err
	case <-time.After(patience):
		s.t.Fatalf("the process does not end\n%s", s.log)
		return nil
	}
}

// address is where a service listens.
func (s *serving) address(service string) string {
	s.t.Helper()
	found := regexp.MustCompile(`service=` + service + ` address=(\S+)`).FindStringSubmatch(s.log.String())
	if found == nil {
		s.t.Fatalf("no service %s\n%s", service, s.log)
	}
	return found[1]
}

// journal is the file that a process logs to. The process has it itself, with nobody
// between who might copy late.
type journal string

func (j journal) String() string {
	text, err := os.ReadFile(string(j))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// peer is a client of a service that talks in lines.
type peer struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (s *serving) dial(service string) *peer {
	s.t.Helper()
	address := s.address(service)
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		s.t.Fatal(err)
	}
	return &peer{c, s.t, bufio.NewReader(c)}
}

func (p *peer) say(text string) {
	p.t.Helper()
	if _, err := fmt.Fprint(p.Conn, text); err != nil {
		p.t.Fatal(err)
	}
}

// hear wants a next line of this beginning.
func (p *peer) hear(beginning string) {
	p.t.Helper()
	if line, err := p.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, beginning) {
		p.t.Fatalf("heard %q, %v, want %q", line, err, beginning)
	}
}

// await reads lines until one has this beginning.
func (p *peer) await(beginning string) {
	p.t.Helper()
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatalf("%v, want %q", err, beginning)
		}
		if strings.HasPrefix(line, beginning) {
			return
		}
	}
}

// gone wants the other side to have ended the connection.
func (p *peer) gone() {
	p.t.Helper()
	if line, err := p.r.ReadString('\n'); err == nil {
		p.t.Errorf("heard %q, want the end", line)
	}
}

// logged wants the log to have a text.
func (s *serving) logged(text string) {
	s.t.Helper()
	if !strings.Contains(s.log.String(), text) {
		s.t.Errorf("the log has no %q\n%s", text, s.log)
	}
}

// certificate is the one that IMAP over TLS shows.
func (s *serving) certificate() string {
	s.t.Helper()
	c, err := tls.Dial("tcp", s.address("imaps"), &tls.Config{InsecureSkipVerify: true}) // which one it is, is what the test is about
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	return string(c.ConnectionState().PeerCertificates[0].Raw)
}

// certificateIn makes a certificate in a folder; shown is what clients then see.
func certificateIn(t *testing.T, dir string) (cert, key, shown string) {
	t.Helper()
	if err := makeCertificates(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, certFile), filepath.Join(dir, keyFile)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, string(pair.Leaf.Raw)
}
