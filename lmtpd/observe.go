package lmtpd

import (
	"context"
	"errors"

	"github.com/emersion/go-smtp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Spans and logs never hold an address: who it is about is said by the numbers of tenant, account and mailbox.

// Attributes of the spans of RCPT and of a message.
const (
	attrReply      = attribute.Key("mailstead.lmtp.reply_code")
	attrRecipients = attribute.Key("mailstead.lmtp.recipients")
	attrDelivered  = attribute.Key("mailstead.lmtp.delivered")
	attrOctets     = attribute.Key("mailstead.lmtp.octets")
	attrTenant     = attribute.Key("mailstead.tenant_id")
	attrTenants    = attribute.Key("mailstead.tenants") // where there are several
)

// span begins the span of a command; it is nil where nobody takes it.
func (s *Server) span(ctx context.Context, name string) (context.Context, trace.Span) {
	if s.tracer == nil {
		return ctx, nil
	}
	return s.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
}

// end ends a span, if there is one. What has to be tried again is a fault of ours.
func end(span trace.Span, failed bool, attributes ...attribute.KeyValue) {
	if span == nil {
		return
	}
	span.SetAttributes(attributes...)
	if failed {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// replyCode is what a client is told of an error, nil being 250.
func replyCode(err error) int {
	var reply *smtp.SMTPError
	switch {
	case err == nil:
		return 250
	case errors.As(err, &reply):
		return reply.Code
	}
	return unavailable.Code
}
