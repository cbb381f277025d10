package remote

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"mailstead.dev/imapd/wire"
)

// Limits of what a server may say outside of messages.
const (
	longestLine    = 1 << 20  // without literals
	longestFetch   = 64 << 10 // the same of a message, which has only what was asked for; with literals that are no text
	longestName    = 64 << 10 // a line with the name of a mailbox, with its literals
	longestLiteral = 64 << 10 // that is no message
)

// sieve is a connection that lets through of the server's responses what go-imap's client can take: the
// client gives the whole connection up at one response that it does not know or one name
// that is not UTF-7. The sieve reports such a line and leaves it out. It also keeps the time,
// counts and slows down what is read. Messages, in literals, go through unseen.
type sieve struct {
	net.Conn
	r       *bufio.Reader
	report  func(string)
	limiter *rate.Limiter // nil: none
	timeout time.Duration

	ready   []byte // to be read next
	literal int64  // octets of a literal that are to be passed on
	inLine  bool   // behind the beginning of a line, which was let through
	line    lineKind
	length  int    // of the line so far
	tail    []byte // its last octets
	exists  int64  // messages in the mailbox
	found   int    // octets of what SEARCH found
	failed  error  // of reading

	mutex     sync.Mutex
	expecting int   // commands that are not answered
	cause     error // why we ended the connection

	validity func(uint32) // told of an unexpected UIDVALIDITY
}

// lineKind is what must be known of a line to go on in it.
type lineKind struct {
	literals bool // it can have any
	message  bool // and that of a section can be a message
	search   bool // it has UIDs, as many as there are messages
}

// BadResponseError is a server that says what no client can bear.
type BadResponseError struct{ Reason string }

func (e *BadResponseError) Error() string { return "the server breaks the protocol: " + e.Reason }

// SetReadDeadline, SetWriteDeadline and SetDeadline do nothing: go-imap's client allows a message five minutes
// and waits for an answer for ever. Here every read and write has its own time.
func (s *sieve) SetReadDeadline(time.Time) error  { return nil }
func (s *sieve) SetWriteDeadline(time.Time) error { return nil }
func (s *sieve) SetDeadline(time.Time) error      { return nil }

// expect says that an answer is awaited, until the function that it returns is called.
func (s *sieve) expect() (done func()) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.expecting++
	if s.expecting == 1 {
		s.fail(s.Conn.SetReadDeadline(time.Now().Add(s.timeout)))
	}
	return func() {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		s.expecting--
		if s.expecting == 0 {
			s.fail(s.Conn.SetReadDeadline(time.Time{}))
		}
	}
}

// fail remembers the first error that ended the connection. The mutex is held.
func (s *sieve) fail(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		err = fmt.Errorf("the server has been silent for %v", s.timeout)
	}
	if err != nil && s.cause == nil && !errors.Is(err, net.ErrClosed) {
		s.cause = err
	}
	return err
}

// why returns what ended the connection, or nil.
func (s *sieve) why() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.cause
}

// giveUp ends the connection for a reason of ours, if there was none before.
func (s *sieve) giveUp(reason error) {
	s.mutex.Lock()
	s.cause = cmp.Or(s.cause, reason)
	s.mutex.Unlock()
	s.Conn.Close() // whatever it says, the reason is ours
}

func (s *sieve) Write(p []byte) (int, error) {
	if err := s.Conn.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return 0, err
	}
	// An empty response to a challenge is an empty line; "=" is for the initial response alone
	// (RFC 9051 section 6.2.2).
	if string(p) == "=\r\n" {
		_, err := s.Conn.Write([]byte("\r\n"))
		return len(p), err
	}
	return s.Conn.Write(p)
}

// source is the connection as the bufio.Reader reads it.
type source struct{ *sieve }

func (s source) Read(p []byte) (int, error) {
	if s.limiter != nil {
		p = p[:min(len(p), s.limiter.Burst())]
	}
	s.mutex.Lock()
	if s.expecting > 0 {
		s.fail(s.Conn.SetReadDeadline(time.Now().Add(s.timeout)))
	}
	s.mutex.Unlock()
	n, err := s.Conn.Read(p)
	if s.limiter != nil && n > 0 {
		if err := s.limiter.WaitN(context.Background(), n); err != nil {
			return n, err
		}
	}
	if err != nil {
		s.mutex.Lock()
		err = s.fail(err)
		s.mutex.Unlock()
	}
	return n, err
}

// Read returns an error again and again once there was one: the client asks on for a while.
func (s *sieve) Read(p []byte) (n int, err error) {
	if s.failed != nil {
		return 0, s.failed
	}
	n, s.failed = s.read(p)
	return n, s.failed
}

func (s *sieve) read(p []byte) (int, error) {
	for len(s.ready) == 0 {
		if s.literal > 0 {
			n, err := s.r.Read(p[:min(int64(len(p)), s.literal)])
			s.literal -= int64(n)
			return n, err
		}
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.ready)
	s.ready = s.ready[n:]
	return n, nil
}

