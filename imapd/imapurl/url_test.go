package imapurl

import (
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The examples of RFC 5092 sections 3.1, 6.1.2 and 9, of RFC 2192 section 10, of RFC 2193 and RFC 2221; with what String makes of them.
func TestExamples(t *testing.T) {
	for _, test := range []struct {
		text, canonical string // "": as text
		want            URL
	}{
		{"imap://michael@example.org/INBOX", "", URL{User: "michael", Host: "example.org", Mailbox: "INBOX"}},
		{"imap://minbari.example.org/gray-council;UIDVALIDITY=385759045/;UID=20/;PARTIAL=0.1024", "",
			URL{Host: "minbari.example.org", Mailbox: "gray-council", UIDValidity: 385759045, UID: 20, Partial: &Partial{0, 1024}}},
		{"imap://psicorp.example.org/~peter/%E6%97%A5%E6%9C%AC%E8%AA%9E/%E5%8F%B0%E5%8C%97", "",
			URL{Host: "psicorp.example.org", Mailbox: "~peter/日本語/台北"}},
		{"imap://;AUTH=GSSAPI@minbari.example.org/gray-council/;uid=20/;section=1.2", "imap://;AUTH=GSSAPI@minbari.example.org/gray-council/;UID=20/;SECTION=1.2",
			URL{Auth: "GSSAPI", Host: "minbari.example.org", Mailbox: "gray-council", UID: 20, Section: "1.2"}},
		{"imap://;AUTH=*@minbari.example.org/gray%20council?SUBJECT%20shadows", "",
			URL{Auth: AnyAuth, Host: "minbari.example.org", Mailbox: "gray council", Search: "SUBJECT shadows"}},
		{"imap://john;AUTH=*@minbari.example.org/babylon5/personel?charset%20UTF-8%20SUBJECT%20%7B14+%7D%0D%0A%D0%98%D0%B2%D0%B0%D0%BD%D0%BE%D0%B2%D0%B0", "",
			URL{User: "john", Auth: AnyAuth, Host: "minbari.example.org", Mailbox: "babylon5/personel", Search: "charset UTF-8 SUBJECT {14+}\r\nИванова"}},
		{"imap://joe@example.com/INBOX/;uid=20/;section=1.2;urlauth=submit+fred:internal:91354a473744909de610943775f92038",
			"imap://joe@example.com/INBOX/;UID=20/;SECTION=1.2;URLAUTH=submit+fred:INTERNAL:91354a473744909de610943775f92038",
			URL{User: "joe", Host: "example.com", Mailbox: "INBOX", UID: 20, Section: "1.2",
				Access: &Access{AccessSubmit, "fred"}, Verdict: &Verdict{"INTERNAL", "91354a473744909de610943775f92038"}}},
		{"imap://minbari.org/gray-council;UIDVALIDITY=385759045/;UID=20", "",
			URL{Host: "minbari.org", Mailbox: "gray-council", UIDValidity: 385759045, UID: 20}},
		{"imap://;AUTH=KERBEROS_V4@minbari.org/gray-council/;uid=20/;section=1.2", "imap://;AUTH=KERBEROS_V4@minbari.org/gray-council/;UID=20/;SECTION=1.2",
			URL{Auth: "KERBEROS_V4", Host: "minbari.org", Mailbox: "gray-council", UID: 20, Section: "1.2"}},
		{"IMAP://user;AUTH=*@SERVER2/", "imap://user;AUTH=*@server2/", URL{User: "user", Auth: AnyAuth, Host: "server2"}},
		{"IMAP://MIKE@SERVER2/", "imap://MIKE@server2/", URL{User: "MIKE", Host: "server2"}},
		{"IMAP://user;AUTH=*@SERVER2/SHARED/FOO", "imap://user;AUTH=*@server2/SHARED/FOO", URL{User: "user", Auth: AnyAuth, Host: "server2", Mailbox: "SHARED/FOO"}},

		// What no example has.
		{"imap://h", "imap://h/", URL{Host: "h"}},
		{"imap://h:/", "imap://h/", URL{Host: "h"}},
		{"imap://h:143/", "imap://h/", URL{Host: "h"}},
		{"imap://[2001:DB8::1]:1143/", "imap://[2001:db8::1]:1143/", URL{Host: "2001:db8::1", Port: 1143}},
		{"imap://demo1%40demo.test;AUTH=plain@h/", "imap://demo1%40demo.test;AUTH=PLAIN@h/", URL{User: "demo1@demo.test", Auth: "PLAIN", Host: "h"}},
		{"imap://%C3%BCser@h/%2Ffoo//%2E%2E/b%3Bc", "", URL{User: "üser", Host: "h", Mailbox: "/foo//../b;c"}},
		{"imap://h/foo/;UIDVALIDITY=7", "", URL{Host: "h", Mailbox: "foo/", UIDValidity: 7}},
		{"imap://h/foo//;UID=7", "", URL{Host: "h", Mailbox: "foo/", UID: 7}},
		{"imap://h/INBOX/;UID=7/;SECTION=HEADER.FIELDS%20(From)/;PARTIAL=10", "", URL{Host: "h", Mailbox: "INBOX", UID: 7, Section: "HEADER.FIELDS (From)", Partial: &Partial{Offset: 10}}},
		{"imap://h/INBOX/;UID=7;EXPIRE=2026-11-26t20:00:00.5+01:00;URLAUTH=user+a%3Ab", "imap://h/INBOX/;UID=7;EXPIRE=2026-11-26T19:00:00.5Z;URLAUTH=user+a%3Ab",
			URL{Host: "h", Mailbox: "INBOX", UID: 7, Expire: time.Date(2026, 11, 26, 19, 0, 0, 5e8, time.UTC), Access: &Access{AccessUser, "a:b"}}},
		{"imap://h/INBOX?(TEXT%20%22%7B3%7D%20%5C%5C%5C%22%22%20BODY%20%7B7+%7D%0D%0Aa%0D%0Ab%22%7B)%20SUBJECT%20%7B0+%7D%0D%0A", "",
			URL{Host: "h", Mailbox: "INBOX", Search: "(TEXT \"{3} \\\\\\\"\" BODY {7+}\r\na\r\nb\"{) SUBJECT {0+}\r\n"}},
		{"imap://h/INBOX/;UID=7;URLAUTH=Anonymous", "imap://h/INBOX/;UID=7;URLAUTH=anonymous", URL{Host: "h", Mailbox: "INBOX", UID: 7, Access: &Access{Kind: AccessAnonymous}}},
	} {
		got, err := Parse(test.text)
		if err != nil {
			t.Errorf("Parse(%q): %v", test.text, err)
			continue
		}
		if !reflect.DeepEqual(*got, test.want) {
			t.Errorf("Parse(%q) = %+v, want %+v", test.text, *got, test.want)
		}
		want := test.canonical
		if want == "" {
			want = test.text
		}
		if s := got.String(); s != want {
			t.Errorf("Parse(%q).String() = %q, want %q", test.text, s, want)
		}
	}
}

func TestWrong(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", `scheme: it begins with ""`},
		{"http://h/", `scheme: it begins with "http://h/"`},
		{"imap:/h/", "scheme:"},
		{"imap://", "host: it is empty"},
		{"imap:///INBOX", "host: it is empty"},
		{"imap://@h/", "user: it is empty"},
		{"imap://a@b@h/", "host: it has a character that has to be encoded"},
		{"imap://a;x@h/", `user: behind it is "x"`},
		{"imap://a;AUTH=@h/", "AUTH: it is empty"},
		{"imap://a;AUTH=%2A@h/", `AUTH: "*" is no mechanism`},
		{"imap://a%0D@h/", "user: it has a control character"},
		{"imap://a%ff@h/", "user: it is not UTF-8"},
		{"imap://a%4@h/", "user: two hexadecimal digits"},
		{"imap://a b@h/", "user: it has a character"},
		{"imap://h:0/", `port: "0" is no number from 1 to 65535`},
		{"imap://h:65536/", "port:"},
		{"imap://h:1x/", "port:"},
		{"imap://[::1/", "host:"},
		{"imap://[1.2.3.4]/", `host: "1.2.3.4" is no address of IPv6`},
		{"imap://[::1]x/", `host: behind it is "x"`},
		{"imap://h%2Fi/", `host: "h/i" is none`},
		{"imap://h?x", "host: it has a character"},
		{"imap://h/?x", "mailbox: it is empty"},
		{"imap://h//x", "mailbox: a slash at the beginning"},
		{"imap://h/a#b", "mailbox: it has a character"},
		{"imap://h/a\\b", "mailbox: it has a character"},
		{"imap://h/a%00", "mailbox: it has a control character"},
		{"imap://h/%E6%97", "mailbox: it is not UTF-8"},
		{"imap://h/;UID=1", "mailbox: it is empty"},
		{"imap://h/a;UID=1", `mailbox: behind it is ";UID=1"`},
		{"imap://h/a;UIDVALIDITY=0", `UIDVALIDITY: "0" is no number from 1 to 4294967295`},
		{"imap://h/a;UIDVALIDITY=01", "UIDVALIDITY:"},
		{"imap://h/a;UIDVALIDITY=4294967296", "UIDVALIDITY:"},
		{"imap://h/a;UIDVALIDITY=", "UIDVALIDITY:"},
		{"imap://h/a?", "search: it is empty"},
		{"imap://h/a?%00", "search: it has a control character"},
		{"imap://h/a?ALL%0D%0Ax%20DELETE%20INBOX", "search: it has a control character"},
		{"imap://h/a?ALL%0A", "search: it has a control character"},
		{"imap://h/a?TEXT%20%22a", "search: a quoted string has no end"},
		{"imap://h/a?TEXT%20%22a%0D%0Ab%22", "search: a quoted string has a control character"},
		{"imap://h/a?TEXT%20%22%7B20+%7D%0D%0Ax%20DELETE%20INBOX%20%20%20%20%22", "search: a quoted string has a control character"},
		{"imap://h/a?TEXT%20%22a%5C%22", "search: a quoted string has no end"},
		{"imap://h/a?TEXT%20%22a%5Cb%22", "search: a quoted string has a \\"},
		{"imap://h/a?TEXT%20%7B3%7D%0D%0Aabc", "search: \"{3}\\r\\nabc\" begins no literal"},
		{"imap://h/a?TEXT%20%7B3+%7Dabc", "search: \"{3+}abc\" begins no literal"},
		{"imap://h/a?TEXT%20%7B4+%7D%0D%0Aabc", "search: its end is in a literal"},
		{"imap://h/a?TEXT%20%7B+%7D%0D%0Aabc", "search: \"\" is no number"},
		{"imap://h/a?TEXT%20%7B3+%7D%0D%0Aa%00c", "search: a literal has a NUL"},
		{"imap://h/a?TEXT%20%7B3+%7D%0D%0Aabc%0D%0Ax", "search: it has a control character"},
		{"imap://h/a?TEXT%20a%7B3+%7D%0D%0Aabc", "search: no string can begin at"},
		{"imap://h/a?TEXT%20%22a%22%22b%22", "search: no string can begin at"},
		{"imap://h/a/;UID=1?ALL", `search: it cannot be of "/;UID=1"`},
		{"imap://h/a?ALL;UIDVALIDITY=1", "search: it has a character"},
		{"imap://h/a/;UID=1/;UID=2", `message: behind it is "/;UID=2"`},
		{"imap://h/a/;UID=1-2", "UID:"},
		{"imap://h/a/;SECTION=1", "message:"},
		{"imap://h/a/;UID=1/;SECTION=", "SECTION: it is empty"},
		{"imap://h/a/;UID=1/;SECTION=1%0d%0aX", "SECTION: it has a control character"},
		{"imap://h/a/;UID=1/;PARTIAL=0.0", `PARTIAL: "0" is no number from 1`},
		{"imap://h/a/;UID=1/;PARTIAL=1.2.3", "PARTIAL:"},
		{"imap://h/a/;UID=1/;PARTIAL=9223372036854775808", "PARTIAL:"},
		{"imap://h/a/;UID=1/;PARTIAL=1/;SECTION=1", `message: behind it is "/;SECTION=1"`},
		{"imap://h/a;URLAUTH=anonymous", `mailbox: behind it is ";URLAUTH=anonymous"`},
		{"imap://h/a/;UID=1;EXPIRE=2026-11-26T20:00:00Z", `message: behind it is ""`},
		{"imap://h/a/;UID=1;EXPIRE=2026-11-31T20:00:00Z;URLAUTH=anonymous", "EXPIRE:"},
		{"imap://h/a/;UID=1;EXPIRE=9999-12-31T23:59:59-23:00;URLAUTH=anonymous", "EXPIRE:"},
		{"imap://h/a/;UID=1;URLAUTH=nobody", `URLAUTH: "nobody" is nobody`},
		{"imap://h/a/;UID=1;URLAUTH=user+", "URLAUTH: it is empty"},
		{"imap://h/a/;UID=1;URLAUTH=authuser:internal", "URLAUTH: it has 2 parts"},
		{"imap://h/a/;UID=1;URLAUTH=authuser:i_n:91354a473744909de610943775f92038", `URLAUTH: "i_n" is no mechanism`},
		{"imap://h/a/;UID=1;URLAUTH=authuser:internal:91354a473744909de610943775f9203", "URLAUTH: its token"},
		{"imap://michael@minbari.org/users.*;type=list", "mailbox: there are no URLs of lists of mailboxes"}, // RFC 2192 section 10
		{"imap://h/" + strings.Repeat("a", MaxLength), "URL: it has more than 16384 octets"},
	} {
		if u, err := Parse(test.text); err == nil || !strings.HasPrefix(err.Error(), "IMAP URL: "+test.want) {
			t.Errorf("Parse(%.80q) = %+v, %v, want %s", test.text, u, err, test.want)
		}
	}
}

