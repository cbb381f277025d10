package lmtpd

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// maxCommand is the longest command line in octets, its line end included: more
// than RFC 5321 section 4.5.3.1.4 asks for, with room for SMTPUTF8 and parameters.
const maxCommand = 2048

const (
	inputBuffer  = 16 << 10
	outputBuffer = 4 << 10
)

// conn is a client's connection as go-smtp sees it. A Read gives (a piece of)
// one command line and never what follows it, so that nothing that belongs to
// the next command or to a message is ever in a buffer of go-smtp's.
type conn struct {
	net.Conn
	server *Server
	in     *bufio.Reader
	rest   []byte // of the line that is being handed out

	mu       sync.Mutex
	out      []byte // replies held back while more commands wait (RFC 2920 section 3.2)
	waiting  bool   // for a command
	draining bool
	lost     bool // somewhere within a message: what comes is no command
	closed   bool
}

func newConn(c net.Conn, s *Server) *conn {
	return &conn{Conn: c, server: s, in: bufio.NewReaderSize(c, inputBuffer)}
}

// Read hands out the next command line.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		line, err := c.line()
		if err != nil {
			return 0, err
		}
		c.rest = line
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// badCommand is handed out in place of what go-smtp must not see: it answers 501.
var badCommand = []byte("?\r\n")

func (c *conn) line() ([]byte, error) {
	if err := c.await(); err != nil {
		return nil, err
	}
	line, err := c.in.ReadSlice('\n')
	c.resume()
	if len(line) > maxCommand || errors.Is(err, bufio.ErrBufferFull) {
		return nil, smtp.ErrTooLongLine
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if farewell := c.await(); farewell != nil {
			return nil, farewell
		}
	}
	if err != nil {
		return nil, err
	}
	text := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	switch {
	case len(text) >= 4 && bytes.EqualFold(text[:4], []byte("BDAT")):
		// Not announced; and the chunk that follows must not be taken for commands.
		c.write([]byte("502 5.5.1 CHUNKING is not offered, and BDAT no command\r\n"))
		return nil, io.EOF
	case bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return badCommand, nil
	}
	return readableSize(line), nil
}

// declaredSize is a SIZE of ten digits or more (RFC 1870 section 4 allows 20), behind the path of a MAIL.
var declaredSize = regexp.MustCompile(`(?i)^MAIL FROM:.*>(?:.* )?SIZE=(\d{10,20})\s`)

// readableSize makes a declared size that go-smtp could not read, and would call
// a syntax error, the largest that it can: the message is too big either way.
func readableSize(line []byte) []byte {
	at := declaredSize.FindSubmatchIndex(line)
	if at == nil {
		return line
	}
	if _, err := strconv.ParseUint(string(line[at[2]:at[3]]), 10, 32); err == nil {
		return line
	}
	return slices.Concat(line[:at[2]], strconv.AppendUint(nil, math.MaxUint32, 10), line[at[3]:])
}

// await prepares to wait for a command: replies go out, unless the next
// command is there already. An error says that there will be no command, also
// if there is one in the buffer.
func (c *conn) await() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return net.ErrClosed
	case c.lost:
		return io.EOF
	case c.draining: // RFC 5321 section 3.8
		c.out = append(c.out, "421 4.3.2 Shutting down, try again\r\n"...)
		if err := c.flush(); err != nil {
			return err
		}
		return io.EOF
	case c.commandWaits():
		return nil
	}
	if err := c.flush(); err != nil {
		return err
	}
	c.waiting = true
	return c.SetReadDeadline(time.Now().Add(c.server.o.CommandTimeout))
}

func (c *conn) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
}

// drain lets the connection end once it has answered what it is doing.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.waiting {
		c.SetReadDeadline(time.Now()) // wakes line; it fails only where the connection has gone already
	}
}

// commandWaits reports whether a whole command has been read ahead.
func (c *conn) commandWaits() bool {
	ahead, _ := c.in.Peek(c.in.Buffered()) // cannot fail: no more than there is
	return bytes.IndexByte(ahead, '\n') >= 0
}

// corrections are lines of go-smtp's replies that no setting changes, and what is
// sent in their place. A command out of turn is 503 (RFC 5321 section 4.1.4), of
// which RFC 2033 section 4.2 makes a MUST for DATA without a recipient.
var corrections = map[string]string{
	"250-CHUNKING\r\n": "", // see line
	"502 5.5.1 Please introduce yourself first.\r\n": "503 5.5.1 LHLO first\r\n",
	"502 5.5.1 Missing MAIL FROM command.\r\n":       "503 5.5.1 MAIL first\r\n",
	"502 5.5.1 Missing RCPT TO command.\r\n":         "503 5.5.1 No valid recipients\r\n",
}

// Write sends a reply, together with the next ones where their commands were
// sent together. It is called for each line.
func (c *conn) Write(p []byte) (int, error) {
	text := p
	if instead, wrong := corrections[string(p)]; wrong {
		text = []byte(instead)
	}
	if len(text) == 0 {
		return len(p), nil
	}
	if err := c.write(text); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *conn) write(p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out, p...)
	if c.commandWaits() && len(c.out) < outputBuffer {
		return nil
	}
	return c.flush()
}

func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	if err := c.SetWriteDeadline(time.Now().Add(c.server.o.WriteTimeout)); err != nil {
		return err
	}
	_, err := c.Conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// lose is called where a message ends before its end: no command can be told
// from its octets any more.
func (c *conn) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = true
}

// Close ends the connection, with the last replies sent.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	c.server.forget(c)
	return errors.Join(c.flush(), c.Conn.Close())
}
