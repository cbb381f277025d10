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
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), pool{s}, maintenance{s, log})
	r.MustRegister(more...)
	return r
}

var (
	poolUsed = prometheus.NewDesc("mailstead_database_connections_used", "Connections to the database that are at work.", nil, nil)
	poolIdle = prometheus.NewDesc("mailstead_database_connections_idle", "Connections to the database that are open and unused.", nil, nil)
	poolMax  = prometheus.NewDesc("mailstead_database_connections_max", "The most connections this process may open.", nil, nil)
	poolWait = prometheus.NewDesc("mailstead_database_waits_total", "Times that a connection had to be waited for.", nil, nil)
	poolTime = prometheus.NewDesc("mailstead_database_wait_seconds_total", "Time spent waiting for a connection.", nil, nil)
)

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
	failures       = prometheus.NewDesc("mailstead_maintenance_failures_total", "Background jobs of this process that failed and were tried again.", nil, nil)
)

// stagedTimeout is how long a scrape waits for what only the database knows.
const stagedTimeout = 3 * time.Second

// maintenance collects what waits for maintenance, in the whole store, and what this process has done of it.
type maintenance struct {
	store *store.Store
	log   *slog.Logger
}

func (m maintenance) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{stagedBytes, stagedMessages, stagedAge, packs, packed, merges, orphans, unknown, failures} {
		to <- d
	}
}

// Collect leaves out what waits while the database is away: that must not cost the other metrics.
func (m maintenance) Collect(to chan<- prometheus.Metric) {
	done := m.store.Maintained()
	for d, n := range map[*prometheus.Desc]int64{
		packs: done.Packs, packed: done.Packed, merges: done.Merges, orphans: done.Orphans, unknown: done.Unknown, failures: done.Failures,
	} {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	ctx, cancel := context.WithTimeout(context.Background(), stagedTimeout) // a scrape has none
	defer cancel()
	staged, err := m.store.Staging(ctx)
	if err != nil {
		m.log.Warn("no metrics of staging", "error", err)
		return
	}
	age := 0.0
	if !staged.Oldest.IsZero() {
		age = time.Since(staged.Oldest).Seconds()
	}
	to <- prometheus.MustNewConstMetric(stagedBytes, prometheus.GaugeValue, float64(staged.Bytes))
	to <- prometheus.MustNewConstMetric(stagedMessages, prometheus.GaugeValue, float64(staged.Messages))
	to <- prometheus.MustNewConstMetric(stagedAge, prometheus.GaugeValue, age)
}
