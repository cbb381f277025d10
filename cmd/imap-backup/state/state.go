// Package state reads and writes the file that says, beside the plain files of a
// mailbox, what is in them. It is made of lines, so that it can be read and
// searched by eye; no line begins with `From `.
//
// The first lines are the header, up to an empty line:
//
//	imap-backup 1                 the version of this format
//	mailbox Archive/2026          the name, in UTF-8
//	delimiter /                   of the levels of names, or NIL
//	format mbox                   or maildir, eml
//	uidvalidity 1764127984        of the UIDs below
//	synced 715 1042 1000          the mailbox's HIGHESTMODSEQ, UIDNEXT and number of messages when all of it
//	                              was here, or `synced -` where that is not known
//
// Behind it stands a line for each message, in the order in which they came:
//
//	message UID PLACE LENGTH SIZE SHA256 DATE MESSAGE-ID FLAG...
//
// PLACE and LENGTH say where it is: octets in the mbox file, or for maildir and eml the
// number in the file's name, and the file's length. SIZE and SHA256 are of the message as the server
// has it. DATE is the internal date (RFC 3339). Spaces, control characters and
// percent signs in names, Message-IDs and flags are %XX; a Message-ID that is not there is -.
// In place of `message` can stand
//
//	gone      the server has it no more; it is kept here
//	reflag    as message, but its flags in the plain file may be old
//	drop      the server has it no more, and it is being removed here
//
// and between the lines can stand
//
//	append PLACE    what lies from here on in the plain file was put there by us, and may be half of a message
//	swap            a new plain file, with `.new` behind its name, takes the place of the old one
//
// which a run that ended well has taken out again. A line that is cut off at the end of the file does not count.
package state

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
)

const (
	version    = "imap-backup 1"
	timeFormat = "2006-01-02T15:04:05-07:00"
	// longestLine bounds what a damaged file can make us hold. Names may have 8 KiB and more, three octets for one.
	longestLine = 1 << 20
)

// Header is what the first lines say.
type Header struct {
	Mailbox     string
	Delimiter   rune // 0 if there is none
	Format      string
	UIDValidity uint32
	Synced      Synced
}

// Synced is what the server said of a mailbox when all of it was here. The zero
// value says nothing.
type Synced struct {
	ModSeq   uint64
	UIDNext  imap.UID
	Messages uint32
}

// Kind is the first word of a line.
type Kind string

// The kinds of lines. Append and Swap have no message.
const (
	Message Kind = "message"
	Gone    Kind = "gone"
	Reflag  Kind = "reflag"
	Drop    Kind = "drop"
	Append  Kind = "append"
	Swap    Kind = "swap"
)

// Record is a line behind the header.
type Record struct {
	Kind      Kind
	UID       imap.UID
	Place     int64
	Length    int64
	Size      int64
	Sum       [32]byte // SHA-256
	Date      time.Time
	MessageID string
	Flags     []imap.Flag // sorted; see Flags

	// At is where in the file the line stands that was read; see ReadAt.
	At int64
}

// Live reports whether the server has the message.
func (r *Record) Live() bool { return r.Kind == Message || r.Kind == Reflag }

// End returns where behind the message the next one is put.
func (r *Record) End(format string) int64 {
	if format == "mbox" {
		return r.Place + r.Length
	}
	return r.Place + 1
}

// Flags returns flags as they stand in a record: sorted, each once, without
// \Recent, which is the session's and not the message's.
func Flags(flags []imap.Flag) []imap.Flag {
	kept := make([]imap.Flag, 0, len(flags))
	for _, flag := range flags {
		if !strings.EqualFold(string(flag), `\Recent`) && flag != "" {
			kept = append(kept, flag)
		}
	}
	slices.Sort(kept)
	return slices.Compact(kept)
}