// The examples of RFC 5092 sections 9 and 9.1, and the forms of RFC 3986 section 5.4 that IMAP URLs have.
func TestResolve(t *testing.T) {
	const message = "imap://u;AUTH=*@h:1143/a/b;UIDVALIDITY=9/;UID=20/;SECTION=1.2"
	for _, test := range []struct{ base, reference, want string }{
		{"imap://h/x", "/foo/;UID=20/..", "imap://h/foo"},

		{message, "", message},
		{message, "//v@i/c", "imap://v@i/c"}, // a server of its own, and so nothing of the user
		{message, "/c", "imap://u;AUTH=*@h:1143/c"},
		{message, "/", "imap://u;AUTH=*@h:1143/"},
		{message, "/c?ALL", "imap://u;AUTH=*@h:1143/c?ALL"},
		{message, "/a/b;UIDVALIDITY=9/;UID=20/;PARTIAL=5", "imap://u;AUTH=*@h:1143/a/b;UIDVALIDITY=9/;UID=20/;PARTIAL=5"},
		{message, "/../a/./b/../../c", "imap://u;AUTH=*@h:1143/c"},
		{message, "/..;UIDVALIDITY=385759045/;UID=20", "imap://u;AUTH=*@h:1143/..;UIDVALIDITY=385759045/;UID=20"},
		{message, "/a/%2E%2E/c", "imap://u;AUTH=*@h:1143/a/%2E%2E/c"},
		{message, "/%2Fa", "imap://u;AUTH=*@h:1143/%2Fa"},
		{message, "imap://i/./c/../d", "imap://i/d"},

		{"imap://;AUTH=GSSAPI@minbari.example.org/gray-council/;uid=20/;section=1.2", ";section=1.4", "reference:"}, // RFC 5092 section 7.2
		{"imap://h/foo/", ";UID=20", "reference:"},
		{"imap://h/a/b", "..;UIDVALIDITY=385759045/;UID=20", "reference:"},
		{message, "../c", `reference: "../c" is relative to a path`},
		{message, "c", "reference:"},
		{message, "?ALL", "reference:"},
		{message, "http://h/", "scheme:"},
		{message, "a:b", "scheme:"},
		{message, strings.Repeat("../", MaxLength), "URL: it has more than 16384 octets"},
	} {
		base, err := Parse(test.base)
		if err != nil {
			t.Fatal(err)
		}
		got, err := base.Resolve(test.reference)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "IMAP URL: "+test.want) {
				t.Errorf("%s with %.40q: %v, want %s", test.base, test.reference, err, test.want)
			}
			continue
		}
		want, err := Parse(test.want)
		if err != nil {
			t.Errorf("%s with %.40q = %s, want %s", test.base, test.reference, got, test.want)
			continue
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s with %.40q = %s, want %s", test.base, test.reference, got, want)
		}
	}
}

