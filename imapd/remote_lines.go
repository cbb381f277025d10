package imapd

import (
	"bufio"
	"bytes"
	"errors"

	"mailstead.dev/imapd/wire"
)

// What another cell sends, as responses: a response is a line and, where that ends with the size of a literal, the octets of that and
// another line, and so on (RFC 9051 section 2.2.2). Parts of it are handed on as they come, so that none has to be in memory as a whole.

// farResponses takes apart what comes from another cell.
type farResponses struct {
	br *bufio.Reader

	within bool        // a response has begun
	text   bool        // it ends with text for people, in which nothing is the size of a literal
	end    wire.Marker // what its line ends with, so far
	left   int64       // octets of its literal
}

// part is a part of a response. Its octets are there until the next is asked for.
type part struct {
	octets       []byte
	begins, ends bool // the response
}

// next returns the next part.
func (r *farResponses) next() (p part, err error) {
	if r.left > 0 {
		return r.literal()
	}
	line, err := r.br.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return part{}, err
	}
	p = part{octets: line, begins: !r.within}
	if p.begins {
		r.within, r.text = true, isStatus(line)
	}
	r.follow(line)
	if err != nil { // the line goes on
		return p, nil
	}
	size, _, announced := r.end.Literal()
	r.end = wire.Marker{}
	if announced && !r.text {
		r.left = size
	} else {
		r.within, p.ends = false, true
	}
	return p, nil
}

// follow takes what a line goes on with; from the last brace on, for what stands before it is nothing to the end.
func (r *farResponses) follow(line []byte) {
	for _, c := range line[max(0, bytes.LastIndexByte(line, '{')):] {
		if c != '\r' && c != '\n' {
			r.end = r.end.Next(c)
		}
	}
}

func (r *farResponses) literal() (part, error) {
	if _, err := r.br.Peek(1); err != nil {
		return part{}, err
	}
	octets, _ := r.br.Peek(int(min(r.left, int64(r.br.Buffered())))) // which are there
	r.br.Discard(len(octets))
	r.left -= int64(len(octets))
	return part{octets: octets}, nil
}

// isStatus tells whether a response that begins like this is a status response, or asks for more: those with text for people.
func isStatus(line []byte) bool {
	first, rest, _ := bytes.Cut(line, []byte(" "))
	if string(first) == "+" {
		return true
	}
	kind, _, _ := bytes.Cut(rest, []byte(" "))
	switch string(bytes.TrimRight(kind, "\r\n")) {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		return true
	}
	return false
}
