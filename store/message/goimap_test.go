package message

import (
	"bytes"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// go-imap is a second opinion on the structure of mail that is in order.
func TestAgreesWithGoIMAP(t *testing.T) {
	for seed := range uint64(300) {
		content := newGenerator(seed).message()
		m, err := Parse(bytes.NewReader(content), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		compareStructure(t, seed, m.Root, imapserver.ExtractBodyStructure(bytes.NewReader(content)))
	}
}

func compareStructure(t *testing.T, seed uint64, p *Part, want imap.BodyStructure) {
	t.Helper()
	switch w := want.(type) {
	case *imap.BodyStructureMultiPart:
		if !p.Multipart() || p.Subtype != w.Subtype || len(p.Parts) != len(w.Children) {
			t.Fatalf("seed %d: %s/%s of %d, want multipart/%s of %d", seed, p.Type, p.Subtype, len(p.Parts), w.Subtype, len(w.Children))
		}
		compareParams(t, seed, p.Params, w.Extended.Params)
		for i, c := range p.Parts {
			compareStructure(t, seed, c, w.Children[i])
		}
	case *imap.BodyStructureSinglePart:
		if p.Type != w.Type || p.Subtype != w.Subtype || p.ID != w.ID || p.Encoding != strings.ToLower(w.Encoding) && w.Encoding != "" || p.Body.Len != int64(w.Size) {
			t.Fatalf("seed %d: %+v, want %+v", seed, p, w)
		}
		compareParams(t, seed, p.Params, w.Params)
		if d := w.Extended.Disposition; d != nil {
			if p.Disposition != d.Value {
				t.Errorf("seed %d: disposition %q, want %q", seed, p.Disposition, d.Value)
			}
			compareParams(t, seed, p.DispositionParams, d.Params)
		}
		if w.Text != nil && p.Lines != w.Text.NumLines {
			t.Errorf("seed %d: %d lines, want %d", seed, p.Lines, w.Text.NumLines)
		}
		if w.MessageRFC822 != nil {
			if p.Inner == nil || p.Lines != w.MessageRFC822.NumLines || DecodeHeader(p.Envelope.Subject) != w.MessageRFC822.Envelope.Subject {
				t.Fatalf("seed %d: %+v, want %+v", seed, p, w.MessageRFC822)
			}
			compareStructure(t, seed, p.Inner, w.MessageRFC822.BodyStructure)
		}
	}
}

func compareParams(t *testing.T, seed uint64, got []Param, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("seed %d: parameters %v, want %v", seed, got, want)
	}
	for _, p := range got {
		if p.Value != want[p.Name] {
			t.Errorf("seed %d: %s=%q, want %q", seed, p.Name, p.Value, want[p.Name])
		}
	}
}
