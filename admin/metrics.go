package admin

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"mailstead.dev/store"
)

// registry holds the metrics of this process. They are read from where they are
// counted when somebody asks. No user, mailbox or address is ever a label.
func registry(s *store.Store, more []prometheus.Collector) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), pool{s})
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
