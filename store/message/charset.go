package message

import (
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/transform"
)

// charsetOf returns the encoding that a label names, nil for UTF-8, for ASCII
// and for what is not known: those are read leniently. Labels mean what
// browsers take them for (iso-8859-1 is windows-1252), as the mail of the
// world wants it, and else what IANA says.
func charsetOf(label string) encoding.Encoding {
	label = strings.ToLower(strings.Trim(label, " \t\"'"))
	switch label {
	case "", "utf-8", "utf8", "us-ascii", "ascii", "unknown-8bit", "x-unknown":
		return nil
	}
	if name := codePages[label]; name != "" {
		label = name
	}
	e, err := htmlindex.Get(label)
	if err != nil {
		if e, err = ianaindex.MIME.Encoding(label); err != nil {
			return nil
		}
	}
	if e == nil {
		return nil
	}
	if name, err := htmlindex.Name(e); err == nil && (name == "utf-8" || name == "replacement" || name == "x-user-defined") {
		return nil
	}
	return e
}

// codePages are charsets by names of Windows that neither browsers nor IANA know, and mail has.
var codePages = map[string]string{
	"cp874": "windows-874", "cp932": "windows-31j", "cp949": "euc-kr", "cp950": "big5",
}

// decodeCharset decodes text to UTF-8.
func decodeCharset(label string, text []byte) string {
	e := charsetOf(label)
	if e == nil {
		return lenientUTF8(string(text))
	}
	out, err := e.NewDecoder().Bytes(text)
	if err != nil {
		return lenientUTF8(string(text))
	}
	return string(out)
}

// charsetReader decodes r to UTF-8.
func charsetReader(label string, r io.Reader) io.Reader {
	if e := charsetOf(label); e != nil {
		return transform.NewReader(r, e.NewDecoder())
	}
	return transform.NewReader(r, lenient{})
}

// lenientUTF8 makes valid UTF-8 of what should be: other octets are taken for windows-1252.
func lenientUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var out strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			r = charmap.Windows1252.DecodeByte(s[0])
		}
		out.WriteRune(r)
		s = s[n:]
	}
	return out.String()
}

// lenient is lenientUTF8 as a transformer.
type lenient struct{ transform.NopResetter }

func (lenient) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		if c := src[nSrc]; c < utf8.RuneSelf {
			if nDst == len(dst) {
				return nDst, nSrc, transform.ErrShortDst
			}
			dst[nDst] = c
			nDst++
			nSrc++
			continue
		}
		if !atEOF && !utf8.FullRune(src[nSrc:]) {
			return nDst, nSrc, transform.ErrShortSrc
		}
		r, n := utf8.DecodeRune(src[nSrc:])
		if r == utf8.RuneError && n == 1 {
			r = charmap.Windows1252.DecodeByte(src[nSrc])
		}
		if nDst+utf8.RuneLen(r) > len(dst) {
			return nDst, nSrc, transform.ErrShortDst
		}
		nDst += utf8.EncodeRune(dst[nDst:], r)
		nSrc += n
	}
	return nDst, nSrc, nil
}
