package message

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

// Content without a transfer encoding: how it is read (RFC 3516 section 4.3), and
// how what cannot be sent without one gets it (section 4.4).

// Decodable reports whether the transfer encoding of p is known (RFC 2045 section 6.1).
func (p *Part) Decodable() bool {
	switch p.Encoding {
	case "7bit", "8bit", "binary":
		return true
	}
	return encoded(p)
}

// Encoded reports whether the body of p is not the data itself.
func (p *Part) Encoded() bool { return encoded(p) }

// Decode returns what body, that of p, is without its transfer encoding, as it is
// read. What is broken is read as far as it can be: all errors are body's.
func (p *Part) Decode(body io.Reader) io.Reader { return transferReader(p.Encoding, body) }

// ErrNUL says that there are NULs in a message where none can be.
var ErrNUL = errors.New("NUL outside of the body of a part that says that it is binary")

// EncodeBinary returns the message that m describes and r has without NULs, which no
// literal of IMAP can hold: parts in which there are some, and whose transfer encoding is
// binary, are in base64. Nothing else is changed, for it may be signed. It is ErrNUL
// where there are others.
func EncodeBinary(ctx context.Context, m *Meta, r Reader) (io.ReadCloser, error) {
	with, err := findNULs(ctx, m, r, binaryLeaves(m.Root, nil))
	if err != nil {
		return nil, err
	}
	e := &encodedMessage{ctx: ctx, r: r}
	at := int64(0)
	asItIs := func(end int64) {
		e.pieces = append(e.pieces, messagePiece{at: Range{at, end - at}})
	}
	for _, p := range with {
		header, err := headerOf(ctx, r, p.Header)
		if err != nil {
			return nil, err
		}
		asItIs(p.Header.Off)
		e.pieces = append(e.pieces, messagePiece{text: sayBase64(header)}, messagePiece{at: p.Body, encode: true})
		at = p.Body.End()
	}
	asItIs(m.Size)
	return e, nil
}

// binaryLeaves appends the parts without parts in them that say that they are binary, in order.
func binaryLeaves(p *Part, list []*Part) []*Part {
	switch {
	case p.Inner != nil:
		return binaryLeaves(p.Inner, list)
	case p.Multipart():
		for _, c := range p.Parts {
			list = binaryLeaves(c, list)
		}
	case p.Encoding == "binary":
		list = append(list, p)
	}
	return list
}

// findNULs returns those of the parts that have NULs.
func findNULs(ctx context.Context, m *Meta, r Reader, parts []*Part) (with []*Part, err error) {
	rc, err := r.Open(ctx, 0, m.Size)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	buf := make([]byte, 32<<10)
	for off := int64(0); ; {
		n, err := rc.Read(buf)
		for i := 0; i < n; i++ {
			nul := bytes.IndexByte(buf[i:n], 0)
			if nul < 0 {
				break
			}
			i += nul
			at := off + int64(i)
			for len(parts) > 0 && parts[0].Body.End() <= at {
				parts = parts[1:]
			}
			if len(parts) == 0 || at < parts[0].Body.Off {
				return nil, ErrNUL
			}
			if len(with) == 0 || with[len(with)-1] != parts[0] {
				with = append(with, parts[0])
			}
			i = int(min(parts[0].Body.End()-off, int64(n))) - 1 // of a part one is enough
		}
		off += int64(n)
		if err == io.EOF {
			return with, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// maxBinaryHeader is how large the header of a part can be that gets an encoding.
const maxBinaryHeader = 1 << 20

func headerOf(ctx context.Context, r Reader, at Range) ([]byte, error) {
	if at.Len > maxBinaryHeader {
		return nil, fmt.Errorf("%w, as far as its header of %d octets can be read", ErrNUL, at.Len)
	}
	rc, err := r.Open(ctx, at.Off, at.Len)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// sayBase64 returns a header in which the transfer encoding is base64.
func sayBase64(header []byte) []byte {
	var out []byte
	var buf [48]byte
	rest := header
	said := false
	for name, raw := range fields(header) {
		rest = rest[len(raw):]
		if string(lowerName(name, &buf)) != "content-transfer-encoding" {
			out = append(out, raw...)
			continue
		}
		if !said {
			out = append(out, "Content-Transfer-Encoding: base64\r\n"...)
		}
		said = true
	}
	return append(out, rest...) // the empty line
}

// encodedMessage reads the pieces of a message, one after the other.
type encodedMessage struct {
	ctx    context.Context // of whoever reads it, from beginning to end
	r      Reader
	pieces []messagePiece
	now    io.Reader     // of the piece at hand, nil between two
	from   io.ReadCloser // what it reads from, if it is to be closed
}

// messagePiece is a text, or a range of the message.
type messagePiece struct {
	text   []byte
	at     Range
	encode bool // in base64
}

func (e *encodedMessage) Read(p []byte) (int, error) {
	for {
		if e.now == nil {
			if len(e.pieces) == 0 {
				return 0, io.EOF
			}
			if err := e.open(e.pieces[0]); err != nil {
				return 0, err
			}
			e.pieces = e.pieces[1:]
		}
		n, err := e.now.Read(p)
		if err == io.EOF {
			e.now = nil
			err = e.Close()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (e *encodedMessage) open(p messagePiece) error {
	if p.text != nil || p.at.Len == 0 {
		e.now = bytes.NewReader(p.text)
		return nil
	}
	from, err := e.r.Open(e.ctx, p.at.Off, p.at.Len)
	if err != nil {
		return err
	}
	e.now, e.from = from, from
	if p.encode {
		e.now = &base64Lines{r: from}
	}
	return nil
}

// Close closes what the piece at hand is read from.
func (e *encodedMessage) Close() error {
	from := e.from
	e.from = nil
	if from == nil {
		return nil
	}
	return from.Close()
}

// base64Line is how many octets make a line (RFC 2045 section 6.8: at most 76 characters).
const base64Line = 57

// base64Lines encodes what it reads, in lines. The last one has no end: that is what the boundary begins with.
type base64Lines struct {
	r     io.Reader
	began bool
	in    [64 * base64Line]byte
	out   []byte
	buf   []byte
	err   error
}

func (b *base64Lines) Read(p []byte) (int, error) {
	for len(b.out) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		var n int
		n, b.err = io.ReadFull(b.r, b.in[:])
		if b.err == io.ErrUnexpectedEOF {
			b.err = io.EOF
		}
		b.buf = b.buf[:0]
		for in := b.in[:n]; len(in) > 0; in = in[min(base64Line, len(in)):] {
			if b.began {
				b.buf = append(b.buf, "\r\n"...)
			}
			b.began = true
			b.buf = base64.StdEncoding.AppendEncode(b.buf, in[:min(base64Line, len(in))])
		}
		b.out = b.buf
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	return n, nil
}
