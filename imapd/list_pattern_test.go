package imapd

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// likeByDefinition matches as the texts define it, without regard to time: FIND knows "?", and its "*" and "%" are others.
func likeByDefinition(pattern, name []rune, find bool) bool {
	if len(pattern) == 0 {
		return len(name) == 0
	}
	rest := func(n int) bool { return likeByDefinition(pattern[1:], name[n:], find) }
	switch c := pattern[0]; {
	case c == '*', c == '%' && !find:
		for n := range len(name) + 1 {
			if rest(n) {
				return true
			}
			if n < len(name) && c == '%' && name[n] == '/' {
				return false
			}
		}
		return false
	case len(name) == 0:
		return false
	case find && (c == '%' || c == '?'):
		return rest(1)
	default:
		return c == name[0] && rest(1)
	}
}

func TestPatterns(t *testing.T) {
	const seed = 7
	rnd := rand.New(rand.NewPCG(seed, 0))
	word := func(letters string, most int) string {
		of := []rune(letters)
		text := make([]rune, 1+rnd.IntN(most))
		for i := range text {
			text[i] = of[rnd.IntN(len(of))]
		}
		return string(text)
	}
	matched := 0
	for range 100_000 {
		levels := make([]string, 1+rnd.IntN(4))
		for i := range levels {
			levels[i] = word("abå", 4)
		}
		name := strings.Join(levels, "/")
		p := word("abå/*%?", 8)
		if rnd.IntN(20) == 0 { // longer than a word of the machine
			long := strings.Repeat("a", 70)
			name, p = long+name, long[rnd.IntN(2):]+p
		}
		var want []int
		for i, r := range name + "/" {
			if r == '/' && likeByDefinition([]rune(p), []rune(name[:i]), false) {
				want = append(want, i)
			}
		}
		matched += len(want)
		if got := slices.Collect(newPattern(p).matcher().levels(name)); !slices.Equal(got, want) {
			t.Fatalf("%q matches of %q the levels up to %d, want %d", p, name, got, want)
		}
		if got, want := newFindPattern(p).matches(name), likeByDefinition([]rune(p), []rune(name), true); got != want {
			t.Fatalf("FIND %q of %q: %t, want %t", p, name, got, want)
		}
	}
	if matched == 0 {
		t.Error("nothing matched")
	}
}

func TestPatternsOfINBOX(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"inbox", "INBOX", true}, {"InB%", "INBOX", true}, {"inbox/a", "INBOX/a", true}, {"inbox/A", "INBOX/a", false},
		{"inbox", "INBOXES", false}, {"inboxes", "INBOXES", false}, {"INBOXES", "INBOXES", true}, {"a/inbox", "a/INBOX", false},
	} {
		if got := newPattern(test.pattern).matcher().matches(test.name); got != test.want {
			t.Errorf("%q of %q: %t", test.pattern, test.name, got)
		}
		if got := newFindPattern(strings.ReplaceAll(test.pattern, "%", "*")).matches(test.name); got != test.want {
			t.Errorf("FIND %q of %q: %t", test.pattern, test.name, got)
		}
	}
}

func TestNewLevels(t *testing.T) {
	for _, test := range []struct {
		before, name string
		want         int
	}{
		{"", "a", 1}, {"", "a/b/c", 3}, {"a", "a/b", 1}, {"a/b", "a/c", 1}, {"a/b", "ab/c", 2}, {"a/b/c", "a/bc/d", 2}, {"a/b", "a/b!", 1},
	} {
		if got := newLevels(test.before, test.name); got != test.want {
			t.Errorf("%q after %q: %d levels, want %d", test.name, test.before, got, test.want)
		}
	}
}
