package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "mailstead.dev/"

// layers says for each package which of ours it may import: what is listed and
// what lies below the listed ("store/..."). A new package adds its row. Tests
// may use testing packages besides; see inTests.
var layers = map[string][]string{
	"cmd/...":               {"..."},
	"imapd":                 {"imapd/wire", "imapd/inflate", "imapd/imapurl", "store", "store/view", "store/order", "store/message", "store/id", "index", "auth", "acl", "quota"},
	"imapd/wire":            {},
	"imapd/inflate":         {},
	"imapd/imapurl":         {},
	"lmtpd":                 {"store", "store/id", "quota"},
	"auth":                  {"auth/directory", "auth/kerberos", "auth/otp", "store", "store/id"},
	"auth/directory":        {},
	"auth/kerberos":         {},
	"auth/otp":              {},
	"auth/kerberos/krbtest": {},
	"auth/directory/slapd":  {},
	"admin":                 {"store", "store/id", "index", "auth"},
	"index":                 {"index/frames", "store", "store/id", "store/message", "store/blob"},
	"index/files":           {"store/id", "store/message"},
	"index/frames":          {},
	"index/node":            {"index", "store", "store/id", "store/message", "store/blob"},
	"index/remote":          {"index", "index/remote/wire", "store", "store/id"},
	"index/remote/wire":     {},
	"store":                 {"acl", "quota", "store/id", "store/view", "store/order", "store/message", "store/blob"},
	"store/id":              {},
	"store/view":            {"store/id"},
	"store/order":           {"store/id", "store/message"},
	"store/message":         {"store/id"},
	"store/blob":            {"store/id"},
	"store/blob/blobtest":   {"store/blob"},
	"store/storetest/...":   {"store", "store/...", "deploy/local", "migrations", "auth"},
	"acl":                   {},
	"quota":                 {},
	"certificate":           {"store"},
	"certificate/acmetest":  {},
	"certificate/certtest":  {},
	"webhook":               {},
	"migrations":            {},
	"deploy/local":          {},
}

// inTests is what tests of any package may import besides.
var inTests = []string{"store/...", "index/...", "migrations", "deploy/local", "auth", "auth/...", "certificate/...", "lmtpd", "imapd", "acl", "quota"}

// homes says which packages alone may import a library.
var homes = map[string][]string{
	"github.com/jackc/pgx/v5":             {"store", "auth/directory", "store/storetest/...", "migrations", "deploy/local"},
	"github.com/pressly/goose/v3":         {"migrations"},
	"github.com/minio/minio-go/v7":        {"store/blob"},
	"github.com/klauspost/compress":       {"store/blob", "store/view", "store/message", "imapd", "index/frames"},
	"github.com/blevesearch":              {"index"},
	"go.etcd.io/bbolt":                    {"index"},
	"github.com/RoaringBitmap/roaring/v2": {"index", "index/...", "imapd"},
	"google.golang.org/grpc":              {"index/remote", "index/remote/wire"},
	"github.com/emersion/go-smtp":         {"lmtpd"},
	"github.com/emersion/go-sasl":         {"auth", "cmd/..."},
	"github.com/pires/go-proxyproto":      {"imapd"},
	"github.com/coreos/go-oidc/v3":        {"auth"},
	"github.com/go-jose/go-jose/v4":       {"auth"},
	"github.com/go-crypt/x":               {"auth"},
	"github.com/jcmturner/gokrb5/v8":      {"auth/kerberos", "auth/kerberos/krbtest"},
	"github.com/jcmturner/gofork":         {"auth/kerberos/krbtest"},
	"github.com/go-ldap/ldap/v3":          {"auth/directory"},
	"github.com/go-asn1-ber/asn1-ber":     {"auth/directory"},
	"github.com/sony/gobreaker/v2":        {"auth/directory"},
	"github.com/emersion/go-message":      {"store/message", "imapd", "index"},
	"github.com/emersion/go-imap/v2":      {"imapd", "imapd/wire", "cmd/..."},
	"github.com/coreos/go-systemd/v22":    {"cmd/..."},
	"github.com/spf13/cobra":              {"cmd/..."},
	"github.com/spf13/pflag":              {"cmd/..."},
	"github.com/goccy/go-yaml":            {"cmd/..."},
	"github.com/prometheus/client_golang": {"admin", "cmd/..."},
	"go.opentelemetry.io/otel":            {"imapd", "lmtpd", "store", "cmd/..."},
	"go.opentelemetry.io/otel/sdk":        {"cmd/..."},
	"go.opentelemetry.io/otel/exporters":  {"cmd/..."},
	"go.opentelemetry.io/contrib":         {"cmd/..."},
	"golang.org/x/crypto/acme":            {"certificate"},
	"github.com/letsencrypt/pebble/v2":    {"certificate/acmetest"},
	"github.com/miekg/dns":                {"certificate/acmetest"},
	"github.com/versity/versitygw":        {},
}

