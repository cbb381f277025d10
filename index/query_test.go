package index

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/store/message"
)

// octets is a message in memory.
type octets []byte

func (b octets) Open(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(bytes.NewReader(b), off, n)), nil
}

const mail = `From: "Jörg Müller" <joerg@example.org>
To: ann@example.org
Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe_aus?= Ulm
X-Empty:
Content-Type: multipart/mixed; boundary=limit

--limit
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Electrofishing in der Stra=DFe, caf=E9
--limit
Content-Type: application/pdf; name="secret.pdf"
Content-Transfer-Encoding: base64

c2VhcmNo
--limit
Content-Type: message/rfc822

Subject: forwarded thing

from far away
--limit--
`

func TestMatcher(t *testing.T) {
	content := octets(strings.ReplaceAll(mail, "\n", "\r\n"))
	long := octets("X-Filler: " + strings.Repeat("filler ", 100) + "\r\n" + string(content))
	tests := []struct {
		q       Query
		want    bool
		content bool // it has to be read, where the header is not kept whole
	}{
		{Query{In: Header, Field: "Subject", Text: "grüsse"}, false, false},
		{Query{In: Header, Field: "Subject", Text: "GRÜßE AUS ulm"}, true, false},
		{Query{In: Header, Field: "subject", Text: "u\u0308"}, true, false},
		{Query{In: Header, Field: "From", Text: "müller"}, true, false},
		{Query{In: Header, Field: "From", Text: "joerg@"}, true, false},
		{Query{In: Header, Field: "To", Text: "joerg"}, false, false},
		{Query{In: Header, Field: "X-Empty", Text: ""}, true, true},
		{Query{In: Header, Field: "X-Absent", Text: ""}, false, true},
		{Query{In: Header, Field: "X-Filler", Text: "filler"}, false, true},
		{Query{In: Header, Field: "Subject", Text: "forwarded"}, false, false},
		{Query{In: Header, Field: "Content-Type", Text: "pdf"}, false, false},
		{Query{In: Body, Text: "trofishi"}, true, true},
		{Query{In: Body, Text: "STRAßE, CAFÉ"}, true, true},
		{Query{In: Body, Text: "cafe"}, true, true},
		{Query{In: Body, Text: "search"}, false, true}, // inside an attachment
		{Query{In: Body, Text: "secret"}, false, true},
		{Query{In: Body, Text: "ulm"}, false, true},
		{Query{In: Body, Text: "forwarded THING"}, true, true},
		{Query{In: Body, Text: "far away"}, true, true},
		{Query{In: Body, Text: "café\r\nfar"}, false, true}, // no match spans two texts
		{Query{In: Body, Text: ""}, true, false},
		{Query{In: Anywhere, Text: "secret"}, true, true},
		{Query{In: Anywhere, Text: "ulm"}, true, false},
		{Query{In: Anywhere, Text: "absent"}, false, true},
	}
	for _, test := range tests {
		for _, whole := range []bool{true, false} {
			in := content
			if !whole {
				in = long
			}
			meta, err := message.Parse(bytes.NewReader(in), message.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			read := false
			got, err := NewMatcher([]Query{test.q}).Match(t.Context(), meta, func() (message.Reader, error) { read = true; return in, nil }, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := test.want
			if !whole && test.q.Field == "X-Filler" {
				want = true
			}
			if got[0] != want {
				t.Errorf("%+v: %v, want %v", test.q, got[0], want)
			}
			wantRead := test.content && (!whole || test.q.In != Header)
			if read != wantRead {
				t.Errorf("%+v, header whole %v: content read %v, want %v", test.q, whole, read, wantRead)
			}
		}
	}

	// Together they answer as one by one.
	var queries []Query
	var want []bool
	for _, test := range tests {
		queries, want = append(queries, test.q), append(want, test.want)
	}
	meta, err := message.Parse(bytes.NewReader(content), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := NewMatcher(queries).Match(t.Context(), meta, func() (message.Reader, error) { return content, nil }, nil)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

func TestMatcherErrors(t *testing.T) {
	meta, err := message.Parse(strings.NewReader(mail), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	m := NewMatcher([]Query{{In: Body, Text: "x"}})
	away := errors.New("away")
	if _, err := m.Match(t.Context(), meta, func() (message.Reader, error) { return nil, away }, nil); !errors.Is(err, away) {
		t.Errorf("%v, want %v", err, away)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Match(ctx, meta, func() (message.Reader, error) { return octets(mail), nil }, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}
