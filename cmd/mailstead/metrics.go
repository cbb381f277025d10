package main

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those that only the process itself knows: of its configuration and its certificate.
func (p *process) metrics() []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	bound := float64(p.config.Store.StagingBound)
	all := []prometheus.Collector{
		gauge("mailstead_staged_bytes_max", "The most content that may be staged in the database.", func() float64 { return bound }),
		gauge("mailstead_configuration_rejected", "1 while the configuration is older than its file because that is wrong, else 0.", func() float64 {
			if p.rejected.Load() {
				return 1
			}
			return 0
		}),
	}
	if p.certificate.config() != nil {
		all = append(all, gauge("mailstead_certificate_expiry_timestamp_seconds", "When the certificate expires, in seconds since 1970.", func() float64 {
			return float64(p.certificate.current.Load().Leaf.NotAfter.Unix())
		}))
	}
	return all
}