var literalEnd = regexp.MustCompile(`\{(\d+)(\+?)\}$`)

// restOfCommand tells whether a server that reads lines, and octets behind those that announce some, takes a text for what is left of one command.
func restOfCommand(text string) bool {
	for {
		line, rest, more := strings.Cut(text, "\r\n")
		announced := literalEnd.FindStringSubmatch(line)
		switch {
		case strings.ContainsAny(line, "\r\n\x00"), (announced != nil) != more:
			return false
		case !more:
			return true
		}
		n, err := strconv.Atoi(announced[1])
		if err != nil || announced[2] != "+" || n > len(rest) {
			return false
		}
		text = rest[n:]
	}
}

// What is written is read as what was written, a search is one, and nothing else panics.
func FuzzURL(f *testing.F) {
	f.Add("imap://joe;AUTH=*@[::1]:1143/IN%2EBOX;UIDVALIDITY=1/;UID=20/;SECTION=1.2/;PARTIAL=0.5;EXPIRE=2026-11-26T20:00:00Z;URLAUTH=submit+fred:internal:91354a473744909de610943775f92038", "/c/;UID=3")
	f.Add("imap://h/a?(TEXT%20%22%7B3%7D%5C%22%22%20BODY%20%7B4+%7D%0D%0Aa%0D%0Ab)%20SUBJECT%20%7B0+%7D%0D%0A", "")
	f.Add("imap://h/%2Fa/%2E%2E//b?charset%20UTF-8", "/../c/./d;UIDVALIDITY=3?ALL")
	f.Fuzz(func(t *testing.T, text, reference string) {
		u, err := Parse(text)
		if err != nil {
			return
		}
		if !restOfCommand(u.Search) {
			t.Fatalf("the search %q is more than a command", u.Search)
		}
		again, err := Parse(u.String())
		if len(u.String()) > MaxLength {
			return // what was not encoded before may be now
		}
		if err != nil || !reflect.DeepEqual(u, again) {
			t.Fatalf("%q is %+v, written as %q, which is %+v, %v", text, u, u, again, err)
		}
		if again.String() != u.String() {
			t.Fatalf("%q is written as %q, and that as %q", text, u, again)
		}
		for _, same := range []string{"", u.String()} {
			if r, err := u.Resolve(same); err != nil || !reflect.DeepEqual(u, r) {
				t.Fatalf("%q with %q is %+v, %v", u, same, r, err)
			}
		}
		if r, err := u.Resolve(reference); err == nil {
			if _, err := Parse(r.String()); err != nil && len(r.String()) <= MaxLength {
				t.Fatalf("%q with %q is written as %q: %v", u, reference, r, err)
			}
		}
	})
}
