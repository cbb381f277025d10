package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// mailstead runs a command line in this process.
func mailstead(t *testing.T, environ []string, args ...string) (out string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{out: &stdout, err: &stderr, environ: environ}
	root := a.root()
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return stdout.String(), err
}

func TestWrongCommandLines(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"serf", `unknown command "serf"`},
		{"config", "which command?"},
		{"config chek", `has no command "chek"`},
		{"config check now", `what is "now"?`},
		{"config check --jsn", "unknown flag: --jsn"},
		{"migrate", "database.owner_url is not set"},
		{"config check -c /nowhere/mailstead.yaml", "no such file"},
	} {
		if _, err := mailstead(t, nil, strings.Fields(test.line)...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("mailstead %s: %v, want %s", test.line, err, test.want)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	environ := []string{"MAILSTEAD_LOG_LEVEL=debug", "MAILSTEAD_DATABASE_URL=postgres://u:hush@db/m", "MAILSTEAD_IMAP_LISTEN_TLS=off"}
	out, err := mailstead(t, environ, "config", "check", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]string
	if err := json.Unmarshal([]byte(out), &values); err != nil {
		t.Fatal(err)
	}
	if values["log.level"] != "debug" || values["database.url"] != "[redacted]" {
		t.Errorf("config check --json: %s", out)
	}
	if out, err = mailstead(t, environ, "config", "check"); err != nil || !strings.Contains(out, "log.level") || strings.Contains(out, "hush") {
		t.Errorf("config check: %v\n%s", err, out)
	}
}
