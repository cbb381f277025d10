package message

import (
	"testing"

	"golang.org/x/text/unicode/norm"
)

func TestNormalize(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"Straße", "STRAßE"},                           // which has no titlecase of one character
		{"σοφός", "ΣΟΦΟ\u0301Σ"},                       // both small sigmas
		{"ıiİ", "III\u0307"},                           // Turkish
		{"ǆ", "Dz\u030c"},                              // the example of RFC 5051 section 2
		{"ﬁ\u00a0½", "fi 1\u20442"},                    // what decomposition brings is not cased again
		{"한글", "\u1112\u1161\u11ab\u1100\u1173\u11af"}, // with and without a final letter
		{"하가힣", "\u1112\u1161\u1100\u1161\u1112\u1175\u11c2"},
		{"\xff\xc3", "\xff\xc3"},
	} {
		if got := Normalize(test.text); got != test.want {
			t.Errorf("Normalize(%q) = %q, want %q", test.text, got, test.want)
		}
	}
	for r := rune(hangulFirst); r <= hangulLast; r++ {
		if got, want := Normalize(string(r)), norm.NFD.String(string(r)); got != want {
			t.Fatalf("Normalize(%q) = %q, want %q", r, got, want)
		}
	}
}
