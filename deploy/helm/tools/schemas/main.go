// Schemas makes the JSON schemas that kubeconform wants out of Kubernetes's own description of its API, strictly: what
// is not described is wrong.
//
//	schemas swagger.json FOLDER KIND...
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: schemas swagger.json FOLDER KIND...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

const reference = "#/definitions/"

// definition is a part of the description, as decoded JSON.
type definition = map[string]any

func run(file, folder string, kinds []string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var api struct{ Definitions map[string]definition }
	if err := json.Unmarshal(text, &api); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for name, d := range api.Definitions {
		switch _, open := d["additionalProperties"]; {
		case d["format"] == "int-or-string":
			api.Definitions[name] = definition{"type": []string{"integer", "string"}}
		case strings.HasSuffix(name, ".resource.Quantity"):
			api.Definitions[name] = definition{"type": []string{"number", "string"}}
		case d["properties"] != nil && !open:
			d["additionalProperties"] = false
		}
	}
	missing := slices.Clone(kinds)
	for name, d := range api.Definitions {
		var of struct {
			Kinds []struct{ Group, Version, Kind string } `json:"x-kubernetes-group-version-kind"`
		}
		if err := convert(d, &of); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, k := range of.Kinds {
			if !slices.Contains(kinds, k.Kind) {
				continue
			}
			missing = slices.DeleteFunc(missing, func(kind string) bool { return kind == k.Kind })
			needed := map[string]definition{}
			collect(api.Definitions, name, needed)
			schema, err := json.Marshal(definition{"allOf": []definition{{"$ref": reference + name}}, "definitions": needed})
			if err != nil {
				return err
			}
			group, _, _ := strings.Cut(k.Group, ".")
			parts := slices.DeleteFunc([]string{k.Kind, group, k.Version}, func(part string) bool { return part == "" })
			if err := os.WriteFile(filepath.Join(folder, strings.ToLower(strings.Join(parts, "-"))+".json"), schema, 0o644); err != nil {
				return err
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no such kinds: %s", strings.Join(missing, ", "))
	}
	return nil
}

func convert(from, to any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}

// collect finds all definitions that one needs, itself included.
func collect(all map[string]definition, name string, needed map[string]definition) {
	if _, found := needed[name]; found {
		return
	}
	needed[name] = all[name]
	references(all[name], func(other string) { collect(all, other, needed) })
}

// references calls f for each definition that a part of one refers to.
func references(part any, f func(name string)) {
	switch part := part.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(part)) {
			if to, ok := part[key].(string); ok && key == "$ref" {
				f(strings.TrimPrefix(to, reference))
				continue
			}
			references(part[key], f)
		}
	case []any:
		for _, element := range part {
			references(element, f)
		}
	}
}
