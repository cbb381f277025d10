package admin

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"mailstead.dev/store"
)

// registry holds the metrics of this process. They are read from where they are
// counted when somebody asks. No user, mailbox or address is ever a label.
func registry(s *store.Store, log *slog.Logger, more []prometheus.Collector) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), pool{s}, delegations{s}, maintenance{s, log})
	r.MustRegister(more...)
	return r
}

var (
	poolUsed = prometheus.NewDesc("mailstead_database_connections_used", "Connections to the database that are at work.", nil, nil)
	poolIdle = prometheus.NewDesc("mailstead_database_connections_idle", "Connections to the database that are open and unused.", nil, nil)
	poolMax  = prometheus.NewDesc("mailstead_database_connections_max", "The most connections this process may open.", nil, nil)
	poolWait = prometheus.NewDesc("mailstead_database_waits_total", "Times that a connection had to be waited for.", nil, nil)
	poolTime = prometheus.NewDesc("mailstead_database_wait_seconds_total", "Time spent waiting for a connection.", nil, nil)

	delegationsHeld     = prometheus.NewDesc("mailstead_delegations", "Mailboxes that this process reads from memory.", nil, nil)
	delegationsAnswered = prometheus.NewDesc("mailstead_delegated_reads_total", "Reads of mailboxes from memory, without the database.", nil, nil)
	delegationsRecalled = prometheus.NewDesc("mailstead_delegations_recalled_total", "Mailboxes that another process has recalled to change them.", nil, nil)
)

// delegations collects what is read without the database.
type delegations struct{ store *store.Store }

func (d delegations) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(d, to) }

func (d delegations) Collect(to chan<- prometheus.Metric) {
	n := d.store.Delegations()
	to <- prometheus.MustNewConstMetric(delegationsHeld, prometheus.GaugeValue, float64(n.Held))
	to <- prometheus.MustNewConstMetric(delegationsAnswered, prometheus.CounterValue, float64(n.Answered))
	to <- prometheus.MustNewConstMetric(delegationsRecalled, prometheus.CounterValue, float64(n.Recalled))
}

// pool collects the state of the connections to the database.
type pool struct{ store *store.Store }

func (p pool) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(p, to) }

func (p pool) Collect(to chan<- prometheus.Metric) {
	s := p.store.PoolStats()
	to <- prometheus.MustNewConstMetric(poolUsed, prometheus.GaugeValue, float64(s.Used))
	to <- prometheus.MustNewConstMetric(poolIdle, prometheus.GaugeValue, float64(s.Idle))
	to <- prometheus.MustNewConstMetric(poolMax, prometheus.GaugeValue, float64(s.Max))
	to <- prometheus.MustNewConstMetric(poolWait, prometheus.CounterValue, float64(s.Waits))
	to <- prometheus.MustNewConstMetric(poolTime, prometheus.CounterValue, s.Waited.Seconds())
}

var (
	stagedBytes    = prometheus.NewDesc("mailstead_staged_bytes", "Content staged in the database, compressed.", nil, nil)
	stagedMessages = prometheus.NewDesc("mailstead_staged_messages", "Contents staged in the database.", nil, nil)
	stagedAge      = prometheus.NewDesc("mailstead_staged_oldest_seconds", "How long the oldest staged content has waited.", nil, nil)
	packs          = prometheus.NewDesc("mailstead_packs_total", "Packs that this process has written from staging.", nil, nil)
	packed         = prometheus.NewDesc("mailstead_packed_messages_total", "Contents in those packs.", nil, nil)
	merges         = prometheus.NewDesc("mailstead_pack_merges_total", "Packs that this process has written from smaller ones.", nil, nil)
	orphans        = prometheus.NewDesc("mailstead_orphans_removed_total", "Objects that this process has removed because nothing refers to them.", nil, nil)
	unknown        = prometheus.NewDesc("mailstead_objects_unknown_total", "Objects that this process has seen in the bucket and the database does not know.", nil, nil)
	emails         = prometheus.NewDesc("mailstead_emails_removed_total", "Emails that this process has removed because nothing named them any more.", nil, nil)
	contents       = prometheus.NewDesc("mailstead_contents_removed_total", "Contents that this process has removed because no email named them any more.", nil, nil)
	freed          = prometheus.NewDesc("mailstead_content_freed_bytes_total", "Those contents, compressed.", nil, nil)
	rewrites       = prometheus.NewDesc("mailstead_pack_rewrites_total", "Packs that this process has written from those in which much was dead.", nil, nil)
	drift          = prometheus.NewDesc("mailstead_drift_total", "Counters that this process has found to differ from the recount, and emails and hours of the ledger that were missing. It stays 0.", nil, nil)
	quotaAudits    = prometheus.NewDesc("mailstead_quota_audits_total", "Audits of a tenant's quota counters that this process has made.", nil, nil)
	quotaDrift     = prometheus.NewDesc("mailstead_quota_drift_total", "Quota counters that this process has found to differ from the recount. It stays 0.", nil, nil)
	warnings       = prometheus.NewDesc("mailstead_quota_warnings_total", "Warnings of quotas that this process has raised or cleared.", nil, nil)
	warningMails   = prometheus.NewDesc("mailstead_quota_mails_total", "Mails that this process has delivered to tell of them.", nil, nil)
	warningsUnsent = prometheus.NewDesc("mailstead_quota_mails_dropped_total", "Such mails that did not fit, or could not be delivered.", nil, nil)
	posts          = prometheus.NewDesc("mailstead_webhook_posts_total", "Events of this process that the webhook has taken.", nil, nil)
	postFailures   = prometheus.NewDesc("mailstead_webhook_failures_total", "Times that the webhook has not taken an event, which is posted again.", nil, nil)
	postsDropped   = prometheus.NewDesc("mailstead_webhook_dropped_total", "Events that were given up after three days.", nil, nil)
	sweptAge       = prometheus.NewDesc("mailstead_sweep_oldest_seconds", "How long ago the tenant was swept that waits longest.", nil, nil)
	storedBytes    = prometheus.NewDesc("mailstead_stored_bytes", "Content in object storage and in staging when each tenant was swept last, what is dead in packs included.", nil, nil)
	liveBytes      = prometheus.NewDesc("mailstead_live_bytes", "Content that was live then, what can be brought back included.", nil, nil)
	usageAge       = prometheus.NewDesc("mailstead_usage_open_seconds", "For how long the ledger of usage has not been closed for all tenants. An hour is closed when it is over.", nil, nil)
	failures       = prometheus.NewDesc("mailstead_maintenance_failures_total", "Times that a background job of this process failed, and was tried again.", []string{"chore"}, nil)
	doneAt         = prometheus.NewDesc("mailstead_maintenance_done_timestamp_seconds", "When this process had last done all of a background job, nothing of it being left to another one, in seconds since 1970; 0: not yet.", []string{"chore"}, nil)
	intents        = prometheus.NewDesc("mailstead_intents", "Objects that do not count, or not yet, when this process tidied each tenant last. They go after a grace time.", nil, nil)
	intentsAge     = prometheus.NewDesc("mailstead_intents_oldest_seconds", "How old the oldest of them is.", nil, nil)
	unfolded       = prometheus.NewDesc("mailstead_unfolded_bytes", "Log of changes that front ends had left for this process to fold when it tidied each tenant last.", nil, nil)
)

