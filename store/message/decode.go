package message

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMeta says that octets are not the stored form of a Meta.
var ErrMeta = errors.New("not the stored form of a message's description")

// DecodeMeta is the inverse of Encode. Whatever data is, it takes bounded
// memory; what is not the stored form gives ErrMeta.
func DecodeMeta(data []byte) (*Meta, error) {
	if len(data) == 0 || data[0] != metaVersion {
		return nil, fmt.Errorf("%w: unknown version", ErrMeta)
	}
	d := metaDecoders.Get().(*metaDecoder)
	defer metaDecoders.Put(d)
	content, err := d.zstd.DecodeAll(data[1:], d.buf[:0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMeta, err)
	}
	if cap(content) <= keepBuffer {
		d.buf = content[:0]
	}
	p := metaParser{data: content}
	m := p.meta()
	if p.failed || p.i != len(content) {
		return nil, ErrMeta
	}
	return m, nil
}

// keepBuffer is the largest buffer that is kept for the next use.
const keepBuffer = 64 << 10

// metaParser reads a frame's content. Strings are cut out of two copies of
// parts of it, and structures out of slabs: decoding allocates little.
type metaParser struct {
	data   []byte
	text   string // data, for strings
	i      int
	failed bool

	fieldsAt, fieldsLen int // where the raw fields stand in data

	parts     []Part
	params    []Param
	addresses []Address
	depth     int
}

func (p *metaParser) fail() { p.failed, p.i = true, len(p.data) }

func (p *metaParser) uint() uint64 {
	n, size := binary.Uvarint(p.data[p.i:])
	if size <= 0 {
		p.fail()
		return 0
	}
	p.i += size
	return n
}

func (p *metaParser) int() int64 {
	n, size := binary.Varint(p.data[p.i:])
	if size <= 0 {
		p.fail()
		return 0
	}
	p.i += size
	return n
}

// count reads how many of something follow, each of at least so many octets.
func (p *metaParser) count(octets int) int {
	n := p.uint()
	if n > uint64((len(p.data)-p.i)/octets) {
		p.fail()
		return 0
	}
	return int(n)
}

// length reads a length of octets in a message.
func (p *metaParser) length() int64 {
	n := p.uint()
	if n > 1<<62 {
		p.fail()
		return 0
	}
	return int64(n)
}

func (p *metaParser) string() string {
	n := p.uint()
	kind, n := n&3, n>>2
	switch kind {
	case inlineString:
		if n <= uint64(len(p.data)-p.i) {
			s := p.text[p.i : p.i+int(n)]
			p.i += int(n)
			return s
		}
	case fieldString:
		at := p.uint()
		if at <= uint64(p.fieldsLen) && n <= uint64(p.fieldsLen)-at {
			from := p.fieldsAt + int(at)
			return p.text[from : from+int(n)]
		}
	case commonString:
		if s, ok := common(n); ok {
			return s
		}
	}
	p.fail()
	return ""
}

func (p *metaParser) meta() *Meta {
	p.text = string(p.data)
	flags := p.uint()
	m := &Meta{HeaderComplete: flags&headerComplete != 0, HeaderCut: flags&headerCut != 0}
	m.Fields = p.fields()

	p.parts = make([]Part, 0, p.count(9))
	p.params = make([]Param, 0, p.count(2))
	p.addresses = make([]Address, 0, p.count(3))

	m.Size = p.length()
	p.envelope(&m.Envelope)
	if flags&hasSentDate != 0 {
		unix, zone := p.int(), p.int()
		if unix < -1<<40 || unix > 1<<40 || zone < -24*60 || zone > 24*60 {
			p.fail()
		}
		m.SentDate = sentDate(unix, zone)
	}
	m.References = p.strings()
	m.BaseSubject = p.string()
	m.Root = p.part(0)
	m.Preview = p.string()
	return m
}

func (p *metaParser) fields() []Field {
	n := p.count(1)
	if n == 0 {
		return nil
	}
	list := make([]Field, n)
	ends := make([]int, n)
	total := 0
	for i := range ends {
		total += p.count(1)
		ends[i] = total
	}
	if p.failed || total > len(p.data)-p.i {
		p.fail()
		return nil
	}
	p.fieldsAt, p.fieldsLen = p.i, total
	raw := make([]byte, total)
	copy(raw, p.data[p.i:])
	from := 0
	for i, end := range ends {
		list[i] = Field{p.fieldName(raw[from:end], from), raw[from:end:end]}
		from = end
	}
	p.i += total
	return list
}

