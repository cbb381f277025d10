package message

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"
)

// readSize is the longest line that is looked at as a whole; what is longer is no boundary.
const readSize = 64 << 10

// Parse reads a message to its end in one pass and describes it. Its only errors are those of r.
//
// The walk goes line by line and keeps the entities that are open, from the
// message down to the part that the line is in. A header ends at its empty
// line or at a boundary, a body at a boundary of a multipart around it.
func Parse(r io.Reader, l Limits) (*Meta, error) {
	w := walkers.Get().(*walker)
	defer w.release()
	w.start(r, l.withDefaults())
	if err := w.walk(); err != nil {
		return nil, err
	}
	return w.finish(), nil
}

var walkers = sync.Pool{New: func() any { return &walker{in: bufio.NewReaderSize(nil, readSize)} }}

// entity is a part, or a message, whose end has not been seen.
type entity struct {
	part     *Part
	message  *Envelope // to be filled from its header, if it is a message
	inHeader bool
	boundary string // of a multipart whose last boundary has not been seen
	digest   bool   // of a multipart/digest: its parts are messages where nothing is said
	lines    int64  // line ends before its body
	preview  *sample
}

// walker is the state of one Parse.
type walker struct {
	in     *bufio.Reader
	limits Limits

	off   int64 // of the line at hand
	lines int64 // line ends before it
	eol   int64 // octets of the one right before it; 0 in the middle of a line
	cr    bool  // the octet before off is a CR

	open      []entity
	head      []byte // the header block that is being read, of the innermost entity
	headSize  int64  // its octets, kept or not
	parts     int    // described so far
	described int    // octets of descriptions so far

	meta    *Meta
	samples [2]sample // text for the preview: plain and HTML
}

func (w *walker) start(r io.Reader, l Limits) {
	w.in.Reset(r)
	w.limits = l
	w.meta = &Meta{Root: &Part{}}
	w.push(entity{part: w.meta.Root, message: &w.meta.Envelope, inHeader: true})
}

// release puts w back to be used again, without what it refers to and without buffers grown by one large header.
func (w *walker) release() {
	w.in.Reset(nil)
	clear(w.open)
	next := walker{in: w.in, open: w.open[:0]}
	if cap(w.head) <= 64<<10 {
		next.head = w.head[:0]
	}
	for i := range next.samples {
		next.samples[i].raw = w.samples[i].raw[:0] // never grown beyond its limit
	}
	*w = next
	walkers.Put(w)
}

func (w *walker) push(e entity) {
	w.open = append(w.open, e)
	w.parts++
	w.head, w.headSize = w.head[:0], 0
}

func (w *walker) top() *entity { return &w.open[len(w.open)-1] }

func (w *walker) walk() error {
	whole := true // the line at hand begins a line
	for {
		line, err := w.in.ReadSlice('\n')
		if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if len(line) > 0 {
			w.line(line, whole, whole && !errors.Is(err, bufio.ErrBufferFull))
			w.advance(line)
		}
		if err == io.EOF {
			return nil
		}
		whole = err == nil
	}
}

func (w *walker) advance(line []byte) {
	w.off += int64(len(line))
	switch n := len(line); {
	case line[n-1] != '\n':
		w.eol = 0
	case n > 1 && line[n-2] == '\r' || n == 1 && w.cr:
		w.lines++
		w.eol = 2
	default:
		w.lines++
		w.eol = 1
	}
	w.cr = line[len(line)-1] == '\r'
}

// line takes a line, or a piece of one. first: it begins a line; whole: it is all of one.
func (w *walker) line(line []byte, first, whole bool) {
	if whole && line[0] == '-' && len(line) > 2 && line[1] == '-' && w.boundary(line) {
		return
	}
	top := w.top()
	if !top.inHeader {
		if top.preview != nil {
			top.preview.add(line)
		}
		return
	}
	w.headSize += int64(len(line))
	if keep := w.limits.HeaderBytes - len(w.head); keep > 0 {
		w.head = append(w.head, line[:min(keep, len(line))]...)
	}
	if first && emptyLine(line) {
		w.endHeader(w.off + int64(len(line)))
	}
}

// boundary takes a line that begins with "--", if it is a boundary of one of
// the open multiparts, the innermost first (RFC 2046 section 5.1.1). Only
// white space may follow, so that boundaries may be prefixes of each other.
func (w *walker) boundary(line []byte) bool {
	text := bytes.TrimRight(line[2:], " \t\r\n")
	for i := len(w.open) - 1; i >= 0; i-- {
		b := w.open[i].boundary
		if b == "" || len(text) < len(b) || string(text[:len(b)]) != b {
			continue
		}
		switch string(text[len(b):]) {
		case "--":
			w.closeTo(i)
			w.open[i].boundary = ""
			return true
		case "":
			if w.parts >= w.limits.Parts {
				return false
			}
			w.closeTo(i)
			w.openPart(i, w.off+int64(len(line)))
			return true
		}
	}
	return false
}

func (w *walker) openPart(i int, off int64) {
	p := &Part{Header: Range{Off: off}}
	parent := &w.open[i]
	parent.part.Parts = append(parent.part.Parts, p)
	w.push(entity{part: p, inHeader: true})
}

// closeTo ends all entities inside of the i-th at a boundary. The line end
// before it belongs to it, unless the part has no body that it could be of.
func (w *walker) closeTo(i int) {
	if len(w.open) <= i+1 {
		return
	}
	for w.top().inHeader {
		w.endHeader(w.off)
	}
	end := max(w.open[i+1].part.Body.Off, w.off-w.eol)
	w.endAt(i+1, end)
}

// endAt ends the entities from the i-th on at end.
func (w *walker) endAt(i int, end int64) {
	for k := range w.open[i:] {
		e := &w.open[i+k]
		if k > 0 {
			e.part.Header.clamp(end)
		}
		e.part.Body.clamp(end)
		e.part.Body.Len = end - e.part.Body.Off
		if e.part.Body.Len > 0 {
			e.part.Lines = w.lines - e.lines
			if end < w.off {
				e.part.Lines--
			}
		}
	}
	clear(w.open[i:])
	w.open = w.open[:i]
}

// finish ends what is open at the end of the message.
func (w *walker) finish() *Meta {
	for w.top().inHeader {
		w.endHeader(w.off)
	}
	w.endAt(0, w.off)
	w.meta.Size = w.off
	w.meta.Preview = w.preview()
	return w.meta
}
