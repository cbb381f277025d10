package message

import (
	"io"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// htmlText writes the text of an HTML document to w, white space collapsed
// and blocks on lines of their own, and calls link for each link target. It
// ends without an error where the document does, and when w or link say so.
func htmlText(r io.Reader, w func(string) bool, link func(string) bool) error {
	z := html.NewTokenizer(r)
	out := collapser{w: w}
	hidden := false // inside script or style
	for {
		switch z.Next() {
		case html.ErrorToken:
			if err := z.Err(); err != io.EOF {
				return err
			}
			return nil
		case html.TextToken:
			if !hidden && !out.text(z.Text()) {
				return nil
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			a := atom.Lookup(name)
			hidden = a == atom.Script || a == atom.Style
			if (a == atom.A || a == atom.Area) && more {
				if target := attribute(z, "href"); target != "" && !link(target) {
					return nil
				}
			}
			if !inline[a] {
				out.line()
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			hidden = false
			if !inline[atom.Lookup(name)] {
				out.line()
			}
		}
	}
}

func attribute(z *html.Tokenizer, name string) string {
	value := ""
	for {
		key, v, more := z.TagAttr()
		if value == "" && string(key) == name {
			value = strings.TrimSpace(string(v))
		}
		if !more {
			return value
		}
	}
}

// inline elements do not end a word or a line; all others do.
var inline = map[atom.Atom]bool{
	atom.A: true, atom.Abbr: true, atom.Acronym: true, atom.B: true, atom.Bdo: true, atom.Big: true, atom.Cite: true,
	atom.Code: true, atom.Del: true, atom.Dfn: true, atom.Em: true, atom.Font: true, atom.I: true, atom.Ins: true,
	atom.Kbd: true, atom.Mark: true, atom.Q: true, atom.S: true, atom.Samp: true, atom.Small: true, atom.Span: true,
	atom.Strike: true, atom.Strong: true, atom.Sub: true, atom.Sup: true, atom.Tt: true, atom.U: true, atom.Var: true,
	atom.Wbr: true, atom.Nobr: true, atom.Bdi: true, atom.Data: true, atom.Time: true, atom.Label: true,
}

// collapser writes text with its white space collapsed.
type collapser struct {
	w       func(string) bool
	pending string // "", " " or "\n", to be written before the next text
	begun   bool
}

func (c *collapser) line() { c.pending = "\n" }

func (c *collapser) text(b []byte) bool {
	for len(b) > 0 {
		n := 0
		for n < len(b) && b[n] > ' ' {
			n++
		}
		if n == 0 {
			if c.pending == "" {
				c.pending = " "
			}
			b = b[1:]
			continue
		}
		word := string(b[:n])
		if c.begun && c.pending != "" {
			word = c.pending + word
		}
		c.begun, c.pending = true, ""
		if !c.w(word) {
			return false
		}
		b = b[n:]
	}
	return true
}
