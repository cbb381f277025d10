package acl

import (
	"errors"
	"testing"
)

func TestEffective(t *testing.T) {
	const fred = "fred@example.org"
	staff := []string{"staff", "sales"}
	for _, test := range []struct {
		what  string
		owner bool
		list  map[Identifier]string
		want  string
	}{
		{"nobody said anything", false, nil, ""},
		{"the user", false, map[Identifier]string{fred: "lr"}, "lr"},
		{"another", false, map[Identifier]string{"alfred@example.org": "lr", "group:board": "lr", "fred": "lr"}, ""},
		{"a group", false, map[Identifier]string{"group:staff": "lri"}, "lri"},
		{"a group is no user, and a user no group", false, map[Identifier]string{"staff": "lr", "group:" + fred: "lr"}, ""},
		{"anyone", false, map[Identifier]string{Anyone: "lr"}, "lr"},
		{"all of them", false, map[Identifier]string{fred: "l", "group:staff": "r", "group:sales": "s", Anyone: "w"}, "lrsw"},
		{"less for the user (RFC 4314 section 2)", false, map[Identifier]string{fred: "lrw", Anyone: "w", "-" + fred: "w"}, "lr"},
		{"less for a group", false, map[Identifier]string{fred: "lrw", "-group:staff": "w"}, "lr"},
		{"less for anyone", false, map[Identifier]string{fred: "lrw", "-anyone": "w"}, "lr"},
		{"less for another", false, map[Identifier]string{fred: "lrw", "-alfred@example.org": "w", "-group:board": "r"}, "lrw"},
		{"less of what nobody has", false, map[Identifier]string{"-" + fred: "w"}, ""},
		{"less of all", false, map[Identifier]string{fred: "lrswipkxtea", "-anyone": "lrswipkxtea"}, ""},
		{"two dashes are for a user with a dash", false, map[Identifier]string{fred: "lr", "--" + fred: "r"}, "lr"},

		{"owner", true, nil, "lrswipkxtea"},
		{"owner, and others", true, map[Identifier]string{Anyone: "lr", "group:staff": "lr"}, "lrswipkxtea"},
		{"owner with an entry", true, map[Identifier]string{fred: "lrs"}, "lrsa"},
		{"owner with an empty entry", true, map[Identifier]string{fred: ""}, "lra"},
		{"owner with an entry, and in a group", true, map[Identifier]string{fred: "lr", "group:staff": "i", Anyone: "p"}, "lripa"},
		{"owner with less", true, map[Identifier]string{"-" + fred: "te"}, "lrswipkxa"},
		{"owner with less for anyone", true, map[Identifier]string{"-anyone": "lrswipkxtea"}, "lra"},
	} {
		var entries []Entry
		for i, letters := range test.list {
			entries = append(entries, Entry{i, rights(t, letters)})
		}
		if got := Effective(test.owner, fred, staff, entries).String(); got != test.want {
			t.Errorf("%s: %v gives %q, want %q", test.what, test.list, got, test.want)
		}
	}
}

func rights(t *testing.T, letters string) Rights {
	t.Helper()
	r, err := ParseRights(letters)
	if err != nil {
		t.Fatalf("ParseRights(%q): %v", letters, err)
	}
	return r
}

// A user whose login begins with a dash gets nothing by an entry that is meant for another.
func TestLoginWithDash(t *testing.T) {
	entries := []Entry{{"-fred@example.org", All}, {"--fred@example.org", Seen}}
	for _, test := range []struct {
		login string
		owner bool
		want  string
	}{{"-fred@example.org", false, ""}, {"-fred@example.org", true, "lrwipkxtea"}, {"fred@example.org", true, "lra"}} {
		if got := Effective(test.owner, test.login, nil, entries).String(); got != test.want {
			t.Errorf("%s has %q, want %q", test.login, got, test.want)
		}
	}
}

