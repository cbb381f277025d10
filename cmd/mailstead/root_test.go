package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"mailstead.dev/cmd/mailstead/config"
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
		{"serf", `mailstead has no command "serf" (did you mean serve?)`},
		{"config", "which command?"},
		{"config chek", `has no command "chek" (did you mean check?)`},
		{"config check now", `what is "now"?`},
		{"config check --jsn", "unknown flag: --jsn (did you mean json?)"},
		{"config check --json=yes", "--json yes: want true or false"},
		{"dev --port-base high", "--port-base high: want a whole number"},
		{"domain create one.test --tenant", "flag needs an argument: --tenant"},
		{"alias create", "ADDRESS is missing"},
		{"alias set a@one.test", "TARGET is missing"},
	} {
		_, err := mailstead(t, nil, strings.Fields(test.line)...)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("mailstead %s: %v, want %s", test.line, err, test.want)
		}
		if usage := new(usageError); !errors.As(err, usage) {
			t.Errorf("mailstead %s: %v is not told as wrong usage", test.line, err)
		}
	}
	for _, test := range []struct{ line, want string }{
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

// Every setting is read somewhere in this package, or by what reads those of cells: none is without effect.
func TestSettingsAreUsed(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "config/cells.go", "config/acme.go")
	used := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if field, ok := n.(*ast.SelectorExpr); ok {
				if section, ok := field.X.(*ast.SelectorExpr); ok {
					used[section.Sel.Name+"."+field.Sel.Name] = true
				}
				used[field.Sel.Name] = true
			}
			return true
		})
	}
	all := reflect.TypeFor[config.Config]()
	for i := range all.NumField() {
		section := all.Field(i)
		if section.Type.Kind() != reflect.Struct {
			continue // roles, which Has reads
		}
		for j := range section.Type.NumField() {
			name := section.Type.Field(j).Name
			whole := section.Name == "TLS" || section.Name == "Cells" || section.Name == "ACME" // is handed on so
			if !used[section.Name+"."+name] && !(whole && used[name]) {
				t.Errorf("nothing reads %s.%s", section.Name, name)
			}
		}
	}
}
