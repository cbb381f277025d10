package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailstead.dev/certificate/certtest"
	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/store/storetest"
)

// A port that is taken is told with the setting that names it, and nothing is served.
func TestServePortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	for _, key := range []string{"imap.listen", "lmtp.listen", "http.listen"} {
		s := newSite(t)
		for _, other := range []string{"MAILSTEAD_IMAP_LISTEN", "MAILSTEAD_LMTP_LISTEN", "MAILSTEAD_HTTP_LISTEN"} {
			s.environ = append(s.environ, other+"=127.0.0.1:0")
		}
		s.environ = append(s.environ, "MAILSTEAD_"+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))+"="+taken)
		s.refuse("serve", key+": listen tcp "+taken+": bind: address already in use")
	}
}

// Every setting that SIGHUP changes does change what the process does, and the
// connections that are there stay. What takes a restart is named. (drain_time is that of TestServeDrainIsBounded.)
func TestServeReload(t *testing.T) {
	cert, key, first := certificateIn(t, t.TempDir())
	otherCert, otherKey, other := certificateIn(t, t.TempDir())
	s := newServing(t, map[string]string{"imap.listen_tls": "127.0.0.1:0", "tls.cert_file": cert, "tls.key_file": key})
	full := storetest.Account(t, s.store, "full@one.test")
	none := int64(0)
	if err := s.store.SetLimits(t.Context(), full, &none, nil); err != nil {
		t.Fatal(err)
	}
	s.start(nil)
	s.hears("READY=1")
	session := s.dial("imap")
	session.say("a LOGIN full@one.test " + storetest.Password + "\r\n")
	session.await("a OK")

	greets := func(service, greeting string) func() {
		return func() { s.dial(service).hear(greeting) }
	}
	delivers := func(answer string) func() { // to the account that has no room
		return func() {
			c := s.dial("lmtp")
			c.say("LHLO test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<full@one.test>\r\nDATA\r\n")
			c.await("354 ")
			c.say("Subject: x\r\n\r\nx\r\n.\r\n")
			c.hear(answer)
		}
	}
	shows := func(certificate string) func() {
		return func() {
			if s.certificate() != certificate {
				t.Error("not the certificate of the configuration")
			}
		}
	}
	tells := func(want bool) func() {
		return func() {
			before := strings.Count(s.log.String(), "read again")
			s.reload(nil)
			if more := strings.Count(s.log.String(), "read again") > before; more != want {
				t.Errorf("logging of reloads is %v, want %v\n%s", more, want, s.log)
			}
		}
	}
	folder := t.TempDir()
	byName := certtest.Write(t, certtest.Pair(t, time.Hour, "localhost"), filepath.Join(folder, "one"), "tls.crt", "tls.key")
	sealed := t.TempDir()
	seal := filepath.Join(sealed, "seal")
	if err := os.WriteFile(seal, []byte(certtest.SealKey()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	kept := certtest.Write(t, certtest.Pair(t, time.Hour, "kept.test"), sealed, "tls.crt", "tls.key")
	s.environ = append(s.environ, "MAILSTEAD_TLS_CERT_FILE="+cert, "MAILSTEAD_TLS_KEY_FILE="+key, "MAILSTEAD_TLS_SEAL_FILE="+seal)
	s.want(fmt.Sprintf("certificate add %[1]s/tls.crt %[1]s/tls.key", sealed), "is shown for kept.test")
	shows(first)()
	delivers("452 4.2.2")()
	tested := []string{"drain_time"}
	for _, change := range []struct {
		settings map[string]string
		check    func()
	}{
		{map[string]string{"log.level": "warn"}, tells(false)},
		{map[string]string{"log.level": "info"}, tells(true)},
		{map[string]string{"tls.cert_file": otherCert, "tls.key_file": otherKey}, shows(other)},
		{map[string]string{"tls.folder": folder}, func() {
			c, err := tls.Dial("tcp", s.address("imaps"), &tls.Config{ServerName: "localhost", InsecureSkipVerify: true}) // which one it is, is what the test is about
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if string(c.ConnectionState().PeerCertificates[0].Raw) != byName {
				t.Error("not the certificate of the name")
			}
		}},
		{map[string]string{"tls.seal_file": seal}, func() {
			for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
				c, err := tls.Dial("tcp", s.address("imaps"), &tls.Config{ServerName: "kept.test", InsecureSkipVerify: true}) // as above
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
				if string(c.ConnectionState().PeerCertificates[0].Raw) == kept {
					return
				}
				if time.Since(began) > patience {
					t.Fatal("not the certificate of the database")
				}
			}
		}},
		{map[string]string{"imap.max_connections_per_account": "1"}, func() {
			c := s.dial("imap")
			c.say("a LOGIN full@one.test " + storetest.Password + "\r\n")
			c.await("a NO")
		}},
		{map[string]string{"imap.max_connections_per_account": "1000", "imap.max_connections_per_tenant": "1"}, func() {
			c := s.dial("imap")
			c.say("a LOGIN full@one.test " + storetest.Password + "\r\n")
			c.await("a NO")
		}},
		{map[string]string{"imap.max_connections_per_address": "1"}, func() {
			s.dial("imap") // there may be one of before, too
			s.dial("imap").hear("* BYE [LIMIT]")
		}},
		{map[string]string{"imap.max_connections_per_address": "100"}, greets("imap", "* OK ")},
		{map[string]string{"imap.max_connections": "1"}, greets("imap", "* BYE [UNAVAILABLE]")},
		{map[string]string{"imap.max_connections": "100"}, greets("imap", "* OK ")},
		{map[string]string{"lmtp.reject_over_quota": "true"}, delivers("552 5.2.2")},
		{map[string]string{"lmtp.max_connections": "1"}, func() {
			s.dial("lmtp") // there may be one of before, too
			s.dial("lmtp").hear("421 4.3.2 Too many")
		}},
		{map[string]string{"lmtp.max_connections": "100"}, greets("lmtp", "220 ")},
		{map[string]string{"lmtp.allow": "[192.0.2.1]"}, greets("lmtp", "421 4.7.1")},
		{
			map[string]string{
				"auth.trusted": "[192.0.2.1]", "auth.max_failures_per_address": "1", "auth.max_failures_per_account": "1", "auth.max_failures_per_tenant": "1", "auth.block_time": "1h",
			},
			func() {
				c := s.dial("imap")
				c.say("a LOGIN full@one.test wrong\r\nb LOGIN full@one.test " + storetest.Password + "\r\n")
				c.await("a NO [AUTHENTICATIONFAILED]")
				c.await("b NO [LIMIT]")
				names, err := s.store.FailedNames(t.Context())
				if err != nil || len(names) < 3 { // and that of the address, if it is known by then
					t.Errorf("%+v, %v", names, err)
				}
				for _, n := range names {
					if n.Blocked == nil || time.Until(*n.Blocked).Round(time.Hour) != time.Hour {
						t.Errorf("%+v", n)
					}
				}
			},
		},
	} {
		s.reload(change.settings)
		change.check()
		session.say("b NOOP\r\n")
		session.await("b OK")
		for key := range change.settings {
			tested = append(tested, key)
		}
	}
	config.Walk(config.Default(), func(o config.Option) {
		if o.Reload && !slices.Contains(tested, o.Key) {
			t.Errorf("%s is said to change on SIGHUP, and nothing here tries it", o.Key)
		}
	})
	s.reload(map[string]string{"imap.plaintext_login": "false", "store.view_cache": "1MiB"})
	s.logged(`msg="settings have changed that take a restart" settings="[store.view_cache imap.plaintext_login]"`)
}

// A configuration in which anything is wrong changes nothing, and the log, systemd and the metrics say so.
func TestServeReloadWrong(t *testing.T) {
	dir := t.TempDir()
	cert, key, first := certificateIn(t, dir)
	otherCert, otherKey, other := certificateIn(t, t.TempDir())
	s := newServing(t, map[string]string{"imap.listen_tls": "127.0.0.1:0", "tls.cert_file": cert, "tls.key_file": key, "accounts.default_mailboxes": "true"})
	s.start(nil)
	s.hears("READY=1")
	replace := func(file, with string) {
		t.Helper()
		text, err := os.ReadFile(with)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	unchanged := func() {
		t.Helper()
		s.dial("lmtp").hear("220 ")
		if s.certificate() != first {
			t.Error("the certificate has changed")
		}
		if got := s.get("/metrics", http.StatusOK); !strings.Contains(got, "mailstead_configuration_rejected 1\n") {
			t.Errorf("the metrics do not tell\n%s", got)
		}
	}

	// Half of a new certificate, and a setting that is right.
	replace(cert, otherCert)
	s.reload(map[string]string{"lmtp.allow": "[192.0.2.1]"})
	s.logged("private key does not match public key")
	unchanged()

	// A misspelt key.
	replace(key, otherKey)
	delete(s.settings, "accounts.default_mailboxes")
	s.configure(map[string]string{"accounts.default_mailboxs": "true"})
	s.signal(syscall.SIGHUP)
	s.hears("RELOADING=1")
	if status := s.hears("READY=1"); !strings.Contains(status, "STATUS=Serving; the configuration was wrong") {
		t.Errorf("systemd hears %q", status)
	}
	s.logged(s.file + `:3: unknown key \"default_mailboxs\" in accounts (did you mean default_mailboxes?)`)
	unchanged()

	delete(s.settings, "accounts.default_mailboxs")
	s.reload(nil)
	s.dial("lmtp").hear("421 4.7.1")
	if s.certificate() != other {
		t.Error("files of the same names were not read again")
	}
	if got := s.get("/metrics", http.StatusOK); !strings.Contains(got, "mailstead_configuration_rejected 0\n") {
		t.Errorf("the metrics do not tell\n%s", got)
	}
}

// On SIGTERM commands and deliveries under way end well, those who wait hear why they have to go, and new ones do not get in.
func TestServeDrains(t *testing.T) {
	cert, key, _ := certificateIn(t, t.TempDir())
	s := newServing(t, map[string]string{"imap.listen_tls": "127.0.0.1:0", "tls.cert_file": cert, "tls.key_file": key})
	storetest.Account(t, s.store, "a@one.test")
	s.start([]string{"WATCHDOG_USEC=200000"})
	s.hears("READY=1")
	s.hears("WATCHDOG=1")
	s.hears("WATCHDOG=1")

	waiting, idling, busy := s.dial("imap"), s.dial("imap"), s.dial("imap")
	for _, c := range []*peer{waiting, idling, busy} {
		c.say("a LOGIN a@one.test " + storetest.Password + "\r\n")
		c.await("a OK")
	}
	idling.say("b SELECT INBOX\r\nc IDLE\r\n")
	idling.await("+ ")
	busy.say("b APPEND INBOX {20}\r\n")
	busy.hear("+ ")
	busy.say("Subject: x")
	silent := s.dial("imaps")
	mta, delivering := s.dial("lmtp"), s.dial("lmtp")
	mta.say("LHLO test\r\n")
	mta.await("250 ")
	delivering.say("LHLO test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@one.test>\r\nDATA\r\n")
	delivering.await("354 ")

	s.signal(syscall.SIGTERM)
	s.hears("STOPPING=1")
	waiting.hear("* BYE [UNAVAILABLE]")
	waiting.gone()
	silent.gone()
	idling.await("* BYE [UNAVAILABLE]")
	mta.hear("421 4.3.2")
	for _, service := range []string{"imap", "lmtp"} {
		if c, err := net.Dial("tcp", s.address(service)); err == nil {
			c.Close()
			t.Errorf("%s takes a connection while it drains", service)
		}
	}
	s.hears("WATCHDOG=1") // also while it drains
	s.get("/readyz", http.StatusServiceUnavailable)
	s.get("/livez", http.StatusOK)
	busy.say("\r\n\r\nHello\r\n\r\n")
	busy.await("b OK [APPENDUID")
	busy.await("* BYE")
	delivering.say("Subject: x\r\n\r\nx\r\n.\r\n")
	delivering.hear("250 2.0.0")
	if err := s.ends(); err != nil {
		t.Errorf("the process ends with %v\n%s", err, s.log)
	}
	if log := s.log.String(); strings.Contains(log, "broken") {
		t.Errorf("connections were broken\n%s", log)
	}
	var boxes []mailboxView
	if err := json.Unmarshal([]byte(s.want("mailbox list a@one.test --json", "INBOX")), &boxes); err != nil {
		t.Fatal(err)
	}
	for _, b := range boxes {
		if b.Name == "INBOX" && b.Messages != 2 {
			t.Errorf("%d messages in INBOX, want 2", b.Messages)
		}
	}
}

// A client that never comes to an end holds the process for drain_time and no longer; the one that counts
// is the one of the last SIGHUP.
func TestServeDrainIsBounded(t *testing.T) {
	s := newServing(t, map[string]string{"drain_time": "1h"})
	storetest.Account(t, s.store, "a@one.test")
	s.start(nil)
	s.hears("READY=1")
	s.reload(map[string]string{"drain_time": "300ms"})
	c := s.dial("imap")
	c.say("a LOGIN a@one.test " + storetest.Password + "\r\nb APPEND INBOX {20}\r\n")
	c.await("+ ")
	s.signal(syscall.SIGTERM)
	if err := s.ends(); err != nil {
		t.Errorf("the process ends with %v", err)
	}
	if log := s.log.String(); !strings.Contains(log, "connections were broken") {
		t.Errorf("the log does not say that connections were broken\n%s", log)
	}
}

// Sockets that systemd passes are used in place of the settings, by their names, and are systemd's to keep.
func TestServeSockets(t *testing.T) {
	cert, key, _ := certificateIn(t, t.TempDir())
	s := newServing(t, map[string]string{
		// These would be refused: the ports need rights or are taken.
		"imap.listen": "192.0.2.1:143", "imap.listen_tls": "192.0.2.1:993", "lmtp.listen": "off", "http.listen": "192.0.2.1:80",
		"tls.cert_file": cert, "tls.key_file": key,
	})
	path := filepath.Join(t.TempDir(), "lmtp")
	var files []*os.File
	for _, at := range []struct{ network, address string }{
		{"tcp", "127.0.0.1:0"}, {"tcp", "127.0.0.2:0"}, {"tcp", "127.0.0.1:0"}, {"unix", path}, {"tcp", "127.0.0.1:0"},
	} {
		l, err := net.Listen(at.network, at.address)
		if err != nil {
			t.Fatal(err)
		}
		if l, ok := l.(*net.UnixListener); ok {
			l.SetUnlinkOnClose(false)
		}
		f, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	s.start([]string{fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES=imap:imap:imaps:lmtp:http"}, files...)
	s.hears("READY=1")
	s.dial("imap").hear("* OK ")
	if !strings.Contains(s.log.String(), "service=imap address=127.0.0.2:") {
		t.Errorf("the second socket of IMAP is not served\n%s", s.log)
	}
	s.certificate()
	s.dial("lmtp").hear("220 ")
	s.get("/readyz", http.StatusOK)
	s.signal(syscall.SIGTERM)
	if err := s.ends(); err != nil {
		t.Errorf("the process ends with %v\n%s", err, s.log)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket of systemd is gone: %v", err)
	}

	for _, wrong := range []struct{ name, roles, want string }{
		{"mailstead.socket", "[imap]", `a socket of the name "mailstead.socket": want FileDescriptorName= to be one of imap, imaps, lmtp, http`},
		{"lmtp", "[imap]", "sockets of the names lmtp, and this process has not the roles for them"},
	} {
		s := newServing(t, map[string]string{"roles": wrong.roles})
		s.start([]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=" + wrong.name}, files[0])
		if err := s.ends(); err == nil || !strings.Contains(s.log.String(), wrong.want) {
			t.Errorf("with a socket %s: %v, want %s\n%s", wrong.name, err, wrong.want, s.log)
		}
	}
}

// What ends well leaves its port to the next at once.
func TestServeAgain(t *testing.T) {
	s := newServing(t, nil)
	s.start(nil)
	s.hears("READY=1")
	s.configure(map[string]string{"imap.listen": s.address("imap")})
	s.signal(syscall.SIGTERM)
	if err := s.ends(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	s.start(nil)
	s.hears("READY=1")
	s.dial("imap").hear("* OK ")
	t.Logf("serving again after %v", time.Since(begun))
}

// The folder of cached content is that of front ends: neither commands nor processes of other roles look at what is in it.
func TestCachedContentIsOfFrontEnds(t *testing.T) {
	dir := t.TempDir()
	s := newServing(t, map[string]string{"roles": "[lmtp, maintenance, admin]", "store.blob_cache_dir": dir})
	opened := func() bool {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries) > 0
	}
	s.environ = append(s.environ, "MAILSTEAD_STORE_BLOB_CACHE_DIR="+dir)
	s.want("tenant list", "")
	s.start(nil)
	s.hears("READY=1")
	if opened() {
		t.Error("it was opened without the role imap")
	}
	s.signal(syscall.SIGTERM)
	if err := s.ends(); err != nil {
		t.Fatal(err)
	}
	s.configure(map[string]string{"roles": "[imap, admin]"})
	s.start(nil)
	s.hears("READY=1")
	if !opened() {
		t.Error("it was not opened with the role imap")
	}
}

// A key that does not hold and a bucket that is not there are told at the start. One that is away is no reason not to take mail.
func TestServeWithoutBucket(t *testing.T) {
	for name, of := range map[string]struct{ variable, ends string }{
		"another secret":     {"MAILSTEAD_OBJECTS_SECRET_KEY=wrong", "The request signature we calculated does not match"},
		"another bucket":     {"MAILSTEAD_OBJECTS_BUCKET=elsewhere", "bucket does not exist"},
		"nobody who answers": {"MAILSTEAD_OBJECTS_ENDPOINT=http://127.0.0.1:1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServing(t, nil)
			s.environ = append(s.environ, of.variable)
			s.start(nil)
			if of.ends == "" {
				s.hears("READY=1")
				if !strings.Contains(s.log.String(), "the bucket takes nothing now") {
					t.Errorf("the log does not tell:\n%s", s.log)
				}
				return
			}
			if err := s.ends(); err == nil || !strings.Contains(s.log.String(), "cannot be used as objects.* is set") || !strings.Contains(s.log.String(), of.ends) {
				t.Errorf("it ends with %v\n%s", err, s.log)
			}
		})
	}
}