func TestRequired(t *testing.T) {
	for _, test := range []struct {
		owner              string
		identifier         Identifier
		required, optional string
		settled            string // of rxa
	}{
		{"fred@example.org", "fred@example.org", "lra", "swipkxtecd", "lrxa"},
		{"fred@example.org", "-fred@example.org", "", "swipkxtecd", "x"},
		{"fred@example.org", "mary@example.org", "", "lrswipkxtecda", "rxa"},
		{"fred@example.org", "-mary@example.org", "", "lrswipkxtecda", "rxa"},
		{"fred@example.org", Anyone, "", "lrswipkxtecda", "rxa"},
		{"-fred@example.org", "-fred@example.org", "", "lrswipkxtecda", "rxa"}, // is less for another
		{"", "fred@example.org", "", "lrswipkxtecda", "rxa"},
	} {
		required, optional := Required(test.owner, test.identifier), Optional(test.owner, test.identifier)
		if required.String() != test.required || optional.Announced() != test.optional {
			t.Errorf("%s in a mailbox of %q: %q required, %q optional, want %q and %q",
				test.identifier, test.owner, required, optional.Announced(), test.required, test.optional)
		}
		if got := Settle(test.owner, test.identifier, Read|DeleteMailbox|Administer).String(); got != test.settled {
			t.Errorf("%s in a mailbox of %q: rxa is kept as %q, want %q", test.identifier, test.owner, got, test.settled)
		}
	}
}

func TestParseRights(t *testing.T) {
	for _, test := range []struct{ in, want, announced string }{
		{"", "", ""},
		{"lr", "lr", "lr"},
		{"rlr", "lr", "lr"},
		{"aetxkpiwsrl", "lrswipkxtea", "lrswipkxtecda"},
		{"c", "kx", "kxc"},
		{"d", "te", "ted"},
		{"k", "k", "kc"},
		{"x", "x", "xc"},
		{"t", "t", "td"},
		{"e", "e", "ed"},
		// The examples of RFC 4314 section 2.1.1.
		{"lrswida", "lrswitea", "lrswiteda"},
		{"lrswikda", "lrswiktea", "lrswiktecda"},
		{"cda", "kxtea", "kxtecda"},
	} {
		r := rights(t, test.in)
		if r.String() != test.want || r.Announced() != test.announced {
			t.Errorf("ParseRights(%q) = %q, told as %q; want %q, %q", test.in, r, r.Announced(), test.want, test.announced)
		}
	}
	for in, letter := range map[string]rune{"lrqswicda": 'q', "lrQswicda": 'Q', "l r": ' ', "0": '0', "lé": 'é', "l\xff": '\ufffd', "+l": '+'} {
		_, err := ParseRights(in)
		if e, ok := errors.AsType[*RightError](err); !ok || e.Letter != letter {
			t.Errorf("ParseRights(%q): %v, want that %q is no right", in, err, letter)
		}
	}
}

func TestModification(t *testing.T) {
	for _, test := range []struct{ before, mod, after string }{
		{"lrswi", "+cda", "lrswikxtea"}, // RFC 4314 section 3.1
		{"lrs", "lr", "lr"},
		{"lrs", "", ""},
		{"lrs", "+", "lrs"},
		{"lrs", "-", "lrs"},
		{"lrs", "-sw", "lr"},
		{"lrskte", "-cd", "lrs"},
		{"", "+lr", "lr"},
	} {
		m, err := ParseModification(test.mod)
		if err != nil {
			t.Fatalf("ParseModification(%q): %v", test.mod, err)
		}
		if got := m.Of(rights(t, test.before)).String(); got != test.after {
			t.Errorf("%q of %q is %q, want %q", test.mod, test.before, got, test.after)
		}
	}
	for in, letter := range map[string]rune{"+q": 'q', "-Q": 'Q', "+-l": '-', "++l": '+', "l+": '+'} {
		_, err := ParseModification(in)
		if e, ok := errors.AsType[*RightError](err); !ok || e.Letter != letter {
			t.Errorf("ParseModification(%q): %v, want that %q is no right", in, err, letter)
		}
	}
}
