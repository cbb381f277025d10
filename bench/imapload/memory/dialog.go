package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
)

// dialog is a connection whose answers are looked at by their beginning. Its first error sticks.
type dialog struct {
	conn net.Conn
	r    *bufio.Reader
	err  error
}

func newDialog(c net.Conn) *dialog { return &dialog{conn: c, r: bufio.NewReader(c)} }

func (d *dialog) send(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.conn, format, args...)
	}
}

func (d *dialog) write(b []byte) {
	if d.err == nil {
		_, d.err = d.conn.Write(b)
	}
}

// expect reads lines up to one that begins with the text, passing over untagged ones.
func (d *dialog) expect(text string) error {
	for d.err == nil {
		var line string
		if line, d.err = d.r.ReadString('\n'); d.err != nil || strings.HasPrefix(line, text) {
			break
		}
		if !strings.HasPrefix(line, "* ") {
			d.err = fmt.Errorf("%q instead of %q", strings.TrimSpace(line), text)
		}
	}
	return d.err
}
