package config

import (
	"crypto/tls"
	"os"
	"slices"
)

// Has reports whether this process runs the role r.
func (c *Config) Has(r Role) bool { return slices.Contains(c.Roles, r) }

// check finds what is wrong between settings that are right by themselves.
func (l *loader) check(c *Config) {
	at := func(key string) string {
		if where, set := l.where[key]; set {
			return where
		}
		return key
	}
	if len(c.Roles) == 0 {
		l.problem(at("roles"), "no role: a process without one does nothing; want some of imap, lmtp, maintenance, admin")
	}
	if c.Database.PgBouncer && c.Database.ListenURL == "" {
		l.problem(at("database.pgbouncer"), "LISTEN does not work behind PgBouncer in transaction mode: set database.listen_url, to PostgreSQL itself")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		l.problem(at("tls"), "cert_file and key_file belong together: set both or none")
	} else if c.TLS.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(c.TLS.CertFile, c.TLS.KeyFile); err != nil {
			l.problem(at("tls.cert_file"), "%v", err)
		}
	} else if c.Has(RoleIMAP) && c.IMAP.ListenTLS != "" && c.Database.URL != "" {
		l.problem(at("imap.listen_tls"), "IMAP over TLS needs tls.cert_file and tls.key_file; without a certificate set imap.listen_tls to off")
	}
	if c.Objects.CAFile != "" {
		if _, err := os.Stat(c.Objects.CAFile); err != nil {
			l.problem(at("objects.ca_file"), "%v", err)
		}
	}
	for _, bound := range []struct {
		key          string
		value, least Size
	}{
		{"store.max_message", c.Store.MaxMessage, 64 << 10},
		{"store.pack_size", c.Store.PackSize, 64 << 10},
		{"store.staging_bound", c.Store.StagingBound, c.Store.PackSize},
	} {
		if bound.value < bound.least {
			l.problem(at(bound.key), "%s is too little: want at least %s", bound.value, bound.least)
		}
	}
	if c.Store.StagedMax > c.Store.StagingBound {
		l.problem(at("store.staged_max"), "%s is more than all of store.staging_bound, %s", c.Store.StagedMax, c.Store.StagingBound)
	}
}

// CheckServing finds what `serve` needs and an otherwise right configuration lacks.
func (c *Config) CheckServing() []Problem {
	var missing []Problem
	for _, need := range []struct{ key, value, what string }{
		{"database.url", c.Database.URL.Reveal(), "connection string of the serving login"},
		{"objects.endpoint", string(c.Objects.Endpoint), "URL of the S3 service"},
		{"objects.bucket", c.Objects.Bucket, "name of the bucket"},
		{"objects.access_key", c.Objects.AccessKey, "access key id for the bucket"},
		{"objects.secret_key", c.Objects.SecretKey.Reveal(), "secret access key for the bucket"},
	} {
		if need.value == "" {
			missing = append(missing, Problem{need.key, "is not set; want the " + need.what + ", in the file or as " + Variable(need.key)})
		}
	}
	return missing
}
