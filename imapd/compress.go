package imapd

// COMPRESS.
//
// RFC 4978. While a connection waits, all that it keeps of its compression is
// text: the end of what each side has sent, to which what follows may refer.
// Compressors have no state of their own, and what decompressors need is lent
// while something comes in (package inflate).
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

	"mailstead.dev/imapd/inflate"
	"mailstead.dev/imapd/wire"
)

// sentWindow is how far what we compress refers back.
const sentWindow = 4 << 10

// Errors that end a connection.
var (
	errInflated = errors.New("compressed input became too much")
	errStream   = errors.New("compressed input has ended")
)

// compress = "COMPRESS" SP algorithm
func readCompress(d *wire.Decoder) (run, error) {
	d.SP()
	algorithm := d.Keyword()
	return do(func(_ context.Context, s *session) error { return s.startCompression(algorithm) }), d.End()
}

func (s *session) startCompression(algorithm string) error {
	switch {
	case s.server.o.NoCompress, s.introduced: // the front end in between may have to say that the connection ends
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
	return !s.server.o.NoCompress && !s.introduced && afterLogin(s) && s.compression == nil
}

// compress begins compression. What the client has sent behind the command is
// compressed already, or else it is nothing.
func (c *conn) compress() {
	z := &compression{limit: c.server.o.MaxInflation, allowance: c.server.store.MaxMessage()}
	z.source, c.br = c.br, readers.Get().(*bufio.Reader) // with what was read already
	z.in = int64(z.source.Buffered())
	c.unbuffer()
	c.compression = z
}

// stopCompression ends compression with what has been written so far, and on
// the client's side with what has been inflated.
func (c *conn) stopCompression() error {
	z := c.compression
	z.last = true
	if err := c.enc.Flush(); err != nil {
		return err
	}
	source := z.source
	z.source = nil // it is not given back
	c.unbuffer()
	z.client.Rest()
	c.compression = nil
	c.bufferFrom(source)
	return nil
}

// inflatedMore tells whether the client has compressed more than the command that was read, or not as it should.
// What ends its compression is passed over: a flush, which may still be on its way, the end of the stream, or both.
func (c *conn) inflatedMore() bool {
	if c.compression == nil {
		return false
	}
	z := c.compression
	for c.br.Buffered() == 0 && len(z.client.Text()) == 0 && !z.client.Ended() {
		if z.source.Buffered() == 0 && z.client.Flushed() {
			return false
		}
		next, err := z.source.Peek(1)
		if err != nil {
			return true
		}
		if z.client.Aligned() && next[0] != 0 && next[0] != 3 { // neither a flush nor an empty last block: no command begins so
			return false
		}
		if err := z.inflate(); err != nil {
			return true
		}
	}
	return c.br.Buffered() > 0 || len(z.client.Text()) > 0
}

// inflatedPending tells whether there is text, or an error, in what was read from the socket. There is none in a flush of
// nothing, nor in what has come in part.
func (c *conn) inflatedPending() bool {
	z := c.compression
	for len(z.client.Text()) == 0 && z.err == nil && (c.nFirst > 0 || z.source != nil && z.source.Buffered() > 0) {
		z.wake((*connReader)(c))
		if err := z.inflate(); err != nil {
			return true // who reads gets it too
		}
	}
	return len(z.client.Text()) > 0 || z.err != nil
}

// compression is the layer between the commands and the socket, or TLS.
type compression struct {
	limit     int64 // octets that one that was received may become,
	allowance int64 // beyond these
	in, out   int64 // octets received, and what they became

	sent []byte // the end of what was sent
	last bool   // the next to be sent is the last

	source *bufio.Reader // of what the client sends; nil while nothing comes in
	client inflate.Stream
	err    error // that ends it, once its text is taken
}

// deflated are buffers for what is about to be sent.
var deflated = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// wake prepares to read from the socket.
func (z *compression) wake(socket io.Reader) {
	if z.source == nil {
		z.source = readers.Get().(*bufio.Reader)
		z.source.Reset(socket)
	}
}

// rest gives back what reading needs, unless something is left in it.
func (z *compression) rest() {
	if z.source == nil || z.source.Buffered() > 0 || len(z.client.Text()) > 0 {
		return
	}
	z.source.Reset(nil)
	readers.Put(z.source)
	z.source = nil
	z.client.Rest()
}

// Read reads what the client has sent, inflated. It asks the socket only where nothing is left.
func (z *compression) Read(p []byte) (int, error) {
	for len(z.client.Text()) == 0 {
		if err := z.inflate(); err != nil {
			return 0, err
		}
	}
	return z.client.Take(p), nil
}

// inflate inflates what has been read from the socket, or else what comes next, up to a flush. There must be no text.
func (z *compression) inflate() error {
	if z.err != nil {
		return z.err
	}
	if _, err := z.source.Peek(1); err != nil {
		return err
	}
	in, _ := z.source.Peek(z.source.Buffered()) // which are there
	n, err := z.client.Inflate(in)
	z.source.Discard(n)
	z.out += int64(len(z.client.Text()))
	switch {
	case err != nil:
		z.err = err
	case z.out-z.allowance > z.in*z.limit:
		z.err = errInflated
	case z.client.Ended():
		z.err = errStream
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
