package message

import (
	"cmp"
	"math"
	"strings"
)

// endHeader ends the header of the innermost entity at the offset at, and
// describes the entity. Where it is a message/rfc822, the message inside is opened.
func (w *walker) endHeader(at int64) {
	e := w.top()
	e.inHeader = false
	p := e.part
	p.Header.Len = at - p.Header.Off
	p.Body.Off = at
	e.lines = w.lines
	if at > w.off {
		e.lines++ // the empty line
	}
	digest := len(w.open) > 1 && w.open[len(w.open)-2].digest
	w.describe(p, digest)
	if e.message != nil {
		w.readEnvelope(e.message)
		if len(w.open) == 1 {
			w.describeMessage()
		}
	}
	w.enter(e)
}

// enter prepares for the body of an entity, by its type.
func (w *walker) enter(e *entity) {
	p := e.part
	deep := len(w.open) >= w.limits.Depth
	switch {
	case p.Type == "multipart":
		if deep {
			p.Type, p.Subtype = "application", "octet-stream"
			return
		}
		e.boundary = boundaryOf(p)
		e.digest = p.Subtype == "digest"
	case p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global"):
		if deep || w.parts >= w.limits.Parts {
			p.Type, p.Subtype = "application", "octet-stream"
			return
		}
		p.Envelope = &Envelope{}
		p.Inner = &Part{Header: Range{Off: p.Body.Off}}
		w.push(entity{part: p.Inner, message: p.Envelope, inHeader: true, lines: e.lines})
	default:
		e.preview = w.sampleOf(p)
	}
}

