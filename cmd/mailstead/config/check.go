package config

import (
	"crypto/tls"
	"crypto/x509"
	"net/mail"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"mailstead.dev/auth/kerberos"
	"mailstead.dev/certificate"
)

// Has reports whether this process runs the role r.
func (c *Config) Has(r Role) bool { return slices.Contains(c.Roles, r) }

// mostMessage keeps sizes within what IMAP can tell, 32 bits (RFC 3501 section 9), also after what LMTP adds.
const mostMessage Size = 2 << 30

// leastIdle is how long a client that is idle is kept at the least (RFC 9051 section 5.4).
const leastIdle = 30 * time.Minute

// mostLogin is how long somebody may take to log in: for longer than that it is remembered, in front ends, who is let in no more (package auth).
const mostLogin = 4 * time.Minute

// isConnectionString reports whether s is of one of PostgreSQL's two forms.
func isConnectionString(s string) bool {
	if strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://") {
		_, err := url.Parse(s)
		return err == nil
	}
	return !strings.Contains(s, "://") && strings.Contains(s, "=")
}

func isAddress(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s
}

// check finds what is wrong between settings that are right by themselves.
func (l *loader) check(c *Config) {
	at := func(key string) string {
		if where, set := l.where[key]; set {
			return where
		}
		return key
	}
	for _, database := range []struct {
		key string
		url Secret
	}{{"database.url", c.Database.URL}, {"database.owner_url", c.Database.OwnerURL}, {"database.listen_url", c.Database.ListenURL}} {
		if database.url != "" && !isConnectionString(database.url.Reveal()) {
			l.problem(at(database.key), "%s is no connection string: want one such as postgres://LOGIN:PASSWORD@db.example.org/mailstead", database.key)
		}
	}
	if len(c.Roles) == 0 {
		l.problem(at("roles"), "no role: a process without one does nothing; want some of imap, lmtp, maintenance, index, admin")
	}
	if c.Has(RoleIndex) && c.Search.Folder == "" {
		l.problem(at("search.folder"), "the role index needs search.folder, on a disk of this machine")
	}
	l.checkSearch(c.Search, at)
	if c.Has(RoleIMAP) || c.Has(RoleIndex) { // others run none
		l.checkExtractors(c.Search, at)
	}
	l.checkCells(c.Cells, at)
	l.checkACME(c, at)
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
	if dir := c.TLS.Folder; dir != "" {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			l.problem(at("tls.folder"), "%s: want a folder that is there", dir)
		} else if c.TLS.CertFile == "" {
			l.problem(at("tls.folder"), "tls.folder needs tls.cert_file as well, for clients that ask for another name or none")
		}
	}
	if c.TLS.SealFile != "" {
		if _, err := certificate.ReadSeals(c.TLS.SealFile); err != nil {
			l.problem(at("tls.seal_file"), "%v", err)
		} else if c.Has(RoleIMAP) && c.TLS.CertFile == "" && c.Database.URL != "" {
			l.problem(at("tls.seal_file"), "tls.seal_file needs tls.cert_file as well, for clients that ask for another name or none")
		}
	}
	if c.Objects.CAFile != "" {
		if text, err := os.ReadFile(c.Objects.CAFile); err != nil {
			l.problem(at("objects.ca_file"), "%v", err)
		} else if !x509.NewCertPool().AppendCertsFromPEM(text) {
			l.problem(at("objects.ca_file"), "no certificate in %s: want a PEM file", c.Objects.CAFile)
		}
	}
	for _, folder := range []struct{ key, dir string }{{"store.spool_dir", c.Store.SpoolDir}, {"auth.secrets_folder", c.Auth.SecretsFolder}} {
		if folder.dir == "" {
			continue
		}
		if info, err := os.Stat(folder.dir); err != nil || !info.IsDir() {
			l.problem(at(folder.key), "%s: want a folder that is there", folder.dir)
		}
	}
	for _, port := range []struct {
		key    string
		listen Listen
	}{{"imap.listen", c.IMAP.Listen}, {"imap.listen_tls", c.IMAP.ListenTLS}, {"http.listen", c.HTTP.Listen}, {"acme.listen", c.ACME.Listen}, {"search.listen", c.Search.Listen}} {
		if network, _ := port.listen.Network(); network == "unix" {
			l.problem(at(port.key), "%s: only lmtp.listen may be a Unix socket; want host:port, :port for all addresses, or off", port.key)
		}
	}
	// Zero would mean the default to those who are given these.
	for _, positive := range []struct {
		key   string
		given bool
		want  string
	}{
		{"auth.max_failures_per_address", c.Auth.MaxFailuresPerAddress > 0, "at least 1"},
		{"auth.max_failures_per_account", c.Auth.MaxFailuresPerAccount > 0, "at least 1"},
		{"auth.max_failures_per_tenant", c.Auth.MaxFailuresPerTenant > 0, "at least 1"},
		{"auth.block_time", c.Auth.BlockTime > 0, "a time such as 5m"},
		{"imap.max_connections", c.IMAP.MaxConnections > 0, "at least 1"},
		{"imap.max_connections_per_address", c.IMAP.MaxConnectionsPerAddress > 0, "at least 1"},
		{"imap.max_connections_per_account", c.IMAP.MaxConnectionsPerAccount > 0, "at least 1"},
		{"imap.max_connections_per_tenant", c.IMAP.MaxConnectionsPerTenant >= 0, "0 or more"},
		{"imap.max_searches_per_account", c.IMAP.MaxSearchesPerAccount >= 0, "0 or more"},
		{"imap.max_searches_per_tenant", c.IMAP.MaxSearchesPerTenant >= 0, "0 or more"},
		{"imap.commands_per_second_per_account", c.IMAP.CommandsPerSecondPerAccount >= 0, "0 or more"},
		{"imap.commands_per_second_per_tenant", c.IMAP.CommandsPerSecondPerTenant >= 0, "0 or more"},
		{"imap.login_time", c.IMAP.LoginTime > 0, "a time such as 1m"},
		{"imap.read_time", c.IMAP.ReadTime > 0, "a time such as 2m"},
		{"imap.write_time", c.IMAP.WriteTime > 0, "a time such as 2m"},
		{"imap.search_time", c.IMAP.SearchTime > 0, "a time such as 5m"},
		{"imap.progress_time", c.IMAP.ProgressTime > 0, "a time such as 10s"},
		{"imap.max_inflation", c.IMAP.MaxInflation > 0, "at least 1"},
		{"imap.max_nesting", c.IMAP.MaxNesting > 0, "at least 1"},
		{"imap.max_contexts", c.IMAP.MaxContexts > 0, "at least 1"},
		{"imap.max_set_ranges", c.IMAP.MaxSetRanges > 0, "at least 1"},
		{"imap.max_section_depth", c.IMAP.MaxSectionDepth > 0, "at least 1"},
		{"imap.max_wrong_commands", c.IMAP.MaxWrongCommands > 0, "at least 1"},
		{"imap.max_login_failures", c.IMAP.MaxLoginFailures > 0, "at least 1"},
		{"imap.max_commands_at_once", c.IMAP.MaxCommandsAtOnce > 0, "at least 1"},
		{"imap.max_commands_beside", c.IMAP.MaxCommandsBeside > 0, "at least 1"},
		{"lmtp.max_connections", c.LMTP.MaxConnections > 0, "at least 1"},
		{"lmtp.max_recipients", c.LMTP.MaxRecipients > 0, "at least 1"},
		{"drain_time", c.DrainTime > 0, "a time such as 25s"},
		{"store.pack_age", c.Store.PackAge > 0, "a time such as 6h"},
		{"store.retention", c.Store.Retention > 0, "a time such as 336h"},
		{"store.expunge_horizon", c.Store.ExpungeHorizon > 0, "a time such as 2160h"},
		{"store.sweep_every", c.Store.SweepEvery > 0, "a time such as 6h"},
		{"store.tidy_every", c.Store.TidyEvery > 0, "a time such as 10m"},
		{"quota.audit_every", c.Quota.AuditEvery > 0, "a time such as 1h"},
		{"quota.look_every", c.Quota.LookEvery > 0, "a time such as 1m"},
		{"search.min_messages", c.Search.MinMessages > 0, "at least 1"},
		{"search.every", c.Search.Every > 0, "a time such as 5s"},
		{"search.max_open", c.Search.MaxOpen > 0, "at least 1"},
		{"search.workers", c.Search.Workers > 0, "at least 1"},
		{"search.extractor_time", c.Search.ExtractorTime > 0, "a time such as 10s"},
		{"search.extractors_at_once", c.Search.ExtractorsAtOnce > 0, "at least 1"},
		{"search.takeover_after", c.Search.TakeoverAfter > 0, "a time such as 2m"},
		{"store.object_grace", c.Store.ObjectGrace > 0, "a time such as 24h"},
		{"store.fold_ratio", c.Store.FoldRatio > 0, "a number such as 0.25"},
		{"store.max_mailboxes", c.Store.MaxMailboxes > 0, "at least 1"},
		{"store.max_name_length", c.Store.MaxNameLength > 0, "at least 1"},
		{"store.max_name_depth", c.Store.MaxNameDepth > 0, "at least 1"},
		{"store.max_keywords", c.Store.MaxKeywords > 0, "at least 1"},
		{"store.transit_wait", c.Store.TransitWait > 0, "a time such as 30s"},
		{"store.max_mime_depth", c.Store.MaxMIMEDepth > 0, "at least 1"},
		{"store.max_mime_parts", c.Store.MaxMIMEParts > 0, "at least 1"},
	} {
		if !positive.given {
			l.problem(at(positive.key), "%s is 0: want %s", positive.key, positive.want)
		}
	}
	for _, bound := range []struct {
		key          string
		value, least Size
	}{
		{"store.max_message", c.Store.MaxMessage, 64 << 10},
		{"store.max_metadata_size", c.Store.MaxMetadataSize, 1 << 10}, // RFC 5464 section 4.1, as the number of ten
		{"store.max_account_metadata", c.Store.MaxAccountMetadata, c.Store.MaxMetadataSize},
		{"store.pack_size", c.Store.PackSize, 64 << 10},
		{"store.staging_bound", c.Store.StagingBound, c.Store.PackSize},
		{"store.staged_max", c.Store.StagedMax, 1},
		{"store.fold_min", c.Store.FoldMin, 1},
		{"search.memory", c.Search.Memory, 1 << 20},
		{"search.extractor_memory", c.Search.ExtractorMemory, 16 << 20},
		{"search.extractor_file", c.Search.ExtractorFile, 64 << 10},
		{"search.extractor_text", c.Search.ExtractorText, 1 << 10},
		{"tls.cache", c.TLS.Cache, 1 << 20},
		{"store.view_cache", c.Store.ViewCache, 1},
		{"store.order_cache", c.Store.OrderCache, 1},
		{"store.blob_cache", c.Store.BlobCache, 1},
		{"store.blob_cache_dir_size", c.Store.BlobCacheDirSize, 1},
		{"store.transit", c.Store.Transit, 16 << 20},
		{"store.max_header", c.Store.MaxHeader, 16 << 10},
		{"imap.max_line", c.IMAP.MaxLine, 8 << 10},
		{"imap.max_literal", c.IMAP.MaxLiteral, 1 << 10},
		{"imap.max_command_memory", c.IMAP.MaxCommandMemory, 16 << 20},
		{"imap.max_append_memory", c.IMAP.MaxAppendMemory, 1 << 20},
		{"imap.max_context_memory", c.IMAP.MaxContextMemory, 1 << 20},
	} {
		if bound.value < bound.least {
			l.problem(at(bound.key), "%s is too little: want at least %s", bound.value, bound.least)
		}
	}
	if c.IMAP.LoginTime > mostLogin {
		l.problem(at("imap.login_time"), "%s is too much: want at most %s", short(c.IMAP.LoginTime), short(mostLogin))
	}
	if c.IMAP.IdleTime < leastIdle {
		l.problem(at("imap.idle_time"), "%s is too little: RFC 9051 section 5.4 demands at least 30m", c.IMAP.IdleTime)
	}
	for _, most := range []struct {
		key         string
		value, most int64
	}{
		{"store.max_name_length", int64(c.Store.MaxNameLength), 1000},
		{"store.max_name_depth", int64(c.Store.MaxNameDepth), 500},
		{"store.max_keywords", int64(c.Store.MaxKeywords), 128},
		{"store.max_mime_depth", int64(c.Store.MaxMIMEDepth), 100},
		{"store.max_mime_parts", int64(c.Store.MaxMIMEParts), 100_000},
		{"store.max_header", int64(c.Store.MaxHeader), 4 << 20},
		{"imap.max_line", int64(c.IMAP.MaxLine), 16 << 20},
		{"imap.max_literal", int64(c.IMAP.MaxLiteral), 16 << 20},
		{"imap.max_nesting", int64(c.IMAP.MaxNesting), 1000},
		{"imap.max_contexts", int64(c.IMAP.MaxContexts), 1000},
		{"imap.max_section_depth", int64(c.IMAP.MaxSectionDepth), 1000},
	} {
		if most.value > most.most {
			l.problem(at(most.key), "%d is too much: want at most %d", most.value, most.most)
		}
	}
	if slices.Contains(c.Auth.Mechanisms, "ANONYMOUS") != (c.Auth.AnonymousAccount != "") {
		l.problem(at("auth.anonymous_account"), "the mechanism ANONYMOUS and auth.anonymous_account belong together: set both or none")
	}
	if gssapi := slices.Contains(c.Auth.Mechanisms, "GSSAPI"); gssapi != (c.Auth.Keytab != "") || gssapi != (len(c.Auth.Realms) > 0) {
		l.problem(at("auth.keytab"), "the mechanism GSSAPI, auth.keytab and auth.realms belong together: set all or none")
	} else if gssapi {
		if err := kerberos.NewKeytab(c.Auth.Keytab).Check(); err != nil {
			l.problem(at("auth.keytab"), "%v", err)
		}
	}
	if c.Tracing.Sample > 1 {
		l.problem(at("tracing.sample"), "tracing.sample is %v: want at most 1, which is all", c.Tracing.Sample)
	}
	if c.Store.ExpungeHorizon < c.Store.Retention {
		l.problem(at("store.expunge_horizon"), "%s is shorter than store.retention, %s", short(c.Store.ExpungeHorizon), short(c.Store.Retention))
	}
	if shortest := 35 * 24 * time.Hour; c.Store.UsageRetention < shortest {
		l.problem(at("store.usage_retention"), "%s is too short: want at least %s, a month and the time to bill it", short(c.Store.UsageRetention), short(shortest))
	}
	if url := c.Quota.WebhookURL; url != "" && !strings.HasPrefix(string(url), "https://") {
		l.problem(at("quota.webhook_url"), "it is not encrypted: want a URL of https")
	} else if url != "" && len(c.Quota.WebhookSecret.Reveal()) < 16 {
		l.problem(at("quota.webhook_secret"), "quota.webhook_url needs a secret that events are signed with, of 16 characters or more")
	}
	if from := c.Quota.MailFrom; from != "" && !isAddress(from) {
		l.problem(at("quota.mail_from"), "%s: want an address such as postmaster@example.org", from)
	}
	if c.Store.StoredRatio <= 1 {
		l.problem(at("store.stored_ratio"), "%v is too little: want more than 1, such as 1.15", c.Store.StoredRatio)
	}
	if c.Store.MaxMetadata < 10 {
		l.problem(at("store.max_metadata"), "%d is too little: want at least 10", c.Store.MaxMetadata)
	}
	if c.Store.MaxMessage > mostMessage {
		l.problem(at("store.max_message"), "%s is too much: want at most %s", c.Store.MaxMessage, mostMessage)
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
