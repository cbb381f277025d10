package mbox

import (
	"bufio"
	"bytes"
	"io"
)

const from = "From "

// quoter copies text and adds to the > before each line that is `From ` behind any number of
// >, or takes away from them. It holds back no more than the beginning of a
// line, and of that only how long it is.
type quoter struct {
	w       *bufio.Writer
	add     int // +1 quotes, -1 takes the quoting away
	inLine  bool
	marks   int // > at the beginning of the line that are not written yet
	matched int // octets of "From " behind them
}

func (q *quoter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if q.inLine {
			end := bytes.IndexByte(p, '\n')
			if end < 0 {
				_, err := q.w.Write(p)
				return n, err
			}
			if _, err := q.w.Write(p[:end+1]); err != nil {
				return 0, err
			}
			p, q.inLine = p[end+1:], false
			continue
		}
		switch {
		case q.matched == 0 && p[0] == '>':
			q.marks++
		case p[0] == from[q.matched]:
			q.matched++
		default:
			if err := q.release(0); err != nil {
				return 0, err
			}
			continue // the octet is looked at again, in its line
		}
		p = p[1:]
		if q.matched == len(from) {
			if err := q.release(q.add); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// release writes what is held back, with more or fewer >.
func (q *quoter) release(more int) error {
	for range max(q.marks+more, 0) {
		if err := q.w.WriteByte('>'); err != nil {
			return err
		}
	}
	_, err := q.w.WriteString(from[:q.matched])
	q.inLine, q.marks, q.matched = true, 0, 0
	return err
}

// Close writes the beginning of a line that the text ended in.
func (q *quoter) Close() error {
	if err := q.release(0); err != nil {
		return err
	}
	return q.w.Flush()
}

// withoutCR copies text and leaves out the CR before each LF.
type withoutCR struct {
	w  io.Writer
	cr bool // one is held back
}

func (c *withoutCR) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if c.cr {
			if p[0] != '\n' {
				if _, err := c.w.Write([]byte{'\r'}); err != nil {
					return 0, err
				}
			}
			c.cr = false
		}
		end := bytes.IndexByte(p, '\r')
		if end < 0 {
			_, err := c.w.Write(p)
			return n, err
		}
		if _, err := c.w.Write(p[:end]); err != nil {
			return 0, err
		}
		p, c.cr = p[end+1:], true
	}
	return n, nil
}

// Close writes a CR that the text ended in.
func (c *withoutCR) Close() error {
	if !c.cr {
		return nil
	}
	_, err := c.w.Write([]byte{'\r'})
	return err
}

// withCR copies text and puts a CR before each LF.
type withCR struct{ w io.Writer }

func (c withCR) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			_, err := c.w.Write(p)
			return n, err
		}
		if _, err := c.w.Write(p[:end]); err != nil {
			return 0, err
		}
		if _, err := io.WriteString(c.w, "\r\n"); err != nil {
			return 0, err
		}
		p = p[end+1:]
	}
	return n, nil
}

// WithoutCR returns what copies text to w and leaves out the CR before each LF. Close writes what it holds back.
func WithoutCR(w io.Writer) io.WriteCloser { return &withoutCR{w: w} }

// WithCR copies text and puts a CR before each LF.
func WithCR(w io.Writer, text io.Reader) error {
	_, err := io.Copy(withCR{w}, text)
	return err
}