// stagedTimeout is how long a scrape waits for what only the database knows.
const stagedTimeout = 3 * time.Second

// maintenance collects what waits for maintenance, in the whole store, and what this process has done of it.
type maintenance struct {
	store *store.Store
	log   *slog.Logger
}

func (m maintenance) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		stagedBytes, stagedMessages, stagedAge, packs, packed, merges, orphans, unknown, failures, doneAt, intents, intentsAge, unfolded,
		emails, contents, freed, rewrites, drift, quotaAudits, quotaDrift,
		warnings, warningMails, warningsUnsent, posts, postFailures, postsDropped, sweptAge, storedBytes, liveBytes, usageAge,
	} {
		to <- d
	}
}

// Collect leaves out what waits while the database is away: that must not cost the other metrics.
func (m maintenance) Collect(to chan<- prometheus.Metric) {
	done := m.store.Maintained()
	for d, n := range map[*prometheus.Desc]int64{
		packs: done.Packs, packed: done.Packed, merges: done.Merges, orphans: done.Orphans, unknown: done.Unknown,
		emails: done.Emails, contents: done.Contents, freed: done.Freed, rewrites: done.Rewrites, drift: done.Drift,
		quotaAudits: done.QuotaAudits, quotaDrift: done.QuotaDrift,
		warnings: done.Warnings, warningMails: done.WarningMails, warningsUnsent: done.WarningMailsDropped,
		posts: done.Posts, postFailures: done.PostFailures, postsDropped: done.PostsDropped,
	} {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	for name, c := range m.store.Chores() {
		at := 0.0
		if !c.Done.IsZero() {
			at = float64(c.Done.Unix())
		}
		to <- prometheus.MustNewConstMetric(failures, prometheus.CounterValue, float64(c.Failures), name)
		to <- prometheus.MustNewConstMetric(doneAt, prometheus.GaugeValue, at, name)
	}
	backlog := m.store.Backlog()
	to <- prometheus.MustNewConstMetric(intents, prometheus.GaugeValue, float64(backlog.Intents))
	to <- prometheus.MustNewConstMetric(intentsAge, prometheus.GaugeValue, age(backlog.Oldest))
	to <- prometheus.MustNewConstMetric(unfolded, prometheus.GaugeValue, float64(backlog.Unfolded))
	ctx, cancel := context.WithTimeout(context.Background(), stagedTimeout) // a scrape has none
	defer cancel()
	staged, err := m.store.Staging(ctx)
	if err != nil {
		m.log.Warn("no metrics of staging", "error", err)
		return
	}
	to <- prometheus.MustNewConstMetric(stagedBytes, prometheus.GaugeValue, float64(staged.Bytes))
	to <- prometheus.MustNewConstMetric(stagedMessages, prometheus.GaugeValue, float64(staged.Messages))
	to <- prometheus.MustNewConstMetric(stagedAge, prometheus.GaugeValue, age(staged.Oldest))
	progress, err := m.store.SweepProgress(ctx)
	if err != nil {
		m.log.Warn("no metrics of sweeping", "error", err)
		return
	}
	to <- prometheus.MustNewConstMetric(sweptAge, prometheus.GaugeValue, age(progress.Oldest))
	to <- prometheus.MustNewConstMetric(storedBytes, prometheus.GaugeValue, float64(progress.Stored))
	to <- prometheus.MustNewConstMetric(liveBytes, prometheus.GaugeValue, float64(progress.Live))
	behind, err := m.store.UsageOpen(ctx)
	if err != nil {
		m.log.Warn("no metrics of usage", "error", err)
		return
	}
	to <- prometheus.MustNewConstMetric(usageAge, prometheus.GaugeValue, behind.Seconds())
}

// age is how many seconds ago a time was; 0 where there is none.
func age(of time.Time) float64 {
	if of.IsZero() {
		return 0
	}
	return time.Since(of).Seconds()
}
