package index

import (
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/blevesearch/snowballstem"
	"github.com/blevesearch/snowballstem/danish"
	"github.com/blevesearch/snowballstem/dutch"
	"github.com/blevesearch/snowballstem/english"
	"github.com/blevesearch/snowballstem/finnish"
	"github.com/blevesearch/snowballstem/french"
	"github.com/blevesearch/snowballstem/german"
	"github.com/blevesearch/snowballstem/hungarian"
	"github.com/blevesearch/snowballstem/italian"
	"github.com/blevesearch/snowballstem/norwegian"
	"github.com/blevesearch/snowballstem/portuguese"
	"github.com/blevesearch/snowballstem/romanian"
	"github.com/blevesearch/snowballstem/russian"
	"github.com/blevesearch/snowballstem/spanish"
	"github.com/blevesearch/snowballstem/swedish"
	"github.com/blevesearch/snowballstem/turkish"
	"golang.org/x/text/unicode/norm"
)

// Likeness is how like a query's string what it finds has to be (RFC 6203). Each
// finds all that those before it do.
//
// Words are compared one by one, whatever their order, and all of the string's have to be found.
type Likeness uint8

const (
	Exactly   Likeness = iota // the string is there
	SameWords                 // all its words are
	SameForms                 // or their forms: by stem, with other accents, or gone on with
	OneSlip                   // or words that one letter makes of them: another, one more, one less, or two that changed places
	TwoSlips                  // or two letters

	Loosest = TwoSlips
)

// How long a word has to be, in letters, for it to be found by less than itself: else much is like it.
const (
	minBeginning = 3
	minOneSlip   = 4
	minTwoSlips  = 8
	maxSlipping  = 64 // at most, for what comparing takes

	maxLike = 8 * maxSlipping // octets of a word that is compared with another
)

// maxLikeWords bounds how many words of a string are compared: the longest are.
const maxLikeWords = 16

// likeWord is a word of a query that is compared with others.
type likeWord struct {
	text    string // normalised
	first   string // the first letter, with which all that is like it begins
	letters []rune // without marks
	stems   []string
}

// likeWordsOf returns the words of a normalised string.
func likeWordsOf(pattern string) []likeWord {
	var texts []string
	cut(pattern, func(_ int, w string) {
		if !slices.Contains(texts, w) && len(w) <= maxWord {
			texts = append(texts, w)
		}
	})
	if len(texts) > maxLikeWords {
		slices.SortStableFunc(texts, func(a, b string) int { return len(b) - len(a) })
		texts = texts[:maxLikeWords]
	}
	words := make([]likeWord, len(texts))
	for i, w := range texts {
		_, n := utf8.DecodeRuneInString(w)
		words[i] = likeWord{text: w, first: w[:n], letters: lettersOf(nil, w)}
		if len(words[i].letters) >= minBeginning && len(words[i].letters) <= maxSlipping {
			words[i].stems = stemsOf(w)
		}
	}
	return words
}

// lettersOf appends the characters of a normalised word, without the marks upon them.
func lettersOf(letters []rune, word string) []rune {
	for _, r := range word {
		if r < utf8.RuneSelf || !unicode.IsMark(r) {
			letters = append(letters, r)
		}
	}
	return letters
}

// is tells whether another normalised word is as like this one as has to be.
func (w *likeWord) is(other string, like Likeness) bool {
	if other == w.text {
		return true
	}
	if like < SameForms || !strings.HasPrefix(other, w.first) || len(other) > maxLike {
		return false
	}
	var room [maxSlipping]rune
	letters := lettersOf(room[:0], other)
	same := 0 // so many letters at the beginning
	for same < len(letters) && same < len(w.letters) && letters[same] == w.letters[same] {
		same++
	}
	switch {
	case same == len(letters) && same == len(w.letters),
		same == len(w.letters) && same >= minBeginning,
		same >= minBeginning && w.stem(other, letters):
		return true
	case like < OneSlip || len(w.letters) < minOneSlip || len(w.letters) > maxSlipping:
		return false
	case like == OneSlip || len(w.letters) < minTwoSlips:
		return within(w.letters[same:], letters[same:], 1)
	}
	return within(w.letters[same:], letters[same:], 2)
}

// within tells whether no more than some slips make b of a.
func within(a, b []rune, slips int) bool {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	switch {
	case len(a) == 0 || len(b) == 0:
		return len(a)+len(b) <= slips
	case slips == 0:
		return false
	}
	slips--
	return within(a[1:], b[1:], slips) || within(a[1:], b, slips) || within(a, b[1:], slips) ||
		len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0] && within(a[2:], b[2:], slips)
}

// stem tells whether in any language both words are forms of one.
func (w *likeWord) stem(other string, letters []rune) bool {
	if len(w.stems) == 0 || len(letters) > maxSlipping {
		return false
	}
	lower := lowered(other)
	for i, language := range languages() {
		if stemOf(language, lower) == w.stems[i] {
			return true
		}
	}
	return false
}

// languages are those whose forms of words are known. Of a single word it is not known of which it is, so all are tried.
var languages = sync.OnceValue(func() []func(*snowballstem.Env) bool {
	return []func(*snowballstem.Env) bool{
		danish.Stem, dutch.Stem, english.Stem, finnish.Stem, french.Stem, german.Stem, hungarian.Stem, italian.Stem,
		norwegian.Stem, portuguese.Stem, romanian.Stem, russian.Stem, spanish.Stem, swedish.Stem, turkish.Stem,
	}
})

// stemsOf returns what is the same in all forms of a normalised word, in each language.
func stemsOf(word string) []string {
	lower := lowered(word)
	stems := make([]string, len(languages()))
	for i, language := range languages() {
		stems[i] = stemOf(language, lower)
	}
	return stems
}

func stemOf(language func(*snowballstem.Env) bool, word string) string {
	env := snowballstem.NewEnv(word)
	language(env)
	return env.Current()
}

// lowered returns a normalised word as the rules of languages are written for.
func lowered(word string) string { return strings.ToLower(norm.NFC.String(word)) }
