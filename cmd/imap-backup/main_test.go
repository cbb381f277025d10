package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write what the tests compare with")

// run executes a command line.
func run(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	var b bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &b, err: &b}
	root := a.root()
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return b.String(), err
}

// The manual pages are what the flags say.
func TestManual(t *testing.T) {
	const pages = "../../deploy/imap-backup/man"
	dir := t.TempDir()
	if *update {
		dir = pages
	}
	if _, err := run(t, "man", dir); err != nil {
		t.Fatal(err)
	}
	made, err := filepath.Glob(filepath.Join(dir, "imap-backup*.1"))
	if err != nil || len(made) < 4 {
		t.Fatalf("%v, %v", made, err)
	}
	for _, page := range made {
		got, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(pages, filepath.Base(page)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not as the flags say; `make docs` writes it (%v)", filepath.Base(page), err)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out, err := run(t, "completion", shell); err != nil || !strings.Contains(out, "imap-backup") {
			t.Errorf("%s: %v", shell, err)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{
		{}, {"imap://u@h/"}, {"http://u@h/", dir}, {"imap://h/", dir}, {"imap://u:secret@h/", dir}, {"imap://u:secret%@h/", dir}, {"imap://u:secret#@h/", dir},
		{"imap://u:1/secret@h/", dir}, {"imap://u:secret@/", dir}, {"imap:u:secret@h", dir}, {"imap://u@h/;UID=1", dir}, {"imap://u@h/?x", dir},
		{"--format", "pst", "imap://u@h/", dir}, {"--removed", "maybe", "imap://u@h/", dir}, {"--since", "yesterday", "imap://u@h/", dir},
		{"--larger", "big", "imap://u@h/", dir}, {"--mailbox", "[", "imap://u@h/", dir}, {"--what", "imap://u@h/", dir},
		{"--insecure-plaintext", "imaps://u@h/", dir}, {"restore"}, {"restore", dir, dir, dir}, {"restore", dir, "imap://u:secret@h/"}, {"list"}, {"verify", "--special-use", "Sent", dir}, {"restore", "--special-use", "Sent", dir, "imap://u@h/"}, {"--config", "/nowhere", "work"},
	} {
		_, err := run(t, args...)
		var usage usageError
		if !errors.As(err, &usage) {
			t.Errorf("%q: %v", args, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error has the password: %v", args, err)
		}
	}
}

func TestURL(t *testing.T) {
	for text, want := range map[string][3]string{
		"imap://anna@example.org/":                            {"anna", "", ""},
		"imaps://anna%40example.org@imap.example.org:1993":    {"anna@example.org", "", ""},
		"imap://anna;AUTH=SCRAM-SHA-256@example.org/Lists/go": {"anna", "SCRAM-SHA-256", "Lists/go"},
		"imap://anna;AUTH=*@example.org/Entw%C3%BCrfe":        {"anna", "", "Entwürfe"},
	} {
		u, err := parseURL(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := [3]string{user(u), mechanism(u), strings.Trim(u.Path, "/")}; got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// The password is asked for before anything begins.
func TestNoPassword(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "copies")
	if _, err := run(t, "imap://u@127.0.0.1:1/", dir); err == nil || !strings.Contains(err.Error(), "no password") {
		t.Errorf("%v", err)
	}
	if isDirectory(dir) {
		t.Error("the directory was made before")
	}
}

// What is named is stronger than what stands in the environment.
func TestSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("from file\r\nmore"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("IMAP_PASSWORD", "from environment")
	t.Setenv("IMAP_TOKEN", "token from environment")
	for _, c := range []struct {
		o    accountOptions
		want [2]string
	}{
		{accountOptions{}, [2]string{"", "token from environment"}},
		{accountOptions{passwordFile: file}, [2]string{"from file", ""}},
		{accountOptions{passwordCommand: "echo from command"}, [2]string{"from command", ""}},
		{accountOptions{tokenFile: file, passwordFile: file}, [2]string{"", "from file"}},
	} {
		password, token, err := c.o.secrets(nil, nil)
		if got := [2]string{password, token}; got != c.want || err != nil {
			t.Errorf("%+v: %q, want %q; %v", c.o, got, c.want, err)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "500": 500, "10K": 10 << 10, "10k": 10 << 10, "5MiB": 5 << 20, "2GB": 2 << 30, "1T": 1 << 40} {
		var s size
		if err := s.Set(text); err != nil || int64(s) != want {
			t.Errorf("%s: %d, want %d; %v", text, s, want, err)
		}
	}
	for _, text := range []string{"", "K", "-1", "1X", "1.5M", "9999999999T"} {
		var s size
		if err := s.Set(text); err == nil {
			t.Errorf("%q is taken for %d", text, s)
		}
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("IMAP_PASSWORD", "x")
	var usage usageError
	for text, part := range map[string]string{
		"accounts: {a: {url: 'imap://u@127.0.0.1:1/'}}":                             "missing",
		"accounts: {a: {url: 'imap://u@127.0.0.1:1/', directory: d, colour: red}}":  "what is colour?",
		"accounts: {a: {url: 'imap://u@127.0.0.1:1/', directory: d, format: [{}]}}": "want a value",
		"accounts: {b: {}}": "no account",
		"account: {}":       "account",
		"accounts: {a: {url: 'imap://u@127.0.0.1:1/', directory: d, format: pst}}": "--format pst",
	} {
		write(text)
		if _, err := run(t, "--config", file, "a"); !errors.As(err, &usage) || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", text, err)
		}
	}
	// What is said of one account is not said of the next.
	write("accounts: {a: {url: 'imap://u@h/', directory: d, removed: drop, max-message: 1M, format: eml, exclude: [x], connections: 1}, b: {url: 'imap://u@h/', directory: d, exclude: [y]}}")
	a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	var got []string
	root := a.root()
	root.RunE = func(c *cobra.Command, args []string) error {
		return a.forAccounts(c, args, false, func(_ context.Context, at target) error {
			got = append(got, fmt.Sprintf("%s %v %s %s %d", at.name, a.copying, a.choice.format, a.choice.exclude, a.account.connections))
			return nil
		})
	}
	root.SetArgs([]string{"--config", file, "a", "b"})
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Error(err)
	}
	if want := []string{"a {false drop 1048576} eml [x] 1", "b {false keep 0} mbox [y] 4"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// What is right comes as far as the server, which is not there.
	write("accounts: {a: {url: 'imap://u@127.0.0.1:1/', directory: '" + dir + "/d', format: maildir, exclude: [Junk, Trash], connections: 2, insecure-plaintext: true}}")
	if _, err := run(t, "--config", file, "a"); err == nil || errors.As(err, &usage) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("%v", err)
	}
}