// Append adds the header to b.
func (h *Header) Append(b []byte) []byte {
	delimiter := "NIL"
	if h.Delimiter != 0 {
		delimiter = escape(string(h.Delimiter))
	}
	synced := "-"
	if h.Synced != (Synced{}) {
		synced = fmt.Sprintf("%d %d %d", h.Synced.ModSeq, h.Synced.UIDNext, h.Synced.Messages)
	}
	return fmt.Appendf(b, "%s\nmailbox %s\ndelimiter %s\nformat %s\nuidvalidity %d\nsynced %s\n\n",
		version, escapeName(h.Mailbox), delimiter, h.Format, h.UIDValidity, synced)
}

// Append adds the line of the record to b.
func (r *Record) Append(b []byte) []byte {
	b = append(b, r.Kind...)
	switch r.Kind {
	case Swap:
	case Append:
		b = append(b, ' ')
		b = strconv.AppendInt(b, r.Place, 10)
	default:
		for _, n := range []int64{int64(r.UID), r.Place, r.Length, r.Size} {
			b = append(b, ' ')
			b = strconv.AppendInt(b, n, 10)
		}
		b = append(b, ' ')
		b = hex.AppendEncode(b, r.Sum[:])
		b = append(b, ' ')
		b = r.Date.AppendFormat(b, timeFormat)
		b = append(b, ' ')
		if r.MessageID == "" {
			b = append(b, '-')
		}
		b = append(b, escape(r.MessageID)...)
		for _, flag := range r.Flags {
			b = append(b, ' ')
			b = append(b, escape(string(flag))...)
		}
	}
	return append(b, '\n')
}

// SyntaxError is a line that is not as this package writes it.
type SyntaxError struct {
	Line   int
	Reason string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// Reader reads a state file.
type Reader struct {
	Header Header
	// Offset is how far the lines reach that were read and are right.
	Offset int64

	r    *bufio.Reader
	line int
}

// NewReader reads the header.
func NewReader(r io.Reader) (*Reader, error) {
	reader := &Reader{r: bufio.NewReaderSize(r, 32<<10)}
	return reader, reader.readHeader()
}

func (r *Reader) readHeader() error {
	var values [6]string
	for i, word := range []string{version, "mailbox", "delimiter", "format", "uidvalidity", "synced"} {
		line, err := r.next()
		if err == io.EOF {
			return r.wrong("the file ends in its header")
		}
		if err != nil {
			return err
		}
		got, value, _ := strings.Cut(line, " ")
		if i == 0 {
			got, value = line, ""
		}
		if got != word {
			return r.wrong(fmt.Sprintf("want %q", word))
		}
		values[i] = value
	}
	if line, err := r.next(); err != nil || line != "" {
		return r.wrong("want an empty line behind the header")
	}
	var err error
	h := &r.Header
	if h.Mailbox, err = unescape(values[1]); err != nil {
		return r.wrong(err.Error())
	}
	if values[2] != "NIL" {
		delimiter, err := unescape(values[2])
		runes := []rune(delimiter)
		if err != nil || len(runes) != 1 {
			return r.wrong("the delimiter is one character or NIL")
		}
		h.Delimiter = runes[0]
	}
	h.Format = values[3]
	validity, err := strconv.ParseUint(values[4], 10, 32)
	if err != nil {
		return r.wrong("uidvalidity is a number")
	}
	h.UIDValidity = uint32(validity)
	if values[5] != "-" {
		var s Synced
		if n, err := fmt.Sscanf(values[5], "%d %d %d", &s.ModSeq, &s.UIDNext, &s.Messages); n != 3 || err != nil {
			return r.wrong("synced has three numbers")
		}
		h.Synced = s
	}
	return nil
}

// Next reads a record. The error at the end is io.EOF, also where the last line is cut off.
func (r *Reader) Next(rec *Record) error {
	at := r.Offset
	line, err := r.next()
	if err != nil {
		return err
	}
	if err := r.parse(line, rec); err != nil {
		r.Offset = at
		return err
	}
	rec.At = at
	return nil
}

// ReadAt reads the record whose line stands there.
func ReadAt(file io.ReaderAt, at int64) (Record, error) {
	const usual = 512
	r := &Reader{r: bufio.NewReaderSize(io.NewSectionReader(file, at, 2*longestLine), usual)}
	var rec Record
	err := r.Next(&rec)
	rec.At = at
	return rec, err
}

func (r *Reader) parse(line string, rec *Record) error {
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) { // see escape
		return r.wrong("a control character") // such as a block of zeroes that a power cut left
	}
	word, rest, _ := strings.Cut(line, " ")
	*rec = Record{Kind: Kind(word), Flags: rec.Flags[:0]}
	switch rec.Kind {
	case Swap:
		if rest != "" {
			return r.wrong("swap stands alone")
		}
		return nil
	case Append:
		place, err := number(rest)
		if err != nil {
			return r.wrong("append has a place")
		}
		rec.Place = place
		return nil
	case Message, Gone, Reflag, Drop:
	default:
		return r.wrong(fmt.Sprintf("what is %.20q?", word))
	}
	var fields [7]string
	for i := range fields {
		var found bool
		fields[i], rest, found = strings.Cut(rest, " ")
		if !found && i < len(fields)-1 {
			return r.wrong("a field is missing")
		}
	}
	var n [4]int64
	for i := range n {
		var err error
		if n[i], err = number(fields[i]); err != nil {
			return r.wrong("want a number: " + err.Error())
		}
	}
	if n[0] > 1<<32-1 {
		return r.wrong("a UID has 32 bits")
	}
	if n[1] > 1<<62 || n[2] > 1<<62 {
		return r.wrong("no file is as long")
	}
	rec.UID, rec.Place, rec.Length, rec.Size = imap.UID(n[0]), n[1], n[2], n[3]
	if len(fields[4]) != 64 {
		return r.wrong("want a SHA-256 sum")
	}
	if _, err := hex.Decode(rec.Sum[:], []byte(fields[4])); err != nil {
		return r.wrong("want a SHA-256 sum")
	}
	var err error
	if rec.Date, err = time.Parse(timeFormat, fields[5]); err != nil {
		return r.wrong("want a date")
	}
	if fields[6] != "-" {
		if rec.MessageID, err = unescape(fields[6]); err != nil {
			return r.wrong(err.Error())
		}
	}
	for rest != "" {
		var flag string
		flag, rest, _ = strings.Cut(rest, " ")
		if flag, err = unescape(flag); err != nil || flag == "" {
			return r.wrong("want a flag")
		}
		rec.Flags = append(rec.Flags, imap.Flag(flag))
	}
	return nil
}

