package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
)

// body makes the body of a letter or of a part, with the fields that tell of it.
func (w *writer) body(depth int) *entity {
	kind := w.IntN(20)
	if depth == 3 {
		kind %= 10
	}
	switch {
	case kind < 5:
		return w.plain()
	case kind < 9:
		return w.html()
	case kind < 10:
		return w.attachment()
	case kind < 14:
		return w.multipart("alternative", w.plain(), w.html())
	case kind < 18:
		parts := []*entity{w.body(depth + 1)}
		for range 1 + w.IntN(2) {
			parts = append(parts, pick(w.Rand, []func() *entity{w.attachment, w.textFile, func() *entity { return w.body(depth + 1) }})())
		}
		return w.multipart("mixed", parts...)
	}
	return w.forwarded(depth)
}

// lines makes a text of some lines.
func (w *writer) lines(lang language) string {
	var s strings.Builder
	words := 5 + w.IntN(40)
	switch n := w.IntN(300); {
	case n < 10:
		return "" // nothing at all
	case n < 20:
		words = 1
	case n == 20 && w.large:
		words = 20_000
	}
	for words > 0 {
		n := 1 + w.IntN(14)
		if w.IntN(40) == 0 {
			n = 200 // a long line
		}
		s.WriteString(pick(w.Rand, []string{"", "", "> ", "\t", "  "}))
		s.WriteString(lang.sentence(w.Rand, n))
		s.WriteString(pick(w.Rand, []string{"\r\n", "\r\n", "\r\n", " \r\n", "\r\n\r\n"}))
		words -= n
	}
	text := s.String()
	if w.IntN(5) == 0 {
		text += "-- \r\n" + address(w.Rand)
	}
	return text
}

func (w *writer) plain() *entity { return w.text(w.subtype(), nil) }

func (w *writer) subtype() string {
	if w.IntN(8) == 0 {
		return pick(w.Rand, []string{"calendar", "csv", "x-vcard", "markdown"})
	}
	return "plain"
}

// textFile makes a text that is attached.
func (w *writer) textFile() *entity {
	return w.text(w.subtype(), func(contentType string) []field { return w.file(contentType) })
}

// text makes a text part.
func (w *writer) text(subtype string, file func(contentType string) []field) *entity {
	lang := w.language()
	text := w.lines(lang)
	c, octets := lang.encode(w.Rand, text)
	e := &entity{passages: []passage{{where: inBody, text: text}}}
	contentType := w.contentType("text/"+subtype, c)
	switch {
	case file != nil:
		e.fields = file(contentType)
	case c.encoding == nil && subtype == "plain" && w.IntN(4) == 0: // nothing is said, which need not mean ASCII
	default:
		e.fields = []field{{name: "Content-Type", raw: contentType, text: contentType}}
	}
	w.encode(e, octets)
	return e
}

func (w *writer) contentType(kind string, c charset) string {
	name := c.name
	if c.encoding == nil && w.IntN(8) == 0 {
		name = pick(w.Rand, []string{"unknown-8bit", "x-nowhere", "US-ASCII", "utf8"}) // what is not known is UTF-8 if it can be
	}
	return pick(w.Rand, []string{
		kind + "; charset=" + name, kind + `; charset="` + strings.ToUpper(name) + `"`, strings.ToUpper(kind) + ";Charset=" + strings.ToLower(name) + "; format=flowed",
	})
}

// encode gives an entity its body in a transfer encoding.
func (w *writer) encode(e *entity, octets []byte) {
	name := "8bit"
	if !bytes.ContainsFunc(octets, func(r rune) bool { return r > '~' }) {
		name = "7bit"
	}
	e.body = octets
	switch w.IntN(5) {
	case 0, 1:
		name, e.body = "quoted-printable", w.quotedPrintable(octets)
	case 2:
		name, e.body = "base64", w.base64(octets)
	default:
		if name == "7bit" && w.IntN(2) == 0 {
			return
		}
	}
	e.fields = append(e.fields, plainField("Content-Transfer-Encoding", pick(w.Rand, []string{name, strings.ToUpper(name)})))
}

