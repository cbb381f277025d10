package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"mailstead.dev/cmd/mailstead/config"
)

// tracing sends spans to a collector. The zero value sends none: then there is no
// provider, and who would make spans finds that out by a comparison.
type tracing struct{ sdk *sdktrace.TracerProvider }

// flushTime is how long the spans that are left may take when the process ends.
const flushTime = 5 * time.Second

// openTracing makes what the configuration and OpenTelemetry's own variables ask for. Those
// that are not looked at here, of the exporter, the batches, the resource, are read by its libraries.
func openTracing(ctx context.Context, c *config.Config, environ []string, log *slog.Logger) (tracing, error) {
	env := variables(environ)
	asked := c.Tracing.Endpoint != "" || env["OTEL_EXPORTER_OTLP_ENDPOINT"] != "" || env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] != ""
	if !asked || strings.EqualFold(env["OTEL_SDK_DISABLED"], "true") || env["OTEL_TRACES_EXPORTER"] == "none" {
		return tracing{}, nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"} {
		if env[name] != "" && env[name] != "http/protobuf" {
			return tracing{}, fmt.Errorf("%s is %s: spans are only sent by http/protobuf", name, env[name])
		}
	}
	var to []otlptracehttp.Option
	if c.Tracing.Endpoint != "" {
		endpoint, err := url.JoinPath(string(c.Tracing.Endpoint), "v1", "traces")
		if err != nil {
			return tracing{}, fmt.Errorf("tracing.endpoint: %w", err)
		}
		to = append(to, otlptracehttp.WithEndpointURL(endpoint))
	}
	// What it has to say comes from its libraries whenever they like, to the one place that there is.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("spans were not sent", "error", err) }))
	exporter, err := otlptracehttp.New(ctx, to...)
	if err != nil {
		return tracing{}, fmt.Errorf("tracing: %w", err)
	}
	of, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "mailstead"), attribute.String("service.version", version())),
		resource.WithHost(), resource.WithTelemetrySDK(), resource.WithFromEnv()) // the last goes before the others
	if err != nil {
		return tracing{}, fmt.Errorf("tracing: %w", err)
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithBatcher(exporter), sdktrace.WithResource(of)}
	if env["OTEL_TRACES_SAMPLER"] == "" {
		options = append(options, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.Tracing.Sample))))
	}
	return tracing{sdktrace.NewTracerProvider(options...)}, nil
}

func variables(environ []string) map[string]string {
	all := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		all[name] = value
	}
	return all
}

// provider takes spans; it is nil where there is no tracing.
func (t tracing) provider() trace.TracerProvider {
	if t.sdk == nil {
		return nil // and not an interface that holds a nil
	}
	return t.sdk
}

// requests makes spans of requests to the bucket, below the spans of what they are for. What
// is asked in the background and has no span, or is not sampled, has none here either. The
// service is not told of them.
func (t tracing) requests(next http.RoundTripper) http.RoundTripper {
	if t.sdk == nil {
		return next
	}
	return otelhttp.NewTransport(next,
		otelhttp.WithTracerProvider(t.sdk),
		otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()),
		otelhttp.WithFilter(func(r *http.Request) bool { return trace.SpanFromContext(r.Context()).IsRecording() }),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return "S3 " + r.Method }))
}

// close sends the spans that are left. Where that fails the log says so, and nothing else has gone wrong.
func (t tracing) close() {
	if t.sdk == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTime) // what asked the process to end has ended itself
	defer cancel()
	if err := t.sdk.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
}

// traced adds to records of a command the ids by which its trace is found.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }

func (h traced) WithGroup(name string) slog.Handler { return traced{h.Handler.WithGroup(name)} }
