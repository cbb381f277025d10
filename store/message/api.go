// Package message parses mail once, on arrival, into all that IMAP asks of a
// message without its content: envelope, structure with the place of every
// part, the header fields that clients list, a preview, sort keys. It also
// extracts the text that SEARCH looks at. No I/O beyond the given readers.
//
// RFC 5322, 2045 to 2047, 2231, 6532; what is broken is described as well as
// possible, and never an error.
package message

import (
	"context"
	"io"
	"time"
)

// Limits bounds what is described of a message; what lies beyond is part of
// the last part that is described. Zero fields mean the defaults.
type Limits struct {
	Depth       int // nested multiparts and messages; default 100
	Parts       int // default 10,000
	HeaderBytes int // kept of one header block; default 1 MiB
}

// Range is a place in a message, in octets.
type Range struct{ Off, Len int64 }

// Address is one mailbox or group marker of an address list, as ENVELOPE gives
// it (RFC 9051 section 7.5.2): Name as in the message (not decoded). A group starts with Mailbox set and
// Host empty, and ends with both empty.
type Address struct{ Name, Mailbox, Host string }

// Envelope is RFC 9051's ENVELOPE; strings are as in the message, unfolded, not decoded.
type Envelope struct {
	Date, Subject                      string
	From, Sender, ReplyTo, To, Cc, Bcc []Address
	InReplyTo, MessageID               string
}

// Param is a parameter of a structured field, its name in lower case.
type Param struct{ Name, Value string }

// Part is a node of the MIME tree.
type Part struct {
	Type, Subtype     string // lower case; text/plain where nothing is said
	Params            []Param
	ID, Description   string
	Encoding          string // lower case, "7bit" where nothing is said
	MD5, Location     string
	Disposition       string // "" where there is none
	DispositionParams []Param
	Language          []string

	Header Range // the MIME header (for the root, the message's), up to and with its empty line
	Body   Range
	Lines  int64 // of Body

	Parts    []*Part   // of multipart/*
	Envelope *Envelope // of message/rfc822 and message/global: that of the message inside
	Inner    *Part     // and its structure
}

// Field is a header field as it stands: Name as spelled, Raw the whole field with its folding and final CRLF.
type Field struct {
	Name string
	Raw  []byte
}

// Meta is all that is kept of a parsed message.
type Meta struct {
	Size     int64
	Envelope Envelope
	Root     *Part
	Fields   []Field // those of CachedFields, in message order, raw
	// HeaderComplete: Fields holds the whole header block (small headers are kept whole).
	HeaderComplete bool
	Preview        string    // up to 200 characters (RFC 8970), "" where there is no text
	SentDate       time.Time // of the Date field, zero where there is none that can be read
	References     []string  // Message-IDs of References and In-Reply-To, for threads
	BaseSubject    string    // RFC 5256 section 2.1
}

// Parse reads a message to its end in one pass and describes it. Its only errors are those of r.
func Parse(r io.Reader, l Limits) (*Meta, error) { panic("skeleton") }

// Encode returns the stored form: versioned, compressed with a trained dictionary.
func (m *Meta) Encode() []byte { panic("skeleton") }

func DecodeMeta(data []byte) (*Meta, error) { panic("skeleton") }

// Cached reports whether the raw fields of this name are all in Meta.Fields (or known to be absent).
func (m *Meta) Cached(name string) bool { panic("skeleton") }

// WithPrefix returns m of the message that has the header lines prefix (whole fields, CRLF) before it:
// every Range moves, the fields are added. m itself is not changed.
func (m *Meta) WithPrefix(prefix []byte) *Meta { panic("skeleton") }

// Find returns the part that an IMAP section path names (RFC 9051 section 6.4.5.1; 1 of a
// message that is no multipart is its body), nil if there is none. The empty path is the message itself.
func (m *Meta) Find(path []int) *Part { panic("skeleton") }

// Section returns where a body section lies: kind is "" (the body of the part; for the empty path the whole message), "HEADER", "TEXT" or "MIME".
// HEADER.FIELDS is a filter over HEADER that the caller applies with SelectFields.
func (m *Meta) Section(path []int, kind string) (Range, bool) { panic("skeleton") }

// SelectFields returns the fields of a header block that are (or, with not, are not) among names, with the final empty line.
func SelectFields(header []byte, names []string, not bool) []byte { panic("skeleton") }

// Reader gives access to the octets of a message.
type Reader interface {
	// Open returns n octets from off; fewer where the message ends before.
	Open(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// Text is one piece of what SEARCH looks at; a match never spans pieces.
type Text struct {
	Header string // field name in lower case for a header field, "" for body text
	Value  string // decoded, unfolded, UTF-8, not yet normalised
}

// TextVersion changes whenever Texts or Normalize would give another result.
const TextVersion = 1

// Texts extracts header fields and body texts, in order: headers decoded (RFC 2047) and unfolded, MIME headers of
// parts too; text parts decoded to UTF-8, HTML as text with its link targets, attachment file names, messages inside. yield stops by returning false.
func (m *Meta) Texts(ctx context.Context, r Reader, yield func(Text) bool) error { panic("skeleton") }

// Normalize maps s for comparison: i;unicode-casemap (RFC 5051).
func Normalize(s string) string { panic("skeleton") }

// DecodeHeader decodes RFC 2047 words of an unstructured field value; what cannot be decoded stays.
func DecodeHeader(s string) string { panic("skeleton") }
