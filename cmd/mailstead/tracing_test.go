package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/store/storetest"
)

// collector receives spans by OTLP over HTTP.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	raw     bytes.Buffer // as it came
	spans   []*tracepb.Span
	service string
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collectorpb.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("X-Key") != "hush" {
			t.Errorf("the collector got %s %s, %v: %v", r.Method, r.URL, r.Header, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw.Write(body)
		for _, of := range request.ResourceSpans {
			for _, a := range of.Resource.Attributes {
				if a.Key == "service.name" {
					c.service = a.Value.GetStringValue()
				}
			}
			for _, scope := range of.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// named returns the spans of a name.
func (c *collector) named(name string) []*tracepb.Span {
	var found []*tracepb.Span
	for _, s := range c.spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

// below names the spans below one, the SQL statements among them by their text.
func (c *collector) below(parent *tracepb.Span) string {
	var names strings.Builder
	for _, s := range c.spans {
		if !bytes.Equal(s.TraceId, parent.TraceId) || !bytes.Equal(s.ParentSpanId, parent.SpanId) {
			continue
		}
		fmt.Fprintf(&names, "%s %s\n%s", s.Name, attributeOf(s, "db.query.text"), c.below(s))
	}
	return names.String()
}

// attributeOf returns an attribute of a span as text, "" where it has none.
func attributeOf(s *tracepb.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			if text := a.Value.GetStringValue(); text != "" {
				return text
			}
			return fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return ""
}

// planted stands in all that must never be told: passwords, addresses, names of mailboxes, what is searched for, mail.
const planted = "xyzzy"

// A session becomes spans, from the command down to SQL and S3, whose trace the log
// names; and nothing that the client, the mail server in front or the mail said is in the
// spans, in the log, or in the metrics.
func TestTracing(t *testing.T) {
	c := newCollector(t)
	s := newServing(t, map[string]string{
		"roles": "[imap, lmtp, maintenance, admin]", "log.level": "debug", "store.staging": "false", "lmtp.reject_over_quota": "true",
		"auth.trusted": "[192.0.2.0/24]", "auth.max_failures_per_account": "1", "auth.max_failures_per_tenant": "2", "auth.max_failures_per_address": "3",
	})
	const domain, user, password = planted + ".test", planted + "-jane@" + planted + ".test", planted + "-Password"
	tenant := storetest.Domain(t, s.store, planted+"-tenant", domain).Tenant
	if out, err := s.run(password+"\n", "account create "+user+" --password-stdin"); err != nil {
		t.Fatal(err, out)
	}
	jane, err := s.store.Account(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	account := jane.ID
	s.want("alias create "+planted+"-alias@"+domain+" "+user, "")
	full := storetest.Account(t, s.store, planted+"-full@"+domain)
	none := int64(0)
	if err := s.store.SetLimits(t.Context(), full, &none, nil); err != nil {
		t.Fatal(err)
	}
	s.start([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_EXPORTER_OTLP_HEADERS=X-Key=hush"})
	s.hears("READY=1")

	message := "From: " + planted + "-from@else.test\r\nTo: " + user + "\r\nSubject: " + planted + " subject\r\nX-" + planted + ": " + planted +
		"\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; name=" + planted + "\r\n\r\nThe " + planted + " body.\r\n"
	initial := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	imap := s.dial("imap")
	for i, exchange := range []struct{ command, answer string }{
		{"LOGIN " + user + " " + planted + "-wrong", "NO"},
		{"LOGIN " + planted + "-nobody@" + domain + " " + password, "NO"},
		{planted + " " + password, "BAD"},
		{"SELECT " + planted + "-too-early", "BAD"},
		{"AUTHENTICATE PLAIN " + initial, "OK"},
		{`ID ("name" "` + planted + `")`, "OK"},
		{"CREATE " + planted + "-box", "OK"},
		{"CREATE " + planted + "-box", "NO"},
		{"CREATE " + planted + "-other/below", "OK"},
		{"RENAME " + planted + "-other " + planted + "-renamed", "OK"},
		{"SUBSCRIBE " + planted + "-box", "OK"},
		{"LIST " + planted + " " + planted + "*", "OK"},
		{"STATUS " + planted + "-box (MESSAGES)", "OK"},
		{"STATUS " + planted + "-nowhere (MESSAGES)", "NO"},
		{fmt.Sprintf("APPEND %s-box (%s-keyword) {%d+}\r\n%s", planted, planted, len(message), message), "OK"},
		{fmt.Sprintf("APPEND %s-nowhere {%d+}\r\n%s", planted, len(message), message), "NO"},
		{"SELECT " + planted + "-box", "OK"},
		{"FETCH 1 (ENVELOPE BODYSTRUCTURE BODY[HEADER.FIELDS (X-" + planted + ")] BODY[])", "OK"},
		{"STORE 1 +FLAGS (" + planted + "-second)", "OK"},
		{"STORE 1 +FLAGS (\\" + planted + ")", "BAD"},
		{"SEARCH TEXT " + planted, "OK"},
		{"SEARCH CHARSET " + planted + " TEXT " + planted, "NO"},
		{"SEARCH " + planted, "BAD"},
		{"COPY 1 " + planted + "-renamed/below", "OK"},
		{"MOVE 1 " + planted + "-nowhere", "NO"},
		{"NOOP", "OK"},
		{"LOGOUT", "OK"},
	} {
		imap.say(fmt.Sprintf("a%d %s\r\n", i, exchange.command))
		imap.await(fmt.Sprintf("a%d %s", i, exchange.answer))
	}
	guesses := s.dial("imap")
	guesses.say("g LOGIN " + planted + "-other@" + domain + " " + planted + "-guess\r\n")
	guesses.await("g NO")
	lmtp := s.dial("lmtp")
	lmtp.say("LHLO " + planted + ".client\r\nMAIL FROM:<" + planted + "-from@else.test>\r\nRCPT TO:<" + planted + "-nobody@" + domain + ">\r\n" +
		"RCPT TO:<" + planted + "-alias@" + domain + ">\r\nRCPT TO:<" + planted + "-full@" + domain + ">\r\nDATA\r\n")
	lmtp.await("550 ")
	lmtp.await("354 ")
	lmtp.say(message + ".\r\n")
	lmtp.await("250 ")
	lmtp.await("552 ")
	metrics := s.get("/metrics", http.StatusOK)
	s.signal(syscall.SIGTERM)
	if err := s.ends(); err != nil {
		t.Fatal(err)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	for where, text := range map[string]string{"the spans": c.raw.String(), "the log": s.log.String(), "the metrics": metrics} {
		for _, secret := range []string{planted, initial} {
			if at := strings.Index(strings.ToLower(text), strings.ToLower(secret)); at >= 0 {
				t.Errorf("%s have a secret: %q", where, text[max(0, at-100):min(len(text), at+100)])
			}
		}
	}
	if c.service != "mailstead" {
		t.Errorf("the service is called %q", c.service)
	}
	for _, want := range []struct {
		name, attributes string
		below            []string
	}{
		{"IMAP APPEND", fmt.Sprint("OK ", tenant), []string{"append_messages", "SQL batch", "S3 PUT"}},
		{"IMAP SELECT", fmt.Sprint("OK ", tenant), []string{"FROM mailbox"}},
		{"IMAP STORE", fmt.Sprint("OK ", tenant), []string{"write_record"}},
		{"IMAP LOGIN", "NO ", []string{"SELECT"}},
		{"IMAP unknown", "BAD ", nil},
		{"LMTP RCPT", fmt.Sprint(" ", tenant), []string{"resolve_addresses"}},
		{"LMTP DATA", fmt.Sprint(" ", tenant), []string{"append_messages", "S3 PUT"}},
	} {
		found := false
		for _, span := range c.named(want.name) {
			below := c.below(span)
			complete := attributeOf(span, "mailstead.imap.outcome")+" "+attributeOf(span, "mailstead.tenant_id") == want.attributes
			for _, text := range want.below {
				complete = complete && strings.Contains(below, text)
			}
			found = found || complete
		}
		if !found {
			t.Errorf("no span %s, %s, with %q below it:", want.name, want.attributes, want.below)
			for _, span := range c.named(want.name) {
				t.Errorf("%v\n%s", span.Attributes, c.below(span))
			}
		}
	}
	data := c.named("LMTP DATA")
	if len(data) != 1 || attributeOf(data[0], "mailstead.lmtp.recipients") != "2" || attributeOf(data[0], "mailstead.lmtp.delivered") != "1" {
		t.Errorf("deliveries %v", data)
	}
	traced := false
	for line := range strings.Lines(s.log.String()) {
		traced = traced || strings.Contains(line, `"lmtp: delivered"`) && strings.Contains(line, "trace_id="+hex.EncodeToString(data[0].TraceId)+" span_id=")
	}
	if !traced {
		t.Errorf("the log does not name the trace of a delivery\n%s", s.log)
	}
	for _, want := range []string{
		fmt.Sprintf("of=account tenant=%d account=%d until=", tenant, account),
		fmt.Sprintf("of=account tenant=%d until=", tenant), // of a login without one
		fmt.Sprintf("of=tenant tenant=%d until=", tenant),
		"of=address remote=127.0.0.1/32 until=",
	} {
		if !strings.Contains(s.log.String(), `msg="too many failed logins" `+want) {
			t.Errorf("the log does not have a block %s\n%s", want, s.log)
		}
	}
	for _, want := range []string{
		`mailstead_imap_command_seconds_count{command="APPEND",outcome="OK"} 1`,
		`mailstead_imap_command_seconds_count{command="unknown",outcome="BAD"} 1`,
		`mailstead_lmtp_delivery_seconds_count{code="250"} 1`,
		`mailstead_lmtp_delivery_seconds_count{code="552"} 1`,
		`mailstead_object_request_seconds_count{method="PUT",status="200"} `,
		"mailstead_imap_connections ", "mailstead_imap_connections_logged_in ", "mailstead_imap_connections_passed ", "mailstead_imap_connections_visiting ", "mailstead_lmtp_connections 1",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no metric %s", want)
		}
	}
}

// Who asks for tracing, and how much of it, by our settings and by OpenTelemetry's variables.
func TestOpenTracing(t *testing.T) {
	for _, test := range []struct {
		name     string
		endpoint config.URL
		sample   float64
		environ  []string
		want     string
	}{
		{"nobody", "", 1, nil, "off"},
		{"setting", "http://127.0.0.1:1", 1, nil, "all"},
		{"none of them", "http://127.0.0.1:1", 0, nil, "none"},
		{"variable", "", 1, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"}, "all"},
		{"variable of spans", "", 1, []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:1/v1/traces"}, "all"},
		{"sampler", "http://127.0.0.1:1", 1, []string{"OTEL_TRACES_SAMPLER=always_off"}, "none"},
		{"no exporter", "http://127.0.0.1:1", 1, []string{"OTEL_TRACES_EXPORTER=none"}, "off"},
		{"disabled", "http://127.0.0.1:1", 1, []string{"OTEL_SDK_DISABLED=true"}, "off"},
		{"another protocol", "http://127.0.0.1:1", 1, []string{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is grpc: spans are only sent by http/protobuf"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, entry := range test.environ { // its libraries read the process's own
				name, value, _ := strings.Cut(entry, "=")
				t.Setenv(name, value)
			}
			tracing, err := openTracing(t.Context(), &config.Config{Tracing: config.Tracing{Endpoint: test.endpoint, Sample: test.sample}}, test.environ, slog.New(slog.DiscardHandler))
			got := "off"
			switch provider := tracing.provider(); {
			case err != nil:
				got = err.Error()
			case provider != nil:
				got = "none"
				_, span := provider.Tracer("test").Start(t.Context(), "span")
				if span.IsRecording() { // it is never ended, and so never sent
					got = "all"
				}
			}
			if got != test.want {
				t.Errorf("traced: %s, want %s", got, test.want)
			}
			tracing.close()
		})
	}
}

// A collector that is away costs nothing but the spans, and the log says so.
func TestCollectorAway(t *testing.T) {
	s := newServing(t, map[string]string{"tracing.endpoint": "http://127.0.0.1:1"})
	s.start([]string{"OTEL_BSP_SCHEDULE_DELAY=10", "OTEL_EXPORTER_OTLP_TIMEOUT=200"})
	s.hears("READY=1")
	imap := s.dial("imap")
	imap.say("a NOOP\r\n")
	imap.await("a OK")
	for since := time.Now(); !strings.Contains(s.log.String(), "spans were not sent"); time.Sleep(10 * time.Millisecond) {
		if time.Since(since) > patience {
			t.Fatalf("the log does not say that spans are lost\n%s", s.log)
		}
	}
	imap.say("b NOOP\r\n")
	imap.await("b OK")
	s.signal(syscall.SIGTERM)
	if err := s.ends(); err != nil {
		t.Error(err)
	}
}
