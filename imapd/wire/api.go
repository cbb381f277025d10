// Package wire reads and writes the tokens of IMAP: atoms, strings, literals,
// lists, sets, dates. It knows nothing of commands or mail.
//
// RFC 9051 section 9, RFC 3501 section 9, RFC 4466.
package wire

import (
	"bufio"
	"io"
	"time"

	"github.com/emersion/go-imap/v2"
)

// SyntaxError says what was wrong with a command, in words for the client.
type SyntaxError struct{ Text string }

func (e *SyntaxError) Error() string { return e.Text }

// Decoder reads one command line after the other, literals included. The first
// error of a command sticks: later calls return zero values, and End returns it.
// After End (or Skip) the decoder stands at the next command, whatever was wrong
// with this one: the rest of the line and its non-synchronizing literals have been passed over.
type Decoder struct{}

// DecoderOptions bounds what one command may take; zero fields mean documented defaults.
type DecoderOptions struct {
	MaxLine    int   // octets of a command without its literals; default 64 KiB
	MaxLiteral int64 // octets of one literal of String/AString/...; default 64 KiB
	MaxNesting int   // parentheses; default 100
	// Continue is called before a synchronizing literal is read: it sends "+ ..." and flushes.
	Continue func() error
}

func NewDecoder(r *bufio.Reader, o DecoderOptions) *Decoder { panic("skeleton") }

func (d *Decoder) Err() error                      { panic("skeleton") }
func (d *Decoder) Fail(format string, args ...any) { panic("skeleton") } // makes the error stick, unless there is one
func (d *Decoder) SP()                             { panic("skeleton") } // demands one space
func (d *Decoder) TrySP() bool                     { panic("skeleton") } // one space, if it is next
func (d *Decoder) Special(c byte)                  { panic("skeleton") } // demands c: ( ) [ ] < > . ,
func (d *Decoder) TrySpecial(c byte) bool          { panic("skeleton") }
func (d *Decoder) Peek() byte                      { panic("skeleton") } // the next octet, 0 at the end of the line
func (d *Decoder) Atom() string                    { panic("skeleton") }
func (d *Decoder) Keyword() string                 { panic("skeleton") } // an atom in upper case
func (d *Decoder) AString() string                 { panic("skeleton") }
func (d *Decoder) String() string                  { panic("skeleton") }
func (d *Decoder) NString() (s string, ok bool)    { panic("skeleton") }
func (d *Decoder) Mailbox() string                 { panic("skeleton") } // decoded from modified UTF-7 (or UTF-8 when enabled), INBOX in upper case
func (d *Decoder) ListMailbox() string             { panic("skeleton") } // with wildcards
func (d *Decoder) Number() uint32                  { panic("skeleton") }
func (d *Decoder) NZNumber() uint32                { panic("skeleton") }
func (d *Decoder) Number64() uint64                { panic("skeleton") } // at most 63 bits
func (d *Decoder) SequenceSet() imap.SeqSet        { panic("skeleton") } // 0 stands for *
func (d *Decoder) UIDSet() imap.UIDSet             { panic("skeleton") }
func (d *Decoder) FlagList() []imap.Flag           { panic("skeleton") } // (\Seen foo)
func (d *Decoder) Flag() imap.Flag                 { panic("skeleton") }
func (d *Decoder) Date() time.Time                 { panic("skeleton") } // date of SEARCH
func (d *Decoder) DateTime() time.Time             { panic("skeleton") } // date-time of APPEND
func (d *Decoder) List(item func())                { panic("skeleton") } // "(" [item *(SP item)] ")"

// Literal starts a literal that streams (APPEND): r must be read to its end or dropped with Skip. accept is asked before
// "+" is sent; if it returns an error a synchronizing literal is refused without being read, and a non-synchronizing one is swallowed.
func (d *Decoder) Literal(accept func(size int64) error) (r io.Reader, size int64) { panic("skeleton") }

// End demands the end of the line and returns the first error of this command.
func (d *Decoder) End() error { panic("skeleton") }

// Encoder writes responses. Errors stick; Flush returns them. It never holds more than its buffer.
type Encoder struct{}

func NewEncoder(w *bufio.Writer) *Encoder { panic("skeleton") }

func (e *Encoder) Raw(s string) *Encoder                    { panic("skeleton") }
func (e *Encoder) SP() *Encoder                             { panic("skeleton") }
func (e *Encoder) CRLF() *Encoder                           { panic("skeleton") }
func (e *Encoder) Atom(s string) *Encoder                   { panic("skeleton") }
func (e *Encoder) Number(n uint64) *Encoder                 { panic("skeleton") }
func (e *Encoder) String(s string) *Encoder                 { panic("skeleton") } // quoted where it can be, else a literal
func (e *Encoder) NString(s string) *Encoder                { panic("skeleton") } // NIL for ""
func (e *Encoder) Mailbox(name string) *Encoder             { panic("skeleton") } // modified UTF-7 (or UTF-8 when enabled), quoted
func (e *Encoder) Literal(size int64, r io.Reader) *Encoder { panic("skeleton") } // {size} CRLF and exactly size octets, streamed
func (e *Encoder) Flush() error                             { panic("skeleton") }
