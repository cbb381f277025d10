package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/text/encoding/charmap"
)

// letter is a message, and what a search finds in it. What that is is written down while it is made, before anything is encoded.
type letter struct {
	octets   []byte
	id       string // in its Message-ID
	sent     time.Time
	passages []passage
	decoys   []string // stand in the octets, and are not to be found
}

// passage is a text that is looked at by itself: nothing is found that begins in one and ends in another.
type passage struct {
	where  place
	field  string // lower case, of a header field
	text   string
	folded string
}

// place says which keys look at a passage.
type place uint8

const (
	inHeader place = iota // of the message: the key of the field, HEADER and TEXT
	inPart                // in the header of a part: TEXT alone
	inBody                // BODY and TEXT; so is the header of a message inside
)

// field is one of a header.
type field struct {
	name, raw string
	text      string // what it says
	file      string // the name of a file that it tells of
}

func plainField(name, text string) field { return field{name: name, raw: text, text: text} }

// entity is a part or a message, before its header is written and it is known whether it is one or the other.
type entity struct {
	fields   []field
	body     []byte
	passages []passage // of the body
	decoys   []string
}

// told writes down what the header of an entity says.
func (e *entity) told(where place) []passage {
	var list []passage
	for _, f := range e.fields {
		list = append(list, passage{where: where, field: strings.ToLower(f.name), text: f.text})
		if f.file != "" {
			list = append(list, passage{where: where, field: strings.ToLower(f.name), text: f.file})
		}
	}
	return append(list, e.passages...)
}

func (e *entity) octets() []byte {
	var b bytes.Buffer
	for _, f := range e.fields {
		b.WriteString(f.name + ":")
		if f.raw != "" {
			b.WriteString(" " + f.raw)
		}
		b.WriteString("\r\n")
	}
	b.WriteString("\r\n")
	b.Write(e.body)
	return b.Bytes()
}

// writer makes letters.
type writer struct {
	*rand.Rand
	run   uint64 // tells the letters of one run from those of others
	count int
	large bool // a letter may be large
}

func newWriter(seed uint64) *writer { return &writer{Rand: rand.New(rand.NewPCG(seed, 1)), run: seed} }

// letter makes the next one.
func (w *writer) letter() *letter {
	w.count++
	e := w.body(0)
	l := &letter{id: fmt.Sprintf("%d.%x@search.test", w.count, w.run), decoys: e.decoys}
	fields := w.envelope(l)
	if w.IntN(200) == 0 { // more than is kept beside the mail
		fields = append(fields, w.unstructured("References", w.references(70<<10)))
	}
	w.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	e.fields = append(fields, e.fields...)
	l.octets = e.octets()
	l.passages = e.told(inHeader)
	for i := range l.passages {
		l.passages[i].folded = fold(l.passages[i].text)
	}
	return l
}

func (w *writer) language() language { return pick(w.Rand, languages) }

// envelope makes the fields that say what a letter is.
func (w *writer) envelope(l *letter) []field {
	lang := w.language()
	fields := []field{plainField("Message-ID", "<"+l.id+">"), w.addresses(lang, "From", 1), w.addresses(lang, "To", 1+w.IntN(3))}
	if w.IntN(20) > 0 {
		l.sent = time.Date(2001+w.IntN(25), time.Month(1+w.IntN(12)), 1+w.IntN(28), w.IntN(24), w.IntN(60), w.IntN(60), 0,
			time.FixedZone("", 60*(30*w.IntN(53)-13*60)))
		fields = append(fields, plainField("Date", l.sent.Format("Mon, 2 Jan 2006 15:04:05 -0700")))
	} else if w.IntN(2) == 0 {
		fields = append(fields, plainField("Date", "some day"))
	}
	switch w.IntN(20) {
	case 0:
		fields = append(fields, plainField("Subject", ""))
	case 1:
	default:
		fields = append(fields, w.unstructured("Subject", lang.sentence(w.Rand, 1+w.IntN(12))))
	}
	for _, name := range []string{"Cc", "Bcc", "Reply-To"} {
		if w.IntN(3) == 0 {
			fields = append(fields, w.addresses(lang, name, 1+w.IntN(4)))
		}
	}
	for range w.IntN(3) {
		fields = append(fields, w.unstructured("Received", fmt.Sprintf("from %s ([192.0.2.%d]) by mx.example.org with ESMTPS id %x for <%s>; Thu, 01 Jan 2015 00:00:00 +0000",
			asciiWord(w.Rand), w.IntN(255), w.Uint64(), address(w.Rand))))
	}
	for _, f := range []func() field{
		func() field { return plainField("X-Empty", "") },
		func() field { return w.unstructured("X-Odd-"+asciiWord(w.Rand), lang.sentence(w.Rand, 3)) },
		func() field { return w.unstructured("x-mailer", "Mailer/"+oddity(w.Rand)) },
		func() field { return w.unstructured("COMMENTS", w.language().sentence(w.Rand, 15)) },
		func() field {
			return w.unstructured("List-Id", lang.sentence(w.Rand, 2)+" <list."+asciiWord(w.Rand)+".example.org>")
		},
		func() field { return w.unstructured("X-Long", w.language().sentence(w.Rand, 60)) },
		func() field { return plainField("References", w.references(60)) },
		func() field {
			return plainField("X-Spam-Status", "No, score=-"+fmt.Sprint(w.IntN(99))+" tests=[A_B, C-D]")
		},
	} {
		if w.IntN(6) == 0 {
			fields = append(fields, f())
		}
	}
	return append(fields, plainField("MIME-Version", "1.0"))
}

