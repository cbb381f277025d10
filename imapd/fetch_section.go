package imapd

// The sections of a message that FETCH can ask for.
//
// RFC 3501 section 6.4.5 and 9 (section), RFC 9051 section 6.4.5.1; those of
// BINARY are in fetch_binary.go.

import (
	"slices"
	"strconv"

	"mailstead.dev/imapd/wire"
)

// section is BODY[...]<...> or one of its older forms.
type section struct {
	label  string // as it stands in the response, with <origin>
	path   []int  // part numbers, none for the message itself
	kind   string // "", HEADER, TEXT or MIME, as message.Meta.Section names them
	fields []string
	not    bool // HEADER.FIELDS.NOT
	peek   bool // \Seen stays as it is
	binary bool // without the content transfer encoding,
	size   bool // and of that only how long it is

	partial  bool
	off, len int64 // of <off.len>
}

// maxFields is how many header fields one section can name.
const maxFields = 1000

// readSection reads from "[" on.
//
//	section      = "[" [section-spec] "]" ["<" number64 "." nz-number64 ">"]
//	section-spec = section-msgtext / (section-part ["." section-text])
//	section-part = nz-number *("." nz-number)
//	section-text = section-msgtext / "MIME"
//
// RFC 1730 section 6.4.5 has 0 for the header of a message, in the place of a part number.
func readSection(d *wire.Decoder, peek bool) *section {
	s := &section{peek: peek}
	d.Special('[')
	label, more := s.readPart(d, []byte("BODY["))
	if c := d.Peek(); c != ']' && (more || len(s.path) == 0 && s.kind == "") {
		label = s.readText(d, label)
	}
	return s.readEnd(d, label)
}

// readPart reads section-part, if there is one, and the dot behind it. It tells whether there was one.
func (s *section) readPart(d *wire.Decoder, label []byte) (_ []byte, dot bool) {
	for c := d.Peek(); c >= '0' && c <= '9'; c = d.Peek() {
		n := d.PartNumber(len(s.path) + 1)
		if n == 0 && !s.binary {
			s.kind = "HEADER"
			return append(label, '0'), false
		}
		if n == 0 {
			d.Fail("A part number must not be 0")
		}
		if d.Err() != nil {
			return label, false
		}
		s.path = append(s.path, n)
		label = strconv.AppendUint(label, uint64(n), 10)
		if dot = d.TrySpecial('.'); !dot {
			break
		}
		label = append(label, '.')
		if d.Peek() == ']' {
			d.Fail("A part number cannot end with a dot")
		}
	}
	return label, dot
}

// readEnd reads "]" ["<" number64 "." nz-number64 ">"].
func (s *section) readEnd(d *wire.Decoder, label []byte) *section {
	d.Special(']')
	label = append(label, ']')
	if d.TrySpecial('<') {
		s.partial = true
		s.off = int64(d.Number64())
		d.Special('.')
		s.len = int64(d.NZNumber64())
		d.Special('>')
		label = append(label, '<')
		label = strconv.AppendInt(label, s.off, 10)
		label = append(label, '>')
	}
	s.label = string(label)
	return s
}

// same tells whether two sections ask for the same, or is one of them only peeking.
func (s *section) same(as *section) bool {
	return s.label == as.label && s.len == as.len && s.not == as.not && slices.Equal(s.fields, as.fields)
}

// readText reads what of a message or part is asked for.
//
//	section-msgtext = "HEADER" / "HEADER.FIELDS" [".NOT"] SP header-list / "TEXT"
func (s *section) readText(d *wire.Decoder, label []byte) []byte {
	name := d.Label()
	for d.TrySpecial('.') {
		name += "." + d.Label()
	}
	label = append(label, name...)
	switch name {
	case "HEADER", "TEXT":
		s.kind = name
	case "MIME":
		s.kind = name
		if len(s.path) == 0 {
			d.Fail("MIME needs a part number")
		}
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
		s.kind, s.not = "HEADER", name == "HEADER.FIELDS.NOT"
		d.SP()
		label = s.readFields(d, append(label, ' '))
	default:
		d.Fail("Unknown section %q", name)
	}
	return label
}

// header-list = "(" header-fld-name *(SP header-fld-name) ")"
func (s *section) readFields(d *wire.Decoder, label []byte) []byte {
	label = append(label, '(')
	d.List(func() {
		if len(s.fields) == maxFields {
			d.Exceed("Too many header fields: at most %d are allowed", maxFields)
			return
		}
		name := d.AString()
		if len(s.fields) > 0 {
			label = append(label, ' ')
		}
		s.fields = append(s.fields, name)
		label = wire.AppendAString(label, name)
	})
	if d.Err() == nil && len(s.fields) == 0 {
		d.Fail("A list of header fields cannot be empty")
	}
	return append(label, ')')
}
