package imapd

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// A command is observed from when it has been read to when it has been answered: by a span, where
// there is a tracer, and by Options.Observe. Of what the client wrote neither is told more than a name of the
// command table: no argument, and no word that is no command, which may well be a password.

// Attributes of the span of a command.
const (
	attrCommand = attribute.Key("mailstead.imap.command")
	attrOutcome = attribute.Key("mailstead.imap.outcome")
	attrCode    = attribute.Key("mailstead.imap.response_code") // of NO and BAD
	attrOctets  = attribute.Key("mailstead.imap.octets_written")
	attrTenant  = attribute.Key("mailstead.tenant_id")
)

// Outcomes of commands that got no tagged response.
const (
	unknownCommand = "unknown"
	unanswered     = "BYE" // or the connection was lost
)

// observation is of the command that runs.
type observation struct {
	began         time.Time
	span          trace.Span // nil: none
	written       int64      // octets before the command
	outcome, code string     // of its tagged response
}

// observe begins the observation of a command. The context that it returns is the
// command's. Where nobody observes, both are a comparison.
func (s *session) observe(ctx context.Context, name string, cmd command) context.Context {
	s.observation = observation{}
	if s.server.tracer == nil && s.server.o.Observe == nil {
		return ctx
	}
	s.observation.began = time.Now()
	if s.server.tracer == nil {
		return ctx
	}
	if cmd.read == nil {
		name = unknownCommand
	}
	ctx, span := s.server.tracer.Start(ctx, "IMAP "+name, trace.WithSpanKind(trace.SpanKindServer))
	if span.IsRecording() {
		span.SetAttributes(attrCommand.String(name))
		s.observation.span, s.observation.written = span, s.writtenOctets()
	}
	return ctx
}

// observed ends the observation.
func (s *session) observed(name string, cmd command) {
	o := &s.observation
	if o.began.IsZero() {
		return
	}
	if cmd.read == nil {
		name = unknownCommand
	}
	if o.outcome == "" {
		o.outcome = unanswered
	}
	if s.server.o.Observe != nil {
		s.server.o.Observe(name, o.outcome, time.Since(o.began))
	}
	if o.span == nil {
		return
	}
	o.span.SetAttributes(attrOutcome.String(o.outcome))
	if s.user.Tenant != 0 {
		o.span.SetAttributes(attrTenant.Int64(int64(s.user.Tenant)))
	}
	if n := s.writtenOctets() - o.written; n > 0 { // it begins anew where the connection has rested
		o.span.SetAttributes(attrOctets.Int64(n))
	}
	if o.outcome != "OK" {
		code, _, _ := strings.Cut(o.code, " ")
		if code != "" {
			o.span.SetAttributes(attrCode.String(code))
		}
		if code == "SERVERBUG" || code == "UNAVAILABLE" || o.outcome == unanswered {
			o.span.SetStatus(codes.Error, "")
		}
	}
	o.span.End()
	o.span = nil // so that nothing of it is kept while the client thinks
}

// writtenOctets is how much was written to the client, as far as the encoder knows.
func (s *session) writtenOctets() int64 {
	if s.buffers == nil {
		return 0
	}
	return s.enc.Written()
}