// Who may import whom (ARCHITECTURE.md). The files are read here, not asked of
// `go list`, so that go test's cache sees a change of them.
func TestImports(t *testing.T) {
	seen := map[string]bool{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			// A nested module has rules of its own.
			_, err := os.Stat(filepath.Join(file, "go.mod"))
			if file != root && err == nil || entry.Name() == "testdata" || len(entry.Name()) > 2 && entry.Name()[0] == '.' {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		relative, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(relative))
		row, found := rowOf(pkg)
		if !found {
			if !seen[pkg] {
				t.Errorf("%s has no row in layers", pkg)
			}
			seen[pkg] = true
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		test := strings.HasSuffix(file, "_test.go")
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if ours, ok := strings.CutPrefix(imported, module); ok {
				if ours != pkg && !matches(row, ours) && !(test && matches(inTests, ours)) {
					t.Errorf("%s imports %s, which %s may not", relative, ours, pkg)
				}
				continue
			}
			if home, library := homeOf(imported); library != "" && !test && !matches(home, pkg) {
				t.Errorf("%s imports %s, whose home is %s", relative, library, strings.Join(home, ", "))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ARCHITECTURE.md says why for every library that go.mod requires, and for no other.
func TestDependenciesHaveReasons(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	architecture, err := os.ReadFile(filepath.Join("..", "..", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(architecture), "## Why each dependency")
	if !found {
		t.Fatal("no section of dependencies")
	}
	var named []string
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) > 2 && strings.Contains(cells[1], "/") {
			for name := range strings.SplitSeq(cells[1], ",") {
				named = append(named, strings.TrimPrefix(strings.TrimSpace(name), "golang.org/"))
			}
		}
	}
	var required []string
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(line)
		if len(fields) != 2 || !strings.HasPrefix(fields[1], "v") { // an indirect one has a comment
			continue
		}
		name := strings.TrimPrefix(strings.TrimPrefix(fields[0], "github.com/"), "golang.org/")
		if base := path.Base(name); len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
			name = path.Dir(name)
		}
		required = append(required, name)
	}
	slices.Sort(named)
	slices.Sort(required)
	if !slices.Equal(named, required) {
		t.Errorf("ARCHITECTURE.md has reasons for %v, and go.mod requires %v", named, required)
	}
}

func rowOf(pkg string) ([]string, bool) {
	for _, pattern := range slices.Sorted(maps.Keys(layers)) {
		if match(pattern, pkg) {
			return layers[pattern], true
		}
	}
	return nil, false
}

// homeOf finds the most particular library that an import path lies in.
func homeOf(imported string) (home []string, library string) {
	for candidate, packages := range homes {
		if (imported == candidate || strings.HasPrefix(imported, candidate+"/")) && len(candidate) > len(library) {
			home, library = packages, candidate
		}
	}
	return home, library
}

func matches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return match(pattern, pkg) })
}

// match reports whether pkg is what pattern names: "a/..." is a and all below it.
func match(pattern, pkg string) bool {
	prefix, all := strings.CutSuffix(pattern, "...")
	if !all {
		return pattern == pkg
	}
	return strings.HasPrefix(pkg+"/", prefix)
}
