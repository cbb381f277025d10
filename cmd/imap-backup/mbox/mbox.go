// Package mbox writes and reads the entries of an mbox file that mail programs
// can open, and from which every message comes out octet by octet.
//
// An entry is
//
//	From imap-backup Thu Nov 26 03:33:04 2026
//	Status: RO
//	X-Status: AF
//	X-Imap-Backup: 1234 crlf
//	(the message)
//	(an empty line)
//
// Lines end with LF. The date is the internal date in UTC. Status and X-Status
// tell mail programs what is read, answered and flagged; they have one length whatever the
// flags are, so that they can be changed in place. X-Imap-Backup has the size of the
// message and how its lines end: `crlf`, each with CR LF, as Internet mail is (the CR is
// left out in the file), or `raw`, in another way, and then they are in the file as they were. In a
// message a line that is `From ` behind any number of > has one > more (the
// form called mboxrd). A message that does not end with a line gets a line feed, which
// its size tells from its own.
package mbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/emersion/go-imap/v2"
)

const (
	fromLine   = "From imap-backup "
	fromDate   = "Mon Jan _2 15:04:05 2006"
	statusLine = "Status: "
	moreLine   = "X-Status: "
	ownLine    = "X-Imap-Backup: "

	// StatusAt is where in an entry the lines begin that change with the flags.
	StatusAt = len(fromLine) + len(fromDate) + 1
	// HeadLength is how much of an entry IsHead looks at: up to the end of those lines.
	HeadLength = StatusAt + len(statusLine) + len(moreLine) + 2*len("RO\n")
)

// Message is what an entry says of a message besides its text.
type Message struct {
	Size  int64
	Raw   bool // its lines do not all end with CR LF
	Date  time.Time
	Flags []imap.Flag
}

// Status returns the two lines that tell mail programs of flags. \Deleted is not among
// them: a program that opens the file would delete the message.
func Status(flags []imap.Flag) []byte {
	status, more := []byte("  "), []byte("  ")
	for _, flag := range flags {
		switch flag {
		case imap.FlagSeen:
			copy(status, "RO")
		case imap.FlagAnswered:
			more[0] = 'A'
		case imap.FlagFlagged:
			more[1] = 'F'
		}
	}
	return fmt.Appendf(nil, "%s%s\n%s%s\n", statusLine, status, moreLine, more)
}

// IsHead reports whether an entry begins so.
func IsHead(head []byte) bool {
	if len(head) != HeadLength || !bytes.HasPrefix(head, []byte(fromLine)) {
		return false
	}
	status, more, _ := bytes.Cut(head[StatusAt:], []byte("\n"))
	return head[StatusAt-1] == '\n' && bytes.HasPrefix(status, []byte(statusLine)) && bytes.HasPrefix(more, []byte(moreLine)) && more[len(more)-1] == '\n'
}

// Write writes the entry of a message and returns its length.
func Write(w *bufio.Writer, m Message, text io.Reader) (int64, error) {
	counted := &counter{w: w}
	ending := "crlf"
	if m.Raw {
		ending = "raw"
	}
	date := m.Date.UTC()
	if date.Year() < 1000 || date.Year() > 9999 {
		date = time.Unix(0, 0).UTC()
	}
	fmt.Fprintf(counted, "%s%s\n%s%s%d %s\n", fromLine, date.Format(fromDate), Status(m.Flags), ownLine, m.Size, ending)

	last := &lastOctet{w: counted}
	buffered := bufio.NewWriterSize(last, 4096)
	quote := &quoter{w: buffered, add: +1}
	if m.Raw {
		if _, err := io.Copy(quote, text); err != nil {
			return counted.n, err
		}
	} else {
		strip := &withoutCR{w: quote}
		if _, err := io.Copy(strip, text); err != nil {
			return counted.n, err
		}
		if err := strip.Close(); err != nil {
			return counted.n, err
		}
	}
	if err := quote.Close(); err != nil {
		return counted.n, err
	}
	end := "\n"
	if m.Size > 0 && last.octet != '\n' {
		end = "\n\n"
	}
	_, err := io.WriteString(counted, end)
	return counted.n, err
}

// ErrDamaged is an entry that Write does not write.
var ErrDamaged = errors.New("the entry in the mbox file is damaged")

// Read copies the message of an entry, which is all of r, to w.
func Read(w io.Writer, r io.Reader) error {
	buffered := bufio.NewReaderSize(r, 32<<10)
	m, err := readHead(buffered)
	if err != nil {
		return err
	}
	limited := &limit{w: w, left: m.Size}
	var out io.Writer = limited
	if !m.Raw {
		out = withCR{limited}
	}
	quote := &quoter{w: bufio.NewWriter(out), add: -1}
	if _, err := io.Copy(quote, buffered); err != nil {
		return err
	}
	if err := quote.Close(); err != nil {
		return err
	}
	end := "\n"
	if !m.Raw {
		end = "\r\n"
	}
	if m.Size > 0 && limited.last != '\n' {
		end += end
	}
	if limited.left > 0 || string(limited.rest) != end {
		return ErrDamaged
	}
	return nil
}

func readHead(r *bufio.Reader) (Message, error) {
	var m Message
	for i, prefix := range []string{fromLine, statusLine, moreLine, ownLine} {
		line, err := r.ReadSlice('\n')
		if err == io.EOF || err == bufio.ErrBufferFull || err == nil && !bytes.HasPrefix(line, []byte(prefix)) {
			return m, ErrDamaged
		}
		if err != nil {
			return m, err
		}
		if i == 3 {
			var ending string
			if n, _ := fmt.Sscanf(string(line[len(prefix):]), "%d %s", &m.Size, &ending); n != 2 || m.Size < 0 || ending != "crlf" && ending != "raw" {
				return m, ErrDamaged
			}
			m.Raw = ending == "raw"
		}
	}
	return m, nil
}

// counter counts what goes through it. The first error of a bufio.Writer sticks and is
// returned by all later writes, so those that only format need not look.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// lastOctet remembers what was written last.
type lastOctet struct {
	w     io.Writer
	octet byte
}

func (l *lastOctet) Write(p []byte) (int, error) {
	if len(p) > 0 {
		l.octet = p[len(p)-1]
	}
	return l.w.Write(p)
}

// limit passes on so much and keeps a little of what follows, enough to tell whether it is right.
type limit struct {
	w    io.Writer
	left int64
	last byte // of what was passed on
	rest []byte
}

func (l *limit) Write(p []byte) (int, error) {
	n := int(min(l.left, int64(len(p))))
	if n > 0 {
		if _, err := l.w.Write(p[:n]); err != nil {
			return 0, err
		}
		l.left -= int64(n)
		l.last = p[n-1]
	}
	if over := p[n:]; len(over) > 0 {
		l.rest = append(l.rest, over[:min(len(over), 8-min(8, len(l.rest)))]...)
	}
	return len(p), nil
}
