package acl

import "testing"

// What a client sends as rights is what is told again, or a letter is named that is none.
func FuzzRights(f *testing.F) {
	for _, s := range []string{"", "lrswipkxtea", "+cda", "-d", "lrQ", "+-l", "l\xff"} {
		f.Add(s, "lrs")
	}
	f.Fuzz(func(t *testing.T, mod, before string) {
		m, err := ParseModification(mod)
		if err != nil {
			if err.Error() == "" {
				t.Fatalf("ParseModification(%q): an error without a text", mod)
			}
			return
		}
		r, err := ParseRights(before)
		if err != nil {
			return
		}
		after := m.Of(r)
		if after&^All != 0 || m.Of(after) != after {
			t.Fatalf("%q of %q is %q, and again %q", mod, before, after, m.Of(after))
		}
		for _, told := range []string{after.String(), after.Announced()} {
			again, err := ParseRights(told)
			if err != nil || !again.Has(after) {
				t.Fatalf("%q is told as %q, and read as %q, %v", after, told, again, err)
			}
		}
	})
}

// What is prepared is prepared for good, and names one kind of subject.
func FuzzIdentifier(f *testing.F) {
	for _, s := range []string{"", "-", "anyone", "-Group:Staff", "Fred@Example.org", "--x", "e\u0301", "\u1e9e", "\u03a3\u0345", "a\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		i, err := ParseIdentifier(s)
		if err != nil {
			return
		}
		if again, err := ParseIdentifier(string(i)); again != i || err != nil {
			t.Fatalf("%q is prepared as %q, and that as %q, %v", s, i, again, err)
		}
		_, login := i.Login()
		_, group := i.Group()
		if anyone := i.Subject() == Anyone; login && group || anyone && (login || group) || !login && !group && !anyone {
			t.Fatalf("%q: login %v, group %v, anyone %v", i, login, group, anyone)
		}
	})
}
