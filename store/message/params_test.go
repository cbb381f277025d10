package message

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestDecodeParams(t *testing.T) {
	tests := []struct{ value, want string }{
		{`text/plain; charset=utf-8; name="a b"`, "charset=utf-8 name=a b"},
		{`text/plain`, ""},
		// RFC 2231 section 3.
		{"message/external-body; access-type=URL; URL*0=\"ftp://\"; URL*1=\"cs.utk.edu/pub/moose/bulk-mailer/bulk-mailer.tar\"",
			"access-type=URL url=ftp://cs.utk.edu/pub/moose/bulk-mailer/bulk-mailer.tar"},
		// Section 4.
		{"application/x-stuff; title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A", "title*=This is ***fun***"},
		// Section 4.1.
		{"application/x-stuff; title*0*=us-ascii'en'This%20is%20even%20more%20; title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*2=\"isn't it!\"",
			"title*=This is even more ***fun*** isn't it!"},
		{"a/b; name*0*=iso-8859-1''gr%FC; x=1; name*1=n; name=old", "name*=grün x=1 name=old"},
		{"a/b; name*1=b; name*0=a; x*0=y", "name=ab x=y"},
		{"a/b; name*=%C3%A4", "name*=ä"},
		{"a/b; name*x=y; name*x=z; b=c", "name*x=y b=c"},
		{"a/b; name*1=b", "name*1=b"},
	}
	for _, test := range tests {
		_, _, params := contentType(test.value)
		before := slices.Clone(params)
		var got []string
		for _, p := range DecodeParams(params) {
			got = append(got, p.Name+"="+p.Value)
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.value, got, test.want)
		}
		if !slices.Equal(params, before) {
			t.Errorf("%s: what was given is changed", test.value)
		}
	}
}

// As many pieces as there can be are one.
func TestDecodeManyParams(t *testing.T) {
	var value, want strings.Builder
	value.WriteString("a/b")
	for i := range maxParams {
		fmt.Fprintf(&value, "; n*%d=%d,", i, i)
		fmt.Fprintf(&want, "%d,", i)
	}
	_, _, params := contentType(value.String())
	if got := DecodeParams(params); len(got) != 1 || got[0] != (Param{"n", want.String()}) {
		t.Errorf("%d parameters are left, the first %+v", len(got), got[0])
	}
}

// Whatever comes, nothing gets more, and what has no star is left as it is.
func FuzzDecodeParams(f *testing.F) {
	f.Add("a/b; name*0*=iso-8859-1''gr%FC; x=1; name*1=n; name=old; y*=utf-8'")
	f.Fuzz(func(t *testing.T, value string) {
		_, _, params := contentType(value)
		got := DecodeParams(params)
		if len(got) > len(params) {
			t.Fatalf("%d parameters became %d", len(params), len(got))
		}
		plain := func(params []Param) []Param {
			return slices.DeleteFunc(slices.Clone(params), func(p Param) bool { return strings.Contains(p.Name, "*") })
		}
		for _, p := range plain(params) {
			if !slices.Contains(got, p) {
				t.Errorf("%+v is missing", p)
			}
		}
	})
}
