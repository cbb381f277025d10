package imapd

// UTF8=ACCEPT.
//
// RFC 6855. Names and what else is in quotes can be in UTF-8 from then on, and names are:
// an "&" in them is nothing special any more. Strings that are larger,
// and those of messages that are not in UTF-8, stay literals.

import (
	"io"

	"golang.org/x/text/unicode/norm"

	"mailstead.dev/imapd/wire"
)

// enableUTF8 is ENABLE UTF8=ACCEPT.
func (s *session) enableUTF8() {
	s.utf8 = true
	s.useUTF8(true)
}

// mayName tells whether a mailbox can get a name that was sent in UTF-8: in the form of
// Net-Unicode (RFC 6855 section 3, RFC 9051 section 5.1), since others look like a name that is another.
// In modified UTF-7 the exact form of a name is the client's (RFC 3501 section 5.1.3).
func (s *session) mayName(name string) error {
	if s.limits.UTF8 && !norm.NFC.IsNormalString(name) {
		return no("CANNOT", "Mailbox name is not in Unicode Normalization Form C")
	}
	return nil
}

// utf8-literal = "UTF8" SP "(" literal8 ")"
//
// tryUTF8 reads up to the literal, if there is one.
func tryUTF8(d *wire.Decoder) bool {
	if !d.Ahead("UTF8 ") {
		return false
	}
	d.Keyword()
	d.SP()
	d.Special('(')
	return true
}

// errEightBit answers an APPEND of a message in UTF-8 by a client that has not said that it knows of such.
var errEightBit = no("", "The header has 8-bit characters: ENABLE UTF8=ACCEPT first")

// lookAtHeader returns a reader of a message that can tell whether it is refused (RFC 6855
// section 4). What comes as UTF8 (...) says itself what it is; of what does not, old mail is
// full, which would have no way in.
func (in *arriving) lookAtHeader(m appendMessage, r io.Reader) *headerReader {
	h := &headerReader{r: r}
	h.ended = in.s.limits.UTF8 || !m.utf8 && !in.s.server.o.Refuse8Bit
	return h
}

// headerReader looks for 8-bit characters in the header of the message that is read.
type headerReader struct {
	r        io.Reader
	ended    bool // the header, or nobody wants to know
	line     int  // octets of its line at hand, without the line end
	eightBit bool
}

func (h *headerReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	for _, c := range p[:n] {
		if h.ended {
			break
		}
		switch {
		case c == '\n':
			h.ended, h.line = h.line == 0, 0
		case c != '\r':
			h.line++
			h.eightBit = h.eightBit || c >= 0x80
		}
	}
	return n, err
}

// refused returns why the message is not taken, if it is not.
func (h *headerReader) refused() error {
	if h.eightBit {
		return errEightBit
	}
	return nil
}
