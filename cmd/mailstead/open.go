package main

import (
	"context"
	"log/slog"
	"net/http"
	"runtime"

	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/migrations"
	"mailstead.dev/store"
	"mailstead.dev/store/blob"
	"mailstead.dev/store/message"
	"mailstead.dev/webhook"
)

// logger makes the process's logger, as the configuration says. Its level is the app's, which can be changed.
func (a *app) logger(c *config.Config) *slog.Logger {
	a.level.Set(c.Log.Level.Slog())
	options := &slog.HandlerOptions{Level: &a.level, ReplaceAttr: wordless}
	if c.Log.Format == "json" {
		return slog.New(traced{slog.NewJSONHandler(a.err, options)})
	}
	return slog.New(traced{slog.NewTextHandler(a.err, options)})
}

// wordless takes the words of PostgreSQL out of what is logged.
func wordless(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindAny {
		if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.StringValue(store.Wordless(err))
		}
	}
	return a
}

// open loads the configuration and opens the store that it names, for a
// subcommand, which closes it.
func (a *app) open(ctx context.Context) (*store.Store, *config.Config, error) {
	c, err := a.serving()
	if err != nil {
		return nil, nil, err
	}
	s, err := openStore(ctx, c, storeOptions(c, a.logger(c)), nil)
	return s, c, err
}

// openStore opens the store that c names. wrap is put around what sends requests to the bucket; it may be nil.
func openStore(ctx context.Context, c *config.Config, options store.Options, wrap func(http.RoundTripper) http.RoundTripper) (*store.Store, error) {
	bucket, err := blob.NewS3(blob.S3Options{
		Endpoint: string(c.Objects.Endpoint), Region: c.Objects.Region, Bucket: c.Objects.Bucket,
		Access: c.Objects.AccessKey, Secret: c.Objects.SecretKey.Reveal(),
		PathStyle: c.Objects.PathStyle, CAFile: c.Objects.CAFile, Wrap: wrap,
	})
	if err != nil {
		return nil, err
	}
	options.Bucket = blob.NewReliable(bucket, blob.ReliableOptions{})
	if options.Schema, err = migrations.Newest(); err != nil {
		return nil, err
	}
	return store.Open(ctx, options)
}

func storeOptions(c *config.Config, log *slog.Logger) store.Options {
	connections := c.Database.MaxConnections
	if connections == 0 {
		connections = max(16, 4*runtime.NumCPU())
	}
	o := store.Options{
		DSN: c.Database.URL.Reveal(), ListenDSN: c.Database.ListenURL.Reveal(), PgBouncer: c.Database.PgBouncer,
		MaxConns:   int32(connections),
		MaxMessage: int64(c.Store.MaxMessage), MaxMetadataSize: int64(c.Store.MaxMetadataSize), MaxMetadata: c.Store.MaxMetadata,
		MaxAccountMetadata: int64(c.Store.MaxAccountMetadata),
		NoStaging:          !c.Store.Staging, StagedMax: int(c.Store.StagedMax), StagingBound: int64(c.Store.StagingBound),
		PackSize: int64(c.Store.PackSize), PackAge: c.Store.PackAge, RemoveUnknown: c.Store.RemoveUnknownObjects,
		Retention: c.Store.Retention, ExpungeHorizon: c.Store.ExpungeHorizon, StoredRatio: c.Store.StoredRatio,
		UsageRetention: c.Store.UsageRetention,
		SweepEvery:     c.Store.SweepEvery, TidyInterval: c.Store.TidyEvery, OrphanGrace: c.Store.ObjectGrace,
		AuditEvery: c.Quota.AuditEvery, LookEvery: c.Quota.LookEvery, MailWarnings: c.Quota.Mail, MailFrom: c.Quota.MailFrom,
		FoldMin: int64(c.Store.FoldMin), FoldRatio: c.Store.FoldRatio,
		NoDelegations:  !c.Store.Delegations,
		ViewCacheBytes: int64(c.Store.ViewCache), OrderCacheBytes: int64(c.Store.OrderCache), BlobCacheBytes: int64(c.Store.BlobCache),
		TransitBytes: int64(c.Store.Transit), TransitWait: c.Store.TransitWait,
		SpoolDir: c.Store.SpoolDir, MaxMailboxes: c.Store.MaxMailboxes,
		MaxNameBytes: c.Store.MaxNameLength, MaxNameLevels: c.Store.MaxNameDepth, MaxKeywords: c.Store.MaxKeywords,
		Describe: message.Limits{Depth: c.Store.MaxMIMEDepth, Parts: c.Store.MaxMIMEParts, HeaderBytes: int(c.Store.MaxHeader)},
		Logger:   log,
	}
	for _, n := range c.Quota.WarnAt {
		o.WarnAt = append(o.WarnAt, int(n))
	}
	if url := c.Quota.WebhookURL; url != "" {
		o.Webhook = webhook.New(webhook.Options{URL: string(url), Secret: c.Quota.WebhookSecret.Reveal()})
	}
	return o
}
