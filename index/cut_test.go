package index

import (
	"slices"
	"strings"
	"testing"

	"mailstead.dev/store/message"
)

func TestCut(t *testing.T) {
	for text, want := range map[string][]string{
		"":                     nil,
		" .-":                  nil,
		"one":                  {"ONE"},
		"One, two-3":           {"ONE", "TWO", "3"},
		"a@b.example":          {"A", "B", "EXAMPLE"},
		"日本語":                  {"日", "本", "語"},
		"a日b":                  {"A", "日", "B"},
		"がき":                   {"か\u3099", "き"},
		"データベース":               {"テ\u3099", "ー", "タ", "ヘ\u3099", "ー", "ス"},
		"café":                 {"CAFE\u0301"},
		"\u0301a":              {"\u0301A"},
		"x²":                   {"X2"},
		"ภาษา":                 {"ภาษา"},
		"it's":                 {"IT", "S"},
		"a\xffb":               {"A", "B"},
		strings.Repeat("w", 9): {"WWWWWWWWW"},
	} {
		var got []string
		normalised := message.Normalize(text)
		cut(normalised, func(at int, w string) {
			if normalised[at:at+len(w)] != w {
				t.Errorf("%q: %q is not at %d", text, w, at)
			}
			got = append(got, w)
		})
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// has tells whether a text with these words is found by a plan.
func (p plan) has(words []string) bool {
	if p.any {
		return true
	}
	for _, r := range p.runs {
		if !slices.ContainsFunc(words, func(w string) bool {
			switch {
			case r.from && r.until:
				return w == r.text
			case r.from:
				return strings.HasPrefix(w, r.text)
			case r.until:
				return strings.HasSuffix(w, r.text)
			}
			return strings.Contains(w, r.text)
		}) {
			return false
		}
	}
	return true
}

// comparePlan tells whether the plan for a pattern is right about a text: it
// finds it where it is in it, and finds nothing else where it says that it is exact.
func comparePlan(t *testing.T, text, pattern string) {
	t.Helper()
	var words []string
	cut(text, func(_ int, w string) { words = append(words, w) })
	p := planOf(query{in: Body, pattern: pattern})
	switch in := strings.Contains(text, pattern); {
	case in && !p.has(words):
		t.Fatalf("%q in %q is not found: %+v in %q", pattern, text, p, words)
	case !in && p.exact && p.has(words):
		t.Fatalf("%q is not in %q, but found for certain: %+v in %q", pattern, text, p, words)
	}
}

func TestPlan(t *testing.T) {
	m := newModel(*equivalenceSeed)
	for range 30_000 {
		text := m.text(6)
		if m.IntN(4) == 0 { // any characters
			var b strings.Builder
			for range m.IntN(12) {
				b.WriteRune(oneOf(m, []rune{rune(m.IntN(0x300)), 0x300 + rune(m.IntN(0x80)), 0x3040 + rune(m.IntN(0x100)), rune(m.IntN(0x11000)), rune(m.IntN(0x30000))}))
			}
			text = b.String()
		}
		text = message.Normalize(text)
		from := m.IntN(len(text) + 1)
		comparePlan(t, text, text[from:from+m.IntN(len(text)-from+1)])
		comparePlan(t, text, message.Normalize(m.word()))
	}
}

func FuzzPlan(f *testing.F) {
	for _, text := range []string{"Ein Gruß, 日本語です", "がが\u3099き\u0301a", "a\u0308日\u0308b c", "x@y.example 123", "한국어 ภาษาไทย", "\u0301\u0301 a\u0301", "a\xf0\x90b"} {
		f.Add(text, 1, 4, "a")
	}
	f.Fuzz(func(t *testing.T, text string, from, length int, other string) {
		text = message.Normalize(text)
		comparePlan(t, text, message.Normalize(other))
		if from >= 0 && length >= 0 && from <= len(text) && length <= len(text)-from {
			comparePlan(t, text, text[from:from+length])
		}
	})
}
