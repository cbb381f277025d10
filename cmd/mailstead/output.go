package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
)

// table is output for people.
type table struct {
	header []string
	rows   [][]string
}

// add appends a row; each value is printed as fmt.Sprint does.
func (t *table) add(values ...any) {
	row := make([]string, len(values))
	for i, v := range values {
		row[i] = fmt.Sprint(v)
	}
	t.rows = append(t.rows, row)
}

// print writes t for people, or value for scripts where --json asks for it.
// Empty lists are [] in JSON: value should not be a nil slice.
func (a *app) print(value any, t table) error {
	if a.json {
		encoder := json.NewEncoder(a.out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(value)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	if len(t.header) > 0 {
		fmt.Fprintln(w, strings.ToUpper(strings.Join(t.header, "\t")))
	}
	for _, row := range t.rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// say writes a line for people; scripts, which ask for JSON, get value.
func (a *app) say(value any, format string, args ...any) error {
	return a.print(value, table{rows: [][]string{{fmt.Sprintf(format, args...)}}})
}
