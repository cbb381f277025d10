package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"mailstead.dev/store/storetest"
)

// mailClient speaks IMAP or LMTP. It says what is wrong instead of ending the test, which no goroutine but its own may.
type mailClient struct {
	net.Conn
	lines *bufio.Reader
	tag   int
}

func dialMail(address string) (*mailClient, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	m := &mailClient{Conn: c, lines: bufio.NewReader(c)}
	_, err = m.line()
	return m, err
}

// dialIMAP logs in.
func dialIMAP(address, login string) (*mailClient, error) {
	m, err := dialMail(address)
	if err != nil {
		return nil, err
	}
	_, err = m.do("LOGIN " + login + " " + storetest.Password + "\r\n")
	return m, err
}

// dialLMTP greets.
func dialLMTP(address string) (*mailClient, error) {
	m, err := dialMail(address)
	if err != nil {
		return nil, err
	}
	return m, m.expect("LHLO test\r\n", "250 ")
}

// line reads a line, and what it has in literals.
func (m *mailClient) line() (string, error) {
	if err := m.SetReadDeadline(time.Now().Add(4 * patience)); err != nil {
		return "", err
	}
	var whole strings.Builder
	for {
		line, err := m.lines.ReadString('\n')
		if err != nil {
			return "", err
		}
		whole.WriteString(line)
		found := literal.FindStringSubmatch(line)
		if found == nil {
			return whole.String(), nil
		}
		size, err := strconv.ParseInt(found[1], 10, 32)
		if err != nil {
			return "", err
		}
		if _, err := io.CopyN(&whole, m.lines, size); err != nil {
			return "", err
		}
	}
}

var literal = regexp.MustCompile(`\{(\d+)\}\r\n$`)

// do sends a command, waiting before each piece but the first to be told to go on, and returns all that is answered. All but OK is an error.
func (m *mailClient) do(pieces ...string) ([]string, error) {
	m.tag++
	tag := fmt.Sprintf("t%d ", m.tag)
	var answers []string
	for i, piece := range pieces {
		if i == 0 {
			piece = tag + piece
		}
		if _, err := io.WriteString(m, piece); err != nil {
			return nil, err
		}
		for {
			line, err := m.line()
			if err != nil {
				return nil, err
			}
			if line[0] == '+' && i+1 < len(pieces) {
				break
			}
			answers = append(answers, line)
			if strings.HasPrefix(line, tag) {
				if i+1 < len(pieces) || !strings.HasPrefix(line[len(tag):], "OK") {
					return nil, fmt.Errorf("%.500q: %s", pieces, line)
				}
				return answers, nil
			}
		}
	}
	return nil, io.ErrUnexpectedEOF
}

// expect sends something, and wants the answer to end with a line of this beginning.
func (m *mailClient) expect(text, beginning string) error {
	if _, err := io.WriteString(m, text); err != nil {
		return err
	}
	for {
		line, err := m.line()
		if err != nil {
			return err
		}
		if strings.HasPrefix(line, beginning) {
			return nil
		}
		if len(line) < 4 || line[3] != '-' {
			return fmt.Errorf("%.500q: %s", text, line)
		}
	}
}

// deliver sends a message by LMTP.
func (m *mailClient) deliver(login string, octets []byte) error {
	for _, step := range [][2]string{
		{"MAIL FROM:<sender@elsewhere.test>\r\n", "250"}, {"RCPT TO:<" + login + ">\r\n", "250"}, {"DATA\r\n", "354"},
		{strings.ReplaceAll("\n"+string(octets), "\n.", "\n..")[1:] + ".\r\n", "250"},
	} {
		if err := m.expect(step[0], step[1]); err != nil {
			return err
		}
	}
	return nil
}

// numbers reads a set of numbers.
func numbers(set string) (list []uint32, err error) {
	for part := range strings.SplitSeq(set, ",") {
		first, last, ranged := strings.Cut(part, ":")
		from, err := strconv.ParseUint(first, 10, 32)
		if err != nil {
			return nil, err
		}
		to := from
		if ranged {
			if to, err = strconv.ParseUint(last, 10, 32); err != nil {
				return nil, err
			}
		}
		for n := min(from, to); n <= max(from, to); n++ {
			list = append(list, uint32(n))
		}
	}
	return list, nil
}

// coded returns the sets of UIDs in a response code such as COPYUID.
func coded(answers []string, code string) (sets [][]uint32, err error) {
	pattern := regexp.MustCompile(`\[` + code + ` \d+ ([0-9:,]+)(?: ([0-9:,]+))?\]`)
	for _, line := range answers {
		found := pattern.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		for _, set := range found[1:] {
			if set != "" {
				list, err := numbers(set)
				if err != nil {
					return nil, err
				}
				sets = append(sets, list)
			}
		}
		return sets, nil
	}
	return nil, fmt.Errorf("no %s in %q", code, answers)
}

// foundIn reads the answer to a search.
func foundIn(answers []string) (list []uint32, err error) {
	for _, line := range answers {
		line = strings.TrimRight(line, "\r\n")
		if plain, ok := strings.CutPrefix(line, "* SEARCH"); ok {
			if plain == "" {
				return nil, nil
			}
			return numbers(strings.ReplaceAll(plain[1:], " ", ","))
		}
		rest, ok := strings.CutPrefix(line, "* ESEARCH ")
		if !ok {
			continue
		}
		words := strings.Fields(rest)
		said := map[string]string{}
		for i := range words {
			if i+1 < len(words) {
				said[words[i]] = words[i+1]
			}
		}
		if set := said["ALL"]; set != "" {
			if list, err = numbers(set); err != nil {
				return nil, err
			}
		}
		count, min, max := len(list), "", ""
		if count > 0 {
			min, max = fmt.Sprint(list[0]), fmt.Sprint(list[count-1])
		}
		if n := said["COUNT"]; n != "" && n != fmt.Sprint(count) || said["MIN"] != "" && said["MIN"] != min || said["MAX"] != "" && said["MAX"] != max {
			return nil, fmt.Errorf("does not agree with itself: %s", line)
		}
		return list, nil
	}
	return nil, fmt.Errorf("no result in %q", answers)
}
