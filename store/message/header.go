package message

import (
	"bytes"
	"iter"
	"strings"
)

// fields yields the fields of a header block one by one, each with its folding
// and its line end, up to the empty line. A line that neither is a field nor
// continues one is a field without a name.
func fields(block []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, raw []byte) bool) {
		for len(block) > 0 {
			n := lineLen(block)
			if emptyLine(block[:n]) {
				return
			}
			for n < len(block) && isWSP(block[n]) {
				n += lineLen(block[n:])
			}
			if !yield(fieldName(block[:n]), block[:n]) {
				return
			}
			block = block[n:]
		}
	}
}

// lineLen returns the length of the first line of b with its line end.
func lineLen(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return len(b)
}

func emptyLine(line []byte) bool {
	return len(line) == 1 && line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n'
}

func isWSP(c byte) bool { return c == ' ' || c == '\t' }

// fieldName returns the name of a raw field as spelled, without the white
// space that obsolete syntax allows behind it (RFC 5322 section 4.5); nil
// where raw is no field.
func fieldName(raw []byte) []byte {
	i := bytes.IndexByte(raw, ':')
	if i < 0 {
		return nil
	}
	name := bytes.TrimRight(raw[:i], " \t")
	name = bytes.TrimPrefix(name, []byte("\ufeff")) // some programs begin a message with a byte order mark
	for _, c := range name {
		if c <= ' ' || c == 0x7f {
			return nil
		}
	}
	if len(name) == 0 {
		return nil
	}
	return name
}

// fieldValue returns the value of a raw field, unfolded.
func fieldValue(raw []byte) string {
	_, value, _ := bytes.Cut(raw, []byte{':'})
	return unfold(value)
}

// unfold removes line ends, and NULs with them, which no IMAP string can
// hold, and the white space around the value.
func unfold(value []byte) string {
	value = bytes.TrimRight(value, " \t\r\n\x00")
	value = bytes.TrimLeft(value, " \t\r\n\x00")
	if bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\r') < 0 && bytes.IndexByte(value, 0) < 0 {
		return string(value)
	}
	out := make([]byte, 0, len(value))
	for _, c := range value {
		if c != '\r' && c != '\n' && c != 0 {
			out = append(out, c)
		}
	}
	return string(out)
}

// lowerName returns a field name in lower case, without an allocation where a
// caller only compares it; buf is its space.
func lowerName(name []byte, buf *[48]byte) []byte {
	if len(name) > len(buf) {
		return bytes.ToLower(name)
	}
	out := buf[:len(name)]
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out[i] = c
	}
	return out
}

// SelectFields returns the fields of a header block that are (or, with not,
// are not) among names, as they stand, with a final empty line (RFC 9051
// section 6.4.5.1, HEADER.FIELDS).
func SelectFields(header []byte, names []string, not bool) []byte {
	var out []byte
	for name, raw := range fields(header) {
		if hasName(names, name) != not {
			out = append(out, raw...)
		}
	}
	return endHeader(out)
}

// endHeader adds the empty line, and the line end of the last field if the message ended without it.
func endHeader(block []byte) []byte {
	if len(block) > 0 && block[len(block)-1] != '\n' {
		block = append(block, "\r\n"...)
	}
	return append(block, "\r\n"...)
}

func hasName(names []string, name []byte) bool {
	for _, n := range names {
		if len(n) == len(name) && strings.EqualFold(n, string(name)) {
			return true
		}
	}
	return false
}
