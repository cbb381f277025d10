package imapd

// COMPRESS.
//
// RFC 4978. While a connection waits, all that it keeps of its compression is
// text: the end of what each side has sent, to which what follows may refer.
// Compressors have no state of their own, and decompressors are lent while
// something comes in.
//
// What a client compresses is taken in by the bufferful, and bounded as
// commands and literals always are, whatever it becomes. So that it does not become
// work without end either, all of it together is bounded by what was sent (Options.MaxInflation).

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"

	"mailstead.dev/imapd/wire"
)

const (
	// window is how far compressed text can refer back (RFC 1951 section 2).
	window = 32 << 10
	// sentWindow is how far ours does.
	sentWindow = 4 << 10
)

// Errors that end a connection.
var (
	errInflated = errors.New("compressed input became too much")
	errStream   = errors.New("compressed input has ended")
)

// compress = "COMPRESS" SP algorithm
func readCompress(d *wire.Decoder) (run, error) {
	d.SP()
	algorithm := d.Keyword()
	return func(_ context.Context, s *session) error { return s.startCompression(algorithm) }, d.End()
}

func (s *session) startCompression(algorithm string) error {
	switch {
	case !s.server.o.Compress:
		return bad("Compression is not offered")
	case algorithm != "DEFLATE":
		return bad("Unknown compression %.40s", algorithm)
	case s.compression != nil:
		return &wire.SyntaxError{Code: "COMPRESSIONACTIVE", Text: "DEFLATE is active already"}
	}
	s.writeTagged("OK", "", "DEFLATE active")
	s.answered = true
	if err := s.enc.Flush(); err != nil {
		return err
	}
	s.compress()
	return nil
}

func mayCompress(s *session) bool {
	return s.server.o.Compress && afterLogin(s) && s.compression == nil
}

// compress begins compression. What the client has sent behind the command is
// compressed already, or else it is nothing.
func (c *conn) compress() {
	z := &compression{limit: c.server.o.MaxInflation, allowance: c.server.store.MaxMessage()}
	z.wake(nil)
	z.source, c.br = c.br, z.source // with what was read already
	z.reset()
	z.in = int64(z.source.Buffered())
	c.unbuffer()
	c.compression = z
}

// stopCompression ends compression with what has been written so far, and on
// the client's side with what has been decoded: nothing more was inflated.
func (c *conn) stopCompression() error {
	z := c.compression
	z.last = true
	if err := c.enc.Flush(); err != nil {
		return err
	}
	c.unbuffer()
	c.compression = nil
	if z.inflater == nil {
		return nil
	}
	// A client whose last block was not the end of its stream may send an empty one that is.
	if end, _ := z.source.Peek(min(2, z.source.Buffered())); string(end) == "\x03\x00" {
		z.source.Discard(2) // which are there
	}
	c.bufferFrom(z.source)
	return nil
}

// inflatedMore tells whether the client has compressed more than has been decoded.
func (c *conn) inflatedMore() bool {
	return c.compression != nil && (c.br.Buffered() > 0 || c.compression.next < c.compression.end)
}

// compression is the layer between the commands and the socket, or TLS.
type compression struct {
	limit     int64 // octets that one that was received may become,
	allowance int64 // beyond these
	in, out   int64 // octets received, and what they became

	sent     []byte // the end of what was sent
	received []byte // the end of what was received, inflated
	last     bool   // the next to be sent is the last

	*inflater // nil while nothing comes in
}

// inflater inflates what a client sends.
type inflater struct {
	source *bufio.Reader // compressed
	flate  io.ReadCloser

	text      []byte // of a window, so that it takes all that flate has to give at once
	next, end int    // of what is left in text
	at        int    // octets in flate's window, modulo its size
	inside    bool   // it may be that flate has not come to the end of a block
}

var inflaters = sync.Pool{New: func() any {
	source := bufio.NewReaderSize(nil, readBuffer)
	return &inflater{source: source, flate: flate.NewReader(source), text: make([]byte, window)}
}}

