//go:build crash

package crash

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// errLost says that the connection ended before the answer: the outcome is unknown.
var errLost = errors.New("connection lost")

// errBroken wraps answers that should not be.
var errBroken = errors.New("wrong answer")

// refusedError is a NO, or a 4xx of LMTP.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return "refused: " + e.text }

// answerTime bounds how long an answer may take.
const answerTime = 45 * time.Second

// imapConn is a client's connection: just enough of IMAP for this test.
type imapConn struct {
	conn net.Conn
	r    *bufio.Reader
	tags int
}

// response is one untagged or tagged line; its literals are where {n} stands.
type response struct {
	text     string
	literals [][]byte
}

func dialIMAP(address, login string) (*imapConn, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	c := &imapConn{conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	greeting, err := c.read()
	if err == nil && !strings.HasPrefix(greeting.text, "* OK") {
		err = fmt.Errorf("%w: greeting %s", errLost, greeting.text)
	}
	if err == nil {
		_, err = c.do("LOGIN " + login + " " + accountPassword)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (c *imapConn) read() (response, error) {
	var r response
	var text strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return r, fmt.Errorf("%w: %w", errLost, err)
		}
		line = strings.TrimRight(line, "\r\n")
		text.WriteString(line)
		n, ok := literalLength(line)
		if !ok {
			r.text = text.String()
			return r, nil
		}
		literal := make([]byte, n)
		if _, err := io.ReadFull(c.r, literal); err != nil {
			return r, fmt.Errorf("%w: %w", errLost, err)
		}
		r.literals = append(r.literals, literal)
	}
}

func literalLength(line string) (int, bool) {
	if !strings.HasSuffix(line, "}") {
		return 0, false
	}
	n, err := strconv.Atoi(line[strings.LastIndexByte(line, '{')+1 : len(line)-1])
	return n, err == nil
}

// do sends a command and returns all that is answered, the tagged OK last.
// literal, if any, is sent at its end.
func (c *imapConn) do(command string, literal ...[]byte) ([]response, error) {
	c.tags++
	tag := fmt.Sprintf("t%d", c.tags)
	var out bytes.Buffer
	out.WriteString(tag + " " + command)
	for _, l := range literal {
		fmt.Fprintf(&out, " {%d+}\r\n", len(l))
		out.Write(l)
	}
	out.WriteString("\r\n")
	if err := c.conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(out.Bytes()); err != nil {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	var answers []response
	for {
		r, err := c.read()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				err = fmt.Errorf("%w: no answer to %.60q in %v", errBroken, command, answerTime)
			}
			return nil, err
		}
		answers = append(answers, r)
		status, ok := strings.CutPrefix(r.text, tag+" ")
		switch {
		case !ok:
		case strings.HasPrefix(status, "OK"):
			return answers, nil
		case strings.HasPrefix(status, "NO"):
			return nil, &refusedError{r.text}
		default:
			return nil, fmt.Errorf("%w: %s to %.80q", errBroken, r.text, command)
		}
	}
}

var (
	appendUID = regexp.MustCompile(`\[APPENDUID (\d+) (\d+)\]`)
	copyUID   = regexp.MustCompile(`\[COPYUID (\d+) ([\d:,]+) ([\d:,]+)\]`)
	fetchUID  = regexp.MustCompile(`\bUID (\d+)`)
	fetchFlag = regexp.MustCompile(`\bFLAGS \(([^)]*)\)`)
)

// matched returns the groups of the first answer that the expression matches.
func matched(answers []response, re *regexp.Regexp) []string {
	for _, a := range answers {
		if m := re.FindStringSubmatch(a.text); m != nil {
			return m
		}
	}
	return nil
}

// numbers reads a set of UIDs, in its order.
func numbers(set string) []uint32 {
	var all []uint32
	for part := range strings.SplitSeq(set, ",") {
		from, to, ok := strings.Cut(part, ":")
		if !ok {
			to = from
		}
		a, _ := strconv.ParseUint(from, 10, 32) // digits: the expression says so
		b, _ := strconv.ParseUint(to, 10, 32)
		for n := a; n <= b; n++ {
			all = append(all, uint32(n))
		}
	}
	return all
}

// lmtpConn delivers mail.
type lmtpConn struct {
	conn net.Conn
	r    *bufio.Reader
}

func dialLMTP(address string) (*lmtpConn, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	c := &lmtpConn{conn, bufio.NewReader(conn)}
	if err = c.expect("220"); err == nil {
		err = c.do("LHLO crash.test", "250")
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (c *lmtpConn) do(command, want string) error {
	if _, err := c.conn.Write([]byte(command + "\r\n")); err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return c.expect(want)
}

// expect reads a reply.
func (c *lmtpConn) expect(want string) error {
	if err := c.conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("%w: %w", errLost, err)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		switch {
		case strings.HasPrefix(line, want):
			return nil
		case strings.HasPrefix(line, "4"):
			return &refusedError{strings.TrimSpace(line)}
		}
		return fmt.Errorf("%w: LMTP %s", errBroken, strings.TrimSpace(line))
	}
}

// deliver sends a message to one recipient. An error before its end is
// refusedError or errLost with sent false: nothing has been delivered.
func (c *lmtpConn) deliver(to string, message []byte) (sent bool, err error) {
	for _, step := range [][2]string{{"MAIL FROM:<crash@crash.test>", "250"}, {"RCPT TO:<" + to + ">", "250"}, {"DATA", "354"}} {
		if err := c.do(step[0], step[1]); err != nil {
			return false, err
		}
	}
	stuffed := bytes.ReplaceAll(message, []byte("\r\n."), []byte("\r\n.."))
	if _, err := c.conn.Write(append(stuffed, ".\r\n"...)); err != nil {
		return true, fmt.Errorf("%w: %w", errLost, err)
	}
	return true, c.expect("250")
}
