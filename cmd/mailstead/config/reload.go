package config

import (
	"reflect"
	"slices"
	"strings"
)

// Reload returns what is in force when a process that runs with c has read next: c
// with those settings of next that may change meanwhile. It names what it has taken
// over, and what else differs and takes a restart.
func (c *Config) Reload(next *Config) (inForce *Config, taken, restart []string) {
	changed := *c
	taken, restart = take(reflect.ValueOf(&changed).Elem(), reflect.ValueOf(next).Elem(), "")
	if (c.TLS.CertFile == "") != (next.TLS.CertFile == "") { // services with TLS are others than those without
		changed.TLS = c.TLS
		ofTLS := func(key string) bool { return strings.HasPrefix(key, "tls.") }
		taken = slices.DeleteFunc(taken, ofTLS)
		restart = append(restart, "tls.cert_file", "tls.key_file")
	}
	return &changed, taken, restart
}

func take(to, next reflect.Value, path string) (taken, restart []string) {
	for i := range to.NumField() {
		field := to.Type().Field(i)
		key := strings.TrimPrefix(path+"."+field.Tag.Get("yaml"), ".")
		if isSection(field.Type) {
			below, later := take(to.Field(i), next.Field(i), key)
			taken, restart = append(taken, below...), append(restart, later...)
			continue
		}
		if reflect.DeepEqual(to.Field(i).Interface(), next.Field(i).Interface()) {
			continue
		}
		if _, may := field.Tag.Lookup("reload"); may {
			to.Field(i).Set(next.Field(i))
			taken = append(taken, key)
		} else {
			restart = append(restart, key)
		}
	}
	return taken, restart
}
