package config

import (
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"time"
)

// Option is one setting.
type Option struct {
	Key      string // with its section: imap.listen
	Variable string // of the environment
	Value    string // as it would be written; a secret is redacted
	Reload   bool   // whether a process that runs takes it over on SIGHUP
	section  string // name of the Go type
	field    string
}

// Variable is the environment variable of a key.
func Variable(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// Walk calls f for every option of c, in the order of the file.
func Walk(c *Config, f func(Option)) { walk(reflect.ValueOf(c).Elem(), "", f) }

func walk(section reflect.Value, path string, f func(Option)) {
	for i := range section.NumField() {
		field := section.Type().Field(i)
		key := strings.TrimPrefix(path+"."+field.Tag.Get("yaml"), ".")
		if isSection(field.Type) {
			walk(section.Field(i), key, f)
			continue
		}
		_, reload := field.Tag.Lookup("reload")
		f(Option{key, Variable(key), written(section.Field(i)), reload, section.Type().Name(), field.Name})
	}
}

// written returns a value as it would be written in the file.
func written(v reflect.Value) string {
	if v.Kind() == reflect.Slice {
		var elements []string
		for i := range v.Len() {
			elements = append(elements, written(v.Index(i)))
		}
		return "[" + strings.Join(elements, ", ") + "]"
	}
	if d, ok := v.Interface().(time.Duration); ok {
		return short(d)
	}
	return fmt.Sprint(v.Interface())
}

// short drops the zero minutes and seconds that Duration prints.
func short(d time.Duration) string {
	s := d.String()
	s, _ = strings.CutSuffix(s, "m0s")
	if s != d.String() {
		s += "m"
	}
	if rest, cut := strings.CutSuffix(s, "h0m"); cut {
		s = rest + "h"
	}
	return s
}

//go:embed config.go
var source string

// Reference writes the reference of all options in Markdown, from the comments in this package.
func Reference() (string, error) {
	texts, sections, err := comments()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(`<!-- Made by "make docs" from cmd/mailstead/config/config.go. -->
# Configuration

Mailstead reads one YAML file (` + "`--config`, or `MAILSTEAD_CONFIG`" + `) and the environment over it. Every setting has a variable
as well, named below; lists are written with commas there. Unknown keys, unknown variables and wrong values are
refused with their line. ` + "`mailstead config check`" + ` says what is wrong without starting anything, and prints what is in force.

On SIGHUP a process that serves reads the file again. What is marked SIGHUP below it takes over at once; what else has changed it names in the log,
for that takes a restart. Where something is wrong in the file, the log says what, and all settings stay as they were. The environment of a process
does not change while it runs, and what stands in it goes before the file.
`)
	last := ""
	Walk(Default(), func(o Option) {
		if o.section != last {
			last = o.section
			section, _, _ := strings.Cut(o.Key, ".")
			if o.section == "Config" {
				b.WriteString("\n## (top level)\n")
			} else {
				fmt.Fprintf(&b, "\n## %s\n\n%s\n", section, sections[o.section])
			}
		}
		value := o.Value
		if value == "" {
			value = "none"
		} else {
			value = "`" + value + "`"
		}
		reload := ""
		if o.Reload {
			reload = "; SIGHUP"
		}
		fmt.Fprintf(&b, "\n**`%s`** (default %s; `%s`%s)\n\n%s\n", o.Key, value, o.Variable, reload, texts[o.section+"."+o.field])
	})
	return b.String(), nil
}

// comments returns the comments of fields by "Type.Field" and those of types.
func comments() (fields, types map[string]string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments)
	if err != nil {
		return nil, nil, err
	}
	fields, types = map[string]string{}, map[string]string{}
	for _, d := range file.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.TYPE {
			continue
		}
		name := decl.Specs[0].(*ast.TypeSpec)
		structure, ok := name.Type.(*ast.StructType)
		if !ok {
			continue
		}
		types[name.Name.Name] = oneLine(decl.Doc.Text())
		for _, field := range structure.Fields.List {
			fields[name.Name.Name+"."+field.Names[0].Name] = oneLine(field.Doc.Text())
		}
	}
	return fields, types, nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
