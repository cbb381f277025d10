package imapd

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var namedFile = regexp.MustCompile("`([a-z0-9_-]+\\.imap|[a-z_/]+_test\\.go)`")

// The account of the examples names every transcript that plays them, and no
// file and no test that is not there.
func TestExamplesAreAccountedFor(t *testing.T) {
	account, err := os.ReadFile("testdata/examples.md")
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool)
	for _, m := range namedFile.FindAllStringSubmatch(string(account), -1) {
		named[m[1]] = true
	}
	for file := range named {
		path := file
		switch {
		case filepath.Ext(file) == ".imap":
			path = filepath.Join("testdata", file)
		case strings.Contains(file, "/"): // of another package
			path = filepath.Join("..", file)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the account names a file that is not there: %v", err)
		}
	}
	for _, m := range regexp.MustCompile("(Test[A-Za-z]+) in `([a-z_]+_test\\.go)`").FindAllStringSubmatch(string(account), -1) {
		text, err := os.ReadFile(m[2])
		if err == nil && !strings.Contains(string(text), "func "+m[1]+"(") {
			t.Errorf("the account names %s, which is not in %s", m[1], m[2])
		}
	}
	transcripts, err := filepath.Glob("testdata/rfc*.imap")
	if err != nil || len(transcripts) == 0 {
		t.Fatalf("no transcripts of examples: %v", err)
	}
	for _, file := range transcripts {
		if !named[filepath.Base(file)] {
			t.Errorf("%s is not in the account of the examples", file)
		}
	}
}
