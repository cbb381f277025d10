package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"mailstead.dev/index/files"
	"mailstead.dev/index/node"
)

// indexMetrics are those of the search indexes of this process.
func indexMetrics(n *node.Node) []prometheus.Collector {
	var all []prometheus.Collector
	counter := func(name, help string, value func(node.Counted) int64) {
		all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value(n.Counted())) }))
	}
	gauge := func(name, help string, value func(node.Counted) int64) {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value(n.Counted())) }))
	}
	counter("mailstead_index_emails_total", "Emails that were put into search indexes.", func(c node.Counted) int64 { return c.Emails })
	counter("mailstead_index_text_bytes_total", "Octets of their text.", func(c node.Counted) int64 { return c.Octets })
	counter("mailstead_index_searches_total", "Searches that an index was asked for.", func(c node.Counted) int64 { return c.Searches })
	counter("mailstead_index_failures_total", "Works on search indexes that failed, and were tried again.", func(c node.Counted) int64 { return c.Failures })
	counter("mailstead_index_rebuilt_total", "Search indexes that were begun anew because they were damaged or of another version.", func(c node.Counted) int64 { return c.Rebuilt })
	counter("mailstead_index_copies_total", "Copies of search indexes that were saved in object storage.", func(c node.Counted) int64 { return c.Copies })
	counter("mailstead_index_removed_total", "Search indexes that were removed, of accounts that are gone or another node's.", func(c node.Counted) int64 { return c.Removed })
	gauge("mailstead_index_open", "Search indexes that are open.", func(c node.Counted) int64 { return c.Open })
	gauge("mailstead_index_memory_bytes", "Memory for what searches have read of indexes.", func(c node.Counted) int64 { return c.Memory })
	return all
}

// filesMetrics tell what has become of attached files that were read for searches.
func filesMetrics(r *files.Reader) []prometheus.Collector {
	var all []prometheus.Collector
	for _, of := range []struct {
		result string
		value  func(files.Counted) int64
	}{
		{"read", func(c files.Counted) int64 { return c.Read }},
		{"cut", func(c files.Counted) int64 { return c.Cut }},
		{"failed", func(c files.Counted) int64 { return c.Failed }},
		{"too_large", func(c files.Counted) int64 { return c.TooLarge }},
		{"not_now", func(c files.Counted) int64 { return c.NotNow }},
	} {
		all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "mailstead_search_files_total", Help: "Attached files that were read for searches, by what became of it.", ConstLabels: prometheus.Labels{"result": of.result},
		}, func() float64 { return float64(of.value(r.Counted())) }))
	}
	return all
}
