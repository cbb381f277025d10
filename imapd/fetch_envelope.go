package imapd

// ENVELOPE.
//
// RFC 3501 section 7.4.2, RFC 9051 section 7.5.2.

import (
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store/message"
)

// envelope = "(" env-date SP env-subject SP env-from SP env-sender SP env-reply-to SP
// env-to SP env-cc SP env-bcc SP env-in-reply-to SP env-message-id ")"
func appendEnvelope(b []byte, e *message.Envelope) []byte {
	b = append(b, '(')
	b = appendField(b, e, e.Date, message.EmptyDate)
	b = append(b, ' ')
	b = appendField(b, e, e.Subject, message.EmptySubject)
	for _, list := range [...][]message.Address{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
		b = append(b, ' ')
		b = appendAddresses(b, list)
	}
	b = append(b, ' ')
	b = appendField(b, e, e.InReplyTo, message.EmptyInReplyTo)
	b = append(b, ' ')
	b = appendField(b, e, e.MessageID, message.EmptyMessageID)
	return append(b, ')')
}

// appendField writes NIL for a field that is absent, and "" for one that is there with nothing in it.
func appendField(b []byte, e *message.Envelope, value string, empty message.EmptyFields) []byte {
	if e.Empty&empty != 0 {
		return wire.AppendString(b, "")
	}
	return wire.AppendNString(b, value)
}

// appendAddresses writes "(" 1*address ")" or NIL. The source route between
// name and mailbox is obsolete, and always NIL.
func appendAddresses(b []byte, list []message.Address) []byte {
	if len(list) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for i := range list {
		a := &list[i]
		b = append(b, '(')
		b = wire.AppendNString(b, a.Name)
		b = append(b, " NIL "...)
		b = wire.AppendNString(b, a.Mailbox)
		b = append(b, ' ')
		b = wire.AppendNString(b, a.Host)
		b = append(b, ')')
	}
	return append(b, ')')
}
