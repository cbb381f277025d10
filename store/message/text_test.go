package message

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
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
	for _, folded := range []string{
		"filename=\"report\r\n\tof =?utf-8?q?May=09June?=\"", "filename*0=\"report\r\n\tof =?utf-8?q?May\"; filename*1=\"=09June?=\"", "filename*0=\"report\r\n\tof\"; filename*1*=%20May%09June",
	} {
		file = check([]byte("Content-Type: application/pdf\r\nContent-Disposition: attachment; " + folded + "\r\n\r\nx\r\n"))
		if want := (Text{Header: "content-disposition", Value: "report of May\tJune"}); !slices.Contains(file, want) {
			t.Errorf("%s: %+v, want %+v among them", folded, file, want)
		}
	}
	for seed := range uint64(300) {
		check(newGenerator(seed).message())
	}
}

// readTwice reads files as they are, and compares what they are when they are opened another time.
type readTwice struct{ t *testing.T }

func (readTwice) Reads(mediaType, _ string) bool { return mediaType == "application/x-test" }

func (f readTwice) Text(_ context.Context, _, _ string, content io.Reader, again func() (io.ReadCloser, error)) (string, error) {
	first, err := io.ReadAll(content)
	if err != nil {
		return "", err
	}
	rc, err := again()
	if err != nil {
		return "", err
	}
	second, err := io.ReadAll(rc)
	if !bytes.Equal(first, second) {
		f.t.Errorf("%q, the second time %q", first, second)
	}
	return string(first), errors.Join(err, rc.Close())
}

// A file can be opened another time, wherever it is, and what follows is read as ever.
func TestFileAgain(t *testing.T) {
	encoded := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	files := "Content-Type: multipart/mixed; boundary=%s\r\n\r\n" +
		"--%[1]s\r\nContent-Type: application/x-test\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded("night and day") + "\r\n" +
		"--%[1]s\r\nContent-Type: application/x-test\r\n\r\nas it is\r\n--%[1]s\r\n\r\nthe end\r\n--%[1]s--\r\n"
	text := []byte("Content-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\n" + fmt.Sprintf(files, "inner") +
		"--outer\r\nContent-Type: message/global\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded(fmt.Sprintf(files, "hidden")) + "\r\n--outer--\r\n")
	m, err := Parse(bytes.NewReader(text), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := m.Texts(t.Context(), memory(text), readTwice{t}, func(x Text) bool {
		if x.Header == "" {
			got = append(got, strings.TrimSpace(x.Value))
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"night and day", "as it is", "the end", "night and day", "as it is", "the end"}; !slices.Equal(slices.DeleteFunc(got, func(s string) bool { return s == "" }), want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A message inside another is told alike with a transfer encoding and without.
func TestEncodedMessageTexts(t *testing.T) {
	const inner = "Subject: lunch\r\n>From nobody 12:00\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain; name=menu.txt\r\n\r\nsoup\r\n--b--\r\n"
	type told struct {
		header, value string
		body          bool
	}
	texts := func(encoding, inner string) (list []told) {
		text := []byte("Content-Type: message/global\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n" + inner)
		m, err := Parse(bytes.NewReader(text), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Texts(t.Context(), memory(text), nil, func(x Text) bool {
			if x.Part || x.Body {
				list = append(list, told{x.Header, x.Value, x.Body})
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return list
	}
	plain, encoded := texts("8bit", inner), texts("base64", base64.StdEncoding.EncodeToString([]byte(inner)))
	if len(plain) != 6 || !slices.Equal(plain, encoded) {
		t.Errorf("%+v\nencoded: %+v", plain, encoded)
	}
}
