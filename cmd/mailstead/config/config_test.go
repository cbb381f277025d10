package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the reference anew")

func load(t *testing.T, text string, environ ...string) (*Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "m.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, environ)
	if err != nil {
		err = fmt.Errorf("%s", strings.ReplaceAll(err.Error(), file, "m.yaml"))
	}
	return c, err
}

func TestLoad(t *testing.T) {
	c, err := load(t, `
# of a front end
roles: [imap, lmtp]
database:
  url: "postgres://serve:hush@db/mailstead"
  pgbouncer: true
  listen_url: "postgres://serve:hush@primary/mailstead"
imap:
  listen: 127.0.0.1:1143
  listen_tls: off
lmtp:
  listen: unix:/run/mailstead/lmtp
  allow:
    - 192.0.2.7
    - 2001:db8::/32
  socket_mode: 0666
store:
  max_message: 25MiB
  pack_age: 90m
`, "MAILSTEAD_IMAP_LISTEN=:2143", "MAILSTEAD_LMTP_ALLOW=10.0.0.0/8,10.1.1.1", "MAILSTEAD_CONFIG=x", "PATH=/bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ what, got, want string }{
		{"roles", fmt.Sprint(c.Roles), "[imap lmtp]"},
		{"secret", c.Database.URL.Reveal(), "postgres://serve:hush@db/mailstead"},
		{"pgbouncer", fmt.Sprint(c.Database.PgBouncer), "true"},
		{"listen", string(c.IMAP.Listen), ":2143"},
		{"listen_tls", c.IMAP.ListenTLS.String(), "off"},
		{"lmtp", string(c.LMTP.Listen), "unix:/run/mailstead/lmtp"},
		{"allow", fmt.Sprint(c.LMTP.Allow), "[10.0.0.0/8 10.1.1.1/32]"},
		{"mode", c.LMTP.SocketMode.String(), "0666"},
		{"size", c.Store.MaxMessage.String(), "25MiB"},
		{"duration", c.Store.PackAge.String(), (90 * time.Minute).String()},
	} {
		if test.got != test.want {
			t.Errorf("%s = %q, want %q", test.what, test.got, test.want)
		}
	}
}

