package index

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

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

// Every piece of a text is found by the plan for it, and a plan that says that
// it is exact finds nothing else.
func FuzzPlan(f *testing.F) {
	for _, text := range []string{"Ein Gruß, 日本語です", "がが\u3099き\u0301a", "a\u0308日\u0308b c", "x@y.example 123", "한국어 ภาษาไทย", "\u0301\u0301 a\u0301", "a\xf0\x90b"} {
		f.Add(text, 1, 4, "a")
	}
	f.Fuzz(func(t *testing.T, text string, from, length int, other string) {
		text = message.Normalize(text)
		var words []string
		cut(text, func(_ int, w string) { words = append(words, w) })
		whole := strings.Join(words, "")
		if utf8.ValidString(text) {
			for _, r := range text {
				if classOf(r) != between && !strings.ContainsRune(whole, r) {
					t.Fatalf("%q: %q is in no word of %q", text, r, words)
				}
			}
		}
		if from < 0 || length < 0 || from > len(text) || length > len(text)-from {
			return
		}
		for _, pattern := range []string{text[from : from+length], message.Normalize(other)} {
			p := planOf(query{in: Body, pattern: pattern})
			switch in := strings.Contains(text, pattern); {
			case in && !p.has(words):
				t.Fatalf("%q in %q is not found: %+v in %q", pattern, text, p, words)
			case !in && p.exact && p.has(words):
				t.Fatalf("%q is not in %q, but found for certain: %+v in %q", pattern, text, p, words)
			}
		}
	})
}
