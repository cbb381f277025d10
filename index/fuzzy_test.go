package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/RoaringBitmap/roaring/v2"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

func TestLikeness(t *testing.T) {
	const unlike = Loosest + 1
	for _, test := range []struct {
		word, other string
		want        Likeness // from which on it is found
	}{
		{"hello", "HELLO", Exactly},
		{"hello", "hellos", SameForms},
		{"hell", "hello", SameForms},
		{"he", "hello", unlike},
		{"running", "runs", SameForms},
		{"Häuser", "Haus", SameForms},
		{"gekauft", "kaufen", unlike},
		{"Zeitungen", "Zeitung", SameForms},
		{"книгами", "книга", SameForms},
		{"maisons", "maison", SameForms},
		{"cafe", "café", SameForms},
		{"resume", "résumés", SameForms},
		{"wrld", "world", OneSlip},
		{"wworld", "world", OneSlip},
		{"hello", "hallo", OneSlip},
		{"hello", "hlelo", OneSlip},
		{"hello", "jello", unlike}, // in the first letter
		{"hel", "hal", unlike},
		{"hello", "hxllx", unlike},
		{"accomodate", "accommodate", OneSlip},
		{"recieved", "received", OneSlip},
		{"beleive", "belief", unlike},
		{"anniversery", "aniversary", TwoSlips},
		{"日", "本", unlike},
		{"invoice17", "invoice18", OneSlip},
	} {
		words := likeWordsOf(message.Normalize(test.word))
		if len(words) != 1 {
			t.Fatalf("%q: %d words", test.word, len(words))
		}
		for like := SameWords; like <= Loosest; like++ {
			if got := words[0].is(&comparedWord{text: message.Normalize(test.other)}, like); got != (like >= test.want) {
				t.Errorf("%q and %q, likeness %d: %v", test.word, test.other, like, got)
			}
		}
	}
}

// Slips are counted as by the table of all beginnings of both words.
func TestSlips(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	word := func() []rune {
		w := make([]rune, random.IntN(9))
		for i := range w {
			w[i] = rune('A' + random.IntN(3))
		}
		return w
	}
	for range 20_000 {
		a, b := word(), word()
		for slips := range 3 {
			if got, want := within(a, b, slips), distance(a, b) <= slips; got != want {
				t.Fatalf("%q and %q, %d slips: %v", string(a), string(b), slips, got)
			}
		}
	}
}

// What takes long ends with who has asked for it.
func TestLikenessEnds(t *testing.T) {
	var b strings.Builder
	for i := 0; b.Len() < 4<<20; i++ {
		fmt.Fprintf(&b, "anna%s ", strconv.FormatInt(int64(i), 36))
	}
	raw := "\r\n" + b.String()
	meta, err := message.Parse(strings.NewReader(raw), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	m := NewMatcher([]Query{{In: Body, Text: "annaqqqqqqqq annaqqqqqqqqqqqq", Like: Loosest}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if found, err := m.Match(ctx, meta, func() (message.Reader, error) { return octets(raw), nil }, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", found, err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it went on for %v", took)
	}
}

// Of a text that is cut, the last word is not taken for one.
func TestLikenessOfCutText(t *testing.T) {
	text := "contestable"
	text = strings.Repeat("x ", (MaxText-len("contest"))/2) + " " + text
	text = text[len(text)-MaxText-len("able"):]
	a := mustOpen(t, filepath.Join(t.TempDir(), "a"))
	if err := a.Add(t.Context(), []Document{{Email: 1, Texts: []message.Text{{Body: true, Value: text}}}}, 1); err != nil {
		t.Fatal(err)
	}
	queries := []Query{{In: Body, Text: "contast", Like: Loosest}}
	r, err := a.Search(t.Context(), queries)
	if err != nil || r.Answers[0].Matches.Contains(1) || !r.Answers[0].Maybe.Contains(1) {
		t.Errorf("%v, %v", r, err)
	}
	err = a.Verify(t.Context(), queries, roaring.BitmapOf(1), func(_ id.Email, found, settled []bool) bool {
		if found[0] || settled[0] {
			t.Error("it is decided by half a word")
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
}

// distance is how many slips make b of a; what has been changed is not changed again.
func distance(a, b []rune) int {
	table := make([][]int, len(a)+1)
	for i := range table {
		table[i] = make([]int, len(b)+1)
		for j := range table[i] {
			switch {
			case i == 0 || j == 0:
				table[i][j] = i + j
				continue
			case a[i-1] == b[j-1]:
				table[i][j] = table[i-1][j-1]
			default:
				table[i][j] = 1 + min(table[i-1][j-1], table[i-1][j], table[i][j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				table[i][j] = min(table[i][j], 1+table[i-2][j-2])
			}
		}
	}
	return table[len(a)][len(b)]
}

// like tells whether the words of a query are all like some of an email.
func (e *modelEmail) like(q Query) bool {
	texts := slices.Concat(e.body, e.beyond)
	switch q.In {
	case Header:
		texts = e.header[strings.ToLower(q.Field)]
	case Anywhere:
		texts = slices.Concat(append(slices.Collect(maps.Values(e.header)), texts, e.outer)...)
	}
	wanted := modelWords(q.Text)
	if slices.ContainsFunc(wanted, func(w string) bool { return len(w) > maxLike }) {
		return false
	}
	for _, want := range wanted {
		if !slices.ContainsFunc(texts, func(text string) bool {
			return slices.ContainsFunc(modelWords(text), func(word string) bool { return likeness(want, word) <= q.Like })
		}) {
			return false
		}
	}
	return len(wanted) > 0
}

// modelWords cuts a text into words.
func modelWords(text string) (words []string) {
	text = foldModel(text)
	begin, alone := -1, false
	for at, r := range text + " " {
		single := strings.ContainsRune("がかカガ日本語𠀀", r)
		mark := unicode.IsMark(r)
		inWord := mark || unicode.IsLetter(r) || unicode.IsNumber(r)
		if begin >= 0 && (!inWord || !mark && (single || alone)) {
			words = append(words, text[begin:at])
			begin = -1
		}
		if inWord && begin < 0 {
			begin, alone = at, single
		}
	}
	return words
}

// likeness is from which on a word is found.
func likeness(want, word string) Likeness {
	plain := func(s string) []rune {
		return slices.DeleteFunc([]rune(s), unicode.IsMark)
	}
	a, b := plain(want), plain(word)
	switch {
	case want == word:
		return SameWords
	case []rune(want)[0] != []rune(word)[0] || len(word) > maxLike:
		return Loosest + 1
	case slices.Equal(a, b), len(a) >= minBeginning && strings.HasPrefix(string(b), string(a)):
		return SameForms
	case len(a) >= minBeginning && len(b) >= minBeginning && slices.Equal(a[:minBeginning], b[:minBeginning]) && len(a) <= maxSlipping && len(b) <= maxSlipping:
		others := stemsOf(word)
		for i, stem := range stemsOf(want) {
			if stem == others[i] {
				return SameForms
			}
		}
	}
	if len(a) > maxSlipping || len(b) > len(a)+2 {
		return Loosest + 1
	}
	slips := distance(a, b)
	switch {
	case len(a) >= minOneSlip && slips <= 1:
		return OneSlip
	case len(a) >= minTwoSlips && slips <= 2:
		return TwoSlips
	}
	return Loosest + 1
}

// slip changes a letter.
func (m *model) slip(text string) string {
	letters := []rune(text)
	letters[m.IntN(len(letters))] = oneOf(m, modelLetters)
	return string(letters)
}