func (w *writer) references(size int) string {
	var s strings.Builder
	for s.Len() < size {
		fmt.Fprintf(&s, " <%x@%s.example.org>", w.Uint64(), asciiWord(w.Rand))
	}
	return s.String()[1:]
}

// addresses makes a field of some addresses with names, written in many ways.
func (w *writer) addresses(lang language, name string, count int) field {
	f := field{name: name}
	for i := range count {
		if i > 0 {
			f.text += ", "
			f.raw += ","
			f.raw += pick(w.Rand, []string{" ", "\r\n ", "\r\n\t"})
		}
		a := address(w.Rand)
		switch w.IntN(5) {
		case 0:
			f.text += a
			f.raw += a
		case 1:
			quoted := fmt.Sprintf(`"%s, %s" <%s>`, asciiWord(w.Rand), asciiWord(w.Rand), a)
			f.text += quoted
			f.raw += quoted
		default:
			person := noSpecials(lang.word(w.Rand) + " " + lang.word(w.Rand))
			f.text += person + " <" + a + ">"
			f.raw += w.encodedWords(lang, person) + " <" + a + ">"
		}
	}
	return f
}

// noSpecials takes out of a text what addresses and file names have a use of their own for.
func noSpecials(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if strings.ContainsRune(`"\/()<>[]@,;:?=*%'`, r) {
			return -1
		}
		return r
	}, text))
}

// unstructured makes a field of any text.
func (w *writer) unstructured(name, text string) field {
	f := field{name: name, text: text}
	switch {
	case w.IntN(4) == 0 && !strings.Contains(text, "=?"): // as it is (RFC 6532)
		f.raw = w.folded(text)
		if old, ok := (charset{encoding: charmap.Windows1252}).encode(text); ok && w.IntN(2) == 0 && noUTF8(old) {
			f.raw = w.folded(string(old)) // against all rules, and common once
		}
	case isASCII(text) && !strings.Contains(text, "=?"):
		f.raw = w.folded(text)
	default:
		f.raw = w.mixed(text)
	}
	return f
}

func isASCII(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r > '~' }) }

// noUTF8 tells whether no character beyond ASCII can be read in text that is in another charset.
func noUTF8(text []byte) bool {
	for i, c := range text {
		if c >= 0xc0 && i+1 < len(text) && text[i+1] >= 0x80 && text[i+1] < 0xc0 {
			return false
		}
	}
	return true
}

// folded breaks a text at some of its spaces.
func (w *writer) folded(text string) string {
	words := strings.Split(text, " ")
	var s strings.Builder
	for i, word := range words {
		if i > 0 {
			gap := " "
			if word != "" && words[i-1] != "" && w.IntN(6) == 0 {
				gap = pick(w.Rand, []string{"\r\n ", "\r\n\t"})
			}
			s.WriteString(gap)
		}
		s.WriteString(word)
	}
	return s.String()
}

// mixed encodes those words of a text that need it, and some others.
func (w *writer) mixed(text string) string {
	lang := language{charsets: []charset{latin1, western, cyrillic, koi8, greek, jis, eucKR, gb18030}}
	var out, run []string
	flush := func() {
		if run != nil {
			out = append(out, w.encodedWords(lang, strings.Join(run, " ")))
			run = nil
		}
	}
	for word := range strings.SplitSeq(text, " ") {
		if word != "" && isASCII(word) && !strings.Contains(word, "=?") && w.IntN(3) > 0 {
			flush()
			out = append(out, word)
		} else {
			run = append(run, word)
		}
	}
	flush()
	return strings.Join(out, pick(w.Rand, []string{" ", " ", "\r\n ", "\r\n\t"}))
}

