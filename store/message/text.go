package message

import (
	"context"
	"io"
)

// Reader gives access to the octets of a message.
type Reader interface {
	// Open returns n octets from off; fewer where the message ends before.
	Open(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// Text is one piece of what SEARCH looks at; a match never spans pieces.
type Text struct {
	Header string // field name in lower case for a header field, "" for body text
	Value  string // decoded, unfolded, UTF-8, not yet normalised
	// Part: of a part's MIME header, not of the message's. Body: it lies in the
	// body of the message, for SEARCH BODY: text, and headers of messages inside.
	Part, Body bool
}

// TextVersion changes whenever Texts or Normalize would give another result.
const TextVersion = 1

// Texts extracts header fields and body texts, in order: headers decoded (RFC 2047) and unfolded, MIME headers of
// parts too; text parts decoded to UTF-8, HTML as text with its link targets, attachment file names, messages inside. yield stops by returning false.
func (m *Meta) Texts(ctx context.Context, r Reader, yield func(Text) bool) error { panic("skeleton") }

// textReader returns the decoded text of a text part, in UTF-8, from its body.
func textReader(p *Part, body io.Reader) io.Reader {
	return charsetReader(p.Param("charset"), transferReader(p.Encoding, body))
}
