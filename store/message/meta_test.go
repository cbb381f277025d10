package message

import (
	"reflect"
	"strings"
	"testing"
)

func parsed(t *testing.T, text string) *Meta {
	t.Helper()
	m, err := Parse(strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n")), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Fields that are there with nothing in them are told from those that are not, and stay so when they are stored.
func TestEmptyFields(t *testing.T) {
	tests := []struct {
		text string
		want EmptyFields
	}{
		{"From: x\n\n", 0},
		{"Date:\nSubject: \nIn-Reply-To:\t\nMessage-ID:\n \n\n", EmptyDate | EmptySubject | EmptyInReplyTo | EmptyMessageID},
		{"Subject:\nSubject: x\n\n", 0},
		{"Subject: x\nSubject:\n\n", 0},
		{"Date: x\nMessage-ID:\nSubject:\nMessage-ID: <x>\n\n", EmptySubject},
	}
	for _, test := range tests {
		m := parsed(t, test.text)
		if m.Envelope.Empty != test.want {
			t.Errorf("%q: %b, want %b", test.text, m.Envelope.Empty, test.want)
		}
		if inner := parsed(t, "Content-Type: message/rfc822\n\n"+test.text).Root.Envelope; inner.Empty != test.want {
			t.Errorf("inside a message, %q: %b, want %b", test.text, inner.Empty, test.want)
		}
		stored, err := DecodeMeta(m.Encode())
		if err != nil || !reflect.DeepEqual(stored, m) {
			t.Errorf("%q is stored as\n%+v, %v, and was\n%+v", test.text, stored, err, m)
		}
	}
}

// What a cache counts is what it holds, also of headers that nobody would write.
func TestWeight(t *testing.T) {
	long := strings.Repeat("x", 300_000)
	for name, text := range map[string]string{
		"subject":    "Subject: " + long + "\n\n",
		"message id": "Message-ID: <" + long + "@x>\n\n",
		"addresses":  "To: " + strings.Repeat("a@b.test, ", 15_000) + "\n\n",
		"one name":   "From: " + long + " <a@b.test>\n\n",
		"references": "References: " + strings.Repeat("<"+strings.Repeat("y", 280)+"@x> ", 1000) + "\n\n",
		"parameter":  "Content-Type: text/plain; name=" + long + "\n\n",
		"inside":     "Content-Type: message/rfc822\n\nSubject: " + long + "\n\n",
		"a part":     "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Description: " + long + "\n\n--b--\n",
	} {
		m, err := DecodeMeta(parsed(t, text).Encode())
		if err != nil {
			t.Fatal(err)
		}
		if w := m.Weight(); w < 250_000 {
			t.Errorf("%s: a weight of %d", name, w)
		}
	}
	if w := parsed(t, "Subject: x\nFrom: a@b.test\n\nbody\n").Weight(); w > 3000 {
		t.Errorf("a small message has a weight of %d", w)
	}
}
