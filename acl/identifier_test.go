package acl

import (
	"errors"
	"strings"
	"testing"
)

func TestParseIdentifier(t *testing.T) {
	for in, want := range map[string]Identifier{
		"fred@example.org":   "fred@example.org",
		"Fred@Example.ORG":   "fred@example.org",
		"ANYONE":             Anyone,
		"Group:Staff":        "group:staff",
		"-fred@example.org":  "-fred@example.org",
		"-Group:Staff":       "-group:staff",
		"--fred@example.org": "--fred@example.org",
		"e\u0301@x":          "\u00e9@x",
		"group:a\u00a0b":     "group:a b",
		"$team":              "$team",
	} {
		if got, err := ParseIdentifier(in); got != want || err != nil {
			t.Errorf("ParseIdentifier(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "-", "group:", "-group:", "a\x00b", "a\x07", "\u2028", "\xff", strings.Repeat("x", maxIdentifier+1)} {
		if got, err := ParseIdentifier(in); !errors.Is(err, ErrIdentifier) {
			t.Errorf("ParseIdentifier(%q) = %q, %v", in, got, err)
		}
	}
}

func TestIdentifier(t *testing.T) {
	for _, test := range []struct {
		i            Identifier
		negative     bool
		subject      Identifier
		login, group string
	}{
		{User("fred@example.org"), false, "fred@example.org", "fred@example.org", ""},
		{Group("staff"), false, "group:staff", "", "staff"},
		{Anyone, false, "anyone", "", ""},
		{"-fred@example.org", true, "fred@example.org", "fred@example.org", ""},
		{"-group:staff", true, "group:staff", "", "staff"},
		{"-anyone", true, "anyone", "", ""},
	} {
		login, _ := test.i.Login()
		group, _ := test.i.Group()
		if test.i.Negative() != test.negative || test.i.Subject() != test.subject || login != test.login || group != test.group {
			t.Errorf("%q: negative %v, subject %q, login %q, group %q", test.i, test.i.Negative(), test.i.Subject(), login, group)
		}
	}
}