// next reads a line, or as much of it as the buffer holds, and decides about it.
func (s *sieve) next() error {
	part, err := s.r.ReadSlice('\n')
	if err != nil && err != bufio.ErrBufferFull {
		if len(part) > 0 && err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	whole := err == nil
	if !s.inLine {
		s.length = 0
		s.tail = s.tail[:0]
		verdict, err := s.begin(part, whole)
		if err != nil || !verdict {
			return err
		}
	}
	if err := s.measure(len(part)); err != nil {
		return err
	}
	s.ready = part
	s.inLine = !whole
	s.tail = append(s.tail, part[max(0, len(part)-24):]...)
	if len(s.tail) > 24 {
		s.tail = append(s.tail[:0], s.tail[len(s.tail)-24:]...)
	}
	if !whole || !s.line.literals {
		return nil
	}
	size, found := literalAt(s.tail)
	if !found {
		return nil
	}
	if size > longestLiteral && !(s.line.message && sectionEnds(s.tail)) {
		return s.wrong("a literal of %d octets where no message is", size)
	}
	if !sectionEnds(s.tail) { // go-imap's client holds it
		if err := s.measure(int(size)); err != nil {
			return err
		}
	}
	s.literal, s.inLine, s.tail = size, true, s.tail[:0]
	return nil
}

// measure counts what is held of a line.
func (s *sieve) measure(octets int) error {
	longest := longestLine
	switch {
	case s.line.search:
		const uid = len("4294967295 ")
		s.found += octets
		if int64(s.found) > longestLine+int64(uid)*s.exists {
			return s.wrong("SEARCH finds more than %d messages", s.exists)
		}
		return nil
	case s.line.message:
		longest = longestFetch
	}
	if s.length += octets; s.length > longest {
		return s.wrong("a line of more than %d octets", longest)
	}
	return nil
}

// sectionEnds reports whether the literal at the end of the line is that of a section, as in BODY[] {5}.
func sectionEnds(line []byte) bool {
	before, _, _ := bytes.Cut(line[max(0, bytes.LastIndexByte(line, '{')-2):], []byte("{"))
	return string(before) == "] " || string(before) == "> "
}

func (s *sieve) wrong(format string, args ...any) error {
	err := &BadResponseError{fmt.Sprintf(format, args...)}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.fail(err)
}

// begin looks at the beginning of a line and reports whether it goes through.
func (s *sieve) begin(part []byte, whole bool) (bool, error) {
	s.line = lineKind{}
	rest, untagged := bytes.CutPrefix(part, []byte("* "))
	if !untagged {
		s.found = 0
		s.hideRev2(part)
		return true, nil
	}
	word, rest, _ := bytes.Cut(bytes.TrimRight(rest, "\r\n"), []byte(" "))
	numbered := len(word) > 0 && word[0] >= '0' && word[0] <= '9'
	number := word
	if numbered {
		word, _, _ = bytes.Cut(rest, []byte(" "))
	}
	kind := strings.ToUpper(string(word))
	unknown := false
	switch kind {
	case "OK", "PREAUTH", "NO", "BAD", "BYE", "CAPABILITY":
		unknown = numbered
		s.hideRev2(part)
		s.noteValidity(rest)
	case "EXISTS":
		s.exists, _ = strconv.ParseInt(string(number), 10, 64) // what is no number the client says
		unknown = !numbered
	case "RECENT", "EXPUNGE":
		unknown = !numbered
	case "FETCH":
		s.line = lineKind{literals: true, message: true}
		unknown = !numbered
	case "SEARCH", "ESEARCH", "SORT":
		s.line.search, unknown = true, numbered
	case "FLAGS", "ENABLED", "ID", "NAMESPACE":
		s.line.literals, unknown = true, numbered
	case "LIST", "STATUS":
		if numbered {
			return false, s.leaveOut(part, whole, "")
		}
		return false, s.named(kind, part, whole)
	default:
		unknown = true
	}
	if unknown { // a number where none belongs, none where one does, or a response that is not known
		return false, s.leaveOut(part, whole, "")
	}
	return true, nil
}

// hideRev2 takes IMAP4rev2 out of the capabilities of a server that has IMAP4rev1 as well: go-imap's client would write names in UTF-8,
// which is right only once rev2 is enabled (RFC 9051 section 6.3.1). The other capabilities say what rev2 has in it.
func (s *sieve) hideRev2(line []byte) {
	upper := bytes.ToUpper(line)
	if at := bytes.Index(upper, []byte(" IMAP4REV2")); at >= 0 && bytes.Contains(upper, []byte(" IMAP4REV1")) {
		copy(line[at+1:], "IMAP4rev1") // once more
	}
}

func (s *sieve) noteValidity(text []byte) {
	rest, found := bytes.CutPrefix(bytes.ToUpper(text), []byte("[UIDVALIDITY "))
	digits, _, closed := bytes.Cut(rest, []byte("]"))
	if n, err := strconv.ParseUint(string(digits), 10, 32); found && closed && err == nil && s.validity != nil {
		s.validity(uint32(n))
	}
}

// leaveOut drops a line with its literals.
func (s *sieve) leaveOut(part []byte, whole bool, why string) error {
	if why != "" {
		s.report(why)
	}
	for {
		for !whole {
			more, err := s.r.ReadSlice('\n')
			if err != nil && err != bufio.ErrBufferFull {
				return err
			}
			part, whole = more, err == nil
		}
		size, found := literalAt(part)
		if !found {
			return nil
		}
		if size > longestLiteral {
			return s.wrong("a literal of %d octets where no message is", size)
		}
		if _, err := s.r.Discard(int(size)); err != nil {
			return err
		}
		part, whole = nil, false
	}
}

// named decides about a line with the name of a mailbox. What goes on has the name in a form that the client
// decodes as we do.
func (s *sieve) named(kind string, part []byte, whole bool) error {
	var line []byte
	for {
		line = append(line, part...)
		if len(line) > longestName {
			return s.leaveOut(part, whole, fmt.Sprintf("a %s response of more than %d octets was left out", kind, longestName))
		}
		size, found := literalAt(part)
		if whole && !found {
			break
		}
		if found && whole {
			if size > longestName {
				return s.wrong("a literal of %d octets in a %s response", size, kind)
			}
			start := len(line)
			line = append(line, make([]byte, size)...)
			if _, err := io.ReadFull(s.r, line[start:]); err != nil {
				return err
			}
		}
		var err error
		part, err = s.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
		whole = err == nil
	}
	at, end, name, ok := findName(line, kind)
	if !ok {
		s.report(fmt.Sprintf("a %s response that cannot be read was left out: %.80q", kind, line))
		return nil
	}
	decoded, err := wire.DecodeUTF7(name)
	switch {
	case strings.ContainsAny(name, "\x00\r\n"):
		s.report(fmt.Sprintf("mailbox %.80q: no IMAP command can name it (NUL, CR or LF); left out", name))
		return nil
	case err != nil:
		s.report(fmt.Sprintf("mailbox %.80q: the name is not modified UTF-7 (%v); left out", name, err))
		return nil
	}
	s.ready = append(s.ready[:0:0], line[:at]...)
	s.ready = append(s.ready, quoted(wire.EncodeUTF7(decoded))...)
	s.ready = append(s.ready, line[end:]...)
	return nil
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// findName finds the name in `* LIST (attributes) delimiter name` or `* STATUS name (items)`.
func findName(line []byte, kind string) (at, end int, name string, ok bool) {
	at = len("* ") + len(kind) + 1
	if kind == "LIST" {
		closing := bytes.IndexByte(line, ')')
		if closing < 0 || at >= len(line) || line[at] != '(' {
			return 0, 0, "", false
		}
		at = closing + 2
		_, delimiterEnd, ok := readString(line, at)
		if !ok || line[closing+1] != ' ' || line[at] == '{' || line[delimiterEnd] != ' ' {
			return 0, 0, "", false
		}
		at = delimiterEnd + 1
	}
	name, end, ok = readString(line, at)
	return at, end, name, ok && end < len(line)
}

// readString reads an atom, a quoted string or a literal.
func readString(line []byte, at int) (text string, end int, ok bool) {
	if at < 0 || at >= len(line) {
		return "", 0, false
	}
	switch line[at] {
	case '"':
		var b strings.Builder
		for i := at + 1; i < len(line); i++ {
			switch {
			case line[i] == '"':
				return b.String(), i + 1, true
			case line[i] == '\\' && i+1 < len(line):
				i++
			}
			b.WriteByte(line[i])
		}
		return "", 0, false
	case '{':
		lf := bytes.IndexByte(line[at:], '\n')
		if lf < 0 {
			return "", 0, false
		}
		size, found := literalAt(line[at : at+lf+1])
		start := at + lf + 1
		if !found || size > int64(len(line)-start) {
			return "", 0, false
		}
		return string(line[start : start+int(size)]), start + int(size), true
	}
	end = at
	for end < len(line) && line[end] != ' ' && line[end] != '\r' && line[end] != '\n' {
		end++
	}
	return string(line[at:end]), end, end > at
}

// literalAt returns the size of the literal that a line announces at its end.
func literalAt(line []byte) (size int64, found bool) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	line, found = bytes.CutSuffix(line, []byte("}"))
	open := bytes.LastIndexByte(line, '{')
	if !found || open < 0 {
		return 0, false
	}
	size, err := strconv.ParseInt(string(line[open+1:]), 10, 63)
	return size, err == nil && size >= 0
}
