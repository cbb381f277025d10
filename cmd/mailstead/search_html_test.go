package main

import (
	"fmt"
	"strings"
)

// html makes a text in HTML. It is looked at as people read it: white space is one space, what begins and ends on a
// line of its own is a line, and tags within words are nothing. Where links lead is looked at by itself.
func (w *writer) html() *entity {
	lang := w.language()
	c := utf8Charset
	if len(lang.charsets) > 0 && w.IntN(4) > 0 {
		c = pick(w.Rand, lang.charsets)
	}
	h := page{writer: w, charset: c, entity: &entity{}}
	h.out.WriteString("<!DOCTYPE html>\r\n<html><head>")
	if w.IntN(2) == 0 {
		h.out.WriteString("<title>")
		h.line(lang, 3, false)
		h.out.WriteString("</title>")
	}
	h.out.WriteString("<meta name=x content='" + w.decoy(h.entity) + "'>")
	h.out.WriteString("<style type=\"text/css\">p." + w.decoy(h.entity) + " > a { color: red }</style></head>\r\n<body>\r\n")
	for range 1 + w.IntN(8) {
		h.block(lang)
	}
	h.out.WriteString("</body></html>\r\n")

	octets, ok := c.encode(h.out.String())
	if !ok {
		c, octets = utf8Charset, []byte(h.out.String())
	}
	e := h.entity
	contentType := w.contentType("text/html", c)
	e.fields = []field{{name: "Content-Type", raw: contentType, text: contentType}}
	e.passages = append([]passage{{where: inBody, text: strings.Join(h.lines, "\n")}}, h.links...)
	w.encode(e, octets)
	return e
}

// page is an HTML document that is being written.
type page struct {
	*writer
	*entity
	charset charset
	out     strings.Builder
	lines   []string
	links   []passage
}

// block writes something on lines of its own.
func (h *page) block(lang language) {
	switch h.IntN(9) {
	case 0:
		h.out.WriteString("<script>if (a < b) { say('" + h.decoy(h.entity) + "') }</script>")
	case 1:
		h.out.WriteString("<!-- " + h.decoy(h.entity) + " <p>no</p> -->")
	case 2:
		h.out.WriteString("<table border=0><tr>")
		for range 1 + h.IntN(3) {
			h.out.WriteString("<td>")
			h.line(lang, 2, true)
			h.out.WriteString("</td>" + pick(h.Rand, []string{"", "\r\n"}))
		}
		h.out.WriteString("</tr></table>")
	case 3:
		target := link(h.Rand)
		h.links = append(h.links, passage{where: inBody, text: target})
		h.out.WriteString("<p><a title='" + h.decoy(h.entity) + "' href=\"" + strings.ReplaceAll(target, "&", "&amp;") + "\">")
		h.line(lang, 2, true)
		h.out.WriteString("</a></p>")
	case 4:
		h.out.WriteString("<div>")
		h.line(lang, 4, true)
		h.out.WriteString(pick(h.Rand, []string{"<br>", "<br/>", "<BR CLEAR=all>"}))
		h.line(lang, 4, true)
		h.out.WriteString("</div>\r\n")
	case 5:
		h.out.WriteString("<ul>\r\n<li>")
		h.line(lang, 3, true)
		h.out.WriteString("<li>")
		h.line(lang, 3, true)
		h.out.WriteString("</ul>")
	default:
		tag := pick(h.Rand, []string{"p", "P", "div", "h1", "blockquote", "pre", "center"})
		h.out.WriteString("<" + tag + " style='color: " + h.decoy(h.entity) + "'>")
		h.line(lang, 1+h.IntN(30), true)
		h.out.WriteString("</" + tag + ">" + pick(h.Rand, []string{"", "\r\n", "\t"}))
	}
}

// line writes some words, with tags within them where there may be some.
func (h *page) line(lang language, words int, tags bool) {
	text := strings.Join(strings.Fields(lang.sentence(h.Rand, words)), " ")
	if h.IntN(10) == 0 {
		text = strings.Replace(text, " ", "\u00a0", 1)
	}
	if text == "" {
		return
	}
	h.lines = append(h.lines, text)
	h.out.WriteString(pick(h.Rand, []string{"", "", " ", "\r\n  "}))
	var open []string
	for _, r := range text {
		switch n := h.IntN(60); {
		case !tags:
		case n == 0 && len(open) < 3:
			tag := pick(h.Rand, []string{"b", "i", "span", "font", "em", "strong", "u", "code"})
			open = append(open, tag)
			h.out.WriteString("<" + tag + pick(h.Rand, []string{"", " class=x", "\r\nid='y'"}) + ">")
		case n == 1 && len(open) > 0:
			h.out.WriteString("</" + open[len(open)-1] + ">")
			open = open[:len(open)-1]
		case n == 2:
			h.out.WriteString(pick(h.Rand, []string{"<wbr>", "<!--x-->", "<span></span>"}))
		}
		h.character(r)
	}
	for i := range open {
		h.out.WriteString("</" + open[len(open)-1-i] + ">")
	}
	h.out.WriteString(pick(h.Rand, []string{"", "", "\r\n"}))
}

// named are entities that have a name.
var named = map[rune]string{
	'<': "lt", '>': "gt", '&': "amp", '"': "quot", '\u00a0': "nbsp", 'ä': "auml", 'ö': "ouml", 'ü': "uuml", 'ß': "szlig", 'é': "eacute", 'È': "Egrave",
	'€': "euro", '…': "hellip", '–': "ndash", 'σ': "sigma", 'ς': "sigmaf", 'Ω': "Omega", '½': "frac12", '«': "laquo",
}

// character writes one, as itself or as an entity.
func (h *page) character(r rune) {
	_, known := h.charset.encode(string(r))
	name := named[r]
	switch {
	case r == ' ':
		h.out.WriteString(pick(h.Rand, []string{" ", " ", " ", "  ", "\r\n", "\t"}))
	case name != "" && (r < 0x80 || h.IntN(2) == 0):
		h.out.WriteString("&" + name + ";")
	case !known || h.IntN(40) == 0:
		fmt.Fprintf(&h.out, pick(h.Rand, []string{"&#%d;", "&#x%x;", "&#X%X;"}), r)
	default:
		h.out.WriteRune(r)
	}
}
