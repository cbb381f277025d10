package message

import (
	"bytes"
	"slices"
	"testing"
)

// What is told of a header that is kept is what is told of it when the message is read.
func TestHeaderTexts(t *testing.T) {
	check := func(text []byte) (kept []Text) {
		t.Helper()
		m, err := Parse(bytes.NewReader(text), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if !m.HeaderComplete {
			return nil
		}
		var read []Text
		if err := m.Texts(t.Context(), memory(text), nil, func(x Text) bool {
			if !x.Part && x.Header != "" {
				read = append(read, x)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		m.HeaderTexts(nil, func(x Text) bool {
			if x.Header != "" {
				kept = append(kept, x)
			}
			return true
		})
		if !slices.Equal(kept, read) {
			t.Errorf("%s\nkept: %+v\nread: %+v", text, kept, read)
		}
		return kept
	}
	file := check([]byte("Content-Type: application/pdf\r\nContent-Disposition: attachment; filename*=utf-8''%C3%A9t%C3%A9.pdf\r\n\r\nx\r\n"))
	if want := (Text{Header: "content-disposition", Value: "été.pdf"}); !slices.Contains(file, want) {
		t.Errorf("%+v, want %+v among them", file, want)
	}
	file = check([]byte("Content-Type: application/pdf; name*=utf-8''%C3%A9t%C3%A9.pdf\r\n\r\nx\r\n"))
	if want := (Text{Header: "content-type", Value: "été.pdf"}); !slices.Contains(file, want) {
		t.Errorf("%+v, want %+v among them", file, want)
	}
	for seed := range uint64(300) {
		check(newGenerator(seed).message())
	}
}
