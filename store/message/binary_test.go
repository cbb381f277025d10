package message

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// encodeBinary is EncodeBinary of a text.
func encodeBinary(t testing.TB, text string) (string, error) {
	t.Helper()
	meta, err := Parse(strings.NewReader(text), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := EncodeBinary(t.Context(), meta, memory(text))
	if err != nil {
		return "", err
	}
	out, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return string(out), nil
}

func TestEncodeBinary(t *testing.T) {
	const multipart = "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	tests := []struct{ name, text, want string }{
		{"nothing to do", "Subject: x\r\nContent-Transfer-Encoding: binary\r\n\r\nbody\r\n", "Subject: x\r\nContent-Transfer-Encoding: binary\r\n\r\nbody\r\n"},
		{"the message", "Content-Transfer-Encoding:  BINARY (x)\r\nSubject: x\r\n\r\na\x00b", "Content-Transfer-Encoding: base64\r\nSubject: x\r\n\r\nYQBi"},
		{"folded, and twice", "content-transfer-encoding:\r\n binary\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\x00", "Content-Transfer-Encoding: base64\r\n\r\nAA=="},
		{"one part of several",
			multipart + "--b\r\nContent-Transfer-Encoding: binary\r\n\r\nno NUL\n\r\n--b\r\nX: y\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\r\n\r\n--b\r\n\r\ntext\r\n--b--\r\n",
			multipart + "--b\r\nContent-Transfer-Encoding: binary\r\n\r\nno NUL\n\r\n--b\r\nX: y\r\nContent-Transfer-Encoding: base64\r\n\r\nAA0K\r\n--b\r\n\r\ntext\r\n--b--\r\n"},
		{"two parts",
			multipart + "--b\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\x00\r\n--b\r\nContent-Transfer-Encoding: binary\r\n\r\nx\x00\r\n--b--",
			multipart + "--b\r\nContent-Transfer-Encoding: base64\r\n\r\nAAA=\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\neAA=\r\n--b--"},
		{"a message inside",
			multipart + "--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: binary\r\n\r\nSubject: in\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\r\n--b--\r\n",
			multipart + "--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: binary\r\n\r\nSubject: in\r\nContent-Transfer-Encoding: base64\r\n\r\nAA==\r\n--b--\r\n"},
		{"lines", "Content-Transfer-Encoding: binary\r\n\r\n" + strings.Repeat("\x00", 115), "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("A", 76) + "\r\n" + strings.Repeat("A", 76) + "\r\nAA=="},

		{"in a header", "Subject: \x00\r\nContent-Transfer-Encoding: binary\r\n\r\nbody", "NUL"},
		{"in a part that is not binary", "Content-Transfer-Encoding: 8bit\r\n\r\n\x00", "NUL"},
		{"where nothing is said", "Subject: x\r\n\r\n\x00", "NUL"},
		{"between the parts", multipart + "\x00\r\n--b\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\r\n--b--\r\n", "NUL"},
		{"behind the parts", multipart + "--b\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\r\n--b--\r\n\x00", "NUL"},
	}
	for _, test := range tests {
		got, err := encodeBinary(t, test.text)
		if errors.Is(err, ErrNUL) {
			got = "NUL"
		} else if err != nil {
			t.Fatal(err)
		}
		if got != test.want {
			t.Errorf("%s:\n got %q\nwant %q", test.name, got, test.want)
		}
	}
}

// Decoded again, what was encoded is what it was, whatever its length.
func TestEncodeBinaryBack(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 56, 57, 58, 64 * 57, 64*57 + 1, 32 << 10, 100_000} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		data[rnd.IntN(size)] = 0
		text, err := encodeBinary(t, "Content-Transfer-Encoding: binary\r\n\r\n"+string(data))
		if err != nil {
			t.Fatal(err)
		}
		meta, err := Parse(strings.NewReader(text), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		body := text[meta.Root.Body.Off:meta.Root.Body.End()]
		back, err := io.ReadAll(meta.Root.Decode(strings.NewReader(body)))
		if err != nil || !bytes.Equal(back, data) {
			t.Errorf("%d octets come back as %d, %v", size, len(back), err)
		}
		if plain, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\r\n", "")); err != nil || !bytes.Equal(plain, data) {
			t.Errorf("%d octets are %d for another decoder, %v", size, len(plain), err)
		}
	}
}

func TestDecodable(t *testing.T) {
	for value, want := range map[string]bool{
		"7bit": true, "8BIT": true, "Binary": true, "base64 ": true, "QUOTED-PRINTABLE": true, "": true,
		"x-uuencode": false, "utf-8": false, "8-bit": false, "base64x": false,
	} {
		meta, err := Parse(strings.NewReader("Content-Transfer-Encoding: "+value+"\r\n\r\nx"), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got := meta.Root.Decodable(); got != want {
			t.Errorf("Decodable of %q = %t, want %t", value, got, want)
		}
	}
}

// Whatever comes, the result has no NUL, and is the message itself where that has none.
func FuzzEncodeBinary(f *testing.F) {
	f.Add("Content-Transfer-Encoding: binary\r\n\r\na\x00b")
	f.Add("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\r\n--b\n\nx\n--b--")
	f.Add("Content-Type: message/rfc822\n\nContent-Transfer-Encoding: binary\n\n\x00")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := encodeBinary(t, text)
		switch {
		case errors.Is(err, ErrNUL):
		case err != nil:
			t.Fatal(err)
		case strings.Contains(got, "\x00"):
			t.Errorf("%q became %q", text, got)
		case !strings.Contains(text, "\x00") && got != text:
			t.Errorf("%q became %q without need", text, got)
		}
	})
}
