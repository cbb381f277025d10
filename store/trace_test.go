package store_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// attributeOf returns a span's attribute, the zero value where there is none.
func attributeOf(span sdktrace.ReadOnlySpan, key attribute.Key) attribute.Value {
	for _, a := range span.Attributes() {
		if a.Key == key {
			return a.Value
		}
	}
	return attribute.Value{}
}

// A change is one round trip, whose statements are spans below it. They hold no value. Without
// a span that they belong to, and below one that is not sampled, there are none.
func TestSQLSpans(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	s := storetest.New(t, func(o *store.Options) { o.TracerProvider = provider })
	u := storetest.Account(t, s, "someone@spans.test")
	m := open(t, s, u, "INBOX")
	add(t, m, 1, 0)
	unsampled, _ := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())).Tracer("").Start(t.Context(), "")
	change := func(ctx context.Context, mode view.Mode) {
		t.Helper()
		if _, err := m.SetFlags(ctx, store.FlagChange{UIDs: set(1), Mode: mode, Keywords: []string{"hunter2"}, UnchangedSince: -1}); err != nil {
			t.Fatal(err)
		}
	}
	change(unsampled, view.Add)
	if n := len(recorder.Ended()); n != 0 {
		t.Errorf("%d spans of what belongs to none, or to one that is not sampled", n)
	}

	ctx, command := provider.Tracer("test").Start(t.Context(), "command")
	change(ctx, view.Remove)
	command.End()
	var names []string
	for _, span := range recorder.Ended() {
		names = append(names, span.Name())
		if span.Name() == "SQL batch" && (span.Parent().SpanID() != command.SpanContext().SpanID() || attributeOf(span, "db.operation.batch.size").AsInt64() != 1) {
			t.Errorf("the batch is below %v and has %v", span.Parent().SpanID(), span.Attributes())
		}
		if span.EndTime().Before(span.StartTime()) || span.StartTime().Before(command.(sdktrace.ReadOnlySpan).StartTime()) {
			t.Errorf("%s is from %v to %v", span.Name(), span.StartTime(), span.EndTime())
		}
		for _, a := range span.Attributes() {
			if strings.Contains(a.Value.String(), "hunter2") {
				t.Errorf("%s has a value in %s: %s", span.Name(), a.Key, a.Value.String())
			}
		}
	}
	if want := []string{"acquire connection", "SELECT write_record", "SQL batch", "command"}; !slices.Equal(names, want) {
		t.Errorf("spans %q, want %q", names, want)
	}
}

// Of an error a span has the SQLSTATE, and not its words.
func TestSQLSpanOfError(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	s := storetest.New(t, func(o *store.Options) { o.TracerProvider = provider })
	u := storetest.Account(t, s, "someone@spans.test")
	m := open(t, s, u, "INBOX")
	none := int64(0)
	if err := s.SetLimits(t.Context(), u, &none, nil); err != nil {
		t.Fatal(err)
	}
	ctx, command := provider.Tracer("test").Start(t.Context(), "command")
	if _, err := m.Append(ctx, incoming(m, 1)); err == nil {
		t.Fatal("appended without room")
	}
	command.End()
	failed := 0
	for _, span := range recorder.Ended() {
		if span.Status().Code != codes.Error {
			continue
		}
		failed++
		if span.Status().Description != "" || len(span.Events()) != 0 {
			t.Errorf("%s says %q, %v", span.Name(), span.Status().Description, span.Events())
		}
		if state := attributeOf(span, "db.response.status_code").AsString(); state != "MS003" {
			t.Errorf("%s has SQLSTATE %q", span.Name(), state)
		}
	}
	if failed == 0 {
		t.Error("no span has failed")
	}
}

// Packing is a trace of its own.
func TestJobSpans(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	s := storetest.New(t, func(o *store.Options) {
		o.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
		o.PackInterval = 1 // at once
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Maintain(ctx) }()
	eventually(t, "a span of a job", func() bool {
		return slices.ContainsFunc(recorder.Ended(), func(span sdktrace.ReadOnlySpan) bool {
			return span.Name() == "maintenance pack" && !span.Parent().IsValid()
		})
	})
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