func TestProblems(t *testing.T) {
	tests := []struct{ name, text, environ, want string }{
		{"unknown key", "imap:\n  lissten: :143\n", "", `m.yaml:2: unknown key "lissten" in imap (did you mean listen?); its keys are listen, listen_tls, plaintext_login, max_connections, max_connections_per_address`},
		{"unknown section", "\nimapd:\n  listen: :143\n", "", `m.yaml:2: unknown key "imapd" in the file (did you mean imap?)`},
		{"wrong port", "imap:\n  listen: 127.0.0.1:99999\n", "", `m.yaml:2: imap.listen: "127.0.0.1:99999": want host:port, :port for all addresses, or off`},
		{"wrong size", "store:\n  staging: true\n  max_message: 10 MB\n", "", `m.yaml:3: store.max_message: "10 MB": want a number of bytes such as 4096, 64KiB, 25MiB or 4GiB`},
		{"wrong bool", "store:\n  staging: yes please\n", "", `m.yaml:2: store.staging: "yes please": want true or false`},
		{"wrong duration", "store:\n  pack_age: 6\n", "", `m.yaml:2: store.pack_age: "6": want a time such as 30s, 5m or 6h`},
		{"wrong role", "roles: [imap, smtp]\n", "", `m.yaml:1: roles: "smtp": "smtp": want one of imap, lmtp, maintenance, index, admin`},
		{"list for value", "objects:\n  bucket: [a, b]\n", "", `m.yaml:2: objects.bucket: want one value, not a list`},
		{"value for section", "objects: mail\n", "", `m.yaml:1: objects is a section: want its keys on the lines below, indented: endpoint, region`},
		{"no value", "objects:\n  bucket:\n", "", `m.yaml:2: objects.bucket: has no value`},
		{"twice", "log:\n  level: info\nlog:\n  level: warn\n", "", `m.yaml:3: `},
		{"not YAML", "imap:\n  listen: [\n", "", `m.yaml:2: not YAML`},
		{"second document", "log:\n  level: info\n---\nlog:\n  level: warn\n", "", `a second YAML document`},
		{"environment name", "", "MAILSTEAD_IMAP_LISTN=:143", `environment MAILSTEAD_IMAP_LISTN: unknown setting (did you mean MAILSTEAD_IMAP_LISTEN?)`},
		{"environment value", "", "MAILSTEAD_LOG_LEVEL=loud", `environment MAILSTEAD_LOG_LEVEL: "loud": want one of debug, info, warn, error`},
		{"too small", "store:\n  max_message: 5\n", "", `m.yaml:2: 5 is too little: want at least 64KiB`},
		{"too large for IMAP", "store:\n  max_message: 4GiB\n", "", `m.yaml:2: 4GiB is too much: want at most 2GiB`},
		{"connection string", "database:\n  url: db.example.org:5432\n", "", `m.yaml:2: database.url is no connection string: want one such as postgres://`},
		{"connection string of another database", "", "MAILSTEAD_DATABASE_OWNER_URL=mysql://u:hush@db/m?a=b", `environment MAILSTEAD_DATABASE_OWNER_URL: database.owner_url is no connection string`},
		{"IMAP on a Unix socket", "imap:\n  listen: unix:/run/imap\n", "", `m.yaml:2: imap.listen: only lmtp.listen may be a Unix socket; want host:port`},
		{"no connections", "lmtp:\n  max_connections: 0\n", "", `m.yaml:2: lmtp.max_connections is 0: want at least 1`},
		{"no cache", "store:\n  blob_cache: 0\n", "", `m.yaml:2: 0 is too little: want at least 1`},
		{"no age", "store:\n  pack_age: 0s\n", "", `m.yaml:2: store.pack_age is 0: want a time such as 6h`},
		{"no retention", "store:\n  retention: 0s\n", "", `m.yaml:2: store.retention is 0: want a time such as 336h`},
		{"ledger for a week", "store:\n  usage_retention: 168h\n", "", `m.yaml:2: 168h is too short: want at least 840h`},
		{"a cell without a host", "cells:\n  others: [east]\n", "", `m.yaml:2: cells.others: "east": "east": want the name of a cell and a host such as east=imap.east.example.org`},
		{"a cell of a wrong name", "cells:\n  others: [East=h]\n", "", `m.yaml:2: cells.others: "East=h": "East=h": want the name of a cell`},
		{"a cell of a wrong host", "cells:\n  others: [\"east=a:b:c\"]\n", "", `m.yaml:2: cells.others: "east=a:b:c": "east=a:b:c": want the name of a cell`},
		{"a cell twice", "cells:\n  name: west\n  secret: 0123456789abcdef0123456789abcdef\n  others: [east=h, west=h]\n", "", `m.yaml:4: west is named twice`},
		{"an address of no cell", "cells:\n  addresses: [\"east=10.0.2.7:993\"]\n", "", `m.yaml:2: east is none of cells.others`},
		{"an address without a port", "cells:\n  addresses: [east=10.0.2.7]\n", "", `m.yaml:2: cells.addresses: "east=10.0.2.7": "east=10.0.2.7": want the name of a cell, a host and a port`},
		{"cells without a name", "cells:\n  secret: 0123456789abcdef0123456789abcdef\n  others: [east=h]\n", "", `cells.name: where there are other cells, this one needs a name`},
		{"cells without a secret", "cells:\n  name: west\n  others: [east=h]\n  secret: short\n", "", `m.yaml:4: want a secret of 32 characters or more, the same in all cells`},
		{"cells with a short second secret", "cells:\n  name: west\n  others: [east=h]\n  secret: 0123456789abcdef0123456789abcdef\n  second_secret: short\n", "", `m.yaml:5: want 32 characters or more, or nothing`},
		{"cells of no authority", "cells:\n  name: west\n  others: [east=h]\n  secret: 0123456789abcdef0123456789abcdef\n  ca_file: /nonexistent\n", "", `m.yaml:5: open /nonexistent`},
		{"another way to log in", "cells:\n  login: ask\n", "", `m.yaml:2: cells.login: "ask": want one of proxy, hint, refer`},
		{"all of a limit", "quota:\n  warn_at: [80, 100]\n", "", `m.yaml:2: quota.warn_at: "100": "100": want a number from 1 to 99`},
		{"no audits", "quota:\n  audit_every: 0s\n", "", `m.yaml:2: quota.audit_every is 0: want a time such as 1h`},
		{"webhook in the clear", "quota:\n  webhook_url: http://hook.example.org\n", "", `m.yaml:2: it is not encrypted`},
		{"a secret in what is no URL", "quota:\n  webhook_url: hook.example.org/hush\n", "", `m.yaml:2: quota.webhook_url: want a URL such as`},
		{"webhook that anybody can be", "quota:\n  webhook_url: https://hook.example.org\n  webhook_secret: short\n", "", `m.yaml:3: quota.webhook_url needs a secret`},
		{"mail from nobody", "quota:\n  mail_from: Postmaster\n", "", `m.yaml:2: Postmaster: want an address`},
		{"horizon in the window", "store:\n  expunge_horizon: 90m\n", "", `m.yaml:2: 1h30m is shorter than store.retention, 336h`},
		{"no more than is live", "store:\n  stored_ratio: 1\n", "", `m.yaml:2: 1 is too little: want more than 1, such as 1.15`},
		{"no spool", "store:\n  spool_dir: /nowhere/spool\n", "", `m.yaml:2: /nowhere/spool: want a folder that is there`},
		{"no authorities", "objects:\n  ca_file: /nowhere/ca.pem\n", "", `m.yaml:2: open /nowhere/ca.pem: no such file`},
		{"not a certificate", "objects:\n  ca_file: /etc/passwd\n", "", `m.yaml:2: no certificate in /etc/passwd: want a PEM file`},
		{"LISTEN behind PgBouncer", "database:\n  pgbouncer: true\n", "", `m.yaml:2: LISTEN does not work behind PgBouncer in transaction mode: set database.listen_url, to PostgreSQL itself`},
		{"more than all", "tracing:\n  sample: 10\n", "", `m.yaml:2: tracing.sample is 10: want at most 1, which is all`},
		{"no seal", "tls:\n  seal_file: /nowhere/seal\n", "", `m.yaml:2: open /nowhere/seal: no such file`},
		{"not a seal", "tls:\n  seal_file: /etc/passwd\n", "", `m.yaml:2: /etc/passwd: want lines of 32 octets in base64`},
		{"orders in the clear", "acme:\n  directory: http://acme.example.org/dir\n", "", `m.yaml:2: http://acme.example.org/dir is not encrypted`},
		{"orders without terms", "acme:\n  directory: https://acme.example.org/dir\n", "", `acme.agree: certificates are ordered by who agrees`},
		{"orders without a seal", "acme:\n  directory: https://acme.example.org/dir\n  agree: true\n", "", `m.yaml:2: certificates that are ordered lie in the database: acme.directory needs tls.seal_file`},
		{"proofs without TLS", "acme:\n  listen: :80\n", "", `m.yaml:2: acme.listen needs tls.cert_file`},
		{"orders of nobody", "acme:\n  contact: Postmaster\n", "", `m.yaml:2: Postmaster: want an address`},
		{"orders of no authority", "acme:\n  ca_file: /nowhere/ca.pem\n", "", `m.yaml:2: open /nowhere/ca.pem`},
		{"another challenge", "acme:\n  challenge: dns-01\n", "", `m.yaml:2: acme.challenge: "dns-01": want one of http-01, tls-alpn-01`},
		{"half a certificate", "tls:\n  cert_file: /x\n", "", `m.yaml:1: cert_file and key_file belong together`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := load(t, test.text, test.environ)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Load(%q, %q) = %v\nwant %s", test.text, test.environ, err, test.want)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := load(t, "log:\n  level: loud\nimap:\n  port: 143\n")
	if err == nil || !strings.Contains(err.Error(), "m.yaml:2:") || !strings.Contains(err.Error(), "m.yaml:4:") {
		t.Errorf("got %v, want lines 2 and 4 named", err)
	}
}

func TestMarshal(t *testing.T) {
	want := Default()
	want.Database.URL, want.IMAP.ListenTLS, want.LMTP.Hostname = `postgres:///m?host=%2Frun&password="x\y"`, "", "mail: #1"
	got, err := load(t, string(Marshal(want)))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Load(Marshal(c)) = %+v, want %+v", got, want)
	}
}

func TestSecretsStaySecret(t *testing.T) {
	c := Default()
	c.Database.URL, c.Objects.SecretKey = "postgres://u:hush@db/m", "hush"
	var b strings.Builder
	Walk(c, func(o Option) { b.WriteString(o.Value) })
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", c, *c, c.Database, c.Objects.SecretKey), b.String()} {
		if strings.Contains(text, "hush") {
			t.Errorf("a secret in %s", text)
		}
	}
}

