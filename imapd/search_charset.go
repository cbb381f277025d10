package imapd

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// charset is what the strings of a search can be in.
type charset struct {
	name     string
	encoding encoding.Encoding // nil: UTF-8
}

// charsets are told to a client that asks for another (RFC 3501 section 7.1, BADCHARSET).
var charsets = []charset{
	{"US-ASCII", nil},
	{"UTF-8", nil},
	{"ISO-8859-1", charmap.ISO8859_1},
	{"ISO-8859-2", charmap.ISO8859_2},
	{"ISO-8859-3", charmap.ISO8859_3},
	{"ISO-8859-4", charmap.ISO8859_4},
	{"ISO-8859-5", charmap.ISO8859_5},
	{"ISO-8859-6", charmap.ISO8859_6},
	{"ISO-8859-7", charmap.ISO8859_7},
	{"ISO-8859-8", charmap.ISO8859_8},
	{"ISO-8859-9", charmap.ISO8859_9},
	{"ISO-8859-10", charmap.ISO8859_10},
	{"ISO-8859-13", charmap.ISO8859_13},
	{"ISO-8859-14", charmap.ISO8859_14},
	{"ISO-8859-15", charmap.ISO8859_15},
	{"ISO-8859-16", charmap.ISO8859_16},
	{"KOI8-R", charmap.KOI8R},
	{"KOI8-U", charmap.KOI8U},
	{"WINDOWS-1250", charmap.Windows1250},
	{"WINDOWS-1251", charmap.Windows1251},
	{"WINDOWS-1252", charmap.Windows1252},
	{"WINDOWS-1253", charmap.Windows1253},
	{"WINDOWS-1254", charmap.Windows1254},
	{"WINDOWS-1255", charmap.Windows1255},
	{"WINDOWS-1256", charmap.Windows1256},
	{"WINDOWS-1257", charmap.Windows1257},
	{"WINDOWS-1258", charmap.Windows1258},
	{"ISO-2022-JP", japanese.ISO2022JP},
	{"SHIFT_JIS", japanese.ShiftJIS},
	{"EUC-JP", japanese.EUCJP},
	{"EUC-KR", korean.EUCKR},
	{"GBK", simplifiedchinese.GBK},
	{"GB2312", simplifiedchinese.GBK}, // of which it is a part
	{"GB18030", simplifiedchinese.GB18030},
	{"BIG5", traditionalchinese.Big5},
}

// defaultCharset is that of a search that names none. Octets beyond ASCII are
// taken for UTF-8, which is what clients that forget the charset send.
var defaultCharset = &charsets[0]

// findCharset returns a charset by name, nil if it is not known.
func findCharset(name string) *charset {
	if strings.EqualFold(name, "UTF8") || strings.EqualFold(name, "ASCII") {
		return &charsets[1]
	}
	for i := range charsets {
		if strings.EqualFold(charsets[i].name, name) {
			return &charsets[i]
		}
	}
	return nil
}

func charsetNames() string {
	names := make([]string, len(charsets))
	for i, c := range charsets {
		names[i] = c.name
	}
	return strings.Join(names, " ")
}

// decode returns s in UTF-8.
func (c *charset) decode(s string) (string, bool) {
	if c.encoding == nil {
		return s, utf8.ValidString(s)
	}
	out, err := c.encoding.NewDecoder().String(s)
	return out, err == nil && !strings.ContainsRune(out, utf8.RuneError) // which stands for what is none
}
