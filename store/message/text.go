package message

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Reader gives access to the octets of a message.
type Reader interface {
	// Open returns n octets from off; fewer where the message ends before.
	Open(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// Files reads files that Texts does not know how to read; of one message, the first maxFiles.
type Files interface {
	// Reads tells whether files of a media type, in lower case, or with such a name are read.
	Reads(mediaType, name string) bool
	// Text returns the text of a file; "" of one that cannot be read. again opens its content another time. Errors are ErrFile, and those of ctx and content.
	Text(ctx context.Context, mediaType, name string, content io.Reader, again func() (io.ReadCloser, error)) (string, error)
}

var (
	// ErrFile says that the text of an attached file is not known: it could not be read this time, whoever is to blame.
	ErrFile = errors.New("an attached file cannot be read now")
	// ErrNoFiles is the ErrFile that no file is to blame for: none like it can be read now.
	ErrNoFiles = fmt.Errorf("%w, nor any other", ErrFile)
)

// Text is one piece of what SEARCH looks at; a match never spans pieces.
type Text struct {
	Header string // field name in lower case for a header field, "" for body text
	Value  string // decoded, unfolded, UTF-8, not yet normalised
	// Part: of a part's MIME header, not of the message's. Body: it lies in the
	// body of the message, for SEARCH BODY: text, and headers of messages inside.
	Part, Body bool
}

// TextVersion changes whenever Texts or Normalize would give another result.
const TextVersion = 7

// What is read and held at a time.
const (
	textPiece   = 1 << 20   // octets of one Text of a long body
	textOverlap = 128 << 10 // how much of it the next one repeats, so that no shorter string is cut in two
	maxFiles    = 20        // of a message that are read by others
	skipGap     = 64 << 10  // what lies between two texts is read over up to this size, else passed over by another Open
)

// Texts extracts header fields and body texts, in order: headers decoded (RFC
// 2047) and unfolded, MIME headers of parts too, with the decoded file name of
// attachments; text parts decoded to UTF-8, HTML as text and then each of its
// link targets; messages inside; what files reads, unless it is nil. A text longer than textPiece comes in pieces
// that overlap. yield stops it by returning false. Errors are those of r and files, and of ctx.
func (m *Meta) Texts(ctx context.Context, r Reader, files Files, yield func(Text) bool) error {
	x := &extractor{ctx: ctx, r: r, files: files, yield: yield}
	return x.message(m)
}

// HeaderTexts yields those texts of the message's own header that are kept in m, as
// Texts does, of the fields whose name, as spelled, is wanted; nil wants all. The file
// name of a message that is nothing but a file is among them.
func (m *Meta) HeaderTexts(want func(name string) bool, yield func(Text) bool) {
	for _, f := range m.Fields {
		if want != nil && !want(f.Name) {
			continue
		}
		if !yield(Text{Header: strings.ToLower(f.Name), Value: fieldText(f.Raw, f.Name != "")}) {
			return
		}
	}
	if name, field := m.Root.fileName(); name != "" && (want == nil || want(field)) {
		yield(Text{Header: field, Value: name})
	}
}

// extractor runs Texts.
type extractor struct {
	ctx     context.Context
	r       Reader
	files   Files // nil: no files are read
	yield   func(Text) bool
	stopped bool
	nested  int // encoded messages inside each other
	read    int // files

	tasks []task
}

// task is a range of the message to be read, in the order of their places.
type task struct {
	at   Range
	part *Part
	kind taskKind
	text Text // what its texts have in common
}

type taskKind uint8

const (
	readHeader taskKind = iota
	readText
	readHTML
	readFile
	readMessage // one that is hidden under a transfer encoding
)

func (x *extractor) emit(t Text) bool {
	if !x.stopped && x.ctx.Err() == nil && !x.yield(t) {
		x.stopped = true
	}
	return !x.stopped && x.ctx.Err() == nil
}

func (x *extractor) message(m *Meta) error {
	x.tasks = x.tasks[:0]
	if block, ok := m.HeaderBlock(); ok {
		x.header(bytes.NewReader(block), task{part: m.Root})
	} else {
		x.add(task{at: m.Root.Header, part: m.Root, kind: readHeader})
	}
	x.body(m.Root)
	return x.run()
}

func (x *extractor) add(t task) {
	if t.at.Len > 0 {
		x.tasks = append(x.tasks, t)
	}
}

// body adds what is to be read of a part behind its header.
func (x *extractor) body(p *Part) {
	text := Text{Part: true, Body: true}
	switch {
	case p.Inner != nil && encoded(p):
		x.add(task{at: p.Body, part: p, kind: readMessage})
	case p.Inner != nil:
		x.add(task{at: p.Inner.Header, part: p.Inner, kind: readHeader, text: text})
		x.body(p.Inner)
	case len(p.Parts) > 0:
		for _, c := range p.Parts {
			x.add(task{at: c.Header, part: c, kind: readHeader, text: Text{Part: true}})
			x.body(c)
		}
	case p.Type == "text" && p.Subtype == "html":
		x.add(task{at: p.Body, part: p, kind: readHTML, text: Text{Body: true}})
	case p.Type == "text" || p.Type == "message" || p.Multipart():
		x.add(task{at: p.Body, part: p, kind: readText, text: Text{Body: true}})
	case x.reads(p):
		x.add(task{at: p.Body, part: p, kind: readFile, text: Text{Body: true}})
	}
}

// reads tells whether a part is a file that is read by files.
func (x *extractor) reads(p *Part) bool {
	if x.files == nil || x.read == maxFiles {
		return false
	}
	name, _ := p.fileName()
	if !x.files.Reads(p.Type+"/"+p.Subtype, name) {
		return false
	}
	x.read++
	return true
}

func encoded(p *Part) bool { return p.Encoding == "base64" || p.Encoding == "quoted-printable" }

// run reads the tasks, those that lie near each other with one Open.
func (x *extractor) run() error {
	tasks := x.tasks
	for len(tasks) > 0 {
		n := 1
		for n < len(tasks) && tasks[n].at.Off-tasks[n-1].at.End() <= skipGap {
			n++
		}
		if err := x.runAdjacent(tasks[:n]); err != nil {
			return err
		}
		if x.stopped {
			return nil
		}
		tasks = tasks[n:]
	}
	return x.ctx.Err()
}

func (x *extractor) runAdjacent(tasks []task) (err error) {
	off := tasks[0].at.Off
	r, err := x.r.Open(x.ctx, off, tasks[len(tasks)-1].at.End()-off)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := r.Close(); err == nil && !x.stopped {
			err = cerr
		}
	}()
	for _, t := range tasks {
		if _, err := io.CopyN(io.Discard, r, t.at.Off-off); err != nil {
			return err
		}
		in := &io.LimitedReader{R: r, N: t.at.Len}
		if err := x.do(t, in); err != nil {
			return err
		}
		if x.stopped || x.ctx.Err() != nil {
			return x.ctx.Err()
		}
		off = t.at.End() - in.N
	}
	return nil
}

func (x *extractor) do(t task, r io.Reader) error {
	switch t.kind {
	case readHeader:
		return x.header(r, t)
	case readHTML:
		return x.html(r, t)
	case readFile:
		return x.file(r, t)
	case readMessage:
		return x.encodedMessage(r, t)
	}
	return x.text(textReader(t.part, r), t.text)
}

// header yields the fields of a header block. What lies beyond the usual bound of one is text of no field.
func (x *extractor) header(r io.Reader, t task) error {
	block, err := io.ReadAll(io.LimitReader(r, int64(Limits{}.withDefaults().HeaderBytes)))
	if err != nil {
		return err
	}
	for name, raw := range fields(block) {
		t.text.Header = string(bytes.ToLower(name))
		t.text.Value = fieldText(raw, len(name) > 0)
		if !x.emit(t.text) {
			return nil
		}
	}
	if name, field := t.part.fileName(); name != "" {
		t.text.Header, t.text.Value = field, name
		if !x.emit(t.text) {
			return nil
		}
	}
	t.text.Header = ""
	return x.text(charsetReader("", r), t.text)
}

// fieldText returns the decoded value of a field, or the whole line of what is
// none. A fold counts as one space, whether it was made with one or with a tab.
func fieldText(raw []byte, named bool) string {
	if named {
		_, raw, _ = bytes.Cut(raw, []byte{':'})
	}
	if bytes.IndexByte(raw[:len(bytes.TrimRight(raw, "\r\n"))], '\n') >= 0 {
		raw = bytes.ReplaceAll(raw, []byte("\n\t"), []byte("\n "))
	}
	return DecodeHeader(unfold(raw))
}

// text yields decoded text in pieces.
func (x *extractor) text(r io.Reader, t Text) error {
	p := pieces{x: x, text: t}
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && !p.write(string(buf[:n])) {
			return nil
		}
		if err == io.EOF {
			p.flush()
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (x *extractor) html(r io.Reader, t task) error {
	p := pieces{x: x, text: t.text}
	var links []string
	size := 0
	err := htmlText(textReader(t.part, r), p.write, func(target string) bool {
		if size += len(target); size > textPiece {
			t.text.Value = target
			return x.emit(t.text)
		}
		links = append(links, target)
		return true
	})
	if err != nil {
		return err
	}
	p.flush()
	for _, target := range links {
		t.text.Value = target
		if !x.emit(t.text) {
			break
		}
	}
	return nil
}

func (x *extractor) file(r io.Reader, t task) error {
	name, _ := t.part.fileName()
	text, err := x.files.Text(x.ctx, t.part.Type+"/"+t.part.Subtype, name, t.part.Decode(r), func() (io.ReadCloser, error) {
		raw, err := x.r.Open(x.ctx, t.at.Off, t.at.Len)
		if err != nil {
			return nil, err
		}
		return decoded{t.part.Decode(raw), raw}, nil
	})
	if err != nil {
		return err
	}
	return x.text(strings.NewReader(text), t.text)
}

// decoded is a file of which what is closed is what it is decoded from.
type decoded struct {
	io.Reader
	io.Closer
}

// How far messages under a transfer encoding are looked into.
const (
	maxEncodedMessages = 4
	maxEncodedSize     = 32 << 20
)

// encodedMessage looks into a message that has a transfer encoding (RFC 6532
// section 3.7 allows it for message/global).
func (x *extractor) encodedMessage(r io.Reader, t task) error {
	if x.nested == maxEncodedMessages {
		return nil
	}
	content, err := io.ReadAll(io.LimitReader(transferReader(t.part.Encoding, r), maxEncodedSize))
	if err != nil {
		return err
	}
	m, err := Parse(bytes.NewReader(content), Limits{})
	if err != nil {
		return err
	}
	inner := extractor{ctx: x.ctx, r: memory(content), files: x.files, read: x.read, nested: x.nested + 1, yield: func(t Text) bool {
		t.Body = t.Body || !t.Part
		t.Part = true
		return x.emit(t)
	}}
	err = inner.message(m)
	x.read = inner.read
	return err
}

// memory is a Reader of what is in memory.
type memory []byte

func (b memory) Open(_ context.Context, off, n int64) (io.ReadCloser, error) {
	off = min(off, int64(len(b)))
	return io.NopCloser(bytes.NewReader(b[off:min(int64(len(b)), off+n)])), nil
}

// pieces cuts a long text into Texts that overlap.
type pieces struct {
	x    *extractor
	text Text
	buf  []byte
	said int // octets of buf that the piece before had already
}

func (p *pieces) write(s string) bool {
	p.buf = append(p.buf, s...)
	if len(p.buf) < textPiece {
		return true
	}
	if !p.emit() {
		return false
	}
	from := len(p.buf) - textOverlap
	for !utf8.RuneStart(p.buf[from]) && from > 0 {
		from--
	}
	p.buf = append(p.buf[:0], p.buf[from:]...)
	p.said = len(p.buf)
	return true
}

func (p *pieces) emit() bool {
	p.text.Value = string(p.buf)
	return p.x.emit(p.text)
}

func (p *pieces) flush() {
	if len(p.buf) > p.said {
		p.emit()
	}
}

// textReader returns the decoded text of a text part, in UTF-8, from its body.
func textReader(p *Part, body io.Reader) io.Reader {
	return charsetReader(p.Param("charset"), transferReader(p.Encoding, body))
}