// The reference in deploy is what the comments say, and every option has one.
func TestReference(t *testing.T) {
	const path = "../../../deploy/configuration.md"
	want, err := Reference()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s is not current (%v): run `make docs`", path, err)
	}
	texts, _, err := comments()
	if err != nil {
		t.Fatal(err)
	}
	Walk(Default(), func(o Option) {
		if texts[o.section+"."+o.field] == "" {
			t.Errorf("%s has no description", o.Key)
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add("imap:\n  listen: :143\n")
	f.Add("a: &a [*a]\n<<: {x: |\n y}\n")
	f.Fuzz(func(t *testing.T, text string) {
		l := &loader{where: map[string]string{}}
		l.file(Default(), "m.yaml", []byte(text))
	})
}

func TestExtractors(t *testing.T) {
	c, err := load(t, `
search:
  extractors: ["application/pdf,.PDF=/bin/cat -u -"]
`)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Search.Extractors; len(got) != 1 || got[0].String() != "application/pdf,.pdf=/bin/cat -u -" || len(got[0].Command) != 3 {
		t.Errorf("%q", got)
	}
	for _, wrong := range []string{"application/pdf", "application/pdf=", "application/pdf=cat", "pdf=/bin/cat", "/pdf=/bin/cat", ".=/bin/cat", "a/b,=/bin/cat", "a/b;x=/bin/cat", "a/b=/nowhere/cat", "a/b=/etc/passwd"} {
		if _, err := load(t, "search:\n  extractors: [\""+wrong+"\"]\n"); err == nil || !strings.Contains(err.Error(), "search.extractors") && !strings.Contains(err.Error(), "want") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
	if _, err := load(t, "roles: [lmtp, maintenance]\nsearch:\n  extractors: [\"a/b=/nowhere/cat\"]\n"); err != nil {
		t.Errorf("where nothing is searched: %v", err)
	}
	if _, err := load(t, "roles: [index]\nsearch:\n  folder: /tmp\n  extractors: [\"a/b=/nowhere/cat\"]\n"); err == nil || !strings.Contains(err.Error(), "/nowhere/cat") {
		t.Errorf("an index without its program: %v", err)
	}
}