// next returns a line without its end.
func (r *Reader) next() (string, error) {
	var line []byte
	for {
		part, err := r.r.ReadSlice('\n')
		line = append(line, part...)
		if err == bufio.ErrBufferFull && len(line) < longestLine {
			continue
		}
		if err == bufio.ErrBufferFull {
			return "", r.wrong("the line is too long")
		}
		if err != nil {
			return "", err
		}
		break
	}
	r.line++
	r.Offset += int64(len(line))
	return string(line[:len(line)-1]), nil
}

func (r *Reader) wrong(reason string) error { return &SyntaxError{r.line, reason} }

func number(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

// escape makes a text one word.
func escape(s string) string {
	return escapeThese(s, func(c byte) bool { return c <= ' ' || c == '%' || c == 0x7f })
}

// escapeName leaves spaces, for names stand at the end of their line.
func escapeName(s string) string {
	return escapeThese(s, func(c byte) bool { return c < ' ' || c == '%' || c == 0x7f })
}

func escapeThese(s string, special func(byte) bool) string {
	if s == "-" {
		return "%2D"
	}
	var b strings.Builder
	for i := range len(s) {
		if special(s[i]) {
			fmt.Fprintf(&b, "%%%02X", s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

var errEscape = errors.New("a % without two hexadecimal digits")

func unescape(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for rest := s; rest != ""; {
		head, tail, found := strings.Cut(rest, "%")
		b.WriteString(head)
		if !found {
			break
		}
		if len(tail) < 2 {
			return "", errEscape
		}
		octet, err := hex.DecodeString(tail[:2])
		if err != nil {
			return "", errEscape
		}
		b.Write(octet)
		rest = tail[2:]
	}
	return b.String(), nil
}
