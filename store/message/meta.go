package message

import "time"

// Limits bounds what is described of a message; what lies beyond is part of
// the last part that is described. Zero fields mean the defaults.
type Limits struct {
	Depth       int // nested multiparts and messages; default 100
	Parts       int // default 10,000
	HeaderBytes int // kept of one header block, and of all descriptions of parts together; default 1 MiB
}

func (l Limits) withDefaults() Limits {
	if l.Depth <= 0 {
		l.Depth = 100
	}
	if l.Parts <= 0 {
		l.Parts = 10_000
	}
	if l.HeaderBytes <= 0 {
		l.HeaderBytes = 1 << 20
	}
	return l
}

// Range is a place in a message, in octets.
type Range struct{ Off, Len int64 }

// End returns the offset of the first octet behind r.
func (r Range) End() int64 { return r.Off + r.Len }

// clamp cuts off what lies behind end.
func (r *Range) clamp(end int64) {
	r.Off = min(r.Off, end)
	r.Len = min(r.Len, end-r.Off)
}

// Address is one mailbox or group marker of an address list, as ENVELOPE
// gives it (RFC 9051 section 7.5.2): Name as in the message, not decoded. A
// group starts with Mailbox set and Host empty, and ends with both empty; an
// address that lacks either part has MissingMailbox or MissingHost there.
type Address struct{ Name, Mailbox, Host string }

// Envelope is that of RFC 9051 section 7.5.2; strings are as in the message,
// unfolded, not decoded. Sender and ReplyTo are From's where they are absent.
type Envelope struct {
	Date, Subject                      string
	From, Sender, ReplyTo, To, Cc, Bcc []Address
	InReplyTo, MessageID               string

	Empty EmptyFields
}

// EmptyFields is a set of those fields that are in a header with nothing in
// them. ENVELOPE tells them from those that are absent (RFC 3501 section 7.4.2).
type EmptyFields uint8

// What of an envelope can be there and empty.
const (
	EmptyDate EmptyFields = 1 << iota
	EmptySubject
	EmptyInReplyTo
	EmptyMessageID
)

// Param is a parameter of a structured field, its name in lower case. Values
// are as in the message: continuations and charsets of RFC 2231 are the client's.
type Param struct{ Name, Value string }

// Part is a node of the MIME tree.
type Part struct {
	Type, Subtype     string // lower case; text/plain where nothing is said
	Params            []Param
	ID, Description   string
	Encoding          string // lower case, "7bit" where nothing is said
	MD5, Location     string
	Disposition       string // lower case, "" where there is none
	DispositionParams []Param
	Language          []string

	Header Range // the MIME header (for a message, the message's), up to and with its empty line
	Body   Range // without the line end that belongs to the boundary behind it
	Lines  int64 // line ends in Body

	// Parts are those of a multipart; none where its boundary never comes.
	Parts []*Part
	// Envelope and Inner describe the message inside a message/rfc822 or
	// message/global; both are set or neither is. At the limit of depth such a
	// part, and a multipart, is described as application/octet-stream.
	Envelope *Envelope
	Inner    *Part
}

// Multipart reports whether p is a multipart.
func (p *Part) Multipart() bool { return p.Type == "multipart" }

// Param returns the value of a parameter of the content type, "" where there is none.
func (p *Part) Param(name string) string { return paramValue(p.Params, name) }

func paramValue(params []Param, name string) string {
	for _, p := range params {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// Field is a header field as it stands: Name as spelled, Raw the whole field
// with its folding and line end. A line that is no field has an empty Name.
type Field struct {
	Name string
	Raw  []byte
}

// Meta is all that is kept of a parsed message. It is a value that is shared: nobody changes it.
type Meta struct {
	Size     int64
	Envelope Envelope
	Root     *Part
	Fields   []Field // those that Cached names, in message order
	// HeaderComplete: Fields holds the whole header block (what adds little is kept whole).
	HeaderComplete bool
	// HeaderCut: the header is too large to keep fields of it, Fields is empty and nothing is Cached.
	HeaderCut   bool
	Preview     string    // up to 200 characters (RFC 8970), "" where there is no text
	SentDate    time.Time // of the Date field, in its zone; zero where there is none that can be read
	References  []string  // Message-IDs of References, else the first of In-Reply-To (RFC 5256 section 3)
	BaseSubject string    // RFC 5256 section 2.1
}

// Weight returns how many octets of memory m takes, about.
func (m *Meta) Weight() int {
	n := 1000 + len(m.Preview) + len(m.BaseSubject) + m.Envelope.weight()
	for _, id := range m.References {
		n += 16 + len(id)
	}
	for _, f := range m.Fields {
		n += 2*len(f.Raw) + 50 // what the other strings are cut out of holds it once more
	}
	if m.Root != nil {
		n += m.Root.weight()
	}
	return n
}

func (p *Part) weight() int {
	n := 350 + len(p.ID) + len(p.Description) + len(p.MD5) + len(p.Location) + weightOf(p.Params) + weightOf(p.DispositionParams)
	for _, tag := range p.Language {
		n += 16 + len(tag)
	}
	if p.Envelope != nil {
		n += 250 + p.Envelope.weight()
	}
	for _, c := range p.Parts {
		n += c.weight()
	}
	if p.Inner != nil {
		n += p.Inner.weight()
	}
	return n
}

func weightOf(params []Param) (n int) {
	for _, p := range params {
		n += 32 + len(p.Name) + len(p.Value)
	}
	return n
}

// weight is of what the envelope refers to.
func (e *Envelope) weight() int {
	n := len(e.Date) + len(e.Subject) + len(e.InReplyTo) + len(e.MessageID)
	for _, list := range [...][]Address{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
		for i := range list {
			n += 48 + len(list[i].Name) + len(list[i].Mailbox) + len(list[i].Host)
		}
	}
	return n
}
