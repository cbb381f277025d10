package main

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailstead.dev/auth"
)

// measured counts and times what the services of a process do. A histogram's count is
// how many there were. No label is of a user, a mailbox or an address.
type measured struct {
	commands, deliveries, requests *prometheus.HistogramVec
}

func newMeasured() *measured {
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10},
		}, labels)
	}
	return &measured{
		commands: histogram("mailstead_imap_command_seconds",
			"How long commands took, from when they had been read, by their outcome: OK, NO, BAD, or BYE where the connection ended.", "command", "outcome"),
		deliveries: histogram("mailstead_lmtp_delivery_seconds",
			"How long deliveries took, one for each recipient of a message, by the code that the recipient was answered.", "code"),
		requests: histogram("mailstead_object_request_seconds",
			"How long requests to the bucket took until their answer began, by its status; none is no answer, nobucket a 404 that is of the whole bucket.", "method", "status"),
	}
}

// command takes an IMAP command.
func (m *measured) command(command, outcome string, took time.Duration) {
	m.commands.WithLabelValues(command, outcome).Observe(took.Seconds())
}

// delivery takes the answer to one recipient.
func (m *measured) delivery(code int, took time.Duration) {
	m.deliveries.WithLabelValues(strconv.Itoa(code)).Observe(took.Seconds())
}

// roundTripper is a function that sends requests.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// bucket takes the requests that next sends.
func (m *measured) bucket(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		began := time.Now()
		answer, err := next.RoundTrip(r)
		status := "none"
		if err == nil {
			status = statusOf(answer)
		}
		m.requests.WithLabelValues(r.Method, status).Observe(time.Since(began).Seconds())
		return answer, err
	})
}

// statusOf is the status of an answer as a metric tells it. An object that is not there is nothing that fails; a bucket
// that is not there is.
func statusOf(answer *http.Response) string {
	if answer.StatusCode == http.StatusNotFound {
		beginning, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10)) // who reads on meets the error
		answer.Body = readAgain{io.MultiReader(bytes.NewReader(beginning), answer.Body), answer.Body}
		if bytes.Contains(beginning, []byte("<Code>NoSuchBucket</Code>")) {
			return "nobucket"
		}
	}
	return strconv.Itoa(answer.StatusCode)
}

// readAgain is a body of which the beginning has been read.
type readAgain struct {
	io.Reader
	io.Closer
}

// metrics are what /metrics has beside those of the store: of the services, of the configuration and its certificate.
func (p *process) metrics() []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	bound := float64(p.config.Store.StagingBound)
	all := []prometheus.Collector{
		p.measured.requests,
		gauge("mailstead_staged_bytes_max", "The most content that may be staged in the database.", func() float64 { return bound }),
		gauge("mailstead_configuration_rejected", "1 while the configuration is older than its file because that is wrong, else 0.", func() float64 {
			if p.rejected.Load() {
				return 1
			}
			return 0
		}),
	}
	if p.certificates.Config(false) != nil {
		all = append(all, gauge("mailstead_certificate_expiry_timestamp_seconds", "When the certificate expires, of several the first, in seconds since 1970.", func() float64 {
			return float64(p.certificates.Ends().Unix())
		}))
	}
	if p.orders != nil {
		counter := func(name, help string, value func() int64) prometheus.Collector {
			return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
		}
		all = append(all,
			counter("mailstead_certificates_ordered_total", "Certificates that were ordered by ACME.", func() int64 { n, _ := p.orders.Ordered(); return n }),
			counter("mailstead_certificate_orders_failed_total", "Times that ordering a certificate by ACME has failed.", func() int64 { _, n := p.orders.Ordered(); return n }))
	}
	if p.index != nil {
		all = append(all, indexMetrics(p.index)...)
	}
	if p.files != nil {
		all = append(all, filesMetrics(p.files)...)
	}
	if p.imap != nil {
		counter := func(name, help string, value func(auth.Failures) int64) prometheus.Collector {
			return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value(p.authenticator.Failures())) })
		}
		all = append(all, p.measured.commands,
			counter("mailstead_logins_failed_total", "Logins by passwords that were wrong.", func(f auth.Failures) int64 { return f.Failed }),
			counter("mailstead_logins_blocked_total", "Logins that were not tried because too many had failed.", func(f auth.Failures) int64 { return f.Kept }),
			counter("mailstead_login_blocks_total", "Times that an address, an account or a tenant was blocked because too many logins had failed.",
				func(f auth.Failures) int64 { return f.Blocks }),
			gauge("mailstead_imap_connections", "Connections of mail clients.", func() float64 {
				n, _ := p.imap.Connections()
				return float64(n)
			}),
			gauge("mailstead_imap_connections_logged_in", "Connections of mail clients that have logged in.", func() float64 {
				_, n := p.imap.Connections()
				return float64(n)
			}),
			gauge("mailstead_imap_connections_passed", "Connections of mail clients that are passed through to another cell.", func() float64 { return float64(p.imap.Passed()) }),
			gauge("mailstead_imap_connections_visiting", "Connections to other cells in which mailboxes are visited.", func() float64 { return float64(p.imap.Visiting()) }))
	}
	if p.lmtp != nil {
		all = append(all, p.measured.deliveries,
			gauge("mailstead_lmtp_connections", "Connections of mail servers.", func() float64 { return float64(p.lmtp.Connections()) }))
	}
	return all
}