// encodedWords writes a text in encoded words (RFC 2047), cut anywhere.
func (w *writer) encodedWords(lang language, text string) string {
	c, _ := lang.encode(w.Rand, text)
	var words []string
	runes := []rune(text)
	for first := true; first || len(runes) > 0; first = false {
		n := min(len(runes), 1+w.IntN(14))
		octets, ok := c.encode(string(runes[:n]))
		if !ok { // a part may not be what the whole is
			c, octets = utf8Charset, []byte(string(runes[:n]))
		}
		runes = runes[n:]
		if len(octets) > 1 && c.encoding == nil && w.IntN(10) == 0 { // some programs cut characters in two
			at := 1 + w.IntN(len(octets)-1)
			q := w.IntN(2) == 0
			words = append(words, w.encodedWord(c, octets[:at], q))
			octets = octets[at:]
		}
		words = append(words, w.encodedWord(c, octets, w.IntN(2) == 0))
	}
	return strings.Join(words, pick(w.Rand, []string{" ", "\r\n ", "\r\n\t", "  "}))
}

func (w *writer) encodedWord(c charset, octets []byte, q bool) string {
	name := pick(w.Rand, []string{c.name, strings.ToUpper(c.name), strings.ToLower(c.name), strings.ToLower(c.name)})
	if w.IntN(30) == 0 {
		name += "*en" // RFC 2231 section 5
	}
	if !q {
		return "=?" + name + "?" + pick(w.Rand, []string{"B", "b"}) + "?" + base64.StdEncoding.EncodeToString(octets) + "?="
	}
	var s strings.Builder
	for _, o := range octets {
		switch {
		case o == ' ':
			s.WriteString(pick(w.Rand, []string{"_", "_", "=20"}))
		case 'a' <= o && o <= 'z' || 'A' <= o && o <= 'Z' || '0' <= o && o <= '9':
			s.WriteByte(o)
		default:
			fmt.Fprintf(&s, pick(w.Rand, []string{"=%02X", "=%02X", "=%02x"}), o)
		}
	}
	return "=?" + name + "?" + pick(w.Rand, []string{"Q", "q"}) + "?" + s.String() + "?="
}

// file makes the fields of a part that is a file.
func (w *writer) file(contentType string) []field {
	lang := w.language()
	name := noSpecials(strings.ReplaceAll(lang.sentence(w.Rand, 1+w.IntN(5)), "\r\n", "")) + pick(w.Rand, []string{".pdf", ".txt", "", ".tar.gz"})
	if name == "" {
		name = "x"
	}
	kind := pick(w.Rand, []string{"attachment", "inline", "Attachment"})
	f := field{name: "Content-Disposition", file: name}
	switch way := w.IntN(6); {
	case way == 0 && isASCII(name):
		f.text = kind + `; filename="` + name + `"`
		f.raw = w.folded(f.text)
	case way == 1: // as it is
		f.text = kind + `; filename="` + name + `"`
		f.raw = f.text
	case way == 2: // RFC 2231
		c, octets := lang.encode(w.Rand, name)
		f.text = kind + "; filename*=" + c.name + "'en'" + percent(octets)
		f.raw = f.text
	case way == 3: // in pieces
		c, octets := lang.encode(w.Rand, name)
		f.text, f.raw = kind, kind
		for n, first := 0, true; first || len(octets) > 0; n, first = n+1, false {
			size := min(len(octets), 1+w.IntN(20))
			piece := fmt.Sprintf(" filename*%d*=", n)
			if first {
				piece += c.name + "''"
			}
			piece += percent(octets[:size])
			octets = octets[size:]
			f.text += ";" + piece
			f.raw += ";\r\n" + piece
		}
	default: // not allowed, and the most common
		f.text = kind + `; filename="` + name + `"`
		f.raw = kind + `; filename="` + w.encodedWords(lang, name) + `"`
	}
	fields := []field{{name: "Content-Type", raw: contentType, text: contentType}, f}
	if w.IntN(4) == 0 { // only there
		fields = []field{{
			name: "Content-Type", raw: contentType + "; name=\"" + w.encodedWords(lang, name) + `"`, text: contentType + `; name="` + name + `"`, file: name,
		}}
	}
	return fields
}

func percent(octets []byte) string {
	var s strings.Builder
	for _, o := range octets {
		if 'a' <= o && o <= 'z' || 'A' <= o && o <= 'Z' || '0' <= o && o <= '9' || o == '.' {
			s.WriteByte(o)
		} else {
			fmt.Fprintf(&s, "%%%02X", o)
		}
	}
	return s.String()
}
