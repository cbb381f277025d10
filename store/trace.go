package store

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"mailstead.dev/store/id"
)

// Attributes of the store's spans; those of the database are OpenTelemetry's.
const (
	attrSystem    = attribute.Key("db.system.name")
	attrQuery     = attribute.Key("db.query.text")
	attrBatchSize = attribute.Key("db.operation.batch.size")
	attrRows      = attribute.Key("mailstead.db.rows")
	attrState     = attribute.Key("db.response.status_code")
	attrTenant    = attribute.Key("mailstead.tenant_id")
)

// scope names the store's spans.
const scope = "mailstead.dev/store"

// sqlTracer makes a span of each round trip, and below it one of each of its
// statements, for as long as its answer took. Both are below the span of what
// they are for: what is asked in the background, or for a command that was not
// sampled, has none.
//
// A span has the text of the statement, which holds no value, and of an error
// its SQLSTATE alone: what PostgreSQL says in words may quote what it was given.
type sqlTracer struct{ tracer trace.Tracer }

var _ interface {
	pgx.QueryTracer
	pgx.BatchTracer
	pgxpool.AcquireTracer
} = sqlTracer{}

func recording(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

func (t sqlTracer) start(ctx context.Context, name string, options ...trace.SpanStartOption) context.Context {
	ctx, span := t.tracer.Start(ctx, name, append(options, trace.WithSpanKind(trace.SpanKindClient))...)
	span.SetAttributes(attrSystem.String("postgresql"))
	return ctx
}

// end ends the span of ctx, which start has made. Where it has made none, since
// nothing is recorded, there is nothing to end: the span of ctx is then one that records nothing.
func (t sqlTracer) end(ctx context.Context, err error) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	if err != nil {
		var e *pgconn.PgError
		if errors.As(err, &e) {
			span.SetAttributes(attrState.String(e.Code))
		}
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// TraceQueryStart implements pgx.QueryTracer.
func (t sqlTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if !recording(ctx) {
		return ctx
	}
	return t.start(ctx, summary(data.SQL), trace.WithAttributes(attrQuery.String(oneLine(data.SQL))))
}

// TraceQueryEnd implements pgx.QueryTracer.
func (t sqlTracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() && data.Err == nil {
		span.SetAttributes(attrRows.Int64(data.CommandTag.RowsAffected()))
	}
	t.end(ctx, data.Err)
}

// TraceBatchStart implements pgx.BatchTracer.
func (t sqlTracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	if !recording(ctx) {
		return ctx
	}
	return t.start(ctx, "SQL batch", trace.WithAttributes(attrBatchSize.Int(data.Batch.Len())))
}

// TraceBatchQuery implements pgx.BatchTracer. The statement has been answered, or has failed.
func (t sqlTracer) TraceBatchQuery(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	if !recording(ctx) {
		return
	}
	options := []trace.SpanStartOption{trace.WithAttributes(attrQuery.String(oneLine(data.SQL)))}
	if !data.ReadStartTime.IsZero() {
		options = append(options, trace.WithTimestamp(data.ReadStartTime))
	}
	if data.Err == nil {
		options = append(options, trace.WithAttributes(attrRows.Int64(data.CommandTag.RowsAffected())))
	}
	t.end(t.start(ctx, summary(data.SQL), options...), data.Err)
}

// TraceBatchEnd implements pgx.BatchTracer.
func (t sqlTracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	t.end(ctx, data.Err)
}

// TraceAcquireStart implements pgxpool.AcquireTracer: a command may wait for a connection.
func (t sqlTracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	if !recording(ctx) {
		return ctx
	}
	return t.start(ctx, "acquire connection")
}

// TraceAcquireEnd implements pgxpool.AcquireTracer.
func (t sqlTracer) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	t.end(ctx, data.Err)
}

// summary is the name of a statement's span: what it does, and to the first table or function in it.
func summary(sql string) string {
	words := strings.FieldsFunc(sql, func(r rune) bool { return strings.ContainsRune(" \t\n,;()", r) })
	if len(words) == 0 {
		return "SQL"
	}
	verb := words[0]
	for i, word := range words[:len(words)-1] {
		switch word {
		case "FROM", "INTO", "UPDATE":
			if next := words[i+1]; next != "SELECT" && next != "SET" { // of a subquery, of ON CONFLICT
				return verb + " " + next
			}
		}
	}
	if (verb == "SELECT" || verb == "--") && len(words) > 1 { // a ping is a comment
		return verb + " " + words[1]
	}
	return verb
}

func oneLine(sql string) string { return strings.Join(strings.Fields(sql), " ") }

// job begins the span of work in the background, which nobody waits for; end ends it.
func (s *Store) job(ctx context.Context, name string, attributes ...attribute.KeyValue) (_ context.Context, end func(error)) {
	if s.tracer == nil {
		return ctx, func(error) {}
	}
	ctx, span := s.tracer.Start(ctx, name, trace.WithAttributes(attributes...))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

func ofTenant(t id.Tenant) attribute.KeyValue { return attrTenant.Int64(int64(t)) }
