package index

import (
	"encoding/binary"
	"unicode/utf8"

	"mailstead.dev/store/message"
)

// The text of an email is kept as it is compared: normalised. A record of it is
// an octet of flags, then of each text an octet of flags, the name of its field
// if it has one, and its value, each with its length before it.

const keptPartial = 1 // flag of a record: there is more text than is kept

// Flags of a text.
const (
	keptPart = 1 << iota
	keptBody
	keptNamed
)

// appendText adds a text, of whose value no more than room octets are taken.
// It returns as much of the value as that is.
func appendText(record []byte, t message.Text, normalised string, room int) ([]byte, string) {
	flags := byte(0)
	if t.Part {
		flags |= keptPart
	}
	if t.Body {
		flags |= keptBody
	}
	if t.Header != "" {
		flags |= keptNamed
	}
	record = append(record, flags)
	if t.Header != "" {
		record = appendString(record, t.Header)
	}
	if len(normalised) > room {
		for room > 0 && !utf8.RuneStart(normalised[room]) {
			room--
		}
		normalised = normalised[:room]
	}
	return appendString(record, normalised), normalised
}

func appendString(record []byte, s string) []byte {
	return append(binary.AppendUvarint(record, uint64(len(s))), s...)
}

// readTexts calls yield with each text of a record, its value normalised, until
// that returns false. ok tells whether the record is one.
func readTexts(record string, yield func(message.Text) bool) (ok bool) {
	if record == "" {
		return false
	}
	rest := record[1:]
	next := func() (s string, ok bool) {
		n, size := uvarint(rest)
		if size <= 0 || n > uint64(len(rest)-size) {
			return "", false
		}
		s, rest = rest[size:size+int(n)], rest[size+int(n):]
		return s, true
	}
	for len(rest) > 0 {
		flags := rest[0]
		rest = rest[1:]
		t := message.Text{Part: flags&keptPart != 0, Body: flags&keptBody != 0}
		if flags&keptNamed != 0 {
			if t.Header, ok = next(); !ok {
				return false
			}
		}
		if t.Value, ok = next(); !ok {
			return false
		}
		if !yield(t) {
			return true
		}
	}
	return true
}

// uvarint is binary.Uvarint of a string.
func uvarint(s string) (n uint64, size int) {
	for i := range min(len(s), binary.MaxVarintLen64) {
		n |= uint64(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			return n, i + 1
		}
	}
	return 0, 0
}
