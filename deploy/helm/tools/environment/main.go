// Environment writes what a chart's manifests would give to their processes, for `mailstead config check`: for each
// Deployment, StatefulSet and Job a file NAME.env with a variable a line, and the files of each ConfigMap.
//
//	environment manifests.yaml FOLDER
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: environment manifests.yaml FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "environment:", err)
		os.Exit(1)
	}
}

// manifest is what matters here of Deployments, StatefulSets, Jobs and ConfigMaps.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Template struct {
			Spec struct {
				Containers []struct{ Env []variable }
			}
		}
	}
}

type variable struct {
	Name, Value string
	ValueFrom   struct {
		SecretKeyRef *struct{ Name, Key string }
	}
}

// secret stands for a value that only the cluster knows.
func (v variable) secret() string {
	if strings.HasSuffix(v.Name, "_URL") {
		return "postgres://login:secret@db.example.org/mailstead"
	}
	return "a secret that only the cluster knows"
}

var separator = regexp.MustCompile(`(?m)^---$`)

func run(file, folder string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, document := range separator.Split(string(text), -1) {
		var m manifest
		if err := yaml.Unmarshal([]byte(document), &m); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for name, content := range m.Data {
			if err := write(folder, name, content); err != nil {
				return err
			}
		}
		if m.Kind != "Deployment" && m.Kind != "StatefulSet" && m.Kind != "Job" {
			continue
		}
		var lines strings.Builder
		for _, container := range m.Spec.Template.Spec.Containers {
			for _, v := range container.Env {
				if v.ValueFrom.SecretKeyRef != nil {
					v.Value = v.secret()
				}
				fmt.Fprintf(&lines, "%s=%s\n", v.Name, v.Value)
			}
		}
		if err := write(folder, m.Metadata.Name+".env", lines.String()); err != nil {
			return err
		}
	}
	return nil
}

func write(folder, name, text string) error {
	return os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600)
}