// boundaryOf returns the boundary of a multipart without the white space that
// it must not end with (RFC 2046 section 5.1.1).
func boundaryOf(p *Part) string {
	b := p.Param("boundary")
	for len(b) > 0 && isWSP(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// describe fills p from its MIME header. Of several fields of one name the first counts.
func (w *walker) describe(p *Part, inDigest bool) {
	var seen struct{ contentType, encoding, disposition bool }
	var buf [48]byte
	for name, raw := range fields(w.head) {
		if len(name) < len("content-id") || name[0]|0x20 != 'c' {
			continue
		}
		name = lowerName(name, &buf)
		if string(name[:8]) != "content-" {
			continue
		}
		// Beyond the bound, only what says where parts lie is still told.
		w.described += len(raw)
		brief := w.described > w.limits.HeaderBytes
		switch string(name[8:]) {
		case "type":
			if !seen.contentType {
				seen.contentType = true
				p.Type, p.Subtype, p.Params = contentType(fieldValue(raw))
				if brief {
					p.Params = keepBoundary(p.Params)
				}
			}
			continue
		case "transfer-encoding":
			if !seen.encoding {
				seen.encoding = true
				p.Encoding = token(fieldValue(raw))
			}
			continue
		}
		if brief {
			continue
		}
		switch string(name[8:]) {
		case "disposition":
			if !seen.disposition {
				seen.disposition = true
				p.Disposition, p.DispositionParams = disposition(fieldValue(raw))
			}
		case "id":
			first(&p.ID, raw)
		case "description":
			first(&p.Description, raw)
		case "md5":
			first(&p.MD5, raw)
		case "location":
			first(&p.Location, raw)
		case "language":
			if p.Language == nil {
				p.Language = languages(fieldValue(raw))
			}
		}
	}
	switch {
	case seen.contentType:
	case inDigest:
		p.Type, p.Subtype = "message", "rfc822" // RFC 2046 section 5.1.5
	default:
		p.Type, p.Subtype, p.Params = "text", "plain", []Param{{"charset", "us-ascii"}} // RFC 2045 section 5.2
	}
	if p.Encoding == "" {
		p.Encoding = "7bit"
	}
}

func first(s *string, raw []byte) {
	if *s == "" {
		*s = fieldValue(raw)
	}
}

func keepBoundary(params []Param) []Param {
	for _, p := range params {
		if p.Name == "boundary" {
			return []Param{p}
		}
	}
	return nil
}

// readEnvelope fills e from the header at hand. Address fields that come
// several times are joined; of others the first counts.
func (w *walker) readEnvelope(e *Envelope) {
	var buf [48]byte
	for name, raw := range fields(w.head) {
		if len(name) > len("in-reply-to") {
			continue
		}
		if len(w.open) > 1 {
			if w.described += len(raw); w.described > w.limits.HeaderBytes {
				continue
			}
		}
		switch string(lowerName(name, &buf)) {
		case "date":
			e.first(&e.Date, EmptyDate, raw)
		case "subject":
			e.first(&e.Subject, EmptySubject, raw)
		case "from":
			e.From = parseAddresses(e.From, fieldValue(raw))
		case "sender":
			e.Sender = parseAddresses(e.Sender, fieldValue(raw))
		case "reply-to":
			e.ReplyTo = parseAddresses(e.ReplyTo, fieldValue(raw))
		case "to":
			e.To = parseAddresses(e.To, fieldValue(raw))
		case "cc":
			e.Cc = parseAddresses(e.Cc, fieldValue(raw))
		case "bcc":
			e.Bcc = parseAddresses(e.Bcc, fieldValue(raw))
		case "in-reply-to":
			e.first(&e.InReplyTo, EmptyInReplyTo, raw)
		case "message-id":
			e.first(&e.MessageID, EmptyMessageID, raw)
		}
	}
	if len(e.Sender) == 0 {
		e.Sender = e.From
	}
	if len(e.ReplyTo) == 0 {
		e.ReplyTo = e.From
	}
}

// first takes a field, unless there was one before with something in it.
func (e *Envelope) first(s *string, empty EmptyFields, raw []byte) {
	if first(s, raw); *s == "" {
		e.Empty |= empty
	} else {
		e.Empty &^= empty
	}
}

// describeMessage keeps what is kept of the message's own header.
func (w *walker) describeMessage() {
	m := w.meta
	m.keepFields(w.head, w.headSize > int64(len(w.head)))
	if t, ok := parseDate(m.Envelope.Date); ok {
		m.SentDate = t
	}
	m.References = references(w.head)
	m.BaseSubject, _ = baseSubject(DecodeHeader(m.Envelope.Subject))
}

// maxReferences bounds the ancestors that are kept of a message: the first, with which
// its thread began, and the nearest ones.
const maxReferences = 1000

// references returns the Message-IDs of References, else the first of
// In-Reply-To (RFC 5256 section 3).
func references(header []byte) []string {
	var refs, reply []string
	var buf [48]byte
	for name, raw := range fields(header) {
		switch string(lowerName(name, &buf)) {
		case "references":
			refs = messageIDs(refs, fieldValue(raw), math.MaxInt)
		case "in-reply-to":
			reply = messageIDs(reply, fieldValue(raw), 1)
		}
	}
	switch {
	case len(refs) == 0:
		return reply
	case len(refs) > maxReferences:
		return append(refs[:1:1], refs[len(refs)-maxReferences+1:]...)
	}
	return refs
}

// messageIDs appends the msg-ids (RFC 5322 section 3.6.4) of a value to list, up to n of them, with their angle brackets and
// without the quotes that each can be written with or without (RFC 5256 section 3, REFERENCES).
func messageIDs(list []string, value string, n int) []string {
	l := lexer{s: value}
	for l.skipCFWS(); !l.end() && len(list) < n; l.skipCFWS() {
		if l.peek() != '<' {
			l.i++
			continue
		}
		if id := l.readMessageID(); id != "" {
			list = append(list, id)
		}
	}
	return list
}

// readMessageID reads what begins with "<", and returns "" where that is no msg-id.
func (l *lexer) readMessageID() string {
	from, quotes := l.i, false
	l.i++
	for !l.end() {
		switch c := l.peek(); {
		case c == '"':
			l.readQuoted()
			quotes = true
			continue
		case c != '>' && c != '<' && c > ' ':
			l.i++
			continue
		}
		break
	}
	if l.end() || l.peek() != '>' {
		return ""
	}
	l.i++
	id := l.s[from:l.i]
	if quotes {
		id = unescape(strings.ReplaceAll(strings.ReplaceAll(id, `\"`, "\x00"), `"`, ""), true)
		id = strings.ReplaceAll(id, "\x00", `"`)
	}
	if at := strings.IndexByte(id, '@'); at <= 1 || at == len(id)-2 {
		return ""
	}
	return id
}

// ID returns the Message-ID as those that refer to the message have it, "" where it has none that is valid.
func (m *Meta) ID() string {
	if ids := messageIDs(nil, m.Envelope.MessageID, 1); len(ids) > 0 {
		return ids[0]
	}
	return ""
}

// ThreadRoot returns the Message-ID of the message that m's thread began with,
// as far as m says: the first of References, else its own; "" where there is none.
func (m *Meta) ThreadRoot() string {
	if len(m.References) > 0 {
		return m.References[0]
	}
	return cmp.Or(m.ID(), m.Envelope.MessageID)
}
