package wire

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Encoder writes responses. Errors stick; Flush returns them. It never holds
// more than its buffer.
type Encoder struct {
	// UTF8: strings in quotes, and mailbox names, may be in UTF-8 (RFC 6855 section 3, RFC 9051 section 4.3.1).
	UTF8 bool

	w       *bufio.Writer
	err     error
	written int64
	scratch [24]byte
}

// NewEncoder returns an encoder that writes to w.
func NewEncoder(w *bufio.Writer) *Encoder { return &Encoder{w: w} }

// Raw writes s as it is.
func (e *Encoder) Raw(s string) *Encoder {
	if e.err == nil {
		e.written += int64(len(s))
		_, e.err = e.w.WriteString(s)
	}
	return e
}

// Bytes writes b as it is.
func (e *Encoder) Bytes(b []byte) *Encoder {
	if e.err == nil {
		e.written += int64(len(b))
		_, e.err = e.w.Write(b)
	}
	return e
}

// SP writes a space.
func (e *Encoder) SP() *Encoder { return e.Raw(" ") }

// CRLF ends a response.
func (e *Encoder) CRLF() *Encoder { return e.Raw("\r\n") }

// Number writes n.
func (e *Encoder) Number(n uint64) *Encoder {
	return e.Bytes(strconv.AppendUint(e.scratch[:0], n, 10))
}

// maxQuoted is the longest string that is written in quotes: some clients have
// small buffers for a line.
const maxQuoted = 4096

// String writes s in quotes where it can be, else as a literal.
func (e *Encoder) String(s string) *Encoder {
	if e.UTF8 && quotableUTF8(s) {
		return e.Bytes(appendQuoted(e.scratch[:0], s))
	}
	return e.Bytes(AppendString(e.scratch[:0], s))
}

// quotable tells whether s can be in quotes: TEXT-CHAR only (RFC 3501 section 9).
func quotable(s string) bool {
	if len(s) > maxQuoted {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c == 0 || c == '\r' || c == '\n' || c >= 0x80 {
			return false
		}
	}
	return true
}

// quotableUTF8 is quotable where UTF-8 may be in quotes.
func quotableUTF8(s string) bool {
	return len(s) <= maxQuoted && utf8.ValidString(s) && !strings.ContainsAny(s, "\x00\r\n")
}

// Mailbox writes the name of a mailbox in quotes: in UTF-8 or, where that may not be, in modified UTF-7.
func (e *Encoder) Mailbox(name string) *Encoder {
	if e.UTF8 {
		return e.String(name)
	}
	return e.String(EncodeUTF7(name))
}

// MailboxText writes the name of a mailbox as the rest of a line, without quotes (RFC 2062, MAILBOX response).
func (e *Encoder) MailboxText(name string) *Encoder {
	if e.UTF8 {
		return e.Raw(name)
	}
	return e.Raw(EncodeUTF7(name))
}

// Copy writes exactly size octets of r: what follows the head of a literal.
// When r has fewer, the stream cannot be continued: the error sticks.
func (e *Encoder) Copy(size int64, r io.Reader) *Encoder {
	if e.err == nil {
		e.written += size
		if _, err := io.CopyN(e.w, r, size); err != nil {
			e.err = fmt.Errorf("literal of %d octets cut short: %w", size, err)
		}
	}
	return e
}

// Written returns how many octets were written, as far as there was no error.
func (e *Encoder) Written() int64 { return e.written }

// Err returns the first error.
func (e *Encoder) Err() error { return e.err }

// Flush sends what is in the buffer and returns the first error.
func (e *Encoder) Flush() error {
	if e.err == nil {
		e.err = e.w.Flush()
	}
	return e.err
}
