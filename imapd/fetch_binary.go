package imapd

// BINARY, BINARY.PEEK and BINARY.SIZE.
//
// RFC 3516 section 4, RFC 9051 sections 6.4.5 and 6.4.5.1.
//
// How long decoded data is, and whether there is a NUL in it, must be told before it, and
// only who has decoded all of it knows. So what is not small is decoded twice,
// and never held. Of a message, and of what has other parts in it, the
// encoding is that of the whole: none.

import (
	"bytes"
	"context"
	"io"
	"strconv"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store/message"
	"mailstead.dev/store/view"
)

// errUnknownCTE answers a FETCH that asked for the data of a part in an encoding of which nothing is known.
var errUnknownCTE = no("UNKNOWN-CTE", "Some of the parts have an unknown content transfer encoding")

// readBinary reads what follows the name of the item.
//
//	fetch-att      =/ "BINARY" [".PEEK"] section-binary [partial] / "BINARY.SIZE" section-binary
//	section-binary = "[" [section-part] "]"
func readBinary(d *wire.Decoder, name string) *section {
	s := &section{binary: true, size: name == "BINARY.SIZE", peek: name != "BINARY"}
	start := "BINARY["
	if s.size {
		start = "BINARY.SIZE["
	}
	d.Special('[')
	label, dot := s.readPart(d, []byte(start))
	if dot {
		d.Fail("Behind a part number only another one can follow")
	}
	if s = s.readEnd(d, label); s.size && s.partial {
		d.Fail("BINARY.SIZE is of the whole")
	}
	return s
}

// nothing stands for a section that is not there.
func (s *section) nothing() string {
	if s.size {
		return "0"
	}
	return "NIL"
}

// unknownCTE tells whether a part is asked for that cannot be decoded. meta may be nil where no part is.
func (f *fetcher) unknownCTE(meta *message.Meta) bool {
	for _, item := range f.items {
		s := item.section
		if item.kind != itemSection || !s.binary || s.whole() {
			continue
		}
		if p := meta.Find(s.path); p != nil && !p.Decodable() {
			return true
		}
	}
	return false
}

// binary puts a section without its encoding into the response, as a literal8 where there is a NUL in it.
//
//	msg-att-static =/ "BINARY" section-binary SP (nstring / literal8) / "BINARY.SIZE" section-binary SP number
func (f *fetcher) binary(ctx context.Context, s *section, m *view.Message, meta *message.Meta, place message.Range) error {
	var part *message.Part // nil: there is nothing to be decoded
	if !s.whole() {
		if p := meta.Find(s.path); p.Encoded() {
			part = p
		}
	}
	if s.size && part == nil {
		f.buf = strconv.AppendInt(f.buf, place.Len, 10)
		return nil
	}
	rc, err := f.decoded(ctx, s, m, part, place)
	if err != nil {
		return err
	}
	d, err := survey(ctx, rc, place.Len)
	rc.Close()
	switch {
	case err != nil:
		return err
	case s.size:
		f.buf = strconv.AppendInt(f.buf, d.size, 10)
		return nil
	case d.size == 0:
		f.buf = append(f.buf, `""`...)
		return nil
	}
	prefix := ""
	if d.nul {
		prefix = "~"
	}
	if d.size <= inlineSize {
		f.buf = append(f.buf, prefix...)
		f.literalHead(d.size)
		f.buf = append(f.buf, d.small...)
		return nil
	}
	if rc, err = f.decoded(ctx, s, m, part, place); err != nil {
		return err
	}
	return f.stream(prefix, d.size, rc)
}

// decoded opens what is asked for of a section: of data that is encoded as part says, or that is not.
func (f *fetcher) decoded(ctx context.Context, s *section, m *view.Message, part *message.Part, place message.Range) (io.ReadCloser, error) {
	if part == nil {
		place = s.within(place)
	}
	if place.Len == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	rc, err := f.open(ctx, m, place)
	if err != nil || part == nil {
		return rc, err
	}
	data := part.Decode(rc)
	if s.partial {
		if _, err := io.CopyN(io.Discard, data, s.off); err != nil && err != io.EOF {
			rc.Close()
			return nil, err
		}
		data = io.LimitReader(data, s.len)
	}
	return decodedReader{data, rc}, nil
}

// decodedReader reads decoded data, and closes what it is decoded from.
type decodedReader struct {
	io.Reader
	io.Closer
}

// surveyed is what must be known of data before it can be sent.
type surveyed struct {
	size  int64
	nul   bool   // there is one in it
	small []byte // the data, if it is no larger than inlineSize
}

// survey reads data to its end, of which there are at most so many octets.
func survey(ctx context.Context, r io.Reader, most int64) (d surveyed, err error) {
	buf := make([]byte, min(16<<10, max(512, most)))
	for {
		if err := ctx.Err(); err != nil {
			return d, err
		}
		n, err := r.Read(buf)
		d.nul = d.nul || bytes.IndexByte(buf[:n], 0) >= 0
		if d.size += int64(n); d.size <= inlineSize {
			d.small = append(d.small, buf[:n]...)
		} else {
			d.small = nil
		}
		if err == io.EOF {
			return d, nil
		}
		if err != nil {
			return d, err
		}
	}
}
