package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Marshal writes c as a file that Load reads, secrets included: it is for a file
// that only its owner may read.
func Marshal(c *Config) []byte {
	var b bytes.Buffer
	marshal(&b, reflect.ValueOf(c).Elem(), "")
	return b.Bytes()
}

func marshal(b *bytes.Buffer, section reflect.Value, indent string) {
	for i := range section.NumField() {
		field, key := section.Field(i), section.Type().Field(i).Tag.Get("yaml")
		switch {
		case isSection(field.Type()):
			fmt.Fprintf(b, "%s%s:\n", indent, key)
			marshal(b, field, indent+"  ")
		case field.Kind() == reflect.Slice:
			var elements []string
			for j := range field.Len() {
				elements = append(elements, strconv.Quote(written(field.Index(j))))
			}
			fmt.Fprintf(b, "%s%s: [%s]\n", indent, key, strings.Join(elements, ", "))
		default:
			text := written(field)
			if secret, ok := field.Interface().(Secret); ok {
				text = secret.Reveal()
			}
			fmt.Fprintf(b, "%s%s: %s\n", indent, key, strconv.Quote(text))
		}
	}
}
