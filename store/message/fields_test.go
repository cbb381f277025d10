package message

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseAddresses(t *testing.T) {
	tests := []struct {
		in   string
		want []Address
	}{
		{``, nil},
		{`a@example.org`, []Address{{"", "a", "example.org"}}},
		{`<a@example.org>`, []Address{{"", "a", "example.org"}}},
		{`Ann Other <a@example.org>, b@example.net`, []Address{{"Ann Other", "a", "example.org"}, {"", "b", "example.net"}}},
		{`"Other, Ann" <a@example.org>`, []Address{{"Other, Ann", "a", "example.org"}}},
		{`"Ann \"A\" Other" <a@example.org>`, []Address{{`Ann "A" Other`, "a", "example.org"}}},
		{`John Q. Public <jqp@example.org>`, []Address{{"John Q. Public", "jqp", "example.org"}}},
		{`a@example.org (Ann Other)`, []Address{{"Ann Other", "a", "example.org"}}},
		{`<a@example.org> (Ann (really) Other)`, []Address{{"Ann (really) Other", "a", "example.org"}}},
		{`Ann <a@example.org> (not her name)`, []Address{{"Ann", "a", "example.org"}}},
		{`"a b"@example.org`, []Address{{"", "a b", "example.org"}}},
		{`"a@b"@example.org`, []Address{{"", "a@b", "example.org"}}},
		{`<@one.example,@two.example:a@example.org>`, []Address{{"", "a", "example.org"}}},
		{`a . b @ example . org`, []Address{{"", "a.b", "example.org"}}},
		{`a@[192.0.2.1]`, []Address{{"", "a", "[192.0.2.1]"}}},
		{`a@[IPv6:2001:db8::1], b@example.org`, []Address{{"", "a", "[IPv6:2001:db8::1]"}, {"", "b", "example.org"}}},
		{`Team: a@example.org, B <b@example.org>; c@example.org`,
			[]Address{{"", "Team", ""}, {"", "a", "example.org"}, {"B", "b", "example.org"}, {}, {"", "c", "example.org"}}},
		{`undisclosed-recipients:;`, []Address{{"", "undisclosed-recipients", ""}, {}}},
		{`Team: a@example.org`, []Address{{"", "Team", ""}, {"", "a", "example.org"}, {}}},
		{`=?utf-8?Q?J=C3=B6rg_M=C3=BCller?= <j@example.org>`, []Address{{"=?utf-8?Q?J=C3=B6rg_M=C3=BCller?=", "j", "example.org"}}},
		{`=?utf-8?Q?M=C3=BCller,_J?= <j@example.org>`, []Address{{"=?utf-8?Q?M=C3=BCller,_J?=", "j", "example.org"}}},
		{`a@example.org <a@example.org>`, []Address{{"a@example.org", "a", "example.org"}}},
		{`Ann a@example.org`, []Address{{"Ann", "a", "example.org"}}},
		{`MAILER-DAEMON`, []Address{{"", "MAILER-DAEMON", MissingHost}}},
		{`Mail Delivery System`, []Address{{"", "Mail Delivery System", MissingHost}}},
		{`<>`, []Address{{"", MissingMailbox, MissingHost}}},
		{`@example.org`, []Address{{"", MissingMailbox, "example.org"}}},
		{`a@`, []Address{{"", "a", MissingHost}}},
		{`Ann <a@example.org`, []Address{{"Ann", "a", "example.org"}}},
		{`Ann <a@example.org>> , b@example.org`, []Address{{"Ann", "a", "example.org"}, {"", "b", "example.org"}}},
		{`,, a@example.org ,,`, []Address{{"", "a", "example.org"}}},
		{`a@example.org; b@example.org`, []Address{{"", "a", "example.org"}, {"", "b", "example.org"}}},
		{`Jörg <j@example.org>`, []Address{{"Jörg", "j", "example.org"}}},
		{`(only a comment)`, nil},
		{`"`, []Address{{"", MissingMailbox, MissingHost}}},
	}
	for _, test := range tests {
		if got := parseAddresses(nil, test.in); !reflect.DeepEqual(got, test.want) {
			t.Errorf("parseAddresses(%q)\n got %q\nwant %q", test.in, got, test.want)
		}
	}
}

func FuzzAddresses(f *testing.F) {
	f.Add(`A: "b" <c@d>, (e) f@[g]; =?x?q?y?=`)
	f.Fuzz(func(t *testing.T, s string) {
		open := false
		for _, a := range parseAddresses(nil, s) {
			switch {
			case a.Host != "" && a.Mailbox != "":
			case a.Host == "" && (a.Mailbox != "") == !open:
				open = !open
			default:
				t.Fatalf("%q in %q", a, s)
			}
		}
		if open {
			t.Fatalf("group without an end in %q", s)
		}
	})
}

