package lmtpd

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"time"
)

// content reads what follows DATA up to the line that is a dot alone, and takes
// away the dots that the client added (RFC 5321 section 4.5.2). A line ends in
// CR LF and in nothing else: a dot after a bare LF or a bare CR ends no message,
// and is an octet like others.
type content struct {
	conn    *conn
	end     time.Time // when all of it must have come
	begin   bool      // at the beginning of a line
	cr      bool      // the last octet was a CR, and the buffer ended there
	pending []byte    // read and not yet given out; in conn.in's buffer
	err     error
}

// content returns the reader of a message's octets, and arranges for go-smtp,
// which reads on from conn for its own end of data, to see it at once.
func (c *conn) content() *content {
	c.rest = []byte(".\r\n")
	return &content{conn: c, begin: true, end: time.Now().Add(c.server.o.MessageTimeout)}
}

// Read gives as many lines as fit and are there.
func (r *content) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(r.pending) == 0 {
			if r.err != nil || n > 0 && !r.conn.commandWaits() {
				break
			}
			r.next()
		}
		k := copy(p[n:], r.pending)
		r.pending = r.pending[k:]
		n += k
	}
	if n == 0 && len(p) > 0 {
		return 0, r.err
	}
	return n, nil
}

// next reads a line, or as much of it as fits the buffer.
func (r *content) next() {
	if err := r.await(); err != nil {
		r.fail(err)
		return
	}
	line, err := r.conn.in.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		r.fail(err)
		return
	}
	if r.begin && line[0] == '.' {
		if string(line) == ".\r\n" {
			r.err = io.EOF
			return
		}
		line = line[1:] // not empty: the dot came with a line end or a full buffer
	}
	r.begin = bytes.HasSuffix(line, []byte("\r\n")) || r.cr && string(line) == "\n"
	r.cr = line[len(line)-1] == '\r'
	r.pending = line
}

// fail ends a message that was cut off, and with it the connection.
func (r *content) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // to its reader, EOF is a message that is whole
	}
	r.err = err
	r.conn.lose()
}

// await prepares to wait for more of the message.
func (r *content) await() error {
	c := r.conn
	if c.commandWaits() { // a line of the message, here
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.flush(); err != nil {
		return err
	}
	until := time.Now().Add(c.server.o.DataTimeout)
	if until.After(r.end) {
		until = r.end
	}
	return c.SetReadDeadline(until)
}

// skip reads the rest of a message that is not wanted, so that its octets are
// never taken for commands.
func (r *content) skip() error {
	_, err := io.Copy(io.Discard, r)
	return err
}