// fieldName is the package's fieldName of a field at an offset, cut out of text.
func (p *metaParser) fieldName(raw []byte, at int) string {
	name := fieldName(raw)
	if len(name) == 0 {
		return ""
	}
	from := p.fieldsAt + at + cap(raw) - cap(name) // both end where raw's capacity does
	return p.text[from : from+len(name)]
}

func (p *metaParser) strings() []string {
	n := p.count(1)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = p.string()
	}
	return list
}

func (p *metaParser) envelope(v *Envelope) {
	v.Date = p.field(v, EmptyDate)
	v.Subject = p.field(v, EmptySubject)
	v.From = p.addressList(nil)
	v.Sender = p.addressList(v.From)
	v.ReplyTo = p.addressList(v.From)
	v.To = p.addressList(nil)
	v.Cc = p.addressList(nil)
	v.Bcc = p.addressList(nil)
	v.InReplyTo = p.field(v, EmptyInReplyTo)
	v.MessageID = p.field(v, EmptyMessageID)
}

// field reads a string of an envelope, and notes where its field is there but empty.
func (p *metaParser) field(v *Envelope, empty EmptyFields) string {
	if p.i < len(p.data) && p.data[p.i] == emptyField {
		p.i++
		v.Empty |= empty
		return ""
	}
	return p.string()
}

func (p *metaParser) addressList(same []Address) []Address {
	n := p.uint()
	switch {
	case n == 0:
		return same
	case n-1 > uint64(cap(p.addresses)-len(p.addresses)):
		p.fail()
		return nil
	case n == 1:
		return nil
	}
	from := len(p.addresses)
	for range n - 1 {
		p.addresses = append(p.addresses, Address{p.string(), p.string(), p.string()})
	}
	return p.addresses[from:len(p.addresses):len(p.addresses)]
}

func (p *metaParser) paramList() []Param {
	n := p.uint()
	switch {
	case n > uint64(cap(p.params)-len(p.params)):
		p.fail()
		return nil
	case n == 0:
		return nil
	}
	from := len(p.params)
	for range n {
		p.params = append(p.params, Param{p.string(), p.string()})
	}
	return p.params[from:len(p.params):len(p.params)]
}

// maxDepth bounds the tree, whatever Limits it was made with.
const maxDepth = 10_000

func (p *metaParser) part(at int64) *Part {
	if p.failed || len(p.parts) == cap(p.parts) || p.depth == maxDepth {
		p.fail()
		return &Part{}
	}
	p.depth++
	defer func() { p.depth-- }()
	p.parts = append(p.parts, Part{})
	q := &p.parts[len(p.parts)-1]

	flags := p.uint()
	q.Type, q.Subtype = p.string(), p.string()
	q.Params = p.paramList()
	q.Encoding = p.string()
	if flags&hasDisposition != 0 {
		q.Disposition = p.string()
		q.DispositionParams = p.paramList()
	}
	if flags&hasMore != 0 {
		q.ID, q.Description, q.MD5, q.Location = p.string(), p.string(), p.string(), p.string()
		q.Language = p.strings()
	}
	q.Header.Off = at + p.int()
	q.Header.Len = p.length()
	q.Body = Range{q.Header.End(), p.length()}
	q.Lines = p.length()
	if q.Header.Off < 0 || q.Body.Off < 0 || q.Body.End() < 0 || q.Body.End() > 1<<62 {
		p.fail()
	}
	at = q.Body.Off
	if flags&hasInner != 0 {
		q.Envelope = &Envelope{}
		p.envelope(q.Envelope)
		q.Inner = p.part(at)
	}
	n := flags >> partBits
	if n == 0 {
		return q
	}
	if n > uint64(cap(p.parts)-len(p.parts)) {
		p.fail()
		return q
	}
	q.Parts = make([]*Part, n)
	for i := range q.Parts {
		q.Parts[i] = p.part(at)
		at = q.Parts[i].Body.End()
	}
	return q
}
