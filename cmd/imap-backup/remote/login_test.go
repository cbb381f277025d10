package remote

import (
	"testing"

	"github.com/emersion/go-imap/v2"
)

func caps(names ...imap.Cap) imap.CapSet {
	set := imap.CapSet{}
	for _, name := range names {
		set[name] = struct{}{}
	}
	return set
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		caps imap.CapSet
		o    Options
		want string
	}{
		{caps("AUTH=PLAIN", "AUTH=SCRAM-SHA-1", "AUTH=SCRAM-SHA-256"), Options{}, "SCRAM-SHA-256"},
		{caps("AUTH=PLAIN", "AUTH=CRAM-MD5"), Options{}, "PLAIN"},
		{caps("AUTH=PLAIN", "AUTH=CRAM-MD5"), Options{Plaintext: true}, "CRAM-MD5"},
		{caps("AUTH=LOGIN"), Options{}, "LOGIN"},
		{caps(), Options{}, ""},
		{caps("LOGINDISABLED", "AUTH=GSSAPI"), Options{}, "error"},
		{caps("AUTH=PLAIN", "AUTH=XOAUTH2"), Options{Token: "t"}, "XOAUTH2"},
		{caps("AUTH=OAUTHBEARER", "AUTH=XOAUTH2"), Options{Token: "t"}, "OAUTHBEARER"},
		{caps("AUTH=PLAIN"), Options{Mechanism: "login"}, ""},
		{caps("AUTH=PLAIN"), Options{Mechanism: "scram-sha-1"}, "SCRAM-SHA-1"},
	} {
		s := &Session{caps: c.caps}
		got, err := s.choose(c.o)
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%v, %+v: %q, want %q (%v)", c.caps, c.o, got, c.want, err)
		}
	}
}

// What go-sasl has not, by the examples of who made them.
func TestMechanisms(t *testing.T) {
	for _, c := range []struct{ mechanism, user, secret, first, challenge, answer string }{
		{"CRAM-MD5", "tim", "tanstaaftanstaaf", "", "<1896.697170952@postoffice.reston.mci.net>", "tim b913a602c7eda7a495b4e6e7334d3890"}, // RFC 2195 section 2
		{"XOAUTH2", "someuser@example.com", "ya29.vF9d", "user=someuser@example.com\x01auth=Bearer ya29.vF9d\x01\x01", `{"status":"401"}`, ""},
	} {
		client, err := saslClient(c.mechanism, Options{User: c.user, Password: c.secret, Token: c.secret})
		if err != nil {
			t.Fatal(err)
		}
		name, first, err := client.Start()
		if err != nil || name != c.mechanism || string(first) != c.first {
			t.Errorf("%s: %q, %q, %v", c.mechanism, name, first, err)
		}
		if answer, err := client.Next([]byte(c.challenge)); err != nil || string(answer) != c.answer {
			t.Errorf("%s: %q, want %q; %v", c.mechanism, answer, c.answer, err)
		}
	}
	for _, mechanism := range Mechanisms {
		if _, err := saslClient(mechanism, Options{User: "u", Password: "p", Token: "t"}); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
	}
	if _, err := saslClient("GSSAPI", Options{}); err == nil {
		t.Error("GSSAPI is taken")
	}
}
