package config

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const envPrefix = "MAILSTEAD_"

// notSettings are variables that begin like settings and are read elsewhere.
var notSettings = []string{"MAILSTEAD_CONFIG", "MAILSTEAD_DEVS3", "MAILSTEAD_POSTGRES_BIN", "MAILSTEAD_TEST_"}

// A Problem is something wrong in the configuration.
type Problem struct {
	Where string // file:line, or the environment variable
	What  string
}

func (p Problem) Error() string { return p.Where + ": " + p.What }

// Load reads the file, where a name is given, and the environment over it, and
// checks the whole. The error joins all that is wrong, a Problem each.
func Load(file string, environ []string) (*Config, error) {
	c, l := Default(), &loader{where: map[string]string{}}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		l.file(c, file, text)
	}
	l.environment(c, environ)
	if len(l.problems) == 0 {
		l.check(c)
	}
	if len(l.problems) > 0 {
		return nil, errors.Join(l.problems...)
	}
	return c, nil
}

type loader struct {
	where    map[string]string // of each key that was set
	problems []error
}

func (l *loader) problem(where, format string, args ...any) {
	l.problems = append(l.problems, Problem{where, fmt.Sprintf(format, args...)})
}

func (l *loader) file(c *Config, name string, text []byte) {
	file, err := parser.ParseBytes(text, 0)
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		l.problem(fmt.Sprintf("%s:%d", name, syntax.Token.Position.Line), "not YAML: %s", syntax.Message)
		return
	}
	if err != nil {
		l.problem(name, "not YAML: %v", err)
		return
	}
	for i, document := range file.Docs {
		if i > 0 {
			l.problem(fmt.Sprintf("%s:%d", name, document.GetToken().Position.Line), "a second YAML document; put everything into the first")
			return
		}
		if document.Body != nil {
			l.section(reflect.ValueOf(c).Elem(), name, "", document.Body)
		}
	}
}

// section sets the fields of a struct from a YAML mapping.
func (l *loader) section(to reflect.Value, file, path string, node ast.Node) {
	if _, empty := node.(*ast.NullNode); empty {
		return
	}
	if _, comment := node.(*ast.CommentGroupNode); comment {
		return // a file with nothing but comments
	}
	here := fmt.Sprintf("%s:%d", file, node.GetToken().Position.Line)
	var pairs []*ast.MappingValueNode
	switch node := node.(type) {
	case *ast.MappingNode:
		pairs = node.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{node}
	default:
		l.problem(here, "%s is a section: want its keys on the lines below, indented: %s", orFile(path), strings.Join(keys(to.Type()), ", "))
		return
	}
	for _, pair := range pairs {
		key := pair.Key.GetToken().Value
		where := fmt.Sprintf("%s:%d", file, pair.Key.GetToken().Position.Line)
		field, found := fieldOf(to, key)
		if !found {
			l.problem(where, "unknown key %q in %s%s; its keys are %s", key, orFile(path), Suggestion(key, keys(to.Type())), strings.Join(keys(to.Type()), ", "))
			continue
		}
		full := strings.TrimPrefix(path+"."+key, ".")
		if before, twice := l.where[full]; twice {
			l.problem(where, "%s is set twice, first at %s", full, before)
			continue
		}
		l.where[full] = where
		if isSection(field.Type()) {
			l.section(field, file, full, pair.Value)
			continue
		}
		texts, err := scalars(pair.Value, field.Kind() == reflect.Slice)
		if err == nil {
			err = set(field, texts)
		}
		if err != nil {
			l.problem(where, "%s: %v", full, err)
		}
	}
}

// scalars returns the text of a value, or of the elements of a list.
func scalars(node ast.Node, list bool) ([]string, error) {
	switch node := node.(type) {
	case *ast.SequenceNode:
		if !list {
			return nil, errors.New("want one value, not a list")
		}
		var texts []string
		for _, element := range node.Values {
			text, err := scalars(element, false)
			if err != nil {
				return nil, err
			}
			texts = append(texts, text...)
		}
		return texts, nil
	case *ast.NullNode:
		return nil, errors.New("has no value")
	case *ast.LiteralNode:
		return []string{node.Value.Value}, nil
	case ast.ScalarNode:
		return []string{node.GetToken().Value}, nil
	}
	return nil, errors.New("want a plain value")
}

// environment sets what the environment has. Unknown names are problems too: a
// misspelt limit should not go unnoticed.
func (l *loader) environment(c *Config, environ []string) {
	known := map[string]string{} // variable to key
	var names []string
	Walk(c, func(o Option) {
		known[o.Variable] = o.Key
		names = append(names, o.Variable)
	})
	sorted := slices.Sorted(slices.Values(environ))
	for _, entry := range sorted {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.ContainsFunc(notSettings, func(n string) bool { return strings.HasPrefix(name, n) }) {
			continue
		}
		key, found := known[name]
		if !found {
			l.problem("environment "+name, "unknown setting%s", Suggestion(name, names))
			continue
		}
		field := reflect.ValueOf(c).Elem()
		for part := range strings.SplitSeq(key, ".") {
			field, _ = fieldOf(field, part)
		}
		texts := []string{text}
		if field.Kind() == reflect.Slice {
			texts = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
		}
		l.where[key] = "environment " + name
		if err := set(field, texts); err != nil {
			l.problem("environment "+name, "%v", err)
		}
	}
}

// set gives a field the value that texts mean.
func set(field reflect.Value, texts []string) error {
	if field.Kind() == reflect.Slice {
		list := reflect.MakeSlice(field.Type(), len(texts), len(texts))
		for i, text := range texts {
			if err := set(list.Index(i), []string{text}); err != nil {
				return fmt.Errorf("%q: %w", text, err)
			}
		}
		field.Set(list)
		return nil
	}
	if len(texts) != 1 {
		return errors.New("want one value")
	}
	text := texts[0]
	switch to := field.Addr().Interface().(type) {
	case *URL:
		return to.UnmarshalText([]byte(text)) // whose error is without it: there may be a secret in one
	case encoding.TextUnmarshaler:
		if err := to.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
		return nil
	case *Secret:
		*to = Secret(text)
		return nil
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return fmt.Errorf("%q: want a time such as 30s, 5m or 6h", text)
		}
		*to = d
		return nil
	case *string:
		*to = text
		return nil
	case *bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q: want true or false", text)
		}
		*to = text == "true"
		return nil
	case *float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n >= 0 && n <= 1e9) {
			return fmt.Errorf("%q: want a number such as 0.25", text)
		}
		*to = n
		return nil
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return fmt.Errorf("%q: want a whole number", text)
		}
		*to = n
		return nil
	}
	panic("configuration field of an unknown type " + field.Type().String())
}

func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func fieldOf(section reflect.Value, key string) (reflect.Value, bool) {
	for i := range section.NumField() {
		if section.Type().Field(i).Tag.Get("yaml") == key {
			return section.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func keys(section reflect.Type) []string {
	var names []string
	for i := range section.NumField() {
		names = append(names, section.Field(i).Tag.Get("yaml"))
	}
	return names
}

func orFile(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

// Suggestion names the candidate that is nearest to what was written, if one is near: " (did you mean it?)".
func Suggestion(wrote string, candidates []string) string {
	best, distance := "", 1+max(2, len(wrote)/4)
	for _, candidate := range candidates {
		if d := editDistance(wrote, candidate); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// editDistance is the number of letters to add, drop or replace (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
