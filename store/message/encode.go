package message

import (
	"bytes"
	"encoding/binary"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// The stored form of a Meta is one octet of version and one zstd frame. In
// the frame numbers are varints. Fields come first, as they stand; strings
// after them that are found in them are told by their place there, those of
// commonStrings by their number, and only others are written out: an envelope
// costs a few octets beside the fields that it was read from, and nothing is
// parsed to get it back.
const metaVersion = 1

// Encode returns the stored form: versioned, compressed with a trained dictionary.
func (m *Meta) Encode() []byte {
	e := metaEncoders.Get().(*metaEncoder)
	defer metaEncoders.Put(e)
	e.reset()
	e.meta(m)
	out := make([]byte, 1, 1+len(e.out)/2+64)
	out[0] = metaVersion
	return e.zstd.EncodeAll(e.out, out)
}

// metaEncoder writes the frame's content.
type metaEncoder struct {
	zstd   *zstd.Encoder
	out    []byte
	fields []byte // all raw fields
	cursor int    // in fields: behind the string found last
}

func (e *metaEncoder) reset() { e.out, e.fields, e.cursor = e.out[:0], e.fields[:0], 0 }

func (e *metaEncoder) uint(n uint64) { e.out = binary.AppendUvarint(e.out, n) }
func (e *metaEncoder) int(n int64)   { e.out = binary.AppendVarint(e.out, n) }

// How a string is told: its length times four, plus one of these.
const (
	inlineString = iota
	fieldString  // its offset in the fields follows
	commonString // its number in commonStrings stands for the length
	emptyField   // alone, in an envelope: the field is there with nothing in it
)

// How far a string is looked for, from where the last one was found and from the beginning.
const searchAhead, searchStart = 4 << 10, 2 << 10

func (e *metaEncoder) string(s string) {
	if i, ok := commonIndex[s]; ok {
		e.uint(uint64(i)<<2 | commonString)
		return
	}
	if len(s) >= 4 {
		if at := e.find(s); at >= 0 {
			e.uint(uint64(len(s))<<2 | fieldString)
			e.uint(uint64(at))
			return
		}
	}
	e.uint(uint64(len(s))<<2 + inlineString)
	e.out = append(e.out, s...)
}

func (e *metaEncoder) find(s string) int {
	ahead := e.fields[e.cursor:min(len(e.fields), e.cursor+searchAhead+len(s))]
	at := bytes.Index(ahead, []byte(s))
	if at >= 0 {
		at += e.cursor
	} else {
		at = bytes.Index(e.fields[:min(len(e.fields), searchStart+len(s))], []byte(s))
	}
	if at >= 0 {
		e.cursor = at + len(s)
	}
	return at
}

// What the first number of a meta says of it.
const (
	headerComplete = 1 << iota
	headerCut
	hasSentDate
)

func (e *metaEncoder) meta(m *Meta) {
	var flags uint64
	if m.HeaderComplete {
		flags |= headerComplete
	}
	if m.HeaderCut {
		flags |= headerCut
	}
	if !m.SentDate.IsZero() {
		flags |= hasSentDate
	}
	e.uint(flags)
	e.uint(uint64(len(m.Fields)))
	for _, f := range m.Fields {
		e.uint(uint64(len(f.Raw)))
	}
	for _, f := range m.Fields {
		e.fields = append(e.fields, f.Raw...)
	}
	e.out = append(e.out, e.fields...)

	// What the decoder makes room for.
	var n counts
	n.envelope(&m.Envelope)
	n.part(m.Root)
	e.uint(uint64(n.parts))
	e.uint(uint64(n.params))
	e.uint(uint64(n.addresses))

	e.uint(uint64(m.Size))
	e.envelope(&m.Envelope)
	if !m.SentDate.IsZero() {
		_, zone := m.SentDate.Zone()
		e.int(m.SentDate.Unix())
		e.int(int64(zone / 60))
	}
	e.strings(m.References)
	e.string(m.BaseSubject)
	e.cursor = 0
	e.part(m.Root, 0)
	e.string(m.Preview)
}

func (e *metaEncoder) strings(list []string) {
	e.uint(uint64(len(list)))
	for _, s := range list {
		e.string(s)
	}
}

func (e *metaEncoder) envelope(v *Envelope) {
	e.field(v, v.Date, EmptyDate)
	e.field(v, v.Subject, EmptySubject)
	e.addresses(v.From, nil)
	e.addresses(v.Sender, v.From)
	e.addresses(v.ReplyTo, v.From)
	e.addresses(v.To, nil)
	e.addresses(v.Cc, nil)
	e.addresses(v.Bcc, nil)
	e.field(v, v.InReplyTo, EmptyInReplyTo)
	e.field(v, v.MessageID, EmptyMessageID)
}

// field writes a string of an envelope, whose field may be there but empty.
func (e *metaEncoder) field(v *Envelope, s string, empty EmptyFields) {
	if v.Empty&empty != 0 {
		e.uint(emptyField)
		return
	}
	e.string(s)
}

// addresses writes a list: the number of addresses plus one, or 0 where it is same's.
func (e *metaEncoder) addresses(list, same []Address) {
	if len(list) > 0 && len(list) == len(same) && &list[0] == &same[0] {
		e.uint(0)
		return
	}
	e.uint(uint64(len(list)) + 1)
	for _, a := range list {
		e.string(a.Name)
		e.string(a.Mailbox)
		e.string(a.Host)
	}
}

// What the first number of a part says of it; the number of its parts follows above.
const (
	hasInner = 1 << iota
	hasDisposition
	hasMore  // one of the rare fields
	partBits = iota
)

// part writes p, which lies behind the offset at, and returns where it ends.
func (e *metaEncoder) part(p *Part, at int64) int64 {
	flags := uint64(len(p.Parts)) << partBits
	if p.Inner != nil {
		flags |= hasInner
	}
	if p.Disposition != "" || p.DispositionParams != nil {
		flags |= hasDisposition
	}
	more := p.ID != "" || p.Description != "" || p.MD5 != "" || p.Location != "" || p.Language != nil
	if more {
		flags |= hasMore
	}
	e.uint(flags)
	e.string(p.Type)
	e.string(p.Subtype)
	e.params(p.Params)
	e.string(p.Encoding)
	if flags&hasDisposition != 0 {
		e.string(p.Disposition)
		e.params(p.DispositionParams)
	}
	if more {
		e.string(p.ID)
		e.string(p.Description)
		e.string(p.MD5)
		e.string(p.Location)
		e.strings(p.Language)
	}
	e.int(p.Header.Off - at)
	e.uint(uint64(p.Header.Len))
	e.uint(uint64(p.Body.Len))
	e.uint(uint64(p.Lines))
	at = p.Header.End() // Body begins there
	if p.Inner != nil {
		e.envelope(p.Envelope)
		e.part(p.Inner, at)
	}
	for _, c := range p.Parts {
		at = e.part(c, at)
	}
	return p.Body.End()
}

func (e *metaEncoder) params(list []Param) {
	e.uint(uint64(len(list)))
	for _, p := range list {
		e.string(p.Name)
		e.string(p.Value)
	}
}

// counts is how many of each a meta holds.
type counts struct{ parts, params, addresses int }

func (n *counts) envelope(v *Envelope) {
	for i, list := range [][]Address{v.From, v.Sender, v.ReplyTo, v.To, v.Cc, v.Bcc} {
		if (i == 1 || i == 2) && len(list) > 0 && len(list) == len(v.From) && &list[0] == &v.From[0] {
			continue
		}
		n.addresses += len(list)
	}
}

func (n *counts) part(p *Part) {
	n.parts++
	n.params += len(p.Params) + len(p.DispositionParams)
	if p.Inner != nil {
		n.envelope(p.Envelope)
		n.part(p.Inner)
	}
	for _, c := range p.Parts {
		n.part(c)
	}
}

// commonStrings are told by their number. The list belongs to version 1: it
// is never changed, not even at its end.
var commonStrings = strings.Fields(`
	text plain html multipart mixed alternative related report signed digest parallel form-data encrypted
	message rfc822 global delivery-status disposition-notification partial external-body feedback-report
	application octet-stream pdf zip msword pgp-signature pkcs7-signature x-pkcs7-signature pkcs7-mime ms-tnef ics json
	vnd.ms-excel vnd.openxmlformats-officedocument.wordprocessingml.document
	vnd.openxmlformats-officedocument.spreadsheetml.sheet vnd.openxmlformats-officedocument.presentationml.presentation
	image jpeg png gif svg+xml webp heic audio mpeg video mp4 calendar csv rfc822-headers x-amp-html
	7bit 8bit binary base64 quoted-printable attachment inline
	charset name filename boundary type format delsp size creation-date modification-date x-unix-mode method micalg protocol
	report-type start reply-type filename* name* filename*0* filename*1* filename*0 filename*1 name*0* name*1* x-apple-part-url differences
	utf-8 UTF-8 us-ascii US-ASCII iso-8859-1 ISO-8859-1 iso-8859-15 windows-1252 Windows-1252 iso-8859-2 windows-1251 koi8-r iso-2022-jp gb2312
	flowed yes no fixed text/html text/plain multipart/alternative pgp-sha256 pgp-sha512 sha-256 sha256 sha1 REQUEST REPLY CANCEL PUBLISH
	application/pgp-signature application/pkcs7-signature MISSING_MAILBOX MISSING_DOMAIN gmail.com outlook.com`)

var commonIndex = func() map[string]int {
	index := map[string]int{"": 0}
	for i, s := range commonStrings {
		index[s] = i + 1
	}
	return index
}()

// common returns the string of a number.
func common(i uint64) (string, bool) {
	if i == 0 {
		return "", true
	}
	if i > uint64(len(commonStrings)) {
		return "", false
	}
	return commonStrings[i-1], true
}

func sentDate(unix, zone int64) time.Time {
	return time.Unix(unix, 0).In(time.FixedZone("", int(zone)*60))
}
