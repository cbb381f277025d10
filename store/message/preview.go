package message

import (
	"bytes"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// previewLen is how many characters a preview has at most (RFC 8970 section 3.3).
const previewLen = 200

// What is kept of a part to make a preview of: HTML often begins with many kilobytes of style.
const (
	plainSample = 8 << 10
	htmlSample  = 64 << 10
)

// sample is the beginning of a text part as it stands.
type sample struct {
	part  *Part
	group *Part // the multipart/alternative that part is in
	order int   // of the parts sampled
	limit int
	raw   []byte
}

func (s *sample) add(line []byte) {
	if n := s.limit - len(s.raw); n > 0 {
		s.raw = append(s.raw, line[:min(n, len(line))]...)
	}
}

// sampleOf returns where the body of p is sampled, nil where it is not: the
// first plain and the first HTML text that is no attachment are.
func (w *walker) sampleOf(p *Part) *sample {
	if p.Type != "text" || p.Disposition == "attachment" {
		return nil
	}
	var s *sample
	limit := plainSample
	switch p.Subtype {
	case "plain":
		s = &w.samples[0]
	case "html":
		s, limit = &w.samples[1], htmlSample
	}
	if s == nil || s.part != nil {
		return nil
	}
	s.part, s.limit, s.order = p, limit, w.parts
	if n := len(w.open); n > 1 && w.open[n-2].part.Subtype == "alternative" {
		s.group = w.open[n-2].part
	}
	return s
}

// preview makes a preview of the samples: of the first text, or of the plain
// form of it; of the other where that is empty.
func (w *walker) preview() string {
	plain, html := &w.samples[0], &w.samples[1]
	first, second := plain, html
	if html.part != nil && (plain.part == nil || html.order < plain.order && plain.group != html.group) {
		first, second = html, plain
	}
	if text := first.preview(); text != "" {
		return text
	}
	return second.preview()
}

func (s *sample) preview() string {
	if s.part == nil {
		return ""
	}
	r := textReader(s.part, bytes.NewReader(s.raw))
	var p previewer
	if s.part.Subtype == "html" {
		htmlText(r, p.add, func(string) bool { return true }) // reads from memory: no error to be had
		return p.String()
	}
	text, _ := io.ReadAll(r) // from memory
	for _, quotes := range []bool{false, true} {
		p = previewer{}
		for line := range strings.Lines(string(text)) {
			if strings.TrimRight(line, "\r\n") == "-- " {
				break // a signature (RFC 3676 section 4.3)
			}
			if line[0] == '>' && !quotes {
				continue
			}
			if !p.add(line) {
				break
			}
		}
		if p.n > 0 {
			break
		}
	}
	return p.String()
}

// previewer collects characters up to previewLen: white space collapsed,
// and without the invisible ones that newsletters pad their first lines with.
type previewer struct {
	out   strings.Builder
	n     int
	space bool
}

func (p *previewer) add(s string) bool {
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			p.space = p.n > 0
			continue
		case r == utf8.RuneError, r == '\u034f', unicode.In(r, unicode.Cc, unicode.Cf):
			continue
		}
		if p.space {
			if p.n+1 >= previewLen {
				return false
			}
			p.out.WriteByte(' ')
			p.n++
			p.space = false
		}
		if p.n == previewLen {
			return false
		}
		p.out.WriteRune(r)
		p.n++
	}
	return true
}

func (p *previewer) String() string { return p.out.String() }
