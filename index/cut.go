package index

import (
	"sync"
	"unicode"
	"unicode/utf8"
)

// Normalised text is cut into words: runs of letters, digits and the marks upon
// them; a Han character or a kana, with its marks, is a word of its own, for no
// spaces tell where words of those begin. All else lies between words.

// class says what a character is to the cutting of words.
type class uint8

const (
	between class = iota
	letter        // or digit
	mark
	single // a word of its own
)

func classOf(r rune) class {
	switch {
	case r >= 0x3041 && r <= 0x3096, r >= 0x309d && r <= 0x309f, r >= 0x30a1 && r <= 0x30fa, r >= 0x30fd && r <= 0x30ff,
		r >= 0x31f0 && r <= 0x31ff, r >= 0x3400 && r <= 0x4dbf, r >= 0x4e00 && r <= 0x9fff, r >= 0xf900 && r <= 0xfaff,
		r >= 0x1b000 && r <= 0x1b16f, r >= 0x20000 && r <= 0x3ffff:
		return single
	case unicode.IsLetter(r), unicode.IsNumber(r):
		return letter
	case unicode.IsMark(r):
		return mark
	}
	return between
}

// classes is classOf for the characters of up to three octets in UTF-8.
var classes = sync.OnceValue(func() *[0x10000]class {
	var t [0x10000]class
	for r := range t {
		t[r] = classOf(rune(r))
	}
	return &t
})

// cut calls word for each word of normalised text, with where it begins.
func cut(text string, word func(at int, w string)) {
	const none = -1
	table := classes()
	begin, alone := none, false
	for i := 0; i < len(text); {
		r, n := rune(text[i]), 1
		var c class
		switch {
		case r < utf8.RuneSelf:
			c = table[r]
		default:
			if r, n = utf8.DecodeRuneInString(text[i:]); r < 0x10000 {
				c = table[r]
			} else {
				c = classOf(r)
			}
			if r == utf8.RuneError && n == 1 {
				c = between
			}
		}
		switch {
		case c == between:
			if begin != none {
				word(begin, text[begin:i])
				begin = none
			}
		case begin == none:
			begin, alone = i, c == single
		case c == single || c == letter && alone:
			word(begin, text[begin:i])
			begin, alone = i, c == single
		}
		i += n
	}
	if begin != none {
		word(begin, text[begin:])
	}
}

// marksAt returns how many octets of marks text begins with.
func marksAt(text string) int {
	for i, r := range text {
		if r == utf8.RuneError || classOf(r) != mark {
			return i
		}
	}
	return len(text)
}