func TestParseDate(t *testing.T) {
	tests := []struct{ in, want string }{
		{"Fri, 21 Nov 1997 09:55:06 -0600", "1997-11-21T09:55:06-06:00"},
		{"21 Nov 97 09:55 GMT", "1997-11-21T09:55:00Z"},
		{"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "1997-11-21T09:55:06-06:00"},
		{"Thu, 13 Feb 1969 23:32 -0330 (Newfoundland)", "1969-02-13T23:32:00-03:30"},
		{"Tue, 1 Jul 03 10:52:37 +0200", "2003-07-01T10:52:37+02:00"},
		{"1 Jan 103 00:00:00 +0000", "2003-01-01T00:00:00Z"},
		{"Mon, 2 Jan 2006 15:04:05 EST", "2006-01-02T15:04:05-05:00"},
		{"Mon, 2 Jan 2006 15:04:05 PDT", "2006-01-02T15:04:05-07:00"},
		{"Mon, 2 Jan 2006 15:04:05 A", "2006-01-02T15:04:05Z"},
		{"Mon, 2 Jan 2006 15:04:05", "2006-01-02T15:04:05Z"},
		{"Mon, 2 Jan 2006", "2006-01-02T00:00:00Z"},
		{"mon,2 jan 2006 15:04:05 +0100", "2006-01-02T15:04:05+01:00"},
		{"Mon Jan  2 15:04:05 2006", "2006-01-02T15:04:05Z"},
		{"Mon, 02-Jan-06 15:04:05 GMT", "2006-01-02T15:04:05Z"},
		{"2006-01-02T15:04:05Z", "2006-01-02T15:04:05Z"},
		{"2006-01-02T15:04:05.123+01:00", "2006-01-02T15:04:05+01:00"},
		{"2006-01-02 15:04:05 +0100", "2006-01-02T15:04:05+01:00"},
		{"Wed, 20 Sep 1995 00:19:00 (EDT) -0400", "1995-09-20T00:19:00-04:00"},
		{"Mon, 2 Jan 2006 15:04:05 +9999", "2006-01-02T15:04:05Z"},
		{"Mon, 31 Feb 2006 15:04:05 +0000", ""},
		{"Mon, 2 Jan 2006 25:61 +0000", ""},
		{"yesterday, 25:61", ""},
		{"yesterday", ""},
		{"", ""},
		{"99999999999999999999", ""},
	}
	for _, test := range tests {
		got := ""
		if d, ok := parseDate(test.in); ok {
			got = d.Format(time.RFC3339)
		}
		if got != test.want {
			t.Errorf("parseDate(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func FuzzDate(f *testing.F) {
	f.Add("Fri, 21 Nov 1997 09:55:06 -0600")
	f.Fuzz(func(t *testing.T, s string) { parseDate(s) })
}

func TestBaseSubject(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"Hello", "Hello"},
		{"Re: Hello", "Hello"},
		{"RE : re:Fwd: Hello (fwd)", "Hello"},
		{"Re[2]: Hello", "Hello"},
		{"[list] Re: [list] Hello", "Hello"},
		{"[list]", "[list]"},
		{"Re: [list]", "[list]"},
		{"[fwd: Hello]", "Hello"},
		{"[Fwd: Re: [list] Hello (fwd)] (fwd)  ", "Hello"},
		{"Fw: Hello\t\t world", "Hello world"},
		{"Regards", "Regards"},
		{"Re:", ""},
		{"[a][b] Hello", "Hello"},
		{"[a] [b", "[b"},
		{strings.Repeat("[", 100_000), strings.Repeat("[", maxSubject)},
	}
	for _, test := range tests {
		if got := baseSubject(test.in); got != test.want {
			t.Errorf("baseSubject(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestDecodeHeader(t *testing.T) {
	tests := []struct{ in, want string }{
		{"plain", "plain"},
		{"=?utf-8?Q?gr=C3=BC=C3=9Fe?=", "grüße"},
		{"=?UTF-8?B?Z3LDvMOfZQ==?= bye", "grüße bye"},
		{"a =?iso-8859-1?q?b=E9_c?= d", "a bé c d"},
		{"=?utf-8?Q?a?= =?utf-8?Q?b?=", "ab"},
		{"=?utf-8?Q?a?=\t =?iso-8859-1?Q?=E9?=", "aé"},
		{"=?utf-8?B?w7w=?= =?utf-8?B?w58=?=", "üß"},
		{"=?utf-8?Q?=C3?= =?utf-8?Q?=BC?=", "ü"}, // a character cut in two
		{"=?utf-8*en?Q?a?=", "a"},
		{"=?iso-2022-jp?B?GyRCMnE1RBsoQg==?=", "会議"},
		{"=?koi8-r?B?8NLJ18XU?=", "Привет"},
		{"=?nonesuch?Q?a=E9?=", "aé"},
		{"=?utf-8?X?abc?=", "=?utf-8?X?abc?="},
		{"=?utf-8?Q?open", "=?utf-8?Q?open"},
		{"=?", "=?"},
		{"r\xe9sum\xe9 ü", "résumé ü"},
		{"=?utf-8?Q?a b?=", "a b"},
	}
	for _, test := range tests {
		if got := DecodeHeader(test.in); got != test.want {
			t.Errorf("DecodeHeader(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestFileName(t *testing.T) {
	tests := []struct{ in, want string }{
		{`attachment`, ""},
		{`attachment; filename=a.txt`, "a.txt"},
		{`attachment; filename="=?utf-8?Q?=C3=BC.txt?="`, "ü.txt"},
		{`attachment; filename*=utf-8'en'%C3%BC.txt`, "ü.txt"},
		{`attachment; filename*=iso-8859-1''%FC.txt; filename=u.txt`, "ü.txt"},
		{`attachment; filename*0="long "; filename*1="name.txt"`, "long name.txt"},
		{`attachment; filename*0*=utf-8''%C3%BC; filename*1=" and"; filename*2*=%20%C3%A4`, "ü and ä"},
		{`attachment; filename*=plain`, "plain"},
	}
	for _, test := range tests {
		var p Part
		p.Disposition, p.DispositionParams = disposition(test.in)
		if got := p.FileName(); got != test.want {
			t.Errorf("%s: %q, want %q", test.in, got, test.want)
		}
	}
}

func TestNormalize(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"ABC 123", "ABC 123"},
		{"abC", "ABC"},
		{"straße", "STRAßE"},
		{"é", "E\u0301"},
		{"E\u0301", "E\u0301"},
		{"ǆ", "Dz\u030c"}, // the example of RFC 5051 section 2
		{"ﬁ", "fi"},
		{"привет", "ПРИВЕТ"},
		{"会議", "会議"},
		{"한", "한"},
		{"a\xffb", "A\xffB"},
	}
	for _, test := range tests {
		if got := Normalize(test.in); got != test.want {
			t.Errorf("Normalize(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestEnvelope(t *testing.T) {
	m := mustParse(t, crlf(`Date: Mon, 2 Jan 2006 15:04:05 +0100
subject: =?utf-8?Q?Re:_=C3=BC?= and
	more
From: A <a@example.org>
To: one@example.org
TO: two@example.org
Subject: another
Sender:
In-Reply-To: <parent@example.org> (of yesterday)
References: <root@example.org>
 <parent@example.org>
Message-ID : <self@example.org>

`), Limits{})
	from := []Address{{"A", "a", "example.org"}}
	want := Envelope{
		Date: "Mon, 2 Jan 2006 15:04:05 +0100", Subject: "=?utf-8?Q?Re:_=C3=BC?= and\tmore",
		From: from, Sender: from, ReplyTo: from,
		To:        []Address{{"", "one", "example.org"}, {"", "two", "example.org"}},
		InReplyTo: "<parent@example.org> (of yesterday)", MessageID: "<self@example.org>",
	}
	if !reflect.DeepEqual(m.Envelope, want) {
		t.Errorf("got\n%+v\nwant\n%+v", m.Envelope, want)
	}
	if got := m.BaseSubject; got != "ü and more" {
		t.Errorf("base subject %q", got)
	}
	if want := []string{"<root@example.org>", "<parent@example.org>"}; !reflect.DeepEqual(m.References, want) {
		t.Errorf("references %q", m.References)
	}
	if got := m.ThreadRoot(); got != "<root@example.org>" {
		t.Errorf("thread root %q", got)
	}
}

func TestPreview(t *testing.T) {
	multipart := func(parts ...string) string {
		return "Content-Type: multipart/alternative; boundary=b\n\n--b\n" + strings.Join(parts, "\n--b\n") + "\n--b--\n"
	}
	plain, html := "Content-Type: text/plain\n\nplain text\n", "Content-Type: text/html\n\n<p>rich text\n"
	tests := []struct{ name, in, want string }{
		{"plain", "\nhello\n\n  world\n", "hello world"},
		{"none", "Content-Type: image/png\n\nhello\n", ""},
		{"quotes", "\nShe wrote:\n> old\nnew\n-- \nsignature\n", "She wrote: new"},
		{"only quotes", "\n> old\n", "> old"},
		{"html", "Content-Type: text/html\n\n<html><head><style>p{}</style><title>T</title></head><body>Hello&nbsp;<b>wor</b>ld&amp;<br>next<script>x()</script>", "T Hello world& next"},
		{"alternatives", multipart(html, plain), "plain text"},
		{"empty plain", multipart("\n\n", html), "rich text"},
		{"encoded", "Content-Transfer-Encoding: base64\nContent-Type: text/plain; charset=iso-8859-1\n\nZ3L832U=\n", "grüße"},
		{"attachment", "Content-Type: text/plain\nContent-Disposition: attachment\n\nx\n", ""},
		{"long", "\n" + strings.Repeat("ü ", 300), strings.TrimSpace(strings.Repeat("ü ", 100))},
		{"padding", "\nHi\u200c\u00a0\u034f\u00adthere\n", "Hi there"},
	}
	for _, test := range tests {
		if got := mustParse(t, crlf(test.in), Limits{}).Preview; got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
