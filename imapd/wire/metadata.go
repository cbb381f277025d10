package wire

import (
	"bytes"
	"io"
)

// Value reads the value of an annotation; ok is false for NIL. A literal is
// taken where accept, which is asked as that of Literal is, says so.
//
// value    = nstring / literal8
// literal8 = "~" literal, with any octets
func (d *Decoder) Value(accept func(size int64, waits bool) error) (value []byte, ok bool) {
	octets := d.TrySpecial('~')
	if d.Peek() != '{' {
		if octets {
			d.expected("a literal")
			return nil, false
		}
		s, ok := d.NString()
		if !ok {
			return nil, false
		}
		return []byte(s), true
	}
	line := d.line
	r, size := d.Literal(func(size int64, waits bool) error {
		if err := accept(size, waits); err != nil {
			return err
		}
		if d.o.Reserve == nil {
			return nil
		}
		return d.o.Reserve((d.weight() - 1) * size)
	})
	d.line = line // of values there are many, for whose lines no more than for one is reserved
	if d.err != nil {
		return nil, false
	}
	value = make([]byte, size)
	if _, err := io.ReadFull(r, value); err != nil {
		return nil, false // d.err is why
	}
	d.keepOctets(value)
	if !octets && bytes.IndexByte(value, 0) >= 0 {
		d.Fail("NUL is not allowed in a literal")
		return nil, false
	}
	return value, true
}

// AppendValue appends the value of an annotation, NIL for nil: as a string,
// or where that cannot be as literal8.
func AppendValue(b, value []byte) []byte {
	switch {
	case value == nil:
		return append(b, "NIL"...)
	case bytes.IndexByte(value, 0) < 0:
		return AppendString(b, string(value))
	}
	b = append(b, '~', '{')
	b = appendSize(b, len(value))
	return append(b, value...)
}