// deflated are buffers for what is about to be sent.
var deflated = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// wake prepares to read from the socket.
func (z *compression) wake(socket io.Reader) {
	if z.inflater != nil {
		return
	}
	z.inflater = inflaters.Get().(*inflater)
	z.source.Reset(socket)
	z.reset()
}

// reset lets what is read next go on from what was received.
func (z *compression) reset() {
	z.flate.(flate.Resetter).Reset(z.source, z.received) // which cannot fail
	z.next, z.end, z.at, z.inside = 0, 0, len(z.received)%window, false
}

// rest gives the inflater back, unless something is left in it.
func (z *compression) rest() {
	if z.inflater == nil || z.inside || z.next < z.end || z.source.Buffered() > 0 {
		return
	}
	z.source.Reset(nil)
	inflaters.Put(z.inflater)
	z.inflater = nil
}

// emptyBlock is what a flush of nothing looks like (RFC 1951 section 3.2.4).
var emptyBlock = []byte("\x00\x00\x00\xff\xff")

// pending tells whether there is input that was read but not taken. A flush of
// nothing, in it or in first, is passed over: no command begins with it.
func (z *compression) pending(first []byte) (left int, pending bool) {
	if z.inflater != nil {
		if z.inside || z.next < z.end {
			return len(first), z.next < z.end || z.source.Buffered() > 0
		}
		for z.source.Buffered() >= len(emptyBlock) {
			head, _ := z.source.Peek(len(emptyBlock)) // which are there
			if !bytes.Equal(head, emptyBlock) {
				break
			}
			z.source.Discard(len(emptyBlock))
		}
		if z.source.Buffered() > 0 {
			return len(first), true
		}
	}
	rest := first
	for bytes.HasPrefix(rest, emptyBlock) {
		rest = rest[len(emptyBlock):]
	}
	return copy(first, rest), false
}

// Read reads what the client has sent, inflated. It asks the socket only where nothing is left.
func (z *compression) Read(p []byte) (int, error) {
	if z.next == z.end {
		if err := z.inflate(); err != nil {
			return 0, err
		}
	}
	n := copy(p, z.text[z.next:z.end])
	z.next += n
	return n, nil
}

// inflate reads text up to a flush of the client, or a window of it.
func (z *compression) inflate() error {
	n, err := z.flate.Read(z.text)
	if n == 0 {
		if err == io.EOF { // of the stream: that of the socket is in the middle of it
			err = errStream
		}
		return err
	}
	z.next, z.end = 0, n
	z.received = appendEnd(z.received, z.text[:n], window)
	// Text comes at a flush, which ends a block and an octet; but also where flate's window
	// is full, and at the end of all.
	z.at = (z.at + n) % window
	z.inside = z.at == 0 || err != nil
	if z.out += int64(n); z.out-z.allowance > z.in*z.limit {
		return errInflated
	}
	return nil
}

// write compresses p and sends it, with a flush behind it.
func (z *compression) write(socket io.Writer, p []byte) (written int, err error) {
	b := deflated.Get().(*bytes.Buffer)
	defer deflated.Put(b)
	for written < len(p) {
		part := p[written:min(written+writeBuffer, len(p))]
		b.Reset()
		last := z.last && written+len(part) == len(p)
		if err := flate.StatelessDeflate(b, part, last, z.sent); err != nil {
			return written, err
		}
		if _, err := socket.Write(b.Bytes()); err != nil {
			return written, err
		}
		z.sent = appendEnd(z.sent, part, sentWindow)
		written += len(part)
	}
	return written, nil
}

// appendEnd returns the last n octets of a followed by b, in a's memory if they fit there.
func appendEnd(a, b []byte, n int) []byte {
	if len(b) >= n {
		return append(a[:0], b[len(b)-n:]...)
	}
	if more := len(a) + len(b) - n; more > 0 {
		a = append(a[:0], a[more:]...)
	}
	return append(a, b...)
}
