package message

import (
	"slices"
	"strings"
	"testing"
)

func TestBaseSubject(t *testing.T) {
	tests := []struct {
		subject, want string
		replies       bool
	}{
		{"", "", false},
		{"hello", "hello", false},
		{"  hello \t world  ", "hello world", false},
		{"Re: hello", "hello", true},
		{"RE : fw: FWD:hello", "hello", true},
		{"re[2]: hello", "hello", true},
		{"re [2] : hello", "hello", true},
		{"[list] hello", "hello", false},
		{"[list] Re: [list] hello", "hello", true},
		{"[a] [b] Re: hello", "hello", true},
		{"[list]", "[list]", false},
		{"[list] [last]", "[last]", false},
		{"Re: [last]", "[last]", true},
		{"hello (fwd)", "hello", true},
		{"hello (FWD) (fwd)  ", "hello", true},
		{"(fwd)", "", true},
		{"re:", "", true},
		{"[fwd: hello]", "hello", true},
		{"[Fwd: [list] Re: hello (fwd)]", "hello", true},
		{"[fwd: hello] more", "more", false},
		{"reply to hello", "reply to hello", false},
		{"hello re: world", "hello re: world", false},
		{"[a[b] hello", "[a[b] hello", false},
		{"=?utf-8?q?Re=3A_gr=C3=BCn?=", "grün", true},
	}
	for _, test := range tests {
		m := Meta{Envelope: Envelope{Subject: test.subject}}
		m.BaseSubject, _ = baseSubject(DecodeHeader(test.subject))
		if m.BaseSubject != test.want || m.Replies() != test.replies {
			t.Errorf("base subject of %q = %q, %t, want %q, %t", test.subject, m.BaseSubject, m.Replies(), test.want, test.replies)
		}
	}
}

func TestMessageIDs(t *testing.T) {
	tests := []struct {
		header string
		want   []string
	}{
		{"References: <a@b> (comment <c@d>) <e@f>\n", []string{"<a@b>", "<e@f>"}},
		{"References: <\"01KF8JCEOCBS0045PS\"@xxx.yyy.com>\n", []string{"<01KF8JCEOCBS0045PS@xxx.yyy.com>"}}, // RFC 5256 section 3
		{"References: <\"a\\\"b>\"@c>\n", []string{`<a"b>@c>`}},
		{"References: <a> <@> <a@> <@b> <a b@c> <a@b <c@d>\n", []string{"<c@d>"}},
		{"References: nothing\nIn-Reply-To: from you of <today> <x@y> <z@y>\n", []string{"<x@y>"}},
		{"References: <a@b>\nIn-Reply-To: <x@y>\n", []string{"<a@b>"}},
		{"References: <\"a@b>\n", nil},
		{"Subject: none\n", nil},
	}
	for _, test := range tests {
		if got := references([]byte(test.header)); !slices.Equal(got, test.want) {
			t.Errorf("references of %q = %q, want %q", test.header, got, test.want)
		}
	}
	many := references([]byte("References: <first@x>" + strings.Repeat(" <other@x>", 10_000) + " <parent@x>\n"))
	if len(many) != maxReferences || many[0] != "<first@x>" || many[len(many)-1] != "<parent@x>" {
		t.Errorf("of very many references there are %d left, from %s to %s", len(many), many[0], many[len(many)-1])
	}
}

// What is wrong of a date goes, and the rest stands (RFC 5256 section 2.2).
func TestSentDate(t *testing.T) {
	for value, want := range map[string]string{
		"31 Dec 2000 16:01:33 -0800": "2001-01-01 00:01:33",
		"1 Feb 2020 12:00:00 FOO":    "2020-02-01 12:00:00",
		"1 Feb 2020 12:00:00 +9999":  "2020-02-01 12:00:00",
		"1 Feb 2020 25:00:00 +0000":  "2020-02-01 00:00:00",
		"1 Feb 2020":                 "2020-02-01 00:00:00",
		"31 Feb 2020 12:00:00 +0000": "",
		"never":                      "",
		"":                           "",
	} {
		got := ""
		if date, ok := parseDate(value); ok {
			got = date.UTC().Format("2006-01-02 15:04:05")
		}
		if got != want {
			t.Errorf("sent date of %q = %q, want %q", value, got, want)
		}
	}
}
