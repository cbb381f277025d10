package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/cmd/mailstead/config"
)

// The settings that compose, the chart, the image and the units name in the environment are there: a process refuses one that is not.
func TestSettingsOfDeploy(t *testing.T) {
	var known []string
	config.Walk(config.Default(), func(o config.Option) { known = append(known, o.Variable) })
	known = append(known, "MAILSTEAD_CONFIG")
	variable := regexp.MustCompile(`\bMAILSTEAD_[A-Z_]*[A-Z]\b`)
	found := 0
	for _, part := range []string{"compose", "helm", "container", "systemd"} {
		err := filepath.WalkDir(filepath.Join("..", "..", "deploy", part), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(text)) {
				for _, name := range variable.FindAllString(line, -1) {
					found++
					if !slices.Contains(known, name) {
						t.Errorf("%s: %s is no setting", path, name)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 40 {
		t.Errorf("only %d settings found", found)
	}
}
