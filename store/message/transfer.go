package message

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// transferReader removes a content transfer encoding (RFC 2045 section 6). It
// reads what is broken as far as it can be: its only errors are those of r.
func transferReader(encoding string, r io.Reader) io.Reader {
	switch encoding {
	case "base64":
		return &base64Reader{r: r}
	case "quoted-printable":
		return &quotedReader{r: bufio.NewReaderSize(r, 4<<10)}
	}
	return r
}

const skip, padding = 0xff, 0xfe

var base64Values = func() (t [256]byte) {
	for i := range t {
		t[i] = skip
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	t['='] = padding
	return t
}()

// base64Decoder decodes piece by piece. Octets outside of the alphabet are
// passed over (RFC 2045 section 6.8); padding ends a group, and more may follow.
type base64Decoder struct {
	bits uint32
	n    int // characters in bits
}

func (d *base64Decoder) add(out, in []byte) []byte {
	for _, c := range in {
		switch v := base64Values[c]; v {
		case skip:
		case padding:
			out = d.flush(out)
		default:
			d.bits = d.bits<<6 | uint32(v)
			if d.n++; d.n == 4 {
				out = append(out, byte(d.bits>>16), byte(d.bits>>8), byte(d.bits))
				d.bits, d.n = 0, 0
			}
		}
	}
	return out
}

// flush ends a group that is not full.
func (d *base64Decoder) flush(out []byte) []byte {
	switch d.n {
	case 2:
		out = append(out, byte(d.bits>>4))
	case 3:
		out = append(out, byte(d.bits>>10), byte(d.bits>>2))
	}
	d.bits, d.n = 0, 0
	return out
}

func decodeBase64(text []byte) []byte {
	var d base64Decoder
	return d.flush(d.add(make([]byte, 0, len(text)*3/4), text))
}

type base64Reader struct {
	r       io.Reader
	d       base64Decoder
	in, out []byte
	err     error
}

func (b *base64Reader) Read(p []byte) (int, error) {
	if b.in == nil {
		b.in = make([]byte, 4<<10)
	}
	for len(b.out) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		var n int
		n, b.err = b.r.Read(b.in)
		b.out = b.d.add(b.out[:0], b.in[:n])
		if b.err != nil {
			b.out = b.d.flush(b.out)
		}
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	return n, nil
}

// quotedReader decodes quoted-printable (RFC 2045 section 6.7) line by line.
// An "=" that begins nothing stays.
type quotedReader struct {
	r     *bufio.Reader
	line  []byte
	carry []byte // the end of a piece of a long line, which belongs to the next
	out   []byte
	buf   []byte
	err   error
}

func (q *quotedReader) Read(p []byte) (int, error) {
	for len(q.out) == 0 {
		if q.err != nil {
			return 0, q.err
		}
		piece, err := q.r.ReadSlice('\n')
		q.line = append(append(q.line[:0], q.carry...), piece...)
		q.carry = q.carry[:0]
		if errors.Is(err, bufio.ErrBufferFull) {
			n := wholeEscapes(q.line)
			q.carry = append(q.carry, q.line[n:]...)
			q.line = q.line[:n]
		} else {
			q.err = err
		}
		q.buf = decodeQuotedLine(q.buf[:0], q.line)
		q.out = q.buf
	}
	n := copy(p, q.out)
	q.out = q.out[n:]
	return n, nil
}

// wholeEscapes returns where a piece of a line can be cut so that neither an
// escape nor the white space before a line end, unless it is long, is cut in two.
func wholeEscapes(line []byte) int {
	n := len(line)
	for n > 0 && len(line)-n < 1<<10 && (isWSP(line[n-1]) || line[n-1] == '\r') {
		n--
	}
	if i := bytes.LastIndexByte(line[:n], '='); i >= 0 && n-i < 3 {
		n = i
	}
	if n == 0 {
		return len(line)
	}
	return n
}

func decodeQuotedLine(out, line []byte) []byte {
	text := bytes.TrimRight(line, "\r\n")
	eol := line[len(text):]
	if len(eol) > 0 {
		text = bytes.TrimRight(text, " \t")
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c != '=':
			out = append(out, c)
		case i+2 < len(text) && unhex(text[i+1]) >= 0 && unhex(text[i+2]) >= 0:
			out = append(out, byte(unhex(text[i+1])<<4|unhex(text[i+2])))
			i += 2
		case i == len(text)-1: // a soft line break
			return out
		default:
			out = append(out, c)
		}
	}
	return append(out, eol...)
}