// quotedPrintable encodes a text, with line breaks anywhere that are not its own.
func (w *writer) quotedPrintable(octets []byte) []byte {
	var out bytes.Buffer
	column, limit := 0, 10+w.IntN(66)
	upper := w.IntN(5) > 0
	for i := 0; i < len(octets); i++ {
		c := octets[i]
		if c == '\r' && i+1 < len(octets) && octets[i+1] == '\n' {
			out.WriteString("\r\n")
			column = 0
			i++
			continue
		}
		code := string(rune(c))
		atEnd := i+1 == len(octets) || octets[i+1] == '\r'
		if c > '~' || c < ' ' && c != '\t' || c == '=' || (c == ' ' || c == '\t') && atEnd || w.IntN(50) == 0 {
			if code = fmt.Sprintf("=%02X", c); !upper {
				code = strings.ToLower(code)
			}
		}
		if column+len(code) > limit {
			out.WriteString("=\r\n")
			column = 0
		}
		out.WriteString(code)
		column += len(code)
	}
	return out.Bytes()
}

func (w *writer) base64(octets []byte) []byte {
	code := base64.StdEncoding.EncodeToString(octets)
	var out bytes.Buffer
	for width := 4 + w.IntN(73); len(code) > 0; {
		n := min(width, len(code))
		out.WriteString(code[:n] + "\r\n")
		code = code[n:]
	}
	return out.Bytes()
}

// decoy makes a word that is nowhere to be found.
func (w *writer) decoy(e *entity) string {
	d := fmt.Sprintf("decoy%xq", w.Uint32())
	e.decoys = append(e.decoys, d)
	return d
}

// attachment makes a file that is no text: nothing of it is found but its name.
func (w *writer) attachment() *entity {
	e := &entity{fields: w.file(pick(w.Rand, []string{"application/pdf", "image/png", "application/octet-stream"}))}
	w.encode(e, []byte("%PDF "+w.decoy(e)+"\r\n"))
	return e
}

// multipart puts parts together. What stands around them is not looked at.
func (w *writer) multipart(subtype string, parts ...*entity) *entity {
	boundary := fmt.Sprintf("=_%x", w.Uint64())
	contentType := "multipart/" + subtype + `; boundary="` + boundary + `"`
	e := &entity{fields: []field{{name: "Content-Type", raw: strings.Replace(contentType, "; ", ";\r\n\t", 1), text: contentType}}}
	var b bytes.Buffer
	if w.IntN(2) == 0 {
		b.WriteString("This is a multi-part message in MIME format, " + w.decoy(e) + ".\r\n")
	}
	for _, p := range parts {
		b.WriteString("--" + boundary + "\r\n")
		b.Write(p.octets())
		b.WriteString("\r\n")
		e.passages = append(e.passages, p.told(inPart)...)
		e.decoys = append(e.decoys, p.decoys...)
	}
	b.WriteString("--" + boundary + "--\r\n")
	if w.IntN(4) == 0 {
		b.WriteString(w.decoy(e) + "\r\n")
	}
	e.body = b.Bytes()
	return e
}

// forwarded makes a message in a message.
func (w *writer) forwarded(depth int) *entity {
	inner := w.body(depth + 1)
	var l letter
	w.count++
	l.id = fmt.Sprintf("%d.%x@inner.test", w.count, w.run)
	inner.fields = append(w.envelope(&l), inner.fields...)
	e := &entity{
		fields:   []field{plainField("Content-Type", "message/rfc822")},
		passages: inner.told(inBody), decoys: inner.decoys,
	}
	e.body = inner.octets()
	if w.IntN(4) == 0 {
		e.fields = w.file("message/rfc822")
	}
	if w.IntN(10) == 0 { // against RFC 2046 section 5.2.1, and done
		e.body = w.base64(e.body)
		e.fields = append(e.fields, plainField("Content-Transfer-Encoding", "base64"))
	}
	return e
}
