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
// Words are compared one by one, whatever their order, and all of the string's have to be found. Of a string that has too many
// words for that, or too long ones, nothing is found but itself.
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

// maxLikeWords bounds how many words of a string are compared.
const maxLikeWords = 16

// comparedWord is a normalised word and what it is compared by, which is made when it is needed first.
type comparedWord struct {
	text    string
	letters []rune   // without marks
	stems   []string // in each language
}

// likeWord is a word of a query.
type likeWord struct {
	comparedWord
	first string // the first letter, with which all that is like it begins
}

// likeWordsOf returns the words of a normalised string that are to be compared; none where they are too many.
func likeWordsOf(pattern string) []likeWord {
	var words []likeWord
	tooMuch := false
	cut(pattern, func(_ int, w string) {
		tooMuch = tooMuch || len(w) > maxLike || len(words) > maxLikeWords
		if tooMuch || slices.ContainsFunc(words, func(known likeWord) bool { return known.text == w }) {
			return
		}
		_, n := utf8.DecodeRuneInString(w)
		words = append(words, likeWord{first: w[:n], comparedWord: comparedWord{text: w}})
	})
	if tooMuch || len(words) > maxLikeWords {
		return nil
	}
	for i := range words {
		if w := &words[i]; len(w.folded()) >= minBeginning {
			w.forms()
		}
	}
	return words
}

// lettersOf returns the characters of a normalised word, without the marks upon them.
func lettersOf(word string) []rune {
	letters := make([]rune, 0, len(word))
	for _, r := range word {
		if r < utf8.RuneSelf || !unicode.IsMark(r) {
			letters = append(letters, r)
		}
	}
	return letters
}

// folded returns the letters without the marks upon them.
func (w *comparedWord) folded() []rune {
	if w.letters == nil {
		w.letters = lettersOf(w.text)
	}
	return w.letters
}

// forms returns what is the same in all forms of the word, in each language. Of a single word it is not known of which it is.
func (w *comparedWord) forms() []string {
	if w.stems == nil {
		w.stems = stemsOf(w.text)
	}
	return w.stems
}

// is tells whether another word is as like this one as has to be.
func (w *likeWord) is(other *comparedWord, like Likeness) bool {
	if other.text == w.text {
		return true
	}
	if like < SameForms || !strings.HasPrefix(other.text, w.first) || len(other.text) > maxLike {
		return false
	}
	want, letters := w.letters, other.folded()
	same := 0 // so many letters at the beginning
	for same < len(letters) && same < len(want) && letters[same] == want[same] {
		same++
	}
	switch {
	case same == len(want) && (same == len(letters) || same >= minBeginning),
		same >= minBeginning && max(len(want), len(letters)) <= maxSlipping && sameForm(w.stems, other.forms()):
		return true
	case like < OneSlip || len(want) < minOneSlip || len(want) > maxSlipping:
		return false
	case like == OneSlip || len(want) < minTwoSlips:
		return within(want[same:], letters[same:], 1)
	}
	return within(want[same:], letters[same:], 2)
}

func sameForm(a, b []string) bool {
	for i := range a {
		if a[i] == b[i] {
			return true
		}
	}
	return false
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

// languages are those whose forms of words are known.
var languages = sync.OnceValue(func() []func(*snowballstem.Env) bool {
	return []func(*snowballstem.Env) bool{
		danish.Stem, dutch.Stem, english.Stem, finnish.Stem, french.Stem, german.Stem, hungarian.Stem, italian.Stem,
		norwegian.Stem, portuguese.Stem, romanian.Stem, russian.Stem, spanish.Stem, swedish.Stem, turkish.Stem,
	}
})

// stemsOf returns the stems of a normalised word in each language.
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
