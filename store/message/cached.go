package message

import (
	"bytes"
	"strings"
)

// cachedNames are the fields that are always kept, in lower case: those that
// clients ask for to list mail. Seen on the wire: Thunderbird (To, Cc, Bcc,
// List-*, Message-ID, Priority, X-Priority, References, Newsgroups,
// In-Reply-To, Content-Type, Reply-To), Apple Mail (Resent-*, X-Universally-Unique-Identifier,
// Auto-Submitted, X-Spam-*), K-9 and other Android clients, Outlook, mutt
// (Lines, Mail-Followup-To, X-Label, Status), webmail.
var cachedNames = map[string]bool{
	"date": true, "subject": true, "from": true, "sender": true, "reply-to": true, "to": true, "cc": true, "bcc": true,
	"message-id": true, "in-reply-to": true, "references": true, "newsgroups": true, "followup-to": true,
	"mime-version": true, "content-type": true, "content-transfer-encoding": true, "content-disposition": true,
	"content-language": true, "content-description": true, "content-id": true, "content-class": true,
	"priority": true, "x-priority": true, "importance": true, "x-msmail-priority": true, "sensitivity": true, "precedence": true,
	"mail-followup-to": true, "mail-reply-to": true, "disposition-notification-to": true, "return-receipt-to": true,
	"auto-submitted": true, "x-auto-response-suppress": true, "delivered-to": true, "x-delivered-to": true, "envelope-to": true,
	"return-path": true, "x-original-to": true, "errors-to": true, "organization": true, "user-agent": true, "x-mailer": true, "x-newsreader": true,
	"x-spam-flag": true, "x-spam-status": true, "x-spam-score": true, "x-spam-level": true, "x-spam": true,
	"x-label": true, "x-keywords": true, "keywords": true, "comments": true, "status": true, "x-status": true, "lines": true, "content-length": true,
	"x-uniform-type-identifier": true, "x-universally-unique-identifier": true, "x-mozilla-status": true, "x-mozilla-keys": true, "x-mozilla-draft-info": true,
	"x-draft-info": true, "x-forwarded-message-id": true, "thread-topic": true, "thread-index": true, "x-tuid": true, "x-offlineimap": true,
	"x-k9mail-identity": true, "face": true, "x-face": true, "archived-at": true,
}

// cachedPrefixes are families of which every field is kept.
var cachedPrefixes = []string{"list-", "resent-"}

const (
	// wholeExtra is how many octets the other fields may add so that the header is kept whole.
	wholeExtra = 512
	// maxFields bounds what is kept of one header.
	maxFields = 64 << 10
)

func cachedName(lower []byte) bool {
	if cachedNames[string(lower)] {
		return true
	}
	for _, p := range cachedPrefixes {
		if len(lower) >= len(p) && string(lower[:len(p)]) == p {
			return true
		}
	}
	return false
}

// keepFields fills m.Fields from a header block; cut says that it is not all of it.
func (m *Meta) keepFields(block []byte, cut bool) {
	var buf [48]byte
	size, extra, n, others := 0, 0, 0, 0
	for name, raw := range fields(block) {
		if cachedName(lowerName(name, &buf)) {
			size += len(raw)
			n++
		} else {
			extra += len(raw)
			others++
		}
	}
	if cut || size > maxFields {
		m.HeaderCut = true
		return
	}
	m.HeaderComplete = extra <= wholeExtra
	if m.HeaderComplete {
		size, n = size+extra, n+others
	}
	if n == 0 {
		return
	}
	kept := make([]byte, 0, size)
	m.Fields = make([]Field, 0, n)
	for name, raw := range fields(block) {
		if m.HeaderComplete || cachedName(lowerName(name, &buf)) {
			from := len(kept)
			kept = append(kept, raw...)
			m.Fields = append(m.Fields, Field{string(name), kept[from:len(kept):len(kept)]})
		}
	}
}

// Cached reports whether the raw fields of this name are all in Meta.Fields (or known to be absent).
func (m *Meta) Cached(name string) bool {
	if m.HeaderCut {
		return false
	}
	if m.HeaderComplete {
		return true
	}
	var buf [48]byte
	return cachedName(lowerName([]byte(name), &buf))
}

// HeaderBlock returns the whole header block with its empty line as it
// stands, if it is kept.
func (m *Meta) HeaderBlock() ([]byte, bool) {
	if !m.HeaderComplete {
		return nil, false
	}
	block := make([]byte, 0, m.Root.Header.Len)
	for _, f := range m.Fields {
		block = append(block, f.Raw...)
	}
	switch m.Root.Header.Len - int64(len(block)) {
	case 0:
	case 1:
		block = append(block, '\n')
	case 2:
		block = append(block, "\r\n"...)
	default:
		return nil, false
	}
	return block, true
}

// HeaderFields is SelectFields of the message's header from what is kept of
// it; false where that does not suffice.
func (m *Meta) HeaderFields(names []string, not bool) ([]byte, bool) {
	if not && !m.HeaderComplete {
		return nil, false
	}
	for _, name := range names {
		if !m.Cached(name) {
			return nil, false
		}
	}
	var out []byte
	for _, f := range m.Fields {
		if hasName(names, []byte(f.Name)) != not {
			out = append(out, f.Raw...)
		}
	}
	return endHeader(out), true
}

// Get returns the unfolded value of the first field of this name, and whether there is one among Fields.
func (m *Meta) Get(name string) (string, bool) {
	for _, f := range m.Fields {
		if strings.EqualFold(f.Name, name) {
			return fieldValue(f.Raw), true
		}
	}
	return "", false
}

// WithPrefix returns m of the message that has the header lines prefix (whole
// fields, CRLF) before it: every Range moves, the fields are added. m itself
// is not changed.
func (m *Meta) WithPrefix(prefix []byte) *Meta {
	n := int64(len(prefix))
	if n == 0 {
		return m
	}
	out := *m
	out.Size += n
	out.Root = m.Root.moved(n)
	out.Root.Header.Off -= n
	out.Root.Header.Len += n
	if m.HeaderCut {
		return &out
	}
	prefix = bytes.Clone(prefix)
	out.Fields = nil
	var buf [48]byte
	for name, raw := range fields(prefix) {
		if m.HeaderComplete || cachedName(lowerName(name, &buf)) {
			out.Fields = append(out.Fields, Field{string(name), raw})
		}
	}
	out.Fields = append(out.Fields, m.Fields...)
	return &out
}

// moved returns a copy of the tree at p whose places are n octets further on.
func (p *Part) moved(n int64) *Part {
	q := *p
	q.Header.Off += n
	q.Body.Off += n
	if p.Parts != nil {
		q.Parts = make([]*Part, len(p.Parts))
		for i, c := range p.Parts {
			q.Parts[i] = c.moved(n)
		}
	}
	if p.Inner != nil {
		q.Inner = p.Inner.moved(n)
	}
	return &q
}
